// The pixel routing ops on a GPU; ops.h says what holds for all.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/tensor_view.h"

namespace sparsesr {
namespace cuda {

// One class of route_mlp. weights: all its layers, packed (pixel_mlp.h) in the dtype of the
// feature; bias: float32, of all layers but the first; row_bias, col_bias [T,N1]; outputs of all
// layers. Outputs are rounded up to whole groups of 16 in each of them, with zeros.
struct RouteClassView {
  TensorView row_bias, col_bias, weights, bias;
  std::vector<int64_t> widths;
};

// int32 elements: the pixels by class where there is a class map, and `first_width`, the first
// layers' outputs of all classes in whole groups, at every LR pixel.
int64_t route_mlp_workspace(DType dtype, int64_t lr_pixels, int64_t hr_pixels, int64_t classes,
                            int64_t first_width, bool has_class_map);

// feature [B,C,h,w], class_map [B,H,W] uint8, rows [H], cols [W] float32, image [B,O,h,w] -> out
// [B,O,H,W]; float32, float16 or bfloat16, maps with any strides. Without class_map all pixels are
// of class 0; those of a class that is not there get the enlarged image, or zero without one.
// Coordinates are not checked: what is not a number counts as 0. At most 16 classes of 12 layers.
void route_mlp(const TensorView& feature, const std::optional<TensorView>& class_map,
               const std::vector<RouteClassView>& classes, const TensorView& rows,
               const TensorView& cols, const std::optional<TensorView>& image,
               const TensorView& out, const TensorView& workspace, void* stream);

// Any floating type and strides; out does not share memory with image.
void average_neighbors(const TensorView& image, const TensorView& class_map, int64_t min_heavy,
                       int64_t first_heavy, const TensorView& out, void* stream);

}  // namespace cuda
}  // namespace sparsesr
