// How the kernel of programs on patches wants convolutions: the order of outputs, which taps they
// have, the order of weights. Plain C++.
#pragma once

#include <cstdint>
#include <vector>

namespace sparsesr {
namespace cuda {

// A convolution, or a transposed one of `factor` times the size; a shuffle by `factor` behind it.
struct ConvShape {
  bool transposed, tf, to_canvas;
  int64_t channels;  // of the result
  int64_t factor, pad, groups;
  std::vector<int64_t> weight;  // sizes
};

// An output of a product: which one of the convolution's, and where in the shuffle behind it.
struct ConvOutput {
  int64_t source;           // -1: zero
  int64_t channel, dy, dx;  // channel -1: nothing at all
};

// 16 outputs that are computed together.
struct PackedSet {
  int64_t taps;  // which list
  int64_t first_element;
  bool half;  // the last eight are nothing
};

struct PackedConv {
  std::vector<PackedSet> sets;
  std::vector<std::vector<int32_t>> taps;  // row << 16 | column & 0xffff, relative to the pixel
  std::vector<int32_t> elements;           // of the weights; -1: zero
};

// Channels of a step of a product: those of a pixel are rounded up to whole ones.
int64_t channels_of_step(int64_t element_size);
int64_t rounded_up(int64_t number, int64_t unit);

// Pixel by pixel of the shuffle, in each its channels, rounded up to whole steps unless they go to
// the canvas; whole sets. Pixels of a transposed convolution with the same taps lie side by side,
// so that zeros of its structure can be left out.
std::vector<ConvOutput> order_outputs(const ConvShape& shape, int64_t element_size);

// `counts`: channels of the values that are read as one.
PackedConv pack_conv(const ConvShape& shape, const std::vector<ConvOutput>& order,
                     const std::vector<int64_t>& counts, int64_t element_size);

// For every number of patches in a block four bits: how many tiles of pixels (of up to
// `most_tiles`) and sets of outputs a warp does at once, which is to keep all warps busy and to
// share most of what is read. pixels: of one patch.
uint32_t tiling_of(int64_t pixels, int64_t sets, int64_t most_tiles, bool same_taps);

}  // namespace cuda
}  // namespace sparsesr
