// Pixel routing against its formula, told pixel by pixel: bit by bit, for weights are few and whole
// numbers and coordinates multiples of 1/8, so that every value is exact in every type and only the
// result is rounded, which the formula does as well.
#include "testing/cuda_route_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/checks.h"
#include "cuda/route_kernels.h"
#include "cuda/route_ops.h"
#include "testing/elements.h"

namespace sparsesr {
namespace check {
namespace {

using Random = std::mt19937_64;
using Numbers = std::vector<double>;

// Rows of numbers.
struct Matrix {
  int64_t rows, cols;
  Numbers values;

  Matrix(int64_t r, int64_t c) : rows(r), cols(c), values(r * c) {}
  double& at(int64_t r, int64_t c) { return values[r * cols + c]; }
  double at(int64_t r, int64_t c) const { return values[r * cols + c]; }
};

// Plain [images][channels][height][width].
struct Map {
  int64_t images, channels, height, width;
  Numbers values;

  Map(int64_t b, int64_t c, int64_t h, int64_t w)
      : images(b), channels(c), height(h), width(w), values(b * c * h * w) {}
  double& at(int64_t b, int64_t c, int64_t y, int64_t x) {
    return values[((b * channels + c) * height + y) * width + x];
  }
};

Tensor tensor_of(const Map& map, DType dtype, Layout layout) {
  Tensor tensor(dtype, {map.images, map.channels, map.height, map.width}, layout);
  const int64_t* strides = tensor.view.strides;
  for (size_t i = 0; i < map.values.size(); ++i) {
    auto rest = static_cast<int64_t>(i);
    int64_t offset = 0;
    for (int d = 3; d >= 0; --d) {
      offset += rest % tensor.view.sizes[d] * strides[d];
      rest /= tensor.view.sizes[d];
    }
    write_element(tensor.view, offset, map.values[i]);
  }
  return tensor;
}

void fill_whole(Numbers& values, int most, Random& random) {
  for (double& value : values) value = static_cast<int>(random() % (2 * most + 1)) - most;
}

// Two weights of 1 or -1 in each row: values at most double from layer to layer.
Matrix sparse_weights(int64_t outputs, int64_t inputs, Random& random) {
  Matrix weights(outputs, inputs);
  for (int64_t o = 0; o < outputs; ++o) {
    for (int i = 0; i < 2; ++i) weights.at(o, random() % inputs) = random() % 3 == 0 ? -1 : 1;
  }
  return weights;
}

struct Mlp {
  std::vector<Matrix> weights;
  std::vector<Numbers> biases;  // of all layers but the first
  Matrix row_bias{0, 0}, col_bias{0, 0};
};

int64_t whole(int64_t width) { return (width + 15) / 16 * 16; }

// As pixel_mlp.h says, element by element.
void pack_layer(const Matrix& weights, DType dtype, Numbers& to) {
  const int64_t outputs = whole(weights.rows);
  const auto read = [&](int64_t o, int64_t i) {
    return o < weights.rows && i < weights.cols ? weights.at(o, i) : 0.0;
  };
  for (int64_t group = 0; group < outputs; group += 16) {
    if (dtype == DType::kFloat32) {
      for (int64_t i = 0; i < weights.cols; ++i) {
        for (int64_t o = 0; o < 16; ++o) to.push_back(read(group + o, i));
      }
      continue;
    }
    for (int64_t step = 0; step < weights.cols; step += 16) {
      for (int64_t k = 0; k < 256; ++k) {
        const int64_t lane = k / 8, half = k / 4 % 2, high = k / 2 % 2, odd = k % 2;
        to.push_back(read(group + 8 * half + lane / 4, step + 8 * high + lane % 4 * 2 + odd));
      }
    }
  }
}

Tensor pack_weights(const Mlp& mlp, DType dtype) {
  Numbers packed;
  for (const Matrix& weights : mlp.weights) pack_layer(weights, dtype, packed);
  const auto size = static_cast<int64_t>(packed.size());
  return flat_tensor(packed, {size}, dtype);
}

Tensor pack_biases(const Mlp& mlp) {
  Numbers packed;
  for (const Numbers& bias : mlp.biases) {
    packed.insert(packed.end(), bias.begin(), bias.end());
    packed.resize(whole(static_cast<int64_t>(packed.size())));
  }
  const auto size = static_cast<int64_t>(packed.size());
  return flat_tensor(packed, {size}, DType::kFloat32);
}

Tensor pack_table(const Matrix& table, DType dtype) {
  Matrix padded(table.rows, whole(table.cols));
  for (int64_t r = 0; r < table.rows; ++r) {
    for (int64_t c = 0; c < table.cols; ++c) padded.at(r, c) = table.at(r, c);
  }
  return flat_tensor(padded.values, {padded.rows, padded.cols}, dtype);
}

enum class Classes { kNoMap, kRandom, kAllLast, kOnePixel, kNone };
constexpr Classes kClasses[] = {Classes::kRandom, Classes::kNoMap, Classes::kAllLast,
                                Classes::kOnePixel, Classes::kNone};

// Sizes, the period of the tables (0: an entry for every row and column), hidden widths.
struct Sizes {
  int64_t batch, channels, h, w, height, width, period;
  std::vector<std::vector<int64_t>> hidden;
  int64_t outputs;
  bool image;  // with one, HR is twice or four times LR, or coordinates would not be exact
};

const Sizes kSizes[] = {
    {1, 48, 5, 3, 20, 12, 4, {{10, 10, 10}, {58, 58, 58, 58}}, 3, true},
    {2, 6, 3, 5, 6, 10, 2, {{4}, {17, 33}, {9, 16}}, 3, true},
    {1, 1, 1, 1, 1, 1, 1, {{}}, 1, true},
    {2, 5, 5, 4, 14, 11, 0, {{4, 3}, {8}}, 3, false},
    {1, 52, 6, 7, 6, 7, 1, {{10, 10}}, 2, false},
    {1, 7, 9, 8, 36, 32, 4, {{}, {21}, {32}, {1}, {2}, {3}, {40, 5}}, 17, true},
    {1, 58, 3, 2, 6, 4, 2, {{170, 170}, {40}}, 3, true},
    {3, 3, 13, 11, 26, 22, 2, {{5}, {6}}, 3, true},
    {1, 9, 6, 5, 3, 5, 0, {{5}}, 2, false},
};

// Coordinates of pixel centres; beyond: falling ones, some outside the map.
Numbers places_of(int64_t lr, int64_t hr, bool beyond) {
  Numbers places(hr);
  for (int64_t i = 0; i < hr; ++i) {
    const auto at = static_cast<float>((i + 0.5) * lr / hr - 0.5);
    places[i] = beyond ? 2 * at - 1 : at;
  }
  if (beyond) std::reverse(places.begin(), places.end());
  return places;
}

struct Case {
  const Sizes& sizes;
  DType dtype;
  Layout layout;
  Classes classes;
  std::vector<Mlp> mlps;
  Map feature, image;
  Map class_map;  // one channel
  Numbers rows, cols;

  Case(const Sizes& s, DType type, Layout maps, Classes kind, bool beyond, uint64_t seed)
      : sizes(s),
        dtype(type),
        layout(maps),
        classes(kind),
        feature(s.batch, s.channels, s.h, s.w),
        image(s.batch, s.outputs, s.h, s.w),
        class_map(s.batch, 1, s.height, s.width),
        rows(places_of(s.h, s.height, beyond)),
        cols(places_of(s.w, s.width, beyond)) {
    Random random(seed);
    fill_whole(feature.values, 2, random);
    fill_whole(image.values, 3, random);
    for (const auto& hidden : s.hidden) mlps.push_back(new_mlp(hidden, random));
    const auto count = static_cast<int64_t>(s.hidden.size());
    for (double& value : class_map.values) {
      const auto drawn = static_cast<double>(random() % (count + 1));
      if (kind == Classes::kRandom) value = drawn;
      if (kind == Classes::kAllLast) value = static_cast<double>(count - 1);
      if (kind == Classes::kNone) value = 255;
    }
    if (kind == Classes::kOnePixel) {
      class_map.at(s.batch - 1, 0, s.height - 1, 0) = static_cast<double>(count - 1);
    }
  }

  Mlp new_mlp(const std::vector<int64_t>& hidden, Random& random) const {
    Mlp mlp;
    std::vector<int64_t> widths = hidden;
    widths.push_back(sizes.outputs);
    int64_t inputs = sizes.channels;
    for (size_t l = 0; l < widths.size(); ++l) {
      mlp.weights.push_back(sparse_weights(widths[l], inputs, random));
      inputs = widths[l];
      if (l == 0) continue;
      mlp.biases.emplace_back(widths[l]);
      fill_whole(mlp.biases.back(), 2, random);
    }
    mlp.row_bias = Matrix(sizes.period > 0 ? sizes.period : sizes.height, widths[0]);
    mlp.col_bias = Matrix(sizes.period > 0 ? sizes.period : sizes.width, widths[0]);
    fill_whole(mlp.row_bias.values, 1, random);
    fill_whole(mlp.col_bias.values, 1, random);
    return mlp;
  }

  std::string name() const {
    return "route_mlp of " +
           Tensor(dtype, {feature.images, feature.channels, sizes.h, sizes.w}, layout).name() +
           " to " + std::to_string(sizes.height) + "x" + std::to_string(sizes.width) +
           ", classes of kind " + std::to_string(static_cast<int>(classes));
  }
};

double clamped(double at, int64_t length) {
  return std::clamp(at, 0.0, static_cast<double>(length - 1));
}

Numbers run_mlp(Case& c, const Mlp& mlp, int64_t b, int64_t y, int64_t x) {
  const auto iy = static_cast<int64_t>(std::nearbyint(clamped(c.rows[y], c.sizes.h)));
  const auto ix = static_cast<int64_t>(std::nearbyint(clamped(c.cols[x], c.sizes.w)));
  Numbers values(c.sizes.channels);
  for (int64_t i = 0; i < c.sizes.channels; ++i) values[i] = c.feature.at(b, i, iy, ix);
  for (size_t l = 0; l < mlp.weights.size(); ++l) {
    const Matrix& weights = mlp.weights[l];
    Numbers next(weights.rows);
    for (int64_t o = 0; o < weights.rows; ++o) {
      next[o] = l > 0 ? mlp.biases[l - 1][o]
                      : mlp.row_bias.at(y % mlp.row_bias.rows, o) +
                            mlp.col_bias.at(x % mlp.col_bias.rows, o);
      for (int64_t i = 0; i < weights.cols; ++i) next[o] += weights.at(o, i) * values[i];
      if (l + 1 < mlp.weights.size()) next[o] = std::max(next[o], 0.0);
    }
    values = next;
  }
  return values;
}

double enlarged(Case& c, int64_t b, int64_t o, int64_t y, int64_t x) {
  if (!c.sizes.image) return 0;
  const double row = clamped(c.rows[y], c.sizes.h), col = clamped(c.cols[x], c.sizes.w);
  double total = 0;
  for (int64_t v = 0; v < c.sizes.h; ++v) {
    for (int64_t u = 0; u < c.sizes.w; ++u) {
      const double share = std::max(0.0, 1 - std::abs(row - static_cast<double>(v))) *
                           std::max(0.0, 1 - std::abs(col - static_cast<double>(u)));
      total += share * c.image.at(b, o, v, u);
    }
  }
  return total;
}

Map expected_of(Case& c) {
  Map out(c.sizes.batch, c.sizes.outputs, c.sizes.height, c.sizes.width);
  for (int64_t b = 0; b < out.images; ++b) {
    for (int64_t y = 0; y < out.height; ++y) {
      for (int64_t x = 0; x < out.width; ++x) {
        const auto j = c.classes == Classes::kNoMap
                           ? size_t{0}
                           : static_cast<size_t>(c.class_map.at(b, 0, y, x));
        Numbers made(out.channels);
        if (j < c.mlps.size()) made = run_mlp(c, c.mlps[j], b, y, x);
        for (int64_t o = 0; o < out.channels; ++o) {
          out.at(b, o, y, x) = made[o] + enlarged(c, b, o, y, x);
        }
      }
    }
  }
  return out;
}

void check_route(Case& c) {
  const Sizes& s = c.sizes;
  const bool mapped = c.classes != Classes::kNoMap;
  std::vector<Tensor> packed;
  std::vector<cuda::RouteClassView> views;
  int64_t first_width = 0;
  for (const Mlp& mlp : c.mlps) {
    cuda::RouteClassView view = {};
    for (const Matrix& weights : mlp.weights) view.widths.push_back(weights.rows);
    packed.push_back(pack_table(mlp.row_bias, c.dtype));
    view.row_bias = packed.back().view;
    packed.push_back(pack_table(mlp.col_bias, c.dtype));
    view.col_bias = packed.back().view;
    packed.push_back(pack_weights(mlp, c.dtype));
    view.weights = packed.back().view;
    packed.push_back(pack_biases(mlp));
    view.bias = packed.back().view;
    first_width += whole(view.widths[0]);
    views.push_back(std::move(view));
  }
  const Tensor feature = tensor_of(c.feature, c.dtype, c.layout);
  const Tensor image = tensor_of(c.image, c.dtype, c.layout);
  const Tensor rows = flat_tensor(c.rows, {s.height}, DType::kFloat32);
  const Tensor cols = flat_tensor(c.cols, {s.width}, DType::kFloat32);
  const Tensor classes =
      flat_tensor(c.class_map.values, {s.batch, s.height, s.width}, DType::kUInt8);
  const Tensor workspace(
      DType::kInt32,
      {cuda::route_mlp_workspace(c.dtype, s.batch * s.h * s.w, s.batch * s.height * s.width,
                                 static_cast<int64_t>(c.mlps.size()), first_width, mapped)});
  // NaN, and pixel -1.
  std::memset(workspace.view.data, 0xff, num_elements(workspace.view) * sizeof(int32_t));
  const Tensor expected = tensor_of(expected_of(c), c.dtype, c.layout);
  const Tensor got(c.dtype, {s.batch, s.outputs, s.height, s.width}, c.layout);
  cuda::route_mlp(feature.view, mapped ? std::optional<TensorView>(classes.view) : std::nullopt,
                  views, rows.view, cols.view,
                  s.image ? std::optional<TensorView>(image.view) : std::nullopt, got.view,
                  workspace.view, nullptr);
  Tensor::expect_equal(c.name(), expected, got);
}

constexpr DType kComputed[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
constexpr Layout kLayouts[] = {Layout::kContiguous, Layout::kLast,        Layout::kSlice,
                               Layout::kCropped,    Layout::kCroppedLast, Layout::kSliceLast};

void check_routes(Progress& progress) {
  for (const Sizes& sizes : kSizes) {
    for (const DType dtype : kComputed) {
      for (const Classes classes : kClasses) {
        if (!progress.next()) continue;
        const int seen = progress.seen;
        Case c(sizes, dtype, kLayouts[seen % 6], classes, seen % 2 == 0 && sizes.image,
               static_cast<uint64_t>(seen));
        check_route(c);
        ++progress.passed;
      }
    }
  }
}

void expect_refusal(const Sizes& sizes, DType dtype) {
  Case c(sizes, dtype, Layout::kContiguous, Classes::kRandom, false, 1);
  try {
    check_route(c);
  } catch (const std::invalid_argument&) {
    return;
  }
  fail<std::runtime_error>(c.name(), ": expected a refusal");
}

// What a launch has no room for.
void check_refusals(Progress& progress) {
  if (!progress.next()) return;
  const std::vector<std::vector<int64_t>> many(cuda::kMaxRouteClasses + 1);
  const std::vector<int64_t> deep(cuda::kMaxRouteLayers, 1);
  expect_refusal({1, 2, 1, 1, 1, 1, 1, many, 1, false}, DType::kFloat32);
  expect_refusal({1, 2, 1, 1, 1, 1, 1, {deep}, 1, false}, DType::kFloat32);
  expect_refusal({1, 2, 1, 1, 1, 1, 1, {{400}}, 1, false}, DType::kFloat32);
  expect_refusal({1, 2, 1, 1, 1, 1, 1, {{900}}, 1, false}, DType::kBFloat16);
  ++progress.passed;
}

}  // namespace

void check_route_ops(Progress& progress) {
  check_routes(progress);
  check_refusals(progress);
}

}  // namespace check
}  // namespace sparsesr
