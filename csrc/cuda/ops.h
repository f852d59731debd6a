// The patch ops on a GPU: the ops of cpu/ops.h, queued on `stream` (a cudaStream_t) of the current
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

}  // namespace cuda
}  // namespace sparsesr
