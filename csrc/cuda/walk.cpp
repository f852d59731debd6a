#include "cuda/walk.h"

#include <algorithm>
#include <limits>

#include "common/checks.h"

namespace sparsesr {
namespace cuda {
namespace {

using Views = std::initializer_list<const TensorView*>;

// Counts, and what the last block of a launch reaches beyond them, stay below 2^31.
constexpr int64_t kMaxCount = std::numeric_limits<int32_t>::max() - 1024;
constexpr int64_t kMaxColumns = kMaxCount / 4;  // sums of a few of them fit 31 bits

int32_t count_of(const char* op, const char* what, int64_t count) {
  if (count > kMaxCount) fail(op, ": expected at most ", kMaxCount, " ", what, ", got ", count);
  return static_cast<int32_t>(count);
}

// The largest power of two that divides both.
int64_t common_power(int64_t a, int64_t b) {
  const int64_t bits = a | b;
  return bits & -bits;
}

bool channels_adjacent(const TensorView& view) {
  return view.sizes[1] == 1 || view.strides[1] == 1;
}

// Where images, planes and rows begin, as far as words go.
int64_t row_alignment(Views views, int64_t planes) {
  int64_t alignment = kWidestWord;
  for (const TensorView* view : views) {
    const int64_t element = element_size(view->dtype);
    alignment = common_power(
        alignment, static_cast<int64_t>(reinterpret_cast<uintptr_t>(view->data) % kWidestWord));
    for (int d : {0, 1, 2}) {
      const bool stepped = view->sizes[d] > 1 && (d != 1 || planes > 1);
      if (stepped) alignment = common_power(alignment, view->strides[d] * element);
    }
  }
  return alignment;
}

int64_t usable(int64_t word, int64_t element, WordSizes sizes) {
  return sizes == WordSizes::kArithmetic && word < kWidestWord ? element : word;
}

// The word when it is a column of dense rows: no window and no row ends within one. 0 where rows
// are not dense, or have too many words.
int64_t dense_word(const PatchGeometry& g, Views views, int64_t alignment, int64_t pixel,
                   WordSizes sizes) {
  for (const TensorView* view : views) {
    const bool dense = view->sizes[3] == 1 || view->strides[3] * element_size(view->dtype) == pixel;
    if (!dense) return 0;
  }
  int64_t word = alignment;
  int64_t longest = 0;
  for (int64_t pixels : {g.stride, g.halo, g.window, g.width}) {
    word = common_power(word, pixels * pixel);
    longest = std::max(longest, pixels * pixel);
  }
  word = usable(word, element_size((*views.begin())->dtype), sizes);
  return longest / word > kMaxColumns ? 0 : word;
}

// The word when a column is a pixel of `pixel` bytes.
int64_t pixel_word(Views views, int64_t alignment, int64_t pixel) {
  int64_t word = common_power(alignment, pixel);
  for (const TensorView* view : views) {
    const int64_t step = view->strides[3] * element_size(view->dtype);
    if (view->sizes[3] > 1) word = common_power(word, step);
  }
  return word;
}

Axis axis_of(const PatchGeometry& g, int64_t pixels, int64_t cells, int64_t pixel, int64_t column) {
  const auto scaled = [&](int64_t count) { return static_cast<int32_t>(count * pixel / column); };
  Axis axis = {};
  axis.extent = scaled(pixels);
  axis.cells = static_cast<int32_t>(cells);
  axis.stride = scaled(g.stride);
  axis.halo = scaled(g.halo);
  axis.window = scaled(g.window);
  axis.by_extent = fast_divisor(axis.extent);
  axis.by_stride = fast_divisor(axis.stride);
  axis.by_window = fast_divisor(axis.window);
  return axis;
}

}  // namespace

FastDivisor fast_divisor(int64_t divisor) {
  divisor = std::max<int64_t>(divisor, 1);
  uint32_t shift = 0;
  while ((int64_t{1} << shift) < divisor) ++shift;
  const uint64_t rest = (uint64_t{1} << shift) - static_cast<uint64_t>(divisor);
  const uint64_t magic = (rest << 32) / static_cast<uint64_t>(divisor) + 1;
  return {static_cast<uint32_t>(divisor), static_cast<uint32_t>(magic), shift};
}

PatchWalk plan_walk(const char* op, const PatchGeometry& g, Views views, WordSizes sizes) {
  const int64_t element = element_size((*views.begin())->dtype);
  bool adjacent = true;
  for (const TensorView* view : views) adjacent &= channels_adjacent(*view);
  const int64_t planes = adjacent ? 1 : g.channels;
  const int64_t pixel = adjacent ? g.channels * element : element;
  const int64_t alignment = row_alignment(views, planes);
  const int64_t dense = dense_word(g, views, alignment, pixel, sizes);
  const int64_t word =
      dense != 0 ? dense : usable(pixel_word(views, alignment, pixel), element, sizes);
  const int64_t column = dense != 0 ? dense : pixel;

  PatchWalk walk = {};
  walk.batch = count_of(op, "images", g.batch);
  walk.k = count_of(op, "patches", g.k);
  walk.slots = count_of(op, "patches", g.batch * g.k);
  walk.planes = count_of(op, "channels", planes);
  const int64_t at_once = word == kWidestWord ? 1 : kPlanesAtOnce;
  walk.plane_groups = static_cast<int32_t>((planes + at_once - 1) / at_once);
  walk.words = count_of(op, "words in a pixel", column / word);
  walk.cells = count_of(op, "patches on the grid", g.grid_rows * g.grid_cols);
  walk.word_bytes = static_cast<int>(word);
  walk.dense = dense != 0;
  walk.rows = axis_of(g, g.height, g.grid_rows, 1, 1);
  walk.cols = axis_of(g, g.width, g.grid_cols, pixel, column);
  count_of(op, "rows of planes", g.batch * walk.plane_groups * g.height);
  count_of(op, "words in a row", int64_t{walk.cols.extent} * walk.words);
  if (walk.slots > 0) {
    count_of(op, "words in a patch", planes * g.window * walk.cols.window * walk.words);
  }
  walk.by_k = fast_divisor(std::max<int64_t>(g.k, 1));
  walk.by_grid_cols = fast_divisor(g.grid_cols);
  walk.by_words = fast_divisor(walk.words);
  walk.by_plane_groups = fast_divisor(walk.plane_groups);
  return walk;
}

Lines lines_of(const TensorView& view, const PatchWalk& walk) {
  const int64_t element = element_size(view.dtype);
  return {static_cast<char*>(view.data), view.strides[0] * element, view.strides[1] * element,
          view.strides[2] * element, walk.dense ? walk.word_bytes : view.strides[3] * element};
}

}  // namespace cuda
}  // namespace sparsesr
