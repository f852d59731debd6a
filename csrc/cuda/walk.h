// How the patch kernels walk a map and its patches. Plain data, planned on the host by walk.cpp.
//
// A tensor [N,C,H,W] is N images of planes of rows of columns of words; a word is what one thread
// moves at a time, 2 to 16 bytes. Where all operands keep channels adjacent (channels_last) there
// is one plane of whole pixels, otherwise C planes of single elements. Where rows are dense
// besides, a column is one word, however many pixels or parts of a pixel that is, provided that
// windows begin and end between words; otherwise a column is a pixel of one or more words.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "common/patch_geometry.h"
#include "common/tensor_view.h"

namespace sparsesr {
namespace cuda {

// Division of n < 2^31 by a number known to the host: ((n * magic >> 32) + n) >> shift.
struct FastDivisor {
  uint32_t divisor, magic, shift;
};

// Rows, or columns in the walk's sense.
struct Axis {
  int32_t extent;  // of the map
  int32_t cells;   // of the grid
  int32_t stride, halo, window;
  FastDivisor by_extent, by_stride, by_window;
};

constexpr int kWidestWord = 16;

// Owners of map pixels work on this many planes at once, but on one where words are widest: which
// windows cover a pixel is the same in all planes, and worth as much work as 16 bytes.
constexpr int kPlanesAtOnce = 4;

struct PatchWalk {
  int32_t batch, k;
  int32_t slots;  // batch * k
  int32_t planes, plane_groups;
  int32_t words;   // of a column
  int32_t cells;   // of the grid
  int word_bytes;  // picks the kernel's instance
  bool dense;      // rows are, and a column is one word
  Axis rows, cols;
  FastDivisor by_k, by_grid_cols, by_words, by_plane_groups;
};

// Where a tensor lies; strides in bytes.
struct Lines {
  char* data;
  int64_t image, plane, row, col;
};

// The last slot that names a cell of an image's grid (-1: none), and how many name it: [batch,
// cells] each.
struct SlotMap {
  int32_t* last;
  int32_t* count;
};

FastDivisor fast_divisor(int64_t divisor);  // in [1, 2^31); 0, of an empty extent, counts as 1

enum class WordSizes {
  kAny,         // 2, 4, 8 or 16 bytes, for kernels that move bytes
  kArithmetic,  // 16 bytes or one element, for kernels that compute
};

// The walk of `views`, which share their channels; patches have sides of geometry.window. Throws
// std::invalid_argument where a count does not fit 31 bits.
PatchWalk plan_walk(const char* op, const PatchGeometry& geometry,
                    std::initializer_list<const TensorView*> views, WordSizes sizes);
Lines lines_of(const TensorView& view, const PatchWalk& walk);

}  // namespace cuda
}  // namespace sparsesr
