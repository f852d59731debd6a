// Entry points of the masked convolutions.
#include <algorithm>
#include <limits>

#include "cuda/gpu_checks.h"
#include "cuda/masked_kernels.h"
#include "cuda/ops.h"

namespace sparsesr {
namespace cuda {
namespace {

// What every GPU since sm_80 can give a block.
constexpr int64_t kMostSharedBytes = 99 * 1024;
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
constexpr int64_t kVectorBytes = 16;

void* data_or_null(const TensorView& view) { return num_elements(view) == 0 ? nullptr : view.data; }

void check_computed(const Operand& operand) {
  const DType dtype = operand.view.dtype;
  if (dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16) return;
  fail<TypeMismatch>(operand.op, ": expected ", operand.name, " float32, float16 or bfloat16, got ",
                     dtype_name(dtype));
}

void check_adjacent(const Operand& map) {
  check_rank(map, "[B,C,H,W]", 4);
  if (map.view.sizes[1] <= 1 || map.view.strides[1] == 1) return;
  fail(map.op, ": expected ", map.name, " with adjacent channels (channels_last), got stride ",
       map.view.strides[1], " between them");
}

// x, mask and out of one call.
void check_maps(const char* op, const TensorView& x, const TensorView& mask,
                const TensorView& out) {
  const Operand map = {op, "x", x}, active = {op, "mask", mask}, result = {op, "out", out};
  check_on_gpu(map);
  check_computed(map);
  check_adjacent(map);
  check_device(active, x.device);
  check_dtype(active, DType::kBool);
  check_shape(active, "[B,1,H,W]", {x.sizes[0], 1, x.sizes[2], x.sizes[3]});
  check_device(result, x.device);
  check_dtype(result, x.dtype);
  check_adjacent(result);
  check_shape(result, "[B,C',H,W]", {x.sizes[0], out.sizes[1], x.sizes[2], x.sizes[3]});
  check_writable(result);
  if (std::max({x.sizes[1], x.sizes[2], x.sizes[3], out.sizes[1]}) <= kMost / kPixelBytes) return;
  fail(op, ": expected at most ", kMost / kPixelBytes, " channels, rows and columns, got x ",
       shape_text(x), " and out ", shape_text(out));
}

void check_like(const Operand& operand, const TensorView& x, const char* expected,
                std::initializer_list<int64_t> sizes) {
  check_device(operand, x.device);
  check_dtype(operand, x.dtype);
  check_shape(operand, expected, sizes);
  check_contiguous(operand);
}

void check_bias(const Operand& bias, const TensorView& x, int64_t outputs) {
  if (num_elements(bias.view) > 0) check_like(bias, x, "[C']", {outputs});
}

// An address that vectors of 16 bytes are read from.
void check_aligned(const Operand& operand) {
  if (reinterpret_cast<uintptr_t>(operand.view.data) % kVectorBytes == 0) return;
  fail(operand.op, ": expected ", operand.name, " at a multiple of ", kVectorBytes, " bytes");
}

TileGrid tiles_of(const char* op, const TensorView& x) {
  const int64_t rows = (x.sizes[2] + kTileRows - 1) / kTileRows;
  const int64_t cols = (x.sizes[3] + kTileCols - 1) / kTileCols;
  const int64_t tiles = x.sizes[0] * rows * cols;
  if (tiles > kMost) {
    fail(op, ": expected at most ", kMost, " tiles of ", kTileRows, "x", kTileCols,
         " pixels, got x ", shape_text(x), "; split the batch");
  }
  return {static_cast<int32_t>(x.sizes[2]), static_cast<int32_t>(x.sizes[3]),
          static_cast<int32_t>(rows), static_cast<int32_t>(cols), static_cast<int32_t>(tiles)};
}

MaskView mask_of(const TensorView& mask) {
  return {static_cast<const uint8_t*>(mask.data), mask.strides[0], mask.strides[2],
          mask.strides[3]};
}

Pixels pixels_of(const TensorView& map) {
  const int64_t element = element_size(map.dtype);
  Pixels pixels = {};
  pixels.data = static_cast<char*>(map.data);
  pixels.image = map.strides[0] * element;
  pixels.row = map.strides[2] * element;
  pixels.pixel = map.strides[3] * element;
  pixels.channels = static_cast<int32_t>(map.sizes[1]);
  const auto fits = [&](int64_t bytes) {
    const int64_t address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(map.data));
    return (address | pixels.image | pixels.row | pixels.pixel) % bytes == 0;
  };
  pixels.whole_vectors = fits(kVectorBytes) && map.sizes[1] * element % kVectorBytes == 0;
  pixels.whole_words = fits(sizeof(uint32_t));
  return pixels;
}

// Bytes of the parts of a packed block, each a multiple of 16.
struct PackedSizes {
  int64_t counts, filters, collect;

  int64_t all() const { return counts + 2 * filters + collect; }
};

PackedSizes packed_sizes(int64_t layers, int64_t channels, int64_t outputs, DType dtype) {
  const int64_t element = element_size(dtype), pitch = padded_channels(channels);
  const int64_t counts = layers * static_cast<int64_t>(sizeof(int32_t));
  return {(counts + kVectorBytes - 1) / kVectorBytes * kVectorBytes,
          layers * 9 * pitch * pitch * element,
          layers * padded_channels(outputs) * pitch * element};
}

PackedBlock packed_in(const Operand& packed, int64_t layers, int64_t channels, int64_t outputs,
                      const TensorView& like) {
  check_device(packed, like.device);
  check_dtype(packed, DType::kInt32);
  const PackedSizes sizes = packed_sizes(layers, channels, outputs, like.dtype);
  check_shape(packed, "packed", {sizes.all() / static_cast<int64_t>(sizeof(int32_t))});
  check_contiguous(packed);
  check_aligned(packed);
  PackedBlock block = {};
  auto* memory = static_cast<char*>(packed.view.data);
  block.counts = reinterpret_cast<int32_t*>(memory);
  block.full = memory + sizes.counts;
  block.dense = block.full + sizes.filters;
  block.collect = block.dense + sizes.filters;
  block.layers = static_cast<int32_t>(layers);
  block.channels = static_cast<int32_t>(channels);
  block.outputs = static_cast<int32_t>(outputs);
  block.pitch = padded_channels(channels);
  return block;
}

}  // namespace

int64_t channel_step() { return kChannelStep; }

void masked_conv2d(const TensorView& x, const TensorView& weights, const TensorView& bias,
                   const TensorView& mask, const TensorView& out, int64_t side, void* stream) {
  const char* op = "masked_conv2d";
  check_maps(op, x, mask, out);
  if (side < 1 || side % 2 == 0 || shared_bytes(side) > kMostSharedBytes) {
    fail(op, ": expected an odd kernel of at most 13x13, got ", side, "x", side);
  }
  const int64_t inputs = padded_channels(x.sizes[1]), outputs = padded_channels(out.sizes[1]);
  check_like({op, "weights", weights}, x, "[k*k,C',C]", {side * side, outputs, inputs});
  check_aligned({op, "weights", weights});
  check_bias({op, "bias", bias}, x, out.sizes[1]);
  MaskedConvArgs args = {};
  args.dtype = x.dtype;
  args.grid = tiles_of(op, x);
  args.mask = mask_of(mask);
  args.x = pixels_of(x);
  args.out = pixels_of(out);
  args.weights = data_or_null(weights);
  args.bias = data_or_null(bias);
  args.side = static_cast<int32_t>(side);
  if (num_elements(out) > 0) launch::masked_conv2d(args, stream);
}

int64_t masked_block_packed(int64_t layers, int64_t channels, int64_t outputs, DType dtype) {
  return packed_sizes(layers, channels, outputs, dtype).all() /
         static_cast<int64_t>(sizeof(int32_t));
}

void masked_block_pack(const TensorView& weights, const TensorView& collect_weight,
                       const TensorView& dense, const TensorView& packed, void* stream) {
  const char* op = "masked_block_pack";
  const Operand filters = {op, "weights", weights}, active = {op, "dense", dense};
  check_on_gpu(filters);
  check_computed(filters);
  check_rank(filters, "[L,C,C,3,3]", 5);
  const int64_t layers = weights.sizes[0], channels = weights.sizes[1];
  check_like(filters, weights, "[L,C,C,3,3]", {layers, channels, channels, 3, 3});
  const int64_t outputs = collect_weight.sizes[0];
  check_like({op, "collect_weight", collect_weight}, weights, "[C',L*C]",
             {outputs, layers * channels});
  check_device(active, weights.device);
  check_dtype(active, DType::kBool);
  check_shape(active, "[L,C]", {layers, channels});
  check_contiguous(active);
  PackBlockArgs args = {};
  args.dtype = weights.dtype;
  args.packed = packed_in({op, "packed", packed}, layers, channels, outputs, weights);
  args.weights = weights.data;
  args.collect = collect_weight.data;
  args.dense = static_cast<const uint8_t*>(dense.data);
  if (layers > 0) launch::pack_block(args, stream);
}

void masked_block(const TensorView& x, const TensorView& packed, const TensorView& bias,
                  const TensorView& mask, const TensorView& features, const TensorView& out,
                  void* stream) {
  const char* op = "masked_block";
  check_maps(op, x, mask, out);
  const Operand maps = {op, "features", features};
  check_rank(maps, "[L,B,H,W,C]", 5);
  const int64_t layers = features.sizes[0], pitch = padded_channels(x.sizes[1]);
  check_like(maps, x, "[L,B,H,W,C]", {layers, x.sizes[0], x.sizes[2], x.sizes[3], pitch});
  check_aligned(maps);
  check_bias({op, "bias", bias}, x, out.sizes[1]);
  MaskedBlockArgs args = {};
  args.dtype = x.dtype;
  args.grid = tiles_of(op, x);
  args.mask = mask_of(mask);
  args.packed = packed_in({op, "packed", packed}, layers, x.sizes[1], out.sizes[1], x);
  args.x = pixels_of(x);
  args.out = pixels_of(out);
  const int64_t element = element_size(x.dtype);
  args.features.data = static_cast<char*>(features.data);
  args.features.image = features.strides[1] * element;
  args.features.row = features.strides[2] * element;
  args.features.pixel = features.strides[3] * element;
  args.features.channels = static_cast<int32_t>(pitch);
  args.features.whole_vectors = args.features.whole_words = true;
  args.layer = features.strides[0] * element;
  args.bias = data_or_null(bias);
  if (num_elements(out) > 0) launch::masked_block(args, stream);
}

}  // namespace cuda
}  // namespace sparsesr
