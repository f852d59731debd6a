// A spatial mask as lists of pixels: kernels that follow a list have full register blocks however
// the active pixels lie.
#pragma once

#include <cstdint>
#include <vector>

#include "common/listed_pixel.h"
#include "common/tensor_view.h"

namespace sparsesr {

// Both lists in the order of rows.
struct MaskedPixels {
  std::vector<ListedPixel> active, inactive;
};

// The pixels of one image of mask [B,1,H,W], bool, any strides.
MaskedPixels list_pixels(const TensorView& mask, int64_t image);

}  // namespace sparsesr
