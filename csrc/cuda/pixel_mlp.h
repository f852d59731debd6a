// The layers of a small MLP for 32 pixels, by one warp: on tensor cores for 16-bit types, by
// multiply-add for float32 (never TF32). Sums are float32; between layers values have the maps'
// type.
//
// The warp's values lie in its own part of shared memory, so layers are kept apart by __syncwarp
// alone. Weights are read from global memory, where the warps of a multiprocessor share them in L1;
// each word of them serves all 32 pixels. A layer's width is whole groups of kRouteGroup outputs:
// what is beyond its true width is zero.
//
// Packed weights of a layer [outputs, inputs]:
//   float32   [groups of outputs][inputs][16 outputs]
//   16 bits   [groups of outputs][steps of 16 inputs][32 lanes][8]: what a lane holds of two
//             m16n8k16 fragments b (ptx.h), both registers of the first 8 outputs, then of the
//             others
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/ptx.h"
#include "cuda/route_kernels.h"
#include "cuda/scalar.h"

namespace sparsesr {
namespace cuda {

constexpr int32_t kTilePixels = 32;
constexpr int32_t kGroupsAtOnce = 2;

// Values as float32 are [channels][kPitch]: 16-byte rows that do not all begin in the same bank.
constexpr int32_t kPitch = kTilePixels + 4;

__device__ __forceinline__ int32_t lane_id() { return static_cast<int32_t>(threadIdx.x % 32); }

__device__ __forceinline__ float relu(float value) {
  return value < 0.0f ? 0.0f : value;
}  // keeps NaN

__device__ __forceinline__ void matrix_product(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2], Half) {
  mma_m16n8k16_f16(d, a, b);
}
__device__ __forceinline__ void matrix_product(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2], BFloat16) {
  mma_m16n8k16_bf16(d, a, b);
}

// Values of the tile's pixels in 16 bits, [kTilePixels][pitch]: rows begin at 16 bytes in other
// banks than the seven before them.
template <class T>
struct PixelValues {
  static constexpr bool kFragments = true;

  T* data;
  int32_t pitch;

  static __host__ __device__ __forceinline__ int32_t pitch_of(int32_t width) {
    return static_cast<int32_t>(whole_groups(width)) + 8;
  }
  static int64_t bytes(int64_t width) {
    return kTilePixels * pitch_of(static_cast<int32_t>(width)) * static_cast<int64_t>(sizeof(T));
  }
  __device__ __forceinline__ PixelValues(char* buffer, int32_t width)
      : data(reinterpret_cast<T*>(buffer)), pitch(pitch_of(width)) {}

  __device__ __forceinline__ void set(int32_t pixel, int32_t channel, float value) const {
    data[pixel * pitch + channel] = Arithmetic<T>::store(value);
  }
  __device__ __forceinline__ void set_pair(int32_t pixel, int32_t channel, float a, float b) const {
    const T pair[2] = {Arithmetic<T>::store(a), Arithmetic<T>::store(b)};
    memcpy(data + pixel * pitch + channel, pair, sizeof(pair));
  }
};

template <>
struct PixelValues<float> {
  static constexpr bool kFragments = false;

  float* data;

  static int64_t bytes(int64_t width) {
    return whole_groups(width) * kPitch * static_cast<int64_t>(sizeof(float));
  }
  __device__ __forceinline__ PixelValues(char* buffer, int32_t)
      : data(reinterpret_cast<float*>(buffer)) {}

  __device__ __forceinline__ void set(int32_t pixel, int32_t channel, float value) const {
    data[channel * kPitch + pixel] = value;
  }
  __device__ __forceinline__ void set_pair(int32_t pixel, int32_t channel, float a, float b) const {
    set(pixel, channel, a);
    set(pixel, channel + 1, b);
  }
};

// The sums of kGroups groups of outputs in registers.
template <class T, int kGroups>
struct GroupSums {
  // [pixels 0 to 15, 16 to 31][outputs 8 j to 8 j + 7][as fragment d]
  float values[2][2 * kGroups][4];

  __device__ __forceinline__ void start(const float* bias) {
#pragma unroll
    for (int j = 0; j < 2 * kGroups; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float value = bias == nullptr ? 0.0f : bias[8 * j + lane_id() % 4 * 2 + i % 2];
        values[0][j][i] = value;
        values[1][j][i] = value;
      }
    }
  }

  __device__ __forceinline__ void add(const PixelValues<T>& from, int32_t inputs,
                                      const T* weights) {
    const int32_t steps = static_cast<int32_t>(whole_groups(inputs)) / 16;
    const auto* fragments = reinterpret_cast<const uint4*>(weights) + lane_id();
    const T* row = from.data + lane_id() % 16 * from.pitch + lane_id() / 16 * 8;
    for (int32_t step = 0; step < steps; ++step) {
      uint32_t a[2][4];
      ldmatrix_x4(a[0], row + 16 * step);
      ldmatrix_x4(a[1], row + 16 * from.pitch + 16 * step);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const uint4 both = fragments[(g * steps + step) * 32];
        const uint32_t left[2] = {both.x, both.y}, right[2] = {both.z, both.w};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          matrix_product(values[half][2 * g], a[half], left, T{});
          matrix_product(values[half][2 * g + 1], a[half], right, T{});
        }
      }
    }
  }

  // Calls visit(pixel, output, value, next output's value) for what this lane holds.
  template <class Visit>
  __device__ __forceinline__ void for_each_pair(const Visit& visit) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < 2 * kGroups; ++j) {
        const int32_t pixel = 16 * half + lane_id() / 4, output = 8 * j + lane_id() % 4 * 2;
        visit(pixel, output, values[half][j][0], values[half][j][1]);
        visit(pixel + 8, output, values[half][j][2], values[half][j][3]);
      }
    }
  }
};

// Lane 4 p + o: pixels 4 p to 4 p + 3, outputs 4 o to 4 o + 3 of every group.
template <int kGroups>
struct GroupSums<float, kGroups> {
  float values[kGroups][4][4];  // [][outputs][pixels]

  __device__ __forceinline__ void start(const float* bias) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
#pragma unroll
      for (int o = 0; o < 4; ++o) {
        const int32_t output = kRouteGroup * g + lane_id() % 4 * 4 + o;
        const float value = bias == nullptr ? 0.0f : bias[output];
#pragma unroll
        for (int p = 0; p < 4; ++p) values[g][o][p] = value;
      }
    }
  }

  __device__ __forceinline__ void add(const PixelValues<float>& from, int32_t inputs,
                                      const float* weights) {
    const float* column = from.data + lane_id() / 4 * 4;
    const float* own = weights + lane_id() % 4 * 4;
    for (int32_t c = 0; c < inputs; ++c) {
      const float4 x = *reinterpret_cast<const float4*>(column + c * kPitch);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const float4 w = *reinterpret_cast<const float4*>(own + (g * inputs + c) * kRouteGroup);
        multiply(values[g][0], x, w.x);
        multiply(values[g][1], x, w.y);
        multiply(values[g][2], x, w.z);
        multiply(values[g][3], x, w.w);
      }
    }
  }

  static __device__ __forceinline__ void multiply(float (&sums)[4], const float4& x, float w) {
    sums[0] += x.x * w;
    sums[1] += x.y * w;
    sums[2] += x.z * w;
    sums[3] += x.w * w;
  }

  template <class Visit>
  __device__ __forceinline__ void for_each_pair(const Visit& visit) const {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int32_t output = kRouteGroup * g + lane_id() % 4 * 4;
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        const int32_t pixel = lane_id() / 4 * 4 + p;
        visit(pixel, output, values[g][0][p], values[g][1][p]);
        visit(pixel, output + 2, values[g][2][p], values[g][3][p]);
      }
    }
  }
};

// One layer of the tile; visit(pixel, output, value, next output's value) takes its outputs, of
// which those beyond the true width are not 0 where an input is not finite.
template <class T, class Visit>
__device__ __forceinline__ void run_layer(const PixelValues<T>& from, int32_t inputs,
                                          const T* weights, const float* bias, int32_t outputs,
                                          const Visit& visit) {
  const auto run = [&](auto sums, int32_t first) {
    sums.start(bias == nullptr ? nullptr : bias + first);
    sums.add(from, inputs, weights);
    sums.for_each_pair([&](int32_t pixel, int32_t output, float a, float b) {
      visit(pixel, first + output, a, b);
    });
  };
  constexpr int32_t kWide = kGroupsAtOnce * kRouteGroup;
  const auto width = static_cast<int32_t>(whole_groups(outputs));
  const auto depth = static_cast<int32_t>(packed_layer_size(1, inputs, PixelValues<T>::kFragments));
  int32_t first = 0;
  for (; first + kWide <= width; first += kWide, weights += kGroupsAtOnce * depth) {
    run(GroupSums<T, kGroupsAtOnce>(), first);
  }
  if (first < width) run(GroupSums<T, 1>(), first);
}

}  // namespace cuda
}  // namespace sparsesr
