#include "cuda/slot_map.h"

#include "cuda/device.h"
#include "cuda/kernels.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr int64_t kMaxClearBlocks = 4096;

__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    slot_map_clear_kernel(SlotMap slots, int64_t entries) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < entries;
       i += step) {
    slots.last[i] = -1;
    slots.count[i] = 0;
  }
}

// Integer maxima and sums: the order of the atomics leaves no trace.
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    slot_map_fill_kernel(PatchWalk walk, const int32_t* index, SlotMap slots) {
  const uint32_t slot = blockIdx.x * blockDim.x + threadIdx.x;
  if (slot >= static_cast<uint32_t>(walk.slots)) return;
  const int32_t cell = index[slot];
  if (static_cast<uint32_t>(cell) >= static_cast<uint32_t>(walk.cells)) return;
  const int64_t entry = static_cast<int64_t>(quotient(slot, walk.by_k)) * walk.cells + cell;
  atomicMax(slots.last + entry, static_cast<int32_t>(slot));
  atomicAdd(slots.count + entry, 1);
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kBlockThreads - 1) / kBlockThreads);
}

}  // namespace

void launch::fill_slot_map(const PatchWalk& walk, const int32_t* index, const SlotMap& slots,
                           void* stream) {
  const int64_t entries = static_cast<int64_t>(walk.batch) * walk.cells;
  const int64_t wanted = (entries + kBlockThreads - 1) / kBlockThreads;
  const auto blocks = static_cast<unsigned>(std::min(wanted, kMaxClearBlocks));
  SIMT_LAUNCH(slot_map_clear_kernel, blocks, kBlockThreads, 0, stream, slots, entries);
  if (walk.slots == 0) return;
  SIMT_LAUNCH(slot_map_fill_kernel, blocks_for(walk.slots), kBlockThreads, 0, stream, walk, index,
              slots);
}

}  // namespace cuda
}  // namespace sparsesr
