// A tile of pixels under a mask: which of them are active, and their channels in shared memory.
//
// A block of the masked convolutions owns kTileRows x kTileCols pixels of one image and up to
// kBlockOutputs output channels. It lists its pixels, active ones in front, and computes them in
// groups of kGroupRows, the rows of a tensor core's product. Channels come to shared memory a chunk
// of kPixelBytes at a time, for every pixel of the tile and of the frame its filter reaches into.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/device.h"
#include "cuda/masked_kernels.h"
#include "cuda/ptx.h"
#include "cuda/scalar.h"

namespace sparsesr {
namespace cuda {

constexpr int kTilePixels = kTileRows * kTileCols;
constexpr int kTileThreads = kTilePixels;  // a thread per pixel while the mask is read
constexpr int kTileWarps = kTileThreads / 32;
constexpr int kVectorBytes = 16;
constexpr int kPixelVectors = kPixelBytes / kVectorBytes;
constexpr int kLoadedAtOnce = kTileThreads / kPixelVectors;  // pixels, or rows of a filter

// What the kernels' registers must allow.
constexpr int kTileBlocksPerSm = 3;

template <class T>
constexpr int kVectorElements = kVectorBytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int kChunkChannels = kPixelBytes / static_cast<int>(sizeof(T));

// padded_channels() on the device.
__device__ __forceinline__ int32_t whole_steps(int32_t channels) {
  return (channels + kChannelStep - 1) / kChannelStep * kChannelStep;
}

struct Tile {
  int32_t image, top, left;
};

__device__ __forceinline__ Tile tile_of(const TileGrid& grid) {
  uint32_t at = blockIdx.x;
  const auto col = static_cast<int32_t>(at % grid.cols);
  at /= grid.cols;
  const auto row = static_cast<int32_t>(at % grid.rows);
  return {static_cast<int32_t>(at / grid.rows), row * kTileRows, col * kTileCols};
}

__device__ __forceinline__ bool on_image(const TileGrid& grid, int32_t y, int32_t x) {
  return static_cast<uint32_t>(y) < static_cast<uint32_t>(grid.height) &&
         static_cast<uint32_t>(x) < static_cast<uint32_t>(grid.width);
}

__device__ __forceinline__ bool is_active(const MaskView& mask, const TileGrid& grid, int32_t image,
                                          int32_t y, int32_t x) {
  return on_image(grid, y, x) && mask.data[image * mask.image + y * mask.row + x * mask.col] != 0;
}

// `pixels` numbers the tile's pixels on the image row by row: `active` active ones, then `inactive`
// others, each in ascending order.
struct PixelList {
  const uint8_t* pixels;
  int32_t active, inactive;
};

// All threads of the block; `pixels` is shared and has room for kTilePixels.
__device__ __forceinline__ PixelList list_pixels(const MaskView& mask, const TileGrid& grid,
                                                 const Tile& tile, uint8_t* pixels) {
  SIMT_SHARED(int32_t, active_of, kTileWarps);
  SIMT_SHARED(int32_t, inactive_of, kTileWarps);
  const auto pixel = static_cast<int32_t>(threadIdx.x);
  const int32_t y = tile.top + pixel / kTileCols, x = tile.left + pixel % kTileCols;
  const bool active = is_active(mask, grid, tile.image, y, x);
  const bool inactive = !active && on_image(grid, y, x);
  const unsigned actives = __ballot_sync(~0u, active);
  const unsigned inactives = __ballot_sync(~0u, inactive);
  const int32_t warp = pixel / 32, lane = pixel % 32;
  if (lane == 0) {
    active_of[warp] = __popc(actives);
    inactive_of[warp] = __popc(inactives);
  }
  __syncthreads();
  PixelList list = {pixels, 0, 0};
  const unsigned below = (1u << lane) - 1;
  int32_t active_before = __popc(actives & below), inactive_before = __popc(inactives & below);
  for (int32_t w = 0; w < kTileWarps; ++w) {
    active_before += w < warp ? active_of[w] : 0;
    inactive_before += w < warp ? inactive_of[w] : 0;
    list.active += active_of[w];
    list.inactive += inactive_of[w];
  }
  if (active) pixels[active_before] = static_cast<uint8_t>(pixel);
  if (inactive) pixels[list.active + inactive_before] = static_cast<uint8_t>(pixel);
  __syncthreads();
  return list;
}

// Whether a pixel of the tile or next to it is active. All threads of the block.
__device__ __forceinline__ bool any_active_near(const MaskView& mask, const TileGrid& grid,
                                                const Tile& tile) {
  constexpr int32_t kCols = kTileCols + 2, kPixels = (kTileRows + 2) * kCols;
  bool found = false;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < kPixels; i += kTileThreads) {
    const int32_t y = tile.top - 1 + i / kCols, x = tile.left - 1 + i % kCols;
    found = found || is_active(mask, grid, tile.image, y, x);
  }
  return __syncthreads_or(found) != 0;
}

// Shared memory is rows of kPixelBytes, one per pixel or per output of a filter. The vectors of row
// r change places by the low bits of r, so that those of neighbouring rows lie in different banks.
__device__ __forceinline__ char* vector_at(char* rows, int32_t row, int32_t vector) {
  return rows + row * kPixelBytes + ((vector ^ row) % kPixelVectors) * kVectorBytes;
}

// Channels [channel, channel + one vector) of a pixel, zero beyond the map's.
template <class T>
__device__ __forceinline__ uint4 load_channels(const char* pixel, int32_t channel,
                                               int32_t channels) {
  T elements[kVectorElements<T>];
#pragma unroll
  for (int i = 0; i < kVectorElements<T>; ++i) {
    elements[i] = channel + i < channels ? reinterpret_cast<const T*>(pixel)[channel + i] : T{};
  }
  uint4 vector;
  memcpy(&vector, elements, sizeof(vector));
  return vector;
}

// What the filter of a tile reaches: its pixels and side / 2 more on every side.
struct Frame {
  int32_t top, left, rows, cols;
};

__device__ __forceinline__ Frame frame_of(const Tile& tile, int32_t side) {
  const int32_t reach = side / 2;
  return {tile.top - reach, tile.left - reach, kTileRows + 2 * reach, kTileCols + 2 * reach};
}

// Asks for channels [first, first + count) of all pixels of a frame, zero off the image and beyond
// the map's channels. They are there after cp_async_wait and a barrier.
template <class T>
__device__ __forceinline__ void load_frame(const Pixels& map, const TileGrid& grid,
                                           const Tile& tile, const Frame& frame, int32_t first,
                                           int32_t count, char* rows) {
  const auto vector = static_cast<int32_t>(threadIdx.x) % kPixelVectors;
  const int32_t channel = first + vector * kVectorElements<T>;
  if (vector * kVectorElements<T> >= count) return;
  const char* image = map.data + tile.image * map.image;
  const int32_t pixels = frame.rows * frame.cols;
  for (auto i = static_cast<int32_t>(threadIdx.x) / kPixelVectors; i < pixels; i += kLoadedAtOnce) {
    const int32_t y = frame.top + i / frame.cols, x = frame.left + i % frame.cols;
    const bool inside = on_image(grid, y, x);
    const char* pixel = inside ? image + y * map.row + x * map.pixel : image;
    char* to = vector_at(rows, i, vector);
    if (map.whole_vectors) {
      const bool valid = inside && channel < map.channels;
      cp_async_16(to, pixel + (valid ? channel * static_cast<int64_t>(sizeof(T)) : 0), valid);
    } else {
      const uint4 value = load_channels<T>(pixel, channel, inside ? map.channels : 0);
      *reinterpret_cast<uint4*>(to) = value;
    }
  }
}

// Asks for inputs [first, first + count) of `outputs` outputs of one tap of a filter, packed
// [outputs][inputs] with `pitch` inputs. Packed weights are whole vectors.
template <class T>
__device__ __forceinline__ void load_tap(const T* weights, int32_t pitch, int32_t first,
                                         int32_t count, int32_t outputs, char* rows) {
  const auto vector = static_cast<int32_t>(threadIdx.x) % kPixelVectors;
  if (vector * kVectorElements<T> >= count) return;
  const T* from = weights + first + vector * kVectorElements<T>;
  for (auto i = static_cast<int32_t>(threadIdx.x) / kPixelVectors; i < outputs;
       i += kLoadedAtOnce) {
    cp_async_16(vector_at(rows, i, vector), from + static_cast<int64_t>(i) * pitch, true);
  }
}

// --- launches

// A block per tile and kBlockOutputs channels.
inline dim3 blocks_over(const TileGrid& grid, int32_t channels) {
  return dim3(static_cast<unsigned>(grid.tiles),
              static_cast<unsigned>((channels + kBlockOutputs - 1) / kBlockOutputs));
}

// Calls run(Type<T>()) for the element types that the masked convolutions compute, one of which the
// entry points have checked it to be.
template <class Run>
void for_computed_dtype(DType dtype, const Run& run) {
  if (dtype == DType::kFloat32) return run(Type<float>());
  if (dtype == DType::kFloat16) return run(Type<Half>());
  run(Type<BFloat16>());
}

}  // namespace cuda
}  // namespace sparsesr
