// The ops on the CPU. They check everything before they write anything, and throw
// std::invalid_argument with the op's name in front.
//
// The patch ops. Maps are [B,C,H,W], patches [B*k,C,P,P] with P
// = patch_size + 2 * halo, index [B,k] int32 and contiguous; element types float32, float16,
// bfloat16 and float64; any strides, fast where both operands have dense rows in the same order
// (NCHW or channels_last). `threads` >= 1 bounds the threads used.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "common/tensor_view.h"
#include "cpu/kernels.h"

namespace sparsesr {
namespace cpu {

enum class Reduce { kReplace, kMean };

struct PatchShape {
  int64_t patch_size, halo, stride;
};

// mask [B,Gh,Gw] -> index [B,k], ascending: the k largest (else smallest) scores, compared as
// float32; ties go to the lower position, NaN ranks last.
void select_patches(const TensorView& mask, const TensorView& index, bool largest, int threads);

void gather_patches(const TensorView& map, const TensorView& index, const TensorView& patches,
                    PatchShape shape, int threads);
// grad_x: per pixel the sum of all windows over it, zero elsewhere.
void gather_patches_backward(const TensorView& grad, const TensorView& index,
                             const TensorView& grad_x, PatchShape shape, int threads);

// Fills `index` [B,k] and `patches`; `mask` is [B,Gh,Gw] on the grid of `map`.
void select_gather_patches(const TensorView& mask, const TensorView& map, const TensorView& index,
                           const TensorView& patches, PatchShape shape, bool largest, int threads);

// halo is 0. Where several patches cover a pixel, the last slot wins (replace), or the mean of all
// is written (mean); pixels that none covers keep `canvas`. `out` may be `canvas` itself, and only
// then may they share memory.
void scatter_patches(const TensorView& canvas, const TensorView& patches, const TensorView& index,
                     const TensorView& out, PatchShape shape, Reduce reduce, int threads);
void scatter_patches_backward(const TensorView& grad, const TensorView& index,
                              const TensorView& grad_canvas, const TensorView& grad_patches,
                              PatchShape shape, Reduce reduce, int threads);

// The masked convolutions: x float32, or bfloat16 in pairs of channels where packing_rule() gives a
// depth of 2; channels adjacent (channels_last or a slice of such a map); out and bias float32;
// mask [B,1,H,W] bool. Weights come packed for the instruction set in use and the type of x, as
// packing_rule() says and sparsesr/ops/_packing.py does it, bfloat16 ones viewed as float32.
PackingRule packing_rule(bool pairs);

// Elements of a packed float32 weight [outputs,inputs,side,side].
int64_t packed_conv_size(int64_t outputs, int64_t inputs, int64_t side);

// x [B,C,H,W] -> out [B,C',H,W], written only where the mask is true. weights: packed
// [C',C,side,side], side odd; bias [C'], none when it has no elements.
void masked_conv2d(const TensorView& x, const TensorView& weights, int64_t side,
                   const TensorView& bias, const TensorView& mask, const TensorView& out,
                   int threads);

// x [B,C,H,W] -> out [B,C',H,W]. dense[i]: how many channels of layer i are dense; weights: packed;
// features, other: workspaces of H * W * C elements of x, C rounded up to whole vectors, viewed as
// float32.
void masked_block(const TensorView& x, const TensorView& weights, const std::vector<int64_t>& dense,
                  const TensorView& bias, const TensorView& mask, const TensorView& features,
                  const TensorView& other, const TensorView& out, int threads);

// One class of route_mlp, float32: `first` [N1,C,1,1] packed as for masked_conv2d; its biases
// [T,N1], N1 rounded up to whole vectors; `later`: for each other layer its weight [N,N'] in groups
// of kMlpOutputs outputs, [inputs][outputs of the group], and its bias; the outputs of all layers.
struct RouteClassView {
  TensorView first, row_bias, col_bias, later;
  std::vector<int64_t> widths;
};

// feature [B,C,h,w], channels adjacent, class_map [B,H,W] uint8, rows [H], cols [W], image
// [B,O,h,w] -> out [B,O,H,W]; float32. Without class_map all pixels are of class 0; those of a
// class that is not there get the enlarged image, or zero without one.
void route_mlp(const TensorView& feature, const std::optional<TensorView>& class_map,
               const std::vector<RouteClassView>& classes, const TensorView& rows,
               const TensorView& cols, const std::optional<TensorView>& image,
               const TensorView& out, int threads);

// Any floating type and strides. `out` holds a copy of `image` beforehand; averaged pixels are
// written.
void average_neighbors(const TensorView& image, const TensorView& class_map, int64_t min_heavy,
                       int64_t first_heavy, const TensorView& out, int threads);

// A program's tables: arrays of the structures of cpu/program.h, whole.
struct ProgramTables {
  std::string_view values, segments, blocks, steps, orders, result;
};

// What the kernels of this CPU want; cpu/program.h.
ProgramRule program_rule();

// feature [B,C,H,W] of any floating type but float64 and any strides, index [B,k] -> canvas
// [B,O,s*H,s*W] of the same type, written where the patches lie.
void refine_patches(const TensorView& canvas, const TensorView& feature, const TensorView& index,
                    const ProgramTables& tables, const TensorView& constants, int64_t patch_size,
                    int64_t halo, int threads);

// x [N,C,H,W] of any floating type but float64 and any strides -> out [N,C',H',W'], the same type.
// `cover` [B,k]: patches whose pixels of `out` nobody will read; they may be left as they are.
void run_program(const TensorView& x, const ProgramTables& tables, const TensorView& constants,
                 const std::optional<TensorView>& cover, int64_t patch_size, const TensorView& out,
                 int threads);

// Multiplies and adds float32, or pairs of bfloat16, in registers, `iterations` times. Returns how
// many floating-point operations that were, for the caller to time; 0 where there is no such loop.
int64_t fma_peak(int64_t iterations, bool pairs);

}  // namespace cpu
}  // namespace sparsesr
