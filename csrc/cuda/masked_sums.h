// The sums of a tile's outputs in registers, and one tap's products added to them: on tensor cores
// for 16-bit types, by multiply-add for float32 (never TF32). Both sum in float32.
//
// A warp owns up to kGroupsPerWarp groups of kGroupRows pixels with all of the block's outputs.
#pragma once

#include <cstdint>

#include "cuda/masked_tile.h"

namespace sparsesr {
namespace cuda {

constexpr int kGroupRows = 16;
constexpr int kGroupsPerWarp = kTilePixels / kGroupRows / kTileWarps;

// Part of a pixel list: the pixels that one filter is applied to, and the groups of them that this
// warp owns. Groups go round the warps from another one in every block: those of a block with few
// groups do not all burden the same quarter of the multiprocessor.
struct Rows {
  const uint8_t* pixels;
  int32_t count;
  int32_t first_group, groups;

  __device__ __forceinline__ int32_t row(int32_t slot, int32_t row_of_group) const {
    return (first_group + slot * kTileWarps) * kGroupRows + row_of_group;
  }
  // Rows beyond the last repeat it; what they sum is not stored.
  __device__ __forceinline__ int32_t pixel(int32_t slot, int32_t row_of_group) const {
    return pixels[min(row(slot, row_of_group), count - 1)];
  }
};

__device__ __forceinline__ Rows rows_of(const uint8_t* pixels, int32_t count) {
  const auto warp = static_cast<int32_t>(threadIdx.x / 32 + blockIdx.x) % kTileWarps;
  const int32_t all = (count + kGroupRows - 1) / kGroupRows;
  const int32_t groups = all > warp ? (all - warp + kTileWarps - 1) / kTileWarps : 0;
  return {pixels, count, warp, groups};
}

__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], Half) {
  mma_m16n8k16_f16(d, a, b);
}
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2], BFloat16) {
  mma_m16n8k16_bf16(d, a, b);
}

// Tensor cores: lane 4 g + t holds outputs 8 j + 2 t and the next of rows g and g + 8.
template <class T>
struct TileSums {
  static constexpr int kRows = 2;       // of a group, in this lane
  static constexpr int kColumns = 8;    // runs of outputs in a row
  static constexpr int kRun = 2;        // adjacent outputs
  static constexpr int kPositions = 1;  // rows whose inputs this lane reads

  float values[kGroupsPerWarp][kColumns][kRows * kRun];

  static __device__ __forceinline__ int32_t lane() {
    return static_cast<int32_t>(threadIdx.x % 32);
  }
  static __device__ __forceinline__ int32_t row(int r) { return lane() / 4 + 8 * r; }
  static __device__ __forceinline__ int32_t column(int c) { return 8 * c + lane() % 4 * 2; }
  static __device__ __forceinline__ int32_t input_row(int) { return lane() % kGroupRows; }

  __device__ __forceinline__ float value(int slot, int r, int c, int i) const {
    return values[slot][c][r * kRun + i];
  }

  // positions: of input_row(i) of every group among `inputs`; channels: whole steps; outputs: whole
  // pairs of columns.
  __device__ __forceinline__ void add(const int32_t (&positions)[kGroupsPerWarp][kPositions],
                                      int32_t groups, char* inputs, char* weights, int32_t channels,
                                      int32_t outputs) {
    for (int32_t vector = 0; vector < channels / kVectorElements<T>; vector += 2) {
      uint32_t a[kGroupsPerWarp][4];
#pragma unroll
      for (int s = 0; s < kGroupsPerWarp; ++s) {
        if (s >= groups) break;
        ldmatrix_x4(a[s], vector_at(inputs, positions[s][0], vector + lane() / kGroupRows));
      }
#pragma unroll
      for (int pair = 0; pair < kColumns / 2; ++pair) {
        if (pair * 16 >= outputs) break;
        uint32_t b[4];
        const int32_t output = pair * 16 + lane() % 8 + lane() / 16 * 8;
        ldmatrix_x4(b, vector_at(weights, output, vector + lane() / 8 % 2));
        const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
        for (int s = 0; s < kGroupsPerWarp; ++s) {
          if (s >= groups) break;
          multiply_add(values[s][2 * pair], a[s], left, T{});
          multiply_add(values[s][2 * pair + 1], a[s], right, T{});
        }
      }
    }
  }
};

// Multiply-add: lane 8 r + c holds outputs c, c + 8, ... of rows 4 r to 4 r + 3.
template <>
struct TileSums<float> {
  static constexpr int kRows = 4, kColumns = 8, kRun = 1, kPositions = 4;

  float values[kGroupsPerWarp][kColumns][kRows];

  static __device__ __forceinline__ int32_t lane() {
    return static_cast<int32_t>(threadIdx.x % 32);
  }
  static __device__ __forceinline__ int32_t row(int r) { return lane() / 8 * kRows + r; }
  static __device__ __forceinline__ int32_t column(int c) { return 8 * c + lane() % 8; }
  static __device__ __forceinline__ int32_t input_row(int i) { return row(i); }

  __device__ __forceinline__ float value(int slot, int r, int c, int) const {
    return values[slot][c][r];
  }

  __device__ __forceinline__ void add(const int32_t (&positions)[kGroupsPerWarp][kPositions],
                                      int32_t groups, char* inputs, char* weights, int32_t channels,
                                      int32_t outputs) {
    for (int32_t vector = 0; vector < channels / kVectorElements<float>; ++vector) {
#pragma unroll
      for (int s = 0; s < kGroupsPerWarp; ++s) {
        if (s >= groups) break;
        float4 x[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          x[r] = *reinterpret_cast<const float4*>(vector_at(inputs, positions[s][r], vector));
        }
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          if (c * 8 >= outputs) break;
          const float4 w = *reinterpret_cast<const float4*>(vector_at(weights, column(c), vector));
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            float sum = values[s][c][r];
            sum += x[r].x * w.x;
            sum += x[r].y * w.y;
            sum += x[r].z * w.z;
            sum += x[r].w * w.w;
            values[s][c][r] = sum;
          }
        }
      }
    }
  }
};

template <class T>
__device__ __forceinline__ void clear(TileSums<T>& sums) {
#pragma unroll
  for (int s = 0; s < kGroupsPerWarp; ++s) {
#pragma unroll
    for (int c = 0; c < TileSums<T>::kColumns; ++c) {
#pragma unroll
      for (int i = 0; i < TileSums<T>::kRows * TileSums<T>::kRun; ++i) sums.values[s][c][i] = 0.0f;
    }
  }
}

// A filter [taps][outputs][inputs] in memory, from the block's first output on.
template <class T>
struct Filter {
  const T* weights;
  int32_t side;
  int32_t pitch;  // inputs as packed
  int64_t tap;    // elements from one tap to the next
};

// Adds to `sums` what `inputs` channels of the map contribute to `outputs` outputs, both whole
// steps. All threads of the block; `shared` is shared_bytes(side) large.
template <class T>
__device__ __forceinline__ void accumulate(TileSums<T>& sums, const Rows& rows, const Pixels& map,
                                           const TileGrid& grid, const Tile& tile,
                                           const Filter<T>& filter, int32_t inputs, int32_t outputs,
                                           char* shared) {
  const Frame frame = frame_of(tile, filter.side);
  char* const taps = shared + frame.rows * frame.cols * kPixelBytes;
  constexpr int32_t kTapBytes = kBlockOutputs * kPixelBytes;
  int32_t corners[kGroupsPerWarp][TileSums<T>::kPositions];  // of each row's filter window
#pragma unroll
  for (int s = 0; s < kGroupsPerWarp; ++s) {
#pragma unroll
    for (int i = 0; i < TileSums<T>::kPositions; ++i) {
      const int32_t pixel = rows.pixel(s, TileSums<T>::input_row(i));
      corners[s][i] = pixel / kTileCols * frame.cols + pixel % kTileCols;
    }
  }
  for (int32_t first = 0; first < inputs; first += kChunkChannels<T>) {
    const int32_t count = min(kChunkChannels<T>, inputs - first);
    load_frame<T>(map, grid, tile, frame, first, count, shared);
    load_tap(filter.weights, filter.pitch, first, count, outputs, taps);
    cp_async_commit();
    // One tap ahead: its weights arrive while those at hand are used.
    for (int32_t tap = 0; tap < filter.side * filter.side; ++tap) {
      cp_async_wait<0>();
      __syncthreads();  // it is there, and nobody uses the other buffer any longer
      if (tap + 1 < filter.side * filter.side) {
        load_tap(filter.weights + (tap + 1) * filter.tap, filter.pitch, first, count, outputs,
                 taps + (tap + 1) % 2 * kTapBytes);
        cp_async_commit();
      }
      const int32_t offset = tap / filter.side * frame.cols + tap % filter.side;
      int32_t positions[kGroupsPerWarp][TileSums<T>::kPositions];
#pragma unroll
      for (int s = 0; s < kGroupsPerWarp; ++s) {
#pragma unroll
        for (int i = 0; i < TileSums<T>::kPositions; ++i) positions[s][i] = corners[s][i] + offset;
      }
      sums.add(positions, rows.groups, shared, taps + tap % 2 * kTapBytes, count, outputs);
    }
    __syncthreads();  // before the next chunk overwrites this one
  }
}

// A run of outputs of one pixel from `channel` on, rounded; those beyond `end` are left out.
template <class T, int kRun>
__device__ __forceinline__ void store_run(const Pixels& map, char* pixel, int32_t channel,
                                          int32_t end, const float (&values)[kRun]) {
  T elements[kRun];
#pragma unroll
  for (int i = 0; i < kRun; ++i) elements[i] = Arithmetic<T>::store(values[i]);
  if (kRun * sizeof(T) == sizeof(uint32_t) && map.whole_words && channel + kRun <= end) {
    uint32_t word;
    memcpy(&word, elements, sizeof(word));
    reinterpret_cast<uint32_t*>(pixel)[channel / kRun] = word;
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if (channel + i < end) reinterpret_cast<T*>(pixel)[channel + i] = elements[i];
  }
}

// Stores finish(sum, channel) of the rows' outputs: channels [first, end) of the map.
template <class T, class Finish>
__device__ __forceinline__ void store(const TileSums<T>& sums, const Rows& rows, const Pixels& map,
                                      const Tile& tile, int32_t first, int32_t end,
                                      const Finish& finish) {
  constexpr int kRun = TileSums<T>::kRun;
#pragma unroll
  for (int s = 0; s < kGroupsPerWarp; ++s) {
#pragma unroll
    for (int r = 0; r < TileSums<T>::kRows; ++r) {
      const int32_t row = rows.row(s, TileSums<T>::row(r));
      if (row >= rows.count) continue;
      const int32_t at = rows.pixels[row];
      const int64_t y = tile.top + at / kTileCols, x = tile.left + at % kTileCols;
      char* const pixel = map.data + tile.image * map.image + y * map.row + x * map.pixel;
#pragma unroll
      for (int c = 0; c < TileSums<T>::kColumns; ++c) {
        const int32_t channel = first + TileSums<T>::column(c);
        float values[kRun];
#pragma unroll
        for (int i = 0; i < kRun; ++i) {
          values[i] = channel + i < end ? finish(sums.value(s, r, c, i), channel + i) : 0.0f;
        }
        store_run<T>(map, pixel, channel, end, values);
      }
    }
  }
}

}  // namespace cuda
}  // namespace sparsesr
