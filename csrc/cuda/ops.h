// The ops on a GPU: those of cpu/ops.h, queued on `stream` (a cudaStream_t) of the current
// device, which is that of the tensors. They check types, shapes and strides before they launch
// anything and throw as the CPU ops do; index values stay on the device and are not checked: one
// outside the grid reads as zeros (gather) or is ignored (scatter, backward), and a patch named
// twice is an error that only the CPU reports. They allocate nothing and never wait for the device.
// Where an op takes a workspace, that is a contiguous int32 tensor of at least
// <op>_workspace(...) elements; its contents do not matter. Under SPARSESR_SIMT the kernels run on
// the host, on host memory (device -1).
#pragma once

#include <cstdint>

#include "common/tensor_view.h"
#include "cpu/ops.h"

namespace sparsesr {
namespace cuda {

using cpu::PatchShape;
using cpu::Reduce;

void select_patches(const TensorView& mask, const TensorView& index, bool largest, void* stream);

void gather_patches(const TensorView& map, const TensorView& index, const TensorView& patches,
                    PatchShape shape, void* stream);

int64_t gather_patches_backward_workspace(int64_t batch, int64_t height, int64_t width,
                                          PatchShape shape);
void gather_patches_backward(const TensorView& grad, const TensorView& index,
                             const TensorView& grad_x, const TensorView& workspace,
                             PatchShape shape, void* stream);

void select_gather_patches(const TensorView& mask, const TensorView& map, const TensorView& index,
                           const TensorView& patches, PatchShape shape, bool largest, void* stream);

// `in_place`: out is the canvas. 0 where no workspace is needed.
int64_t scatter_patches_workspace(int64_t batch, int64_t height, int64_t width, PatchShape shape,
                                  bool in_place);
void scatter_patches(const TensorView& canvas, const TensorView& patches, const TensorView& index,
                     const TensorView& out, const TensorView& workspace, PatchShape shape,
                     Reduce reduce, void* stream);

int64_t scatter_patches_backward_workspace(int64_t batch, int64_t height, int64_t width,
                                           PatchShape shape);
void scatter_patches_backward(const TensorView& grad, const TensorView& index,
                              const TensorView& grad_canvas, const TensorView& grad_patches,
                              const TensorView& workspace, PatchShape shape, Reduce reduce,
                              void* stream);

// The masked convolutions: float32, float16 or bfloat16, summed in float32; x and out with adjacent
// channels (channels_last or a slice of such a map); mask [B,1,H,W] bool, any strides; biases
// without elements stand for none.

// Inputs and outputs of packed weights are padded with zeros to a multiple of this.
int64_t channel_step();

// x [B,C,H,W] -> out [B,C',H,W], zero where the mask is false. weights: [side * side, C', C],
// padded and contiguous; side odd, at most 13, so that what a tile reaches fits shared memory.
void masked_conv2d(const TensorView& x, const TensorView& weights, const TensorView& bias,
                   const TensorView& mask, const TensorView& out, int64_t side, void* stream);

// weights [L,C,C,3,3], collect_weight [C',L*C], dense [L,C] bool, all contiguous -> packed, int32
// [masked_block_packed(...)], as masked_block wants it.
int64_t masked_block_packed(int64_t layers, int64_t channels, int64_t outputs, DType dtype);
void masked_block_pack(const TensorView& weights, const TensorView& collect_weight,
                       const TensorView& dense, const TensorView& packed, void* stream);

// x [B,C,H,W] -> out [B,C',H,W]. features: contiguous workspace [L,B,H,W,C], C padded.
void masked_block(const TensorView& x, const TensorView& packed, const TensorView& bias,
                  const TensorView& mask, const TensorView& features, const TensorView& out,
                  void* stream);

}  // namespace cuda
}  // namespace sparsesr
