#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/scalar.h"
#include "cuda/slot_map.h"
#include "cuda/windows.h"

namespace sparsesr {
namespace cuda {
namespace {

// Words of a thread in flight at once.
template <class Word>
constexpr int kInFlight = sizeof(Word) == kWidestWord ? 2 : 4;

// Words of a patch, `step` apart: all are asked for before the first is written.
template <class Word>
__device__ __forceinline__ void gather_words(const GatherArgs& args, const Window& window,
                                             int32_t slot, uint32_t first, uint32_t step,
                                             uint32_t count) {
  Word values[kInFlight<Word>];
  char* to[kInFlight<Word>];
#pragma unroll
  for (int i = 0; i < kInFlight<Word>; ++i) {
    const uint32_t item = first + i * step;
    if (item >= count) break;
    const PatchWord place = patch_word(args.walk, window, item);
    to[i] = in_patch<Word>(args.patches, slot, place);
    values[i] = place.inside ? load_word<Word>(on_map<Word>(args.map, window, place)) : Word{};
  }
#pragma unroll
  for (int i = 0; i < kInFlight<Word>; ++i) {
    if (first + i * step < count) store_word(to[i], values[i]);
  }
}

template <class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    gather_patches_fwd_kernel(GatherArgs args) {
  const uint32_t slot = blockIdx.x * blockDim.y + threadIdx.y;
  if (slot >= static_cast<uint32_t>(args.walk.slots)) return;
  const Window window = window_of(args.walk, args.index, static_cast<int32_t>(slot));
  const auto count = static_cast<uint32_t>(words_of_patch(args.walk));
  const uint32_t chunk = blockDim.x * kInFlight<Word>;
  for (uint32_t at = blockIdx.y * chunk + threadIdx.x; at < count; at += gridDim.y * chunk) {
    gather_words<Word>(args, window, static_cast<int32_t>(slot), at, blockDim.x, count);
  }
}

// One word of a pixel in a group of planes: the sum of all windows over it.
template <class T, class Word>
__device__ __forceinline__ void sum_windows(const GatherBackwardArgs& args, const MapLine& line,
                                            int32_t x, int32_t word) {
  Sums<T, Word> sums[kPlanes<Word>];
#pragma unroll
  for (int p = 0; p < kPlanes<Word>; ++p) sums[p].clear();
  const auto add = [&](int32_t slot, int32_t u, int32_t v) {
    const char* from = address<Word>(args.grad, slot, line.plane, u, v, word);
#pragma unroll
    for (int p = 0; p < kPlanes<Word>; ++p) {
      if (p < line.planes) sums[p].add(load_word<Word>(from + p * args.grad.plane));
    }
  };
  for_each_slot_over(args.walk, args.slots, args.index, line.image, line.y, x, add);
  char* to = address<Word>(args.grad_x, line.image, line.plane, line.y, x, word);
#pragma unroll
  for (int p = 0; p < kPlanes<Word>; ++p) {
    if (p < line.planes) store_word(to + p * args.grad_x.plane, sums[p].mean(1));
  }
}

template <class T, class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    gather_patches_bwd_kernel(GatherBackwardArgs args) {
  const MapLine line = map_line<Word>(args.walk);
  if (!line.exists) return;
  for_each_word(args.walk,
                [&](int32_t x, int32_t word) { sum_windows<T, Word>(args, line, x, word); });
}

template <class T, class Word>
void launch_bwd(const GatherBackwardArgs& args, void* stream) {
  const LaunchShape shape = over_map(args.walk);
  auto* gather_patches_bwd = gather_patches_bwd_kernel<T, Word>;
  SIMT_LAUNCH(gather_patches_bwd, shape.grid, shape.block, 0, stream, args);
}

}  // namespace

void launch::gather_patches(const GatherArgs& args, void* stream) {
  for_word(args.walk.word_bytes, [&](auto word) {
    using Word = typename decltype(word)::type;
    const LaunchShape shape = over_patches(args.walk, kInFlight<Word>);
    auto* gather_patches_fwd = gather_patches_fwd_kernel<Word>;
    SIMT_LAUNCH(gather_patches_fwd, shape.grid, shape.block, 0, stream, args);
  });
}

void launch::gather_patches_backward(const GatherBackwardArgs& args, void* stream) {
  fill_slot_map(args.walk, args.index, args.slots, stream);
  for_dtype(args.dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    if (args.walk.word_bytes == sizeof(uint4)) return launch_bwd<T, uint4>(args, stream);
    launch_bwd<T, T>(args, stream);
  });
}

}  // namespace cuda
}  // namespace sparsesr
