// Where patches lie on a map. The grid: with `stride` between patches, Gh = max(1, ceil((H - p) /
// stride) + 1), Gw alike; patch i starts at row (i / Gw) * stride, column (i % Gw) * stride. A
// window is the patch and `halo` more pixels on each side; what it covers outside the map reads as
// zero and is not written back.
#pragma once

#include <cstdint>

namespace sparsesr {

struct PatchGeometry {
  int64_t batch, channels, height, width;  // of the map
  int64_t grid_rows, grid_cols;
  int64_t patch_size, halo, stride;
  int64_t window;  // patch_size + 2 * halo
  int64_t k;       // patches per image
};

// A patch of the batch: `slot` counts over all images, (top, left) is its window's corner and may
// be negative.
struct PlacedPatch {
  int32_t slot, top, left;
};

}  // namespace sparsesr
