// Programs on patches on a GPU; ops.h says what holds for all.
#pragma once

#include <cstdint>

#include "common/tensor_view.h"
#include "cuda/program_plan.h"

namespace sparsesr {
namespace cuda {

// The plan for the current device.
PatchPlan plan_patch_program(const PatchProgram& program, DType dtype);

// canvas [B,O,s*H,s*W], written; feature [B,C,H,W]; index [B,k] int32 on the grid of patches of
// `patch_size`. `plan`: the table of a plan on the host, of which `table` is a copy on the device;
// weights: its orders filled in, in the dtype of the maps, and 16-byte aligned; vectors: likewise,
// float32. Maps have any strides. `group` patches share a block, 0: as many as seem best.
void refine_patches(const TensorView& canvas, const TensorView& feature, const TensorView& index,
                    const TensorView& plan, const TensorView& table, const TensorView& weights,
                    const TensorView& vectors, int64_t patch_size, int64_t halo, int64_t group,
                    void* stream);

}  // namespace cuda
}  // namespace sparsesr
