// The masked convolutions against their formula, told channel by channel: bit by bit, for inputs
// and weights are small whole numbers, so that every sum is exact in a float32 accumulator and one
// rounding to the element type follows, which the formula makes as well.
#include "testing/cuda_masked_check.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "common/checks.h"
#include "cuda/ops.h"
#include "testing/elements.h"

namespace sparsesr {
namespace check {
namespace {

// Plain [images][channels][height][width].
struct Map {
  int64_t images, channels, height, width;
  std::vector<double> values;

  Map(int64_t b, int64_t c, int64_t h, int64_t w)
      : images(b), channels(c), height(h), width(w), values(b * c * h * w) {}
  double& at(int64_t b, int64_t c, int64_t y, int64_t x) {
    return values[((b * channels + c) * height + y) * width + x];
  }
  // Zero off the map.
  double read(int64_t b, int64_t c, int64_t y, int64_t x) const {
    if (y < 0 || y >= height || x < 0 || x >= width) return 0.0;
    return values[((b * channels + c) * height + y) * width + x];
  }
};

// The map in a tensor of this type and layout.
Tensor tensor_of(const Map& map, DType dtype, Layout layout) {
  Tensor tensor(dtype, {map.images, map.channels, map.height, map.width}, layout);
  const int64_t* strides = tensor.view.strides;
  int64_t i = 0;
  for (int64_t b = 0; b < map.images; ++b) {
    for (int64_t c = 0; c < map.channels; ++c) {
      for (int64_t y = 0; y < map.height; ++y) {
        for (int64_t x = 0; x < map.width; ++x) {
          const int64_t offset = b * strides[0] + c * strides[1] + y * strides[2] + x * strides[3];
          write_element(tensor.view, offset, map.values[i++]);
        }
      }
    }
  }
  return tensor;
}

// Whole numbers of -most to most, `share` of them other than zero.
std::vector<double> whole_numbers(int64_t count, int most, double share, std::mt19937_64& random) {
  std::vector<double> values(count);
  for (double& value : values) {
    const bool some = static_cast<double>(random() % 1000) < 1000 * share;
    const auto drawn = static_cast<int>(random() % (2 * most + 1)) - most;
    value = some ? drawn : 0;
  }
  return values;
}

enum class Mask { kEmpty, kFull, kOnePixel, kCorner, kSome, kRow };
constexpr Mask kMasks[] = {Mask::kEmpty,  Mask::kFull, Mask::kOnePixel,
                           Mask::kCorner, Mask::kSome, Mask::kRow};
constexpr const char* kMaskNames[] = {"empty", "full", "one pixel", "corner", "some", "one row"};

Map mask_of(Mask kind, int64_t images, int64_t height, int64_t width, std::mt19937_64& random) {
  Map mask(images, 1, height, width);
  if (kind == Mask::kFull) std::fill(mask.values.begin(), mask.values.end(), 1.0);
  if (kind == Mask::kOnePixel) mask.at(0, 0, height / 2, width / 2) = 1;
  if (kind == Mask::kCorner) mask.at(images - 1, 0, height - 1, width - 1) = 1;
  for (int64_t x = 0; kind == Mask::kRow && x < width; ++x) mask.at(0, 0, height / 2, x) = 1;
  for (double& value : mask.values) {
    if (kind == Mask::kSome) value = random() % 5 < 2;
  }
  return mask;
}

// What one input channel adds to one output channel at a pixel; weights [side][side].
double contribution(const Map& map, int64_t b, int64_t c, int64_t y, int64_t x,
                    const double* weights, int64_t side) {
  double sum = 0;
  for (int64_t u = 0; u < side; ++u) {
    for (int64_t v = 0; v < side; ++v) {
      sum += weights[u * side + v] * map.read(b, c, y + u - side / 2, x + v - side / 2);
    }
  }
  return sum;
}

template <class Visit>
void for_each_element(Map& map, const Visit& visit) {
  for (int64_t b = 0; b < map.images; ++b) {
    for (int64_t c = 0; c < map.channels; ++c) {
      for (int64_t y = 0; y < map.height; ++y) {
        for (int64_t x = 0; x < map.width; ++x) map.at(b, c, y, x) = visit(b, c, y, x);
      }
    }
  }
}

void expect(const std::string& what, const Map& formula, const Tensor& got, Layout layout) {
  Tensor::expect_equal(what, tensor_of(formula, got.view.dtype, layout), got);
}

int64_t padded(int64_t channels) {
  const int64_t step = cuda::channel_step();
  return (channels + step - 1) / step * step;
}

// --- masked_conv2d

struct Convolution {
  int64_t images, inputs, outputs, height, width, side;
};

constexpr Convolution kConvolutions[] = {
    {1, 3, 5, 6, 7, 3},  {2, 16, 8, 9, 12, 3},   {2, 4, 1, 5, 5, 1},  {1, 1, 3, 1, 1, 3},
    {1, 2, 64, 1, 9, 5}, {1, 24, 70, 5, 17, 3},  {1, 72, 3, 3, 4, 3}, {1, 8, 2, 4, 20, 13},
    {1, 0, 2, 3, 3, 3},  {1, 40, 16, 10, 33, 1},
};

// [taps][outputs][inputs], padded, as torch would make it of [outputs][inputs][side][side].
Tensor packed_filter(const Convolution& c, const std::vector<double>& weights, DType dtype) {
  const int64_t taps = c.side * c.side, rows = padded(c.outputs), cols = padded(c.inputs);
  std::vector<double> packed(taps * rows * cols);
  for (int64_t o = 0; o < c.outputs; ++o) {
    for (int64_t i = 0; i < c.inputs; ++i) {
      for (int64_t t = 0; t < taps; ++t) {
        packed[(t * rows + o) * cols + i] = weights[(o * c.inputs + i) * taps + t];
      }
    }
  }
  return flat_tensor(packed, {taps, rows, cols}, dtype);
}

void check_conv2d(const Convolution& c, DType dtype, Layout layout, Mask kind, uint64_t seed) {
  std::mt19937_64 random(seed);
  Map x(c.images, c.inputs, c.height, c.width), out(c.images, c.outputs, c.height, c.width);
  x.values = whole_numbers(c.images * c.inputs * c.height * c.width, 4, 1.0, random);
  const auto weights = whole_numbers(c.outputs * c.inputs * c.side * c.side, 2, 0.5, random);
  const auto bias = whole_numbers(seed % 2 == 0 ? c.outputs : 0, 8, 1.0, random);
  const Map mask = mask_of(kind, c.images, c.height, c.width, random);
  for_each_element(out, [&](int64_t b, int64_t o, int64_t y, int64_t px) {
    if (mask.read(b, 0, y, px) == 0) return 0.0;
    double sum = bias.empty() ? 0.0 : bias[o];
    for (int64_t i = 0; i < c.inputs; ++i) {
      const double* filter = weights.data() + (o * c.inputs + i) * c.side * c.side;
      sum += contribution(x, b, i, y, px, filter, c.side);
    }
    return rounded(sum, dtype);
  });
  const Tensor x_tensor = tensor_of(x, dtype, layout), filter = packed_filter(c, weights, dtype);
  const Tensor offsets = flat_tensor(bias, {static_cast<int64_t>(bias.size())}, dtype);
  const Tensor active = tensor_of(mask, DType::kBool, Layout::kCropped);
  const Tensor got = tensor_of(Map(c.images, c.outputs, c.height, c.width), dtype, layout);
  cuda::masked_conv2d(x_tensor.view, filter.view, offsets.view, active.view, got.view, c.side,
                      nullptr);
  expect("masked_conv2d of " + x_tensor.name() + " to " + std::to_string(c.outputs) +
             " channels, kernel " + std::to_string(c.side) + ", mask " +
             kMaskNames[static_cast<int>(kind)],
         out, got, layout);
}

// --- masked_block

struct Block {
  int64_t images, channels, outputs, height, width;
  std::vector<int64_t> dense;
};

const Block kBlocks[] = {
    {1, 16, 16, 7, 9, {6, 2, 1, 0}}, {2, 8, 8, 5, 6, {0, 0, 0, 0}},
    {2, 8, 3, 9, 5, {8, 8, 8}},      {1, 4, 4, 1, 1, {1, 0}},
    {1, 5, 6, 6, 17, {3}},           {1, 24, 20, 9, 35, {20, 7, 0}},
    {1, 72, 66, 3, 18, {70, 3}},     {1, 64, 64, 9, 18, {24, 9, 3, 0}},
};

struct BlockInputs {
  Map x, mask;
  std::vector<double> weights, collect, bias, dense;  // as the op's, layer by layer
};

BlockInputs inputs_of(const Block& k, Mask kind, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto layers = static_cast<int64_t>(k.dense.size());
  BlockInputs in = {Map(k.images, k.channels, k.height, k.width),
                    mask_of(kind, k.images, k.height, k.width, random),
                    {},
                    {},
                    {},
                    {}};
  in.x.values = whole_numbers(k.images * k.channels * k.height * k.width, 2, 0.5, random);
  // About one weight a row: features must stay exact through all layers.
  const double share = std::min(1.0, 4.0 / static_cast<double>(9 * k.channels));
  in.weights = whole_numbers(layers * k.channels * k.channels * 9, 1, share, random);
  in.collect = whole_numbers(k.outputs * layers * k.channels, 1, 0.5, random);
  in.bias = whole_numbers(seed % 3 == 0 ? 0 : k.outputs, 8, 1.0, random);
  in.dense.assign(layers * k.channels, 0.0);
  for (int64_t l = 0; l < layers; ++l) {
    const auto row = in.dense.begin() + l * k.channels;
    std::fill_n(row, k.dense[l], 1.0);
    std::shuffle(row, row + k.channels, random);
  }
  return in;
}

// Channel c reaches channel o on the mask, and elsewhere if both are dense.
Map next_feature(const Block& k, const BlockInputs& in, const Map& before, int64_t layer,
                 DType dtype) {
  Map feature(k.images, k.channels, k.height, k.width);
  const double* filters = in.weights.data() + layer * k.channels * k.channels * 9;
  const double* dense = in.dense.data() + layer * k.channels;
  for_each_element(feature, [&](int64_t b, int64_t o, int64_t y, int64_t x) {
    const bool active = in.mask.read(b, 0, y, x) != 0;
    double sum = 0;
    for (int64_t c = 0; c < k.channels; ++c) {
      const bool both = dense[o] != 0 && (layer == 0 || dense[c - k.channels] != 0);
      if (!active && !both) continue;
      sum += contribution(before, b, c, y, x, filters + (o * k.channels + c) * 9, 3);
    }
    return rounded(std::max(sum, 0.0), dtype);
  });
  return feature;
}

Map block_formula(const Block& k, const BlockInputs& in, DType dtype) {
  const auto layers = static_cast<int64_t>(k.dense.size());
  Map out(k.images, k.outputs, k.height, k.width), feature = in.x;
  for (int64_t l = 0; l < layers; ++l) {
    feature = next_feature(k, in, feature, l, dtype);
    for_each_element(out, [&](int64_t b, int64_t o, int64_t y, int64_t x) {
      double sum = out.at(b, o, y, x);
      for (int64_t c = 0; c < k.channels; ++c) {
        sum += in.collect[(o * layers + l) * k.channels + c] * feature.read(b, c, y, x);
      }
      return sum;
    });
  }
  for_each_element(out, [&](int64_t b, int64_t o, int64_t y, int64_t x) {
    return rounded(out.at(b, o, y, x) + (in.bias.empty() ? 0.0 : in.bias[o]), dtype);
  });
  return out;
}

void check_block(const Block& k, DType dtype, Layout layout, Mask kind, uint64_t seed) {
  const BlockInputs in = inputs_of(k, kind, seed);
  const auto layers = static_cast<int64_t>(k.dense.size());
  const Tensor x = tensor_of(in.x, dtype, layout);
  const Tensor weights = flat_tensor(in.weights, {layers, k.channels, k.channels, 3, 3}, dtype);
  const Tensor collect = flat_tensor(in.collect, {k.outputs, layers * k.channels}, dtype);
  const Tensor bias = flat_tensor(in.bias, {static_cast<int64_t>(in.bias.size())}, dtype);
  const Tensor dense = flat_tensor(in.dense, {layers, k.channels}, DType::kBool);
  const Tensor mask = tensor_of(in.mask, DType::kBool, Layout::kCropped);
  const Tensor packed(DType::kInt32,
                      {cuda::masked_block_packed(layers, k.channels, k.outputs, dtype)});
  const Tensor features(dtype, {layers, k.images, k.height, k.width, padded(k.channels)});
  // As a workspace may be: NaN wherever nothing has been written.
  std::fill_n(static_cast<char*>(features.view.data),
              num_elements(features.view) * element_size(dtype), static_cast<char>(0xff));
  const Tensor got = tensor_of(Map(k.images, k.outputs, k.height, k.width), dtype, layout);
  cuda::masked_block_pack(weights.view, collect.view, dense.view, packed.view, nullptr);
  cuda::masked_block(x.view, packed.view, bias.view, mask.view, features.view, got.view, nullptr);
  std::string counts;
  for (const int64_t count : k.dense) counts += " " + std::to_string(count);
  expect("masked_block of " + x.name() + ", dense" + counts + ", mask " +
             kMaskNames[static_cast<int>(kind)],
         block_formula(k, in, dtype), got, layout);
}

}  // namespace

void check_masked_ops(Progress& progress) {
  constexpr DType kComputed[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
  constexpr Layout kLayouts[] = {Layout::kLast, Layout::kSliceLast, Layout::kCroppedLast};
  const auto for_each_case = [&](const auto& check) {
    for (const DType dtype : kComputed) {
      for (const Mask mask : kMasks) {
        if (!progress.next()) continue;
        const auto seed = static_cast<uint64_t>(progress.seen);
        check(dtype, kLayouts[seed % 3], mask, seed);
        ++progress.passed;
      }
    }
  };
  for (const Convolution& c : kConvolutions) {
    for_each_case([&](DType dtype, Layout layout, Mask mask, uint64_t seed) {
      check_conv2d(c, dtype, layout, mask, seed);
    });
  }
  for (const Block& k : kBlocks) {
    for_each_case([&](DType dtype, Layout layout, Mask mask, uint64_t seed) {
      check_block(k, dtype, layout, mask, seed);
    });
  }
}

}  // namespace check
}  // namespace sparsesr
