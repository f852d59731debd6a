#pragma once

#include <cstdint>

namespace sparsesr {

// A pixel of a mask. Bit 3 * (dy + 1) + dx + 1 of `near`: the neighbour at (y + dy, x + dx) is
// active. The pixel itself is bit 4; neighbours outside the map are not active.
struct ListedPixel {
  int32_t y, x;
  uint32_t near;
};

}  // namespace sparsesr
