// Entry points of the masked convolutions.
#include <algorithm>

#include "common/checks.h"
#include "common/masked_pixels.h"
#include "cpu/dispatch.h"
#include "cpu/ops.h"
#include "cpu/threads.h"

namespace sparsesr {
namespace cpu {
namespace {

// Parts of the packed weights begin on cache lines.
constexpr int64_t kPartElements = 16;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

float* data(const TensorView& view) { return static_cast<float*>(view.data); }

bool is_pairs(const TensorView& x) { return x.dtype == DType::kBFloat16; }

// Strides become units of 32 bits.
PixelMap image_of(const TensorView& map, int64_t image) {
  const int64_t unit = is_pairs(map) ? 2 : 1;
  return {data(map) + image * map.strides[0] / unit, map.strides[2] / unit, map.strides[3] / unit};
}

void check_float32(const Operand& operand) {
  check_cpu(operand);
  check_dtype(operand, DType::kFloat32);
}

void check_pixels(const Operand& map) {
  check_rank(map, "[B,C,H,W]", 4);
  if (map.view.sizes[1] > 1 && map.view.strides[1] != 1) {
    fail(map.op, ": expected ", map.name, " with adjacent channels (channels_last), got stride ",
         map.view.strides[1], " between them");
  }
  constexpr int64_t kLongest = INT32_MAX;
  if (std::max(map.view.sizes[2], map.view.sizes[3]) > kLongest) {
    fail(map.op, ": expected ", map.name, " of at most ", kLongest, " rows and columns, got shape ",
         shape_text(map.view));
  }
}

void check_mask(const Operand& mask, const TensorView& x) {
  check_cpu(mask);
  check_dtype(mask, DType::kBool);
  check_shape(mask, "[B,1,H,W]", {x.sizes[0], 1, x.sizes[2], x.sizes[3]});
}

// float32, or bfloat16 whose channels make whole pairs.
void check_x(const Operand& x) {
  if (!is_pairs(x.view)) {
    check_float32(x);
    return check_pixels(x);
  }
  check_cpu(x);
  check_pixels(x);
  const TensorView& view = x.view;
  bool even = view.sizes[1] % 2 == 0 && reinterpret_cast<uintptr_t>(view.data) % 4 == 0;
  for (const int d : {0, 2, 3}) even &= view.strides[d] % 2 == 0;
  if (packing_rule(/*pairs=*/true).depth == 2 && even) return;
  fail<TypeMismatch>(x.op,
                     ": expected x float32, or bfloat16 with an even number of channels on a ",
                     "CPU with AVX512-BF16, got bfloat16 of shape ", shape_text(view));
}

// The map that is written: the size of x, any number of channels.
void check_out(const Operand& out, const TensorView& x) {
  check_float32(out);
  check_pixels(out);
  check_shape(out, "[B,C',H,W]", {x.sizes[0], out.view.sizes[1], x.sizes[2], x.sizes[3]});
  check_writable(out);
}

// The bias or zeros, in whole vectors.
std::vector<float> whole_vectors(const Operand& bias, int64_t outputs, const PackingRule& rule) {
  check_float32(bias);
  std::vector<float> padded(round_up(outputs, rule.lanes), 0.0f);
  if (num_elements(bias.view) == 0) return padded;
  check_shape(bias, "[C']", {outputs});
  check_contiguous(bias);
  std::copy_n(data(bias.view), outputs, padded.begin());
  return padded;
}

void check_elements(const Operand& operand, const char* what, int64_t elements) {
  check_float32(operand);
  check_rank(operand, what, 1);
  check_contiguous(operand);
  if (num_elements(operand.view) == elements) return;
  fail(operand.op, ": expected ", operand.name, " ", what, " of ", elements, " elements, got ",
       num_elements(operand.view));
}

// Units of a packed [outputs,inputs,side,side].
int64_t packed_size(int64_t lanes, int64_t depth, int64_t outputs, int64_t inputs, int64_t side) {
  const int64_t units = round_up(inputs, depth) / depth;
  return round_up(side * side * units * round_up(outputs, lanes), kPartElements);
}

// The parts of a block's weights: per layer the full one, the 1x1 convolution's and the dense one.
// `elements` becomes what they take together.
std::vector<MaskedLayer> layers_of(const float* weights, const std::vector<int64_t>& dense,
                                   int64_t channels, int64_t outputs, const PackingRule& rule,
                                   int64_t& elements) {
  std::vector<MaskedLayer> layers;
  int64_t inputs = channels;
  elements = 0;
  const auto next = [&](int64_t size) {
    const int64_t at = elements;
    elements += size;
    return weights + at;
  };
  for (const int64_t count : dense) {
    MaskedLayer layer = {};
    const int64_t lanes = count <= rule.narrow ? rule.narrow : rule.lanes;
    layer.full = next(packed_size(rule.lanes, rule.depth, channels, channels, 3));
    layer.collect = next(packed_size(rule.lanes, rule.depth, outputs, channels, 1));
    layer.dense = next(packed_size(lanes, rule.depth, count, inputs, 3));
    layer.dense_inputs = inputs;
    layer.dense_outputs = count;
    layers.push_back(layer);
    inputs = count;
  }
  return layers;
}

int64_t block_macs(const MaskedBlockArgs& args) {
  int64_t macs = 0;
  for (int64_t i = 0; i < args.num_layers; ++i) {
    const MaskedLayer& layer = args.layers[i];
    macs += args.num_active * args.channels * (9 * args.channels + args.out_channels);
    macs += args.num_inactive * layer.dense_outputs * (9 * layer.dense_inputs + args.out_channels);
  }
  return macs;
}

}  // namespace

PackingRule packing_rule(bool pairs) {
  PackingRule rule = {};
  cpu_kernels().packing_rule({pairs, &rule});
  return rule;
}

int64_t packed_conv_size(int64_t outputs, int64_t inputs, int64_t side) {
  return packed_size(packing_rule(/*pairs=*/false).lanes, /*depth=*/1, outputs, inputs, side);
}

void masked_conv2d(const TensorView& x, const TensorView& weights, int64_t side,
                   const TensorView& bias, const TensorView& mask, const TensorView& out,
                   int threads) {
  const char* op = "masked_conv2d";
  check_x({op, "x", x});
  check_mask({op, "mask", mask}, x);
  check_out({op, "out", out}, x);
  if (side < 1 || side % 2 == 0) fail(op, ": expected an odd kernel, got ", side, "x", side);
  const PackingRule rule = packing_rule(is_pairs(x));
  const int64_t inputs = x.sizes[1] / rule.depth, outputs = out.sizes[1];
  check_elements({op, "weights", weights}, "packed",
                 packed_size(rule.lanes, rule.depth, outputs, x.sizes[1], side));
  const std::vector<float> offsets = whole_vectors({op, "bias", bias}, outputs, rule);

  const std::vector<float> zeros(inputs, 0.0f);
  for (int64_t image = 0; image < x.sizes[0]; ++image) {
    const MaskedPixels pixels = list_pixels(mask, image);
    const auto count = static_cast<int64_t>(pixels.active.size());
    const int64_t macs = count * inputs * outputs * side * side;
    cpu_kernels().masked_conv2d({pixels.active.data(), count, x.sizes[2], x.sizes[3], inputs,
                                 outputs, side, image_of(x, image), image_of(out, image),
                                 data(weights), offsets.data(), zeros.data(), is_pairs(x),
                                 useful_threads(threads, macs)});
  }
}

void masked_block(const TensorView& x, const TensorView& weights, const std::vector<int64_t>& dense,
                  const TensorView& bias, const TensorView& mask, const TensorView& features,
                  const TensorView& other, const TensorView& out, int threads) {
  const char* op = "masked_block";
  check_x({op, "x", x});
  check_mask({op, "mask", mask}, x);
  check_out({op, "out", out}, x);
  const int64_t channels = x.sizes[1], outputs = out.sizes[1];
  for (const int64_t count : dense) {
    if (count >= 0 && count <= channels) continue;
    fail(op, ": expected 0 to ", channels, " dense channels a layer, got ", count);
  }
  const PackingRule rule = packing_rule(is_pairs(x));
  int64_t elements = 0;
  const std::vector<MaskedLayer> layers =
      layers_of(data(weights), dense, channels, outputs, rule, elements);
  check_elements({op, "weights", weights}, "packed", elements);
  const int64_t pitch = round_up(channels, rule.lanes) / rule.depth;
  const int64_t map = x.sizes[2] * x.sizes[3] * pitch;
  check_elements({op, "features", features}, "workspace", map);
  check_elements({op, "other", other}, "workspace", map);
  const std::vector<float> offsets = whole_vectors({op, "bias", bias}, outputs, rule);

  const std::vector<float> zeros(std::max(pitch, static_cast<int64_t>(offsets.size())), 0.0f);
  for (int64_t image = 0; image < x.sizes[0]; ++image) {
    const MaskedPixels pixels = list_pixels(mask, image);
    MaskedBlockArgs args = {};
    args.active = pixels.active.data();
    args.inactive = pixels.inactive.data();
    args.num_active = static_cast<int64_t>(pixels.active.size());
    args.num_inactive = static_cast<int64_t>(pixels.inactive.size());
    args.height = x.sizes[2];
    args.width = x.sizes[3];
    args.channels = channels;
    args.out_channels = outputs;
    args.layers = layers.data();
    args.num_layers = static_cast<int64_t>(layers.size());
    args.x = image_of(x, image);
    args.out = image_of(out, image);
    args.bias = offsets.data();
    args.features[0] = data(features);
    args.features[1] = data(other);
    args.pitch = pitch;
    args.zeros = zeros.data();
    args.pairs = is_pairs(x);
    args.threads = useful_threads(threads, block_macs(args));
    cpu_kernels().masked_block(args);
  }
}

}  // namespace cpu
}  // namespace sparsesr
