#pragma once

#include <cstdint>

#include "common/patch_geometry.h"

namespace sparsesr {

// Rows [begin, end) of one image that are covered by the same patches, listed in slot order. One
// thread owns a band, so sums over overlapping patches have one order whatever the thread count,
// and need no atomics.
struct RowBand {
  int64_t image, begin, end;
  const PlacedPatch* patches;
  int64_t count;
};

}  // namespace sparsesr
