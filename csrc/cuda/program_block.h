// What all steps of a program have in common on the device: the block, its patches, values in
// shared memory, activations.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/device.h"
#include "cuda/program_kernels.h"
#include "cuda/scalar.h"
#include "cuda/windows.h"

namespace sparsesr {
namespace cuda {

struct PatchBlock {
  char* shared;
  const PatchTarget* targets;
  int32_t live;  // patches of this group: fewer than `group` in the last one
  const RefinePatchesArgs& args;

  // Pixel 0 of patch 0; the pixels of all patches follow.
  __device__ __forceinline__ int32_t offset(const PatchView& view) const {
    return args.head.zero_bytes + view.offset * args.group + view.first;
  }
  __device__ __forceinline__ char* at(const PatchView& view) const { return shared + offset(view); }
  __device__ __forceinline__ const int32_t* list(int32_t place) const { return args.lists + place; }
};

template <class T>
constexpr int kVectorChannels = 16 / static_cast<int>(sizeof(T));

// 16 bytes of a pixel's channels as float32.
template <class T>
struct Channels {
  static constexpr int kCount = kVectorChannels<T>;

  float values[kCount];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = 0.0f;
  }
  __device__ __forceinline__ void load(const char* from) {
    const uint4 word = *reinterpret_cast<const uint4*>(from);
    T elements[kCount];
    memcpy(elements, &word, sizeof(word));
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = Arithmetic<T>::load(elements[i]);
  }
  // Channels from `count` on are zero.
  __device__ __forceinline__ void store(char* to, int32_t count) const {
    T elements[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      elements[i] = Arithmetic<T>::store(i < count ? values[i] : 0.0f);
    uint4 word;
    memcpy(&word, elements, sizeof(word));
    *reinterpret_cast<uint4*>(to) = word;
  }
};

template <class T>
__device__ __forceinline__ float load_value(const char* from) {
  return Arithmetic<T>::load(*reinterpret_cast<const T*>(from));
}

__device__ __forceinline__ float relu_of(float value) {
  return value < 0.0f ? 0.0f : value;  // keeps NaN
}
__device__ __forceinline__ float leaky_of(float value, float slope) {
  return value < 0.0f ? value * slope : value;
}
__device__ __forceinline__ float sigmoid_of(float value) { return 1.0f / (1.0f + expf(-value)); }

// Where a pixel of a patch's result lies on the canvas, and how many rows and columns there are
// from it on: none where the patch is not to be written.
struct CanvasPlace {
  int64_t offset;
  int32_t rows, cols;
};

__device__ __forceinline__ CanvasPlace place_on_canvas(const PatchBlock& block, int32_t patch,
                                                       int32_t y, int32_t x) {
  const RefinePatchesArgs& args = block.args;
  const PatchTarget target = block.targets[patch];
  y += (target.top + args.halo) * args.scale;
  x += (target.left + args.halo) * args.scale;
  const PatchMap& map = args.canvas;
  return {target.image * map.image + y * map.row + x * map.pixel,
          target.named ? args.canvas_height - y : 0, args.canvas_width - x};
}

}  // namespace cuda
}  // namespace sparsesr
