// Which slots cover a map pixel, from the slot map: device code of the kernels that own pixels.
#pragma once

#include "cuda/walk.h"
#include "cuda/windows.h"

namespace sparsesr {
namespace cuda {

// A slot over a pixel, and the pixel's place in its window.
struct Cover {
  int32_t slot, u, v;  // slot is -1 where none covers it
};

// The last slot over (y, x).
__device__ __forceinline__ Cover last_over(const PatchWalk& walk, const SlotMap& slots,
                                           int32_t image, int32_t y, int32_t x) {
  const int32_t* last = slots.last + static_cast<int64_t>(image) * walk.cells;
  Cover winner = {-1, 0, 0};
  for_each_cell_over(walk, y, x, [&](int32_t cell, int32_t u, int32_t v) {
    const int32_t slot = last[cell];
    if (slot > winner.slot) winner = {slot, u, v};
  });
  return winner;
}

// How many slots cover (y, x).
__device__ __forceinline__ int32_t count_over(const PatchWalk& walk, const SlotMap& slots,
                                              int32_t image, int32_t y, int32_t x) {
  const int32_t* count = slots.count + static_cast<int64_t>(image) * walk.cells;
  int32_t total = 0;
  for_each_cell_over(walk, y, x, [&](int32_t cell, int32_t, int32_t) { total += count[cell]; });
  return total;
}

// Calls body(slot) for every slot that names `cell`, in slot order. Only a cell named more than
// once makes it look through the image's index.
template <class Body>
__device__ __forceinline__ void for_each_slot_of(const PatchWalk& walk, const SlotMap& slots,
                                                 const int32_t* index, int32_t image, int32_t cell,
                                                 const Body& body) {
  const int64_t entry = static_cast<int64_t>(image) * walk.cells + cell;
  const int32_t last = slots.last[entry];
  if (last < 0) return;
  if (slots.count[entry] > 1) {
    for (int32_t slot = image * walk.k; slot < last; ++slot) {
      if (index[slot] == cell) body(slot);
    }
  }
  body(last);
}

// Calls body(slot, u, v) for every slot over (y, x), cell by cell: the same order in every run.
template <class Body>
__device__ __forceinline__ void for_each_slot_over(const PatchWalk& walk, const SlotMap& slots,
                                                   const int32_t* index, int32_t image, int32_t y,
                                                   int32_t x, const Body& body) {
  for_each_cell_over(walk, y, x, [&](int32_t cell, int32_t u, int32_t v) {
    for_each_slot_of(walk, slots, index, image, cell, [&](int32_t slot) { body(slot, u, v); });
  });
}

}  // namespace cuda
}  // namespace sparsesr
