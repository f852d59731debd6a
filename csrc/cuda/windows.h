// Which thread does what, and where: patches by slot, map pixels by owner, windows over a pixel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/device.h"
#include "cuda/walk.h"

namespace sparsesr {
namespace cuda {

constexpr int kBlockThreads = 256;
// What the kernels' registers must allow; said to the compiler, it also keeps it from spilling a
// few of them in pursuit of more.
constexpr int kBlocksPerSm = 4;
constexpr int kMaxGridY = 65535;

__device__ __forceinline__ uint32_t quotient(uint32_t n, const FastDivisor& by) {
  const auto high = static_cast<uint32_t>((static_cast<uint64_t>(n) * by.magic) >> 32);
  return (high + n) >> by.shift;
}

// n / by, and n becomes the remainder.
__device__ __forceinline__ int32_t divide(uint32_t& n, const FastDivisor& by) {
  const uint32_t result = quotient(n, by);
  n -= result * by.divisor;
  return static_cast<int32_t>(result);
}

template <class Word>
__device__ __forceinline__ Word load_word(const char* from) {
  return *reinterpret_cast<const Word*>(from);
}

template <class Word>
__device__ __forceinline__ void store_word(char* to, Word word) {
  *reinterpret_cast<Word*>(to) = word;
}

// --- by slot ---

// The window of a patch; its corner may lie outside the map.
struct Window {
  int32_t image, top, left;
  bool named;  // by an index on the grid
};

__device__ __forceinline__ Window window_of(const PatchWalk& walk, const int32_t* index,
                                            int32_t slot) {
  auto cell = static_cast<uint32_t>(index[slot]);
  const bool named = cell < static_cast<uint32_t>(walk.cells);
  const auto image = static_cast<int32_t>(quotient(slot, walk.by_k));
  cell = named ? cell : 0u;
  const int32_t row = divide(cell, walk.by_grid_cols);
  const auto col = static_cast<int32_t>(cell);
  return {image, row * walk.rows.stride - walk.rows.halo, col * walk.cols.stride - walk.cols.halo,
          named};
}

// A word of a patch: its place in the window, and where that lies on the map.
struct PatchWord {
  int32_t plane, u, v, word;
  int32_t y, x;
  bool inside;  // the map
};

__host__ __device__ __forceinline__ int32_t words_of_patch(const PatchWalk& walk) {
  return walk.planes * walk.rows.window * walk.cols.window * walk.words;
}

__device__ __forceinline__ PatchWord patch_word(const PatchWalk& walk, const Window& window,
                                                uint32_t item) {
  PatchWord place;
  const int32_t column = divide(item, walk.by_words);
  place.word = static_cast<int32_t>(item);
  uint32_t rest = static_cast<uint32_t>(column);
  uint32_t line = static_cast<uint32_t>(divide(rest, walk.cols.by_window));
  place.v = static_cast<int32_t>(rest);
  place.plane = divide(line, walk.rows.by_window);
  place.u = static_cast<int32_t>(line);
  place.y = window.top + place.u;
  place.x = window.left + place.v;
  place.inside = window.named &&
                 static_cast<uint32_t>(place.y) < static_cast<uint32_t>(walk.rows.extent) &&
                 static_cast<uint32_t>(place.x) < static_cast<uint32_t>(walk.cols.extent);
  return place;
}

// A word of a tensor.
template <class Word>
__device__ __forceinline__ char* address(const Lines& lines, int64_t image, int64_t plane,
                                         int64_t row, int64_t col, int32_t word) {
  return lines.data + image * lines.image + plane * lines.plane + row * lines.row +
         col * lines.col + word * static_cast<int64_t>(sizeof(Word));
}

template <class Word>
__device__ __forceinline__ char* on_map(const Lines& map, const Window& window,
                                        const PatchWord& at) {
  return address<Word>(map, window.image, at.plane, at.y, at.x, at.word);
}

template <class Word>
__device__ __forceinline__ char* in_patch(const Lines& patches, int32_t slot, const PatchWord& at) {
  return address<Word>(patches, slot, at.plane, at.u, at.v, at.word);
}

// Calls body(place) for the words of a patch that this thread owns.
template <class Body>
__device__ __forceinline__ void for_each_patch_word(const PatchWalk& walk, const Window& window,
                                                    const Body& body) {
  const auto count = static_cast<uint32_t>(words_of_patch(walk));
  const uint32_t step = gridDim.y * blockDim.x;
  for (uint32_t at = blockIdx.y * blockDim.x + threadIdx.x; at < count; at += step) {
    body(patch_word(walk, window, at));
  }
}

// --- by map pixel ---

template <class Word>
constexpr int kPlanes = sizeof(Word) == kWidestWord ? 1 : kPlanesAtOnce;

// A row of a group of planes.
struct MapLine {
  int32_t image, plane, planes, y;
  bool exists;
};

template <class Word>
__device__ __forceinline__ MapLine map_line(const PatchWalk& walk) {
  uint32_t line = blockIdx.x * blockDim.y + threadIdx.y;
  uint32_t rest = line;
  uint32_t group = static_cast<uint32_t>(divide(rest, walk.rows.by_extent));
  const auto y = static_cast<int32_t>(rest);
  const int32_t image = divide(group, walk.by_plane_groups);
  const int32_t plane = static_cast<int32_t>(group) * kPlanes<Word>;
  return {image, plane, min(kPlanes<Word>, walk.planes - plane), y, image < walk.batch};
}

// Calls body(x, word) for the words of a map row that this thread owns.
template <class Body>
__device__ __forceinline__ void for_each_word(const PatchWalk& walk, const Body& body) {
  const uint32_t count = walk.cols.extent * walk.words;
  const uint32_t step = gridDim.y * blockDim.x;
  for (uint32_t at = blockIdx.y * blockDim.x + threadIdx.x; at < count; at += step) {
    uint32_t word = at;
    const int32_t x = divide(word, walk.by_words);
    body(x, static_cast<int32_t>(word));
  }
}

// First and last cell of one axis whose windows cover a position; first > last where none does.
struct Cells {
  int32_t first, last;
};

__device__ __forceinline__ Cells cells_over(const Axis& axis, int32_t position) {
  const int32_t from = position + axis.halo;
  const int32_t past = from - axis.window;  // a window that begins here ends just too early
  const auto last = static_cast<int32_t>(quotient(from, axis.by_stride));
  const int32_t first = past < 0 ? 0 : static_cast<int32_t>(quotient(past, axis.by_stride)) + 1;
  return {first, min(last, axis.cells - 1)};
}

// Calls body(cell, u, v) for every cell whose window covers (y, x), at (u, v) of the window.
template <class Body>
__device__ __forceinline__ void for_each_cell_over(const PatchWalk& walk, int32_t y, int32_t x,
                                                   const Body& body) {
  const Cells rows = cells_over(walk.rows, y);
  const Cells cols = cells_over(walk.cols, x);
  for (int32_t row = rows.first; row <= rows.last; ++row) {
    const int32_t u = y + walk.rows.halo - row * walk.rows.stride;
    for (int32_t col = cols.first; col <= cols.last; ++col) {
      body(row * walk.cols.cells + col, u, x + walk.cols.halo - col * walk.cols.stride);
    }
  }
}

// --- launches ---

struct LaunchShape {
  dim3 grid, block;
};

// Blocks of about kBlockThreads: `width` threads side by side on `items`, as many lines of them as
// fit.
inline LaunchShape launch_shape(int64_t lines, int64_t items, int64_t items_per_thread) {
  const int64_t threads =
      std::min<int64_t>((items + items_per_thread - 1) / items_per_thread, kBlockThreads);
  int64_t width = 1;
  while (width < threads && width < 32) width *= 2;
  width = std::max(width, (threads + 31) / 32 * 32 * (threads > 32));
  const int64_t depth = kBlockThreads / width;
  const int64_t chunk = width * items_per_thread;
  const int64_t chunks = std::min<int64_t>((items + chunk - 1) / chunk, kMaxGridY);
  return {dim3(static_cast<unsigned>((lines + depth - 1) / depth), static_cast<unsigned>(chunks)),
          dim3(static_cast<unsigned>(width), static_cast<unsigned>(depth))};
}

// Threads by slot: threadIdx.y picks the slot of the block, x the word of the patch.
inline LaunchShape over_patches(const PatchWalk& walk, int items_per_thread) {
  return launch_shape(walk.slots, words_of_patch(walk), items_per_thread);
}

// Threads by map pixel: threadIdx.y picks the row of a group of planes, x the word of the row.
inline LaunchShape over_map(const PatchWalk& walk) {
  return launch_shape(int64_t{walk.batch} * walk.plane_groups * walk.rows.extent,
                      int64_t{walk.cols.extent} * walk.words, 1);
}

}  // namespace cuda
}  // namespace sparsesr
