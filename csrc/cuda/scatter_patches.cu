#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/scalar.h"
#include "cuda/slot_map.h"
#include "cuda/windows.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr int kWordsPerThread = 4;

// Words of a group of planes, `plane` bytes apart: all are asked for before the first is written.
template <class Word>
__device__ __forceinline__ void copy_planes(char* to, int64_t to_plane, const char* from,
                                            int64_t from_plane, int32_t planes) {
  Word words[kPlanes<Word>];
#pragma unroll
  for (int p = 0; p < kPlanes<Word>; ++p) {
    if (p < planes) words[p] = load_word<Word>(from + p * from_plane);
  }
#pragma unroll
  for (int p = 0; p < kPlanes<Word>; ++p) {
    if (p < planes) store_word(to + p * to_plane, words[p]);
  }
}

// Windows do not overlap: every patch is written where it lies.
template <class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    scatter_patches_fwd_paste_kernel(ScatterArgs args) {
  const uint32_t slot = blockIdx.x * blockDim.y + threadIdx.y;
  if (slot >= static_cast<uint32_t>(args.walk.slots)) return;
  const Window window = window_of(args.walk, args.index, static_cast<int32_t>(slot));
  for_each_patch_word(args.walk, window, [&](const PatchWord& at) {
    if (!at.inside) return;
    const char* from = in_patch<Word>(args.patches, static_cast<int32_t>(slot), at);
    store_word(on_map<Word>(args.out, window, at), load_word<Word>(from));
  });
}

template <class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    scatter_patches_fwd_replace_kernel(ScatterArgs args) {
  const MapLine line = map_line<Word>(args.walk);
  if (!line.exists) return;
  for_each_word(args.walk, [&](int32_t x, int32_t word) {
    const Cover cover = last_over(args.walk, args.slots, line.image, line.y, x);
    if (cover.slot < 0 && args.in_place) return;
    const char* from =
        cover.slot >= 0
            ? address<Word>(args.patches, cover.slot, line.plane, cover.u, cover.v, word)
            : address<Word>(args.canvas, line.image, line.plane, line.y, x, word);
    copy_planes<Word>(address<Word>(args.out, line.image, line.plane, line.y, x, word),
                      args.out.plane, from,
                      cover.slot >= 0 ? args.patches.plane : args.canvas.plane, line.planes);
  });
}

// One word of a pixel in a group of planes: the mean of all patches over it.
template <class T, class Word>
__device__ __forceinline__ void average(const ScatterArgs& args, const MapLine& line, int32_t x,
                                        int32_t word) {
  Sums<T, Word> sums[kPlanes<Word>];
  int32_t count = 0;
#pragma unroll
  for (int p = 0; p < kPlanes<Word>; ++p) sums[p].clear();
  const auto add = [&](int32_t slot, int32_t u, int32_t v) {
    const char* from = address<Word>(args.patches, slot, line.plane, u, v, word);
    ++count;
#pragma unroll
    for (int p = 0; p < kPlanes<Word>; ++p) {
      if (p < line.planes) sums[p].add(load_word<Word>(from + p * args.patches.plane));
    }
  };
  for_each_slot_over(args.walk, args.slots, args.index, line.image, line.y, x, add);
  char* to = address<Word>(args.out, line.image, line.plane, line.y, x, word);
  if (count == 0) {
    const char* from = address<Word>(args.canvas, line.image, line.plane, line.y, x, word);
    if (!args.in_place) {
      copy_planes<Word>(to, args.out.plane, from, args.canvas.plane, line.planes);
    }
    return;
  }
#pragma unroll
  for (int p = 0; p < kPlanes<Word>; ++p) {
    if (p < line.planes) store_word(to + p * args.out.plane, sums[p].mean(count));
  }
}

template <class T, class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    scatter_patches_fwd_mean_kernel(ScatterArgs args) {
  const MapLine line = map_line<Word>(args.walk);
  if (!line.exists) return;
  for_each_word(args.walk, [&](int32_t x, int32_t word) { average<T, Word>(args, line, x, word); });
}

// The gradient of the canvas: zero where a patch lies, else the gradient itself.
template <class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    scatter_patches_bwd_canvas_kernel(ScatterBackwardArgs args) {
  const MapLine line = map_line<Word>(args.walk);
  if (!line.exists) return;
  for_each_word(args.walk, [&](int32_t x, int32_t word) {
    const bool covered = count_over(args.walk, args.slots, line.image, line.y, x) > 0;
    char* to = address<Word>(args.grad_canvas, line.image, line.plane, line.y, x, word);
    if (!covered) {
      const char* from = address<Word>(args.grad, line.image, line.plane, line.y, x, word);
      return copy_planes<Word>(to, args.grad_canvas.plane, from, args.grad.plane, line.planes);
    }
    for (int p = 0; p < line.planes; ++p) store_word(to + p * args.grad_canvas.plane, Word{});
  });
}

// The gradient of the patches, replace: where a slot is the last over a pixel, the pixel's.
template <class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    scatter_patches_bwd_replace_kernel(ScatterBackwardArgs args) {
  const uint32_t thread_slot = blockIdx.x * blockDim.y + threadIdx.y;
  if (thread_slot >= static_cast<uint32_t>(args.walk.slots)) return;
  const auto slot = static_cast<int32_t>(thread_slot);
  const Window window = window_of(args.walk, args.index, slot);
  for_each_patch_word(args.walk, window, [&](const PatchWord& at) {
    const bool wins =
        at.inside &&
        (!args.overlap || last_over(args.walk, args.slots, window.image, at.y, at.x).slot == slot);
    store_word(in_patch<Word>(args.grad_patches, slot, at),
               wins ? load_word<Word>(on_map<Word>(args.grad, window, at)) : Word{});
  });
}

// The gradient of the patches, mean: the pixel's, shared among all slots over it.
template <class T, class Word>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    scatter_patches_bwd_mean_kernel(ScatterBackwardArgs args) {
  const uint32_t thread_slot = blockIdx.x * blockDim.y + threadIdx.y;
  if (thread_slot >= static_cast<uint32_t>(args.walk.slots)) return;
  const auto slot = static_cast<int32_t>(thread_slot);
  const Window window = window_of(args.walk, args.index, slot);
  for_each_patch_word(args.walk, window, [&](const PatchWord& at) {
    Word share = Word{};
    if (at.inside) {
      Sums<T, Word> grad;
      grad.clear();
      grad.add(load_word<Word>(on_map<Word>(args.grad, window, at)));
      share = grad.mean(count_over(args.walk, args.slots, window.image, at.y, at.x));
    }
    store_word(in_patch<Word>(args.grad_patches, slot, at), share);
  });
}

template <class T, class Word>
void launch_mean(const ScatterArgs& args, const LaunchShape& shape, void* stream) {
  auto* scatter_patches_fwd_mean = scatter_patches_fwd_mean_kernel<T, Word>;
  SIMT_LAUNCH(scatter_patches_fwd_mean, shape.grid, shape.block, 0, stream, args);
}

template <class T, class Word>
void launch_bwd_mean(const ScatterBackwardArgs& args, const LaunchShape& shape, void* stream) {
  auto* scatter_patches_bwd_mean = scatter_patches_bwd_mean_kernel<T, Word>;
  SIMT_LAUNCH(scatter_patches_bwd_mean, shape.grid, shape.block, 0, stream, args);
}

void paste(const ScatterArgs& args, void* stream) {
  const LaunchShape shape = over_patches(args.walk, kWordsPerThread);
  for_word(args.walk.word_bytes, [&](auto word) {
    auto* scatter_patches_fwd_paste =
        scatter_patches_fwd_paste_kernel<typename decltype(word)::type>;
    SIMT_LAUNCH(scatter_patches_fwd_paste, shape.grid, shape.block, 0, stream, args);
  });
}

void replace(const ScatterArgs& args, const LaunchShape& shape, void* stream) {
  for_word(args.walk.word_bytes, [&](auto word) {
    auto* scatter_patches_fwd_replace =
        scatter_patches_fwd_replace_kernel<typename decltype(word)::type>;
    SIMT_LAUNCH(scatter_patches_fwd_replace, shape.grid, shape.block, 0, stream, args);
  });
}

}  // namespace

void launch::scatter_patches(const ScatterArgs& args, void* stream) {
  if (args.slots.last == nullptr) return paste(args, stream);
  fill_slot_map(args.walk, args.index, args.slots, stream);
  const LaunchShape shape = over_map(args.walk);
  if (!args.mean) return replace(args, shape, stream);
  for_dtype(args.dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    if (args.walk.word_bytes == sizeof(uint4)) return launch_mean<T, uint4>(args, shape, stream);
    launch_mean<T, T>(args, shape, stream);
  });
}

void launch::scatter_patches_backward(const ScatterBackwardArgs& args, void* stream) {
  fill_slot_map(args.walk, args.index, args.slots, stream);
  const LaunchShape map_shape = over_map(args.walk);
  for_word(args.walk.word_bytes, [&](auto word) {
    auto* scatter_patches_bwd_canvas =
        scatter_patches_bwd_canvas_kernel<typename decltype(word)::type>;
    SIMT_LAUNCH(scatter_patches_bwd_canvas, map_shape.grid, map_shape.block, 0, stream, args);
  });
  if (args.walk.slots == 0) return;
  const LaunchShape shape = over_patches(args.walk, kWordsPerThread);
  if (!args.mean) {
    return for_word(args.walk.word_bytes, [&](auto word) {
      auto* scatter_patches_bwd_replace =
          scatter_patches_bwd_replace_kernel<typename decltype(word)::type>;
      SIMT_LAUNCH(scatter_patches_bwd_replace, shape.grid, shape.block, 0, stream, args);
    });
  }
  for_dtype(args.dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    if (args.walk.word_bytes == sizeof(uint4)) {
      return launch_bwd_mean<T, uint4>(args, shape, stream);
    }
    launch_bwd_mean<T, T>(args, shape, stream);
  });
}

}  // namespace cuda
}  // namespace sparsesr
