// The CUDA kernels' arguments, already checked and planned, and the functions that launch them.
// Plain C++: bindings and checks need no CUDA header.
#pragma once

#include <cstdint>

#include "common/tensor_view.h"
#include "cuda/walk.h"

namespace sparsesr {
namespace cuda {

struct SelectArgs {
  const char* mask;  // [batch, rows, cols]
  DType dtype;
  int64_t image, row, col;  // strides in bytes
  int32_t batch;
  int32_t count;  // scores per image
  FastDivisor by_cols;
  int32_t k;  // >= 1
  bool largest;
  int32_t* index;  // [batch, k]
};

struct GatherArgs {
  PatchWalk walk;
  Lines map, patches;
  const int32_t* index;
};

struct GatherBackwardArgs {
  PatchWalk walk;
  DType dtype;
  Lines grad;    // of the patches
  Lines grad_x;  // of the map
  const int32_t* index;
  SlotMap slots;
};

struct ScatterArgs {
  PatchWalk walk;
  DType dtype;
  bool mean;
  bool in_place;  // out is the canvas
  Lines canvas, patches, out;
  const int32_t* index;
  SlotMap slots;  // none where windows cannot overlap and the canvas is written in place
};

struct ScatterBackwardArgs {
  PatchWalk walk;
  DType dtype;
  bool mean;
  bool overlap;  // windows can
  Lines grad, grad_canvas, grad_patches;
  const int32_t* index;
  SlotMap slots;
};

// Each queues its kernels on `stream`; what there is to do is not empty, but a gradient or an
// output of a map may come with no slots.
namespace launch {

void select_patches(const SelectArgs& args, void* stream);
void gather_patches(const GatherArgs& args, void* stream);
void gather_patches_backward(const GatherBackwardArgs& args, void* stream);
void select_gather_patches(const SelectArgs& select, const GatherArgs& gather, void* stream);
void scatter_patches(const ScatterArgs& args, void* stream);
void scatter_patches_backward(const ScatterBackwardArgs& args, void* stream);

void fill_slot_map(const PatchWalk& walk, const int32_t* index, const SlotMap& slots, void* stream);

}  // namespace launch

}  // namespace cuda
}  // namespace sparsesr
