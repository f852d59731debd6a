// The arguments of the masked convolutions' kernels, already checked, how their operands lie in
// memory, and the functions that launch them. Plain C++: entry points and checks need no CUDA
// header.
#pragma once

#include <cstdint>

#include "common/tensor_view.h"

namespace sparsesr {
namespace cuda {

// A block's pixels and outputs; what it holds of a pixel's channels at a time.
constexpr int kTileRows = 8;
constexpr int kTileCols = 16;
constexpr int kBlockOutputs = 64;
constexpr int kPixelBytes = 128;
// Channels of packed weights and of features are padded with zeros to a multiple of this.
constexpr int kChannelStep = 16;

constexpr int32_t padded_channels(int64_t channels) {
  return static_cast<int32_t>((channels + kChannelStep - 1) / kChannelStep * kChannelStep);
}

// Shared memory of a block: the channels of a tile and the frame that its filter reaches into, and
// the weights of two taps.
constexpr int64_t shared_bytes(int64_t side) {
  const int64_t reach = side / 2;
  const int64_t pixels = (kTileRows + 2 * reach) * (kTileCols + 2 * reach);
  return (pixels + 2 * kBlockOutputs) * kPixelBytes;
}

// Tiles of all images: blockIdx.x counts images, rows and columns of tiles, the last fastest.
struct TileGrid {
  int32_t height, width;  // of an image
  int32_t rows, cols;     // of tiles
  int32_t tiles;          // of all images
};

// bool; strides in bytes.
struct MaskView {
  const uint8_t* data;
  int64_t image, row, col;
};

// A map whose channels are adjacent; strides in bytes.
struct Pixels {
  char* data;
  int64_t image, row, pixel;
  int32_t channels;
  bool whole_vectors;  // 16 bytes at a time: addresses, strides and channels allow it
  bool whole_words;    // 4 bytes at a time
};

struct MaskedConvArgs {
  DType dtype;
  TileGrid grid;
  MaskView mask;
  Pixels x, out;
  const void* weights;  // [side * side][outputs][inputs], padded
  const void* bias;     // [outputs] or null
  int32_t side;
};

// The packed weights of a block lie in one piece of memory, which begins with `counts`: how many
// channels of each layer are dense. The channels of layer i's features are in the order that puts
// its dense ones in front, both parts ascending; "full" holds all weights in that order and "dense"
// those of dense outputs from dense inputs, zero elsewhere and unset beyond whole steps of both.
struct PackedBlock {
  int32_t* counts;  // [layers]
  char* full;       // [layers][9][pitch][pitch]
  char* dense;      // likewise
  char* collect;    // [layers][padded outputs][pitch]
  int32_t layers, channels, outputs;
  int32_t pitch;  // padded channels
};

struct PackBlockArgs {
  DType dtype;
  PackedBlock packed;
  const void* weights;   // [layers][channels][channels][3][3]
  const void* collect;   // [outputs][layers * channels]
  const uint8_t* dense;  // [layers][channels]
};

struct MaskedBlockArgs {
  DType dtype;
  TileGrid grid;
  MaskView mask;
  PackedBlock packed;
  Pixels x, out;
  Pixels features;   // of the first layer; pitch channels
  int64_t layer;     // bytes from a layer's features to the next one's
  const void* bias;  // [outputs] or null
};

namespace launch {

void masked_conv2d(const MaskedConvArgs& args, void* stream);
void pack_block(const PackBlockArgs& args, void* stream);
void masked_block(const MaskedBlockArgs& args, void* stream);

}  // namespace launch

}  // namespace cuda
}  // namespace sparsesr
