// Programs on patches against their formula, told step by step and pixel by pixel. Weights are few
// and small numbers, so that sums are exact; the formula rounds where the kernel does, and results
// are then compared bit by bit. Programs with functions that are not exact have a tolerance of a
// few roundings.
#include "testing/cuda_program_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/checks.h"
#include "common/patch_plan.h"
#include "cpu/scalar.h"
#include "cuda/program_kernels.h"
#include "cuda/program_ops.h"
#include "testing/check_tensors.h"

namespace sparsesr {
namespace check {
namespace {

using Random = std::mt19937_64;
using Numbers = std::vector<double>;
using cuda::PatchProgram;
using cuda::ProgramStep;
using cuda::Sizes;

// --- numbers in tensors

double rounded(DType dtype, double value) {
  const auto single = static_cast<float>(value);
  if (dtype == DType::kFloat16) return SPARSESR_ISA::Half::load(SPARSESR_ISA::Half::store(single));
  if (dtype == DType::kBFloat16) {
    return SPARSESR_ISA::BFloat16::load(SPARSESR_ISA::BFloat16::store(single));
  }
  return single;
}

void write_element(const TensorView& view, int64_t offset, double value) {
  const auto single = static_cast<float>(value);
  switch (view.dtype) {
    case DType::kFloat16:
      static_cast<SPARSESR_ISA::Half*>(view.data)[offset] = SPARSESR_ISA::Half::store(single);
      return;
    case DType::kBFloat16:
      static_cast<SPARSESR_ISA::BFloat16*>(view.data)[offset] =
          SPARSESR_ISA::BFloat16::store(single);
      return;
    case DType::kInt32:
      static_cast<int32_t*>(view.data)[offset] = static_cast<int32_t>(value);
      return;
    default:
      static_cast<float*>(view.data)[offset] = single;
  }
}

double read_element(const TensorView& view, int64_t offset) {
  if (view.dtype == DType::kFloat16) {
    return SPARSESR_ISA::Half::load(static_cast<SPARSESR_ISA::Half*>(view.data)[offset]);
  }
  if (view.dtype == DType::kBFloat16) {
    return SPARSESR_ISA::BFloat16::load(static_cast<SPARSESR_ISA::BFloat16*>(view.data)[offset]);
  }
  return static_cast<float*>(view.data)[offset];
}

// Plain [channels][height][width].
struct Map {
  int64_t channels = 0, height = 0, width = 0;
  Numbers values;

  Map() = default;
  Map(int64_t c, int64_t h, int64_t w) : channels(c), height(h), width(w), values(c * h * w) {}
  explicit Map(const Sizes& shape) : Map(shape[0], shape[1], shape[2]) {}
  double& at(int64_t c, int64_t y, int64_t x) { return values[(c * height + y) * width + x]; }
  double at(int64_t c, int64_t y, int64_t x) const { return values[(c * height + y) * width + x]; }
  double outside_zero(int64_t c, int64_t y, int64_t x) const {
    return y < 0 || y >= height || x < 0 || x >= width ? 0 : at(c, y, x);
  }
};

// visit(offset, image, channel, row, column) of every element.
template <class Visit>
void for_each(const TensorView& view, const Visit& visit) {
  const int64_t *n = view.sizes, *s = view.strides;
  for (int64_t b = 0; b < n[0]; ++b) {
    for (int64_t c = 0; c < n[1]; ++c) {
      for (int64_t y = 0; y < n[2]; ++y) {
        for (int64_t x = 0; x < n[3]; ++x) {
          visit(b * s[0] + c * s[1] + y * s[2] + x * s[3], b, c, y, x);
        }
      }
    }
  }
}

Tensor vector_of(const Numbers& values, DType dtype) {
  Tensor tensor(dtype, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) {
    write_element(tensor.view, static_cast<int64_t>(i), values[i]);
  }
  return tensor;
}

// --- programs as text, in the words of sparsesr/ops/_program.py

ProgramStep step_of(const std::string& line) {
  std::istringstream words(line.substr(line.find('=') + 2));
  ProgramStep step;
  words >> step.kind;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    if (equals == std::string::npos) {
      step.inputs.push_back(std::stoll(word.substr(1)));
      continue;
    }
    const std::string value = word.substr(equals + 1);
    if (name == "add") {
      step.add = std::stoll(value.substr(1));
    } else if (name == "mul") {
      step.mul = std::stoll(value.substr(1));
    } else if (name == "order") {
      step.tf = value == "tf";
    } else if (name == "act") {
      const size_t colon = value.find(':');
      step.act = value.substr(0, colon);
      if (step.act == "leaky") step.slope = std::stod(value.substr(colon + 1));
      if (step.act == "prelu") step.slopes = std::stoll(value.substr(colon + 1));
    } else {
      step.numbers[name] = std::stoll(value);
    }
  }
  return step;
}

int64_t number(const ProgramStep& step, const char* name, int64_t otherwise = 0) {
  const auto found = step.numbers.find(name);
  return found == step.numbers.end() ? otherwise : found->second;
}

struct Text {
  const char* name;
  std::vector<const char*> lines;  // the last one returns
  std::vector<Sizes> parameters;
  int64_t channels, patch_size, halo;
  bool exact = true;
};

// --- the formula

double activated(const PatchProgram& program, const std::vector<Numbers>& weights,
                 const ProgramStep& step, double value, int64_t channel) {
  if (step.act == "relu") return std::max(value, 0.0);
  if (step.act == "leaky") return value < 0 ? static_cast<float>(step.slope) * value : value;
  if (step.act == "sigmoid") return 1 / (1 + std::exp(-value));
  if (step.act == "tanh") return std::tanh(value);
  if (step.act != "prelu" || value >= 0) return value;
  return value * weights[step.slopes][program.parameters[step.slopes][0] == 1 ? 0 : channel];
}

Map convolution(const PatchProgram& program, const std::vector<Numbers>& weights,
                const ProgramStep& step, const Map& x) {
  const Sizes& shape = program.parameters[number(step, "weight")];
  const Numbers& weight = weights[number(step, "weight")];
  const int64_t side = shape[2], pad = number(step, "pad"), stride = number(step, "stride", 1);
  const bool transposed = step.kind == "deconv";
  const int64_t outputs = shape[transposed ? 1 : 0];
  Map made(outputs, (x.height + 2 * pad - side) / stride + 1,
           (x.width + 2 * pad - side) / stride + 1);
  if (transposed) made = Map(outputs, x.height * stride, x.width * stride);
  if (number(step, "bias", -1) >= 0) {
    for (size_t i = 0; i < made.values.size(); ++i) {
      made.values[i] = weights[number(step, "bias")][i / (made.height * made.width)];
    }
  }
  const int64_t own = outputs / number(step, "groups", 1);
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t c = 0; c < (transposed ? shape[0] : shape[1]); ++c) {
      for (int64_t t = 0; t < side * side; ++t) {
        const double w =
            weight[((transposed ? c * shape[1] + o : o * shape[1] + c) * side * side) + t];
        if (w == 0) continue;
        const int64_t dy = t / side - pad, dx = t % side - pad;
        if (transposed) {
          for (int64_t y = 0; y < x.height; ++y) {
            for (int64_t u = 0; u < x.width; ++u) {
              const int64_t to_y = y * stride + dy, to_x = u * stride + dx;
              if (to_y < 0 || to_y >= made.height || to_x < 0 || to_x >= made.width) continue;
              made.at(o, to_y, to_x) += w * x.at(c, y, u);
            }
          }
          continue;
        }
        const int64_t input = o / own * shape[1] + c;
        for (int64_t y = 0; y < made.height; ++y) {
          for (int64_t u = 0; u < made.width; ++u) {
            made.at(o, y, u) += w * x.outside_zero(input, y * stride + dy, u * stride + dx);
          }
        }
      }
    }
  }
  return made;
}

double between(const Map& x, int64_t c, double y, double u) {
  const double row = std::max(y, 0.0), col = std::max(u, 0.0);
  double total = 0;
  for (int64_t i = 0; i < x.height; ++i) {
    for (int64_t j = 0; j < x.width; ++j) {
      const double a = std::min(row, x.height - 1.0), b = std::min(col, x.width - 1.0);
      total += std::max(0.0, 1 - std::abs(a - static_cast<double>(i))) *
               std::max(0.0, 1 - std::abs(b - static_cast<double>(j))) * x.at(c, i, j);
    }
  }
  return total;
}

// Steps whose elements each come from few of the inputs'.
double element_of(const ProgramStep& step, const std::vector<Map>& inputs, const Map& made,
                  int64_t c, int64_t y, int64_t u) {
  const Map& x = inputs[0];
  const auto other = [&] {
    const Map& b = inputs[1];
    return b.at(b.channels == 1 ? 0 : c, b.height == 1 ? 0 : y, b.width == 1 ? 0 : u);
  };
  if (step.kind == "act") return x.at(c, y, u);
  if (step.kind == "add") return x.at(c, y, u) + other();
  if (step.kind == "mul") return x.at(c, y, u) * other();
  if (step.kind == "slice") return x.at(number(step, "first") + c, y, u);
  if (step.kind == "crop" || step.kind == "pad") {
    return x.at(c, std::min(y, x.height - 1), std::min(u, x.width - 1));
  }
  if (step.kind == "resize") {
    return between(x, c, (y + 0.5) * x.height / made.height - 0.5,
                   (u + 0.5) * x.width / made.width - 0.5);
  }
  if (step.kind == "concat") {
    for (const Map& part : inputs) {
      if (c < part.channels) return part.at(c, y, u);
      c -= part.channels;
    }
  }
  const int64_t factor = number(step, "factor", 1);
  if (step.kind == "nearest") return x.at(c, y / factor, u / factor);
  if (step.kind == "shuffle") {
    const int64_t place = y % factor * factor + u % factor;
    const int64_t source = step.tf ? place * made.channels + c : c * factor * factor + place;
    return x.at(source, y / factor, u / factor);
  }
  double total = 0;
  if (step.kind == "mean") {
    for (int64_t i = 0; i < x.height * x.width; ++i) total += x.values[c * x.height * x.width + i];
    return total / static_cast<double>(x.height * x.width);
  }
  for (int64_t i = 0; i < x.channels; ++i) total += std::exp(x.at(i, y, u));  // softmax
  return std::exp(x.at(c, y, u)) / total;
}

Sizes shape_of(const ProgramStep& step, const std::vector<Sizes>& inputs) {
  Sizes shape = inputs[0];
  const int64_t factor = number(step, "factor", 1);
  if (step.kind == "concat") {
    shape[0] = 0;
    for (const Sizes& one : inputs) shape[0] += one[0];
  }
  if (step.kind == "slice") shape[0] = number(step, "count");
  if (step.kind == "mean") shape[1] = shape[2] = 1;
  if (step.kind == "nearest") return {shape[0], shape[1] * factor, shape[2] * factor};
  if (step.kind == "resize" || step.kind == "crop") {
    return {shape[0], number(step, "height"), number(step, "width")};
  }
  if (step.kind == "pad") {
    return {shape[0], shape[1] + number(step, "rows"), shape[2] + number(step, "cols")};
  }
  if (step.kind == "shuffle") {
    return {shape[0] / factor / factor, shape[1] * factor, shape[2] * factor};
  }
  return shape;
}

// All values for one window. A product that an addition alone reads is not rounded: the kernel does
// both at once.
std::vector<Map> run_formula(const PatchProgram& program, const std::vector<Numbers>& weights,
                             DType dtype, const Map& window) {
  std::vector<Map> values = {window};
  for (const ProgramStep& step : program.steps) {
    std::vector<Map> inputs;
    std::vector<Sizes> shapes;
    for (const int64_t v : step.inputs) {
      inputs.push_back(values[v]);
      shapes.push_back({values[v].channels, values[v].height, values[v].width});
    }
    const bool conv = step.kind == "conv" || step.kind == "deconv";
    Map made = conv ? convolution(program, weights, step, inputs[0]) : Map(shape_of(step, shapes));
    int64_t readers = 0, adds = 0;
    for (const ProgramStep& other : program.steps) {
      const auto self = static_cast<int64_t>(values.size());
      const auto count = std::count(other.inputs.begin(), other.inputs.end(), self);
      readers += count + (other.add == self ? 1 : 0) + (other.mul == self ? 1 : 0);
      adds += other.kind == "add" ? count : 0;
    }
    const bool keep = step.kind == "mul" && readers == 1 && adds == 1;
    for (int64_t c = 0; c < made.channels; ++c) {
      for (int64_t y = 0; y < made.height; ++y) {
        for (int64_t u = 0; u < made.width; ++u) {
          double value = conv ? made.at(c, y, u) : element_of(step, inputs, made, c, y, u);
          if (step.add >= 0) value += values[step.add].at(c, y, u);
          value = activated(program, weights, step, value, c);
          if (step.mul >= 0) value *= values[step.mul].at(c, y, u);
          made.at(c, y, u) = keep ? value : rounded(dtype, value);
        }
      }
    }
    values.push_back(made);
  }
  return values;
}

// --- the programs: what the Refine-Nets are made of, and what is awkward

const Text kTexts[] = {
    {"fsrcnn x4",
     {"v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2",
      "v2 = conv v1 weight=3 bias=4 pad=1 act=leaky:0.5", "v3 = conv v2 weight=5 bias=6",
      "v4 = conv v3 weight=7 bias=8 act=prelu:9", "v5 = deconv v4 weight=10 bias=11 stride=4 pad=4",
      "return v5"},
     {{12, 12, 3, 3},
      {12},
      {12},
      {12, 12, 3, 3},
      {12},
      {12, 12, 3, 3},
      {12},
      {56, 12, 1, 1},
      {56},
      {56},
      {56, 3, 9, 9},
      {3}},
     12,
     4,
     1},
    {"fsrcnn x3, in the middle",
     {"v1 = conv v0 weight=0", "v2 = deconv v1 weight=1 stride=3 pad=4 act=relu",
      "v3 = conv v2 weight=2 bias=3 pad=1", "return v3"},
     {{7, 5, 3, 3}, {7, 5, 9, 9}, {2, 5, 3, 3}, {2}},
     5,
     2,
     1},
    {"fsrcnn x2",
     {"v1 = deconv v0 weight=0 stride=2 pad=4 act=leaky:0.25", "return v1"},
     {{19, 3, 9, 9}},
     19,
     3,
     0},
    {"srresnet x4",
     {"v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2", "v2 = conv v1 weight=3 pad=1 add=v0",
      "v3 = conv v2 weight=0 bias=1 pad=1 act=prelu:2", "v4 = conv v3 weight=3 pad=1 add=v2",
      "v5 = add v4 v0", "v6 = conv v5 weight=4", "v7 = conv v6 weight=5 bias=6 pad=1",
      "v8 = shuffle v7 factor=2", "v9 = act v8 act=prelu:2",
      "v10 = conv v9 weight=7 pad=1 act=prelu:8", "v11 = shuffle v10 factor=2",
      "v12 = conv v11 weight=9 bias=10 pad=4", "return v12"},
     {{20, 20, 3, 3},
      {20},
      {1},
      {20, 20, 3, 3},
      {20, 20, 3, 3},
      {80, 20, 3, 3},
      {80},
      {80, 20, 3, 3},
      {80},
      {3, 20, 9, 9},
      {3}},
     20,
     2,
     1},
    {"64 channels",
     {"v1 = conv v0 weight=0 pad=1 act=relu", "v2 = conv v1 weight=1 pad=1 add=v0",
      "v3 = conv v2 weight=2", "v4 = shuffle v3 factor=4", "return v4"},
     {{64, 64, 3, 3}, {64, 64, 3, 3}, {48, 64, 3, 3}},
     64,
     4,
     1},
    {"rcan",
     {"v1 = conv v0 weight=0 bias=1 pad=1 act=relu", "v2 = conv v1 weight=2 bias=1 pad=1",
      "v3 = mean v2", "v4 = conv v3 weight=3 bias=4 act=relu",
      "v5 = conv v4 weight=5 bias=1 act=sigmoid", "v6 = mul v2 v5", "v7 = add v6 v0",
      "v8 = conv v7 weight=6", "v9 = conv v8 weight=7 pad=1", "v10 = shuffle v9 factor=2",
      "v11 = conv v10 weight=8 pad=1", "return v11"},
     {{17, 17, 3, 3},
      {17},
      {17, 17, 3, 3},
      {3, 17, 1, 1},
      {3},
      {17, 3, 1, 1},
      {17, 17, 3, 3},
      {68, 17, 3, 3},
      {3, 17, 3, 3}},
     17,
     3,
     1,
     false},
    {"pan x2",
     {"v1 = conv v0 weight=0 act=leaky:0.25", "v2 = conv v1 weight=1 pad=1 act=leaky:0.25",
      "v3 = conv v0 weight=0 act=leaky:0.25", "v4 = conv v3 weight=2 bias=3 act=sigmoid",
      "v5 = conv v3 weight=1 pad=1 mul=v4", "v6 = conv v5 weight=1 pad=1 act=leaky:0.25",
      "v7 = concat v2 v6", "v8 = conv v7 weight=4 add=v0", "v9 = nearest v8 factor=2",
      "v10 = conv v9 weight=5", "v11 = conv v10 weight=6 bias=7 act=sigmoid", "v12 = mul v10 v11",
      "v13 = act v12 act=leaky:0.25", "v14 = conv v13 weight=8 pad=1 act=leaky:0.25",
      "v15 = conv v14 weight=9", "return v15"},
     {{10, 20, 1, 1},
      {10, 10, 3, 3},
      {10, 10, 1, 1},
      {10},
      {20, 20, 1, 1},
      {6, 20, 3, 3},
      {6, 6, 1, 1},
      {6},
      {6, 6, 3, 3},
      {3, 6, 3, 3}},
     20,
     3,
     1,
     false},
    {"rfdn",
     {"v1 = conv v0 weight=0 act=leaky:0.0625",
      "v2 = conv v0 weight=1 pad=1 add=v0 act=leaky:0.0625",
      "v3 = conv v2 weight=0 act=leaky:0.0625", "v4 = conv v2 weight=2 pad=1 act=leaky:0.0625",
      "v5 = concat v1 v3 v4", "v6 = conv v5 weight=3", "v7 = conv v6 weight=4",
      "v8 = conv v7 weight=5 stride=2", "v9 = conv v8 weight=5 pad=1 act=relu",
      "v10 = resize v9 height=6 width=6", "v11 = conv v7 weight=6", "v12 = add v10 v11",
      "v13 = conv v12 weight=7 bias=8 act=sigmoid mul=v6", "v14 = concat v13 v0 v5",
      "v15 = conv v14 weight=9 act=leaky:0.0625 add=v0", "v16 = conv v15 weight=10",
      "v17 = shuffle v16 factor=2", "return v17"},
     {{5, 10, 1, 1},
      {10, 10, 3, 3},
      {5, 10, 3, 3},
      {10, 15, 1, 1},
      {4, 10, 1, 1},
      {4, 4, 3, 3},
      {4, 4, 1, 1},
      {10, 4, 1, 1},
      {10},
      {10, 35, 1, 1},
      {12, 10, 3, 3}},
     10,
     4,
     1,
     false},
    {"drsan",
     {"v1 = conv v0 weight=0 act=prelu:1",
      "v2 = conv v1 weight=2",
      "v3 = mean v2",
      "v4 = act v0 act=prelu:3",
      "v5 = conv v4 weight=4 pad=1 act=prelu:3",
      "v6 = conv v5 weight=4 pad=1",
      "v7 = slice v3 first=0 count=1",
      "v8 = mul v0 v7",
      "v9 = add v6 v8",
      "v10 = act v6 act=sigmoid",
      "v11 = mul v9 v10",
      "v12 = slice v3 first=1 count=1",
      "v13 = mul v0 v12",
      "v14 = slice v3 first=2 count=1",
      "v15 = mul v11 v14",
      "v16 = add v13 v15",
      "v17 = concat v0 v11 v16",
      "v18 = conv v17 weight=5",
      "v19 = conv v18 weight=6",
      "v20 = shuffle v19 factor=2 order=tf",
      "v21 = conv v20 weight=7 pad=1",
      "return v21"},
     {{16, 9, 1, 1},
      {16},
      {3, 16, 1, 1},
      {9},
      {9, 9, 3, 3},
      {9, 27, 1, 1},
      {36, 9, 3, 3},
      {3, 9, 3, 3}},
     9,
     2,
     1,
     false},
    {"slices and groups",
     {"v1 = slice v0 first=16 count=17", "v2 = slice v0 first=3 count=16",
      "v3 = slice v0 first=0 count=16", "v4 = concat v1 v2 v3 v3", "v5 = conv v4 weight=0 groups=1",
      "v6 = conv v5 weight=1 pad=1 groups=3", "v7 = slice v6 first=1 count=4",
      "v8 = slice v6 first=5 count=4", "v9 = mul v7 v8", "v10 = add v7 v9",
      "v11 = slice v4 first=14 count=4", "v12 = conv v10 weight=2 add=v11 mul=v8 act=tanh",
      "return v12"},
     {{9, 65, 1, 1}, {9, 3, 3, 3}, {4, 4, 1, 1}},
     33,
     5,
     0,
     false},
    {"the input", {"return v0"}, {}, 3, 3, 0},
    {"the input, cropped", {"v1 = crop v0 height=3 width=3", "return v1"}, {}, 18, 3, 1},
    {"a result that is read",
     {"v1 = conv v0 weight=0", "v2 = conv v1 weight=0", "return v1"},
     {{8, 8, 1, 1}},
     8,
     2,
     0},
    {"a result of parts",
     {"v1 = slice v0 first=1 count=3", "v2 = concat v1 v0", "return v2"},
     {},
     5,
     1,
     0},
    {"shuffles and pads",
     {"v1 = pad v0 rows=1 cols=1", "v2 = shuffle v1 factor=2", "v3 = shuffle v1 factor=2 order=tf",
      "v4 = add v2 v3", "v5 = act v4 act=relu", "v6 = crop v5 height=6 width=6", "return v6"},
     {},
     20,
     3,
     0},
    {"one pixel",
     {"v1 = slice v0 first=2 count=1", "v2 = mul v0 v1", "v3 = slice v2 first=0 count=1",
      "v4 = add v2 v3", "v5 = mul v4 v4", "return v5"},
     {},
     19,
     1,
     0},
    {"channels alone",
     {"v1 = softmax v0", "v2 = mean v1", "v3 = add v1 v2", "v4 = act v3 act=tanh", "return v4"},
     {},
     11,
     2,
     0,
     false},
    {"one channel",
     {"v1 = conv v0 weight=0 bias=1 pad=2", "return v1"},
     {{1, 1, 5, 5}, {1}},
     1,
     7,
     0},
};

struct Case {
  const Text& text;
  DType dtype;
  PatchProgram program;
  std::vector<Numbers> weights;
  int64_t batch = 2, height, width, k;
  std::vector<Map> features;  // one for each image
  Sizes index;                // of all images
  PatchGeometry grid;

  Case(const Text& t, DType type, uint64_t seed) : text(t), dtype(type) {
    Random random(seed);
    for (size_t i = 0; i + 1 < t.lines.size(); ++i) program.steps.push_back(step_of(t.lines[i]));
    program.result = std::stoll(std::string(t.lines.back()).substr(8));
    program.parameters = t.parameters;
    for (const Sizes& shape : t.parameters) weights.push_back(parameter(shape, random));
    for (const ProgramStep& step : program.steps) {
      if (step.act != "prelu") continue;
      for (double& slope : weights[step.slopes]) slope = random() % 2 == 0 ? 0.5 : 0.25;
    }
    height = 2 * t.patch_size + 1 + static_cast<int64_t>(random() % 2);
    width = 3 * t.patch_size - static_cast<int64_t>(random() % 2);
    grid = patch_geometry("check", batch, t.channels, height, width, t.patch_size, t.halo,
                          t.patch_size);
    k = std::min<int64_t>(grid.grid_rows * grid.grid_cols, 1 + random() % 6);
    for (int64_t b = 0; b < batch; ++b) {
      features.emplace_back(t.channels, height, width);
      for (double& value : features[b].values) value = static_cast<int>(random() % 5) - 2;
      Sizes cells(grid.grid_rows * grid.grid_cols);
      std::iota(cells.begin(), cells.end(), 0);
      std::shuffle(cells.begin(), cells.end(), random);
      index.insert(index.end(), cells.begin(), cells.begin() + k);
    }
    // Neither read nor written.
    if (seed % 3 == 0) index[random() % index.size()] = grid.grid_rows * grid.grid_cols;
    if (seed % 5 == 0) index[random() % index.size()] = -1;
    for (const Map& value : run_formula(program, weights, dtype, window(0, 0))) {
      program.shapes.push_back({value.channels, value.height, value.width});
    }
  }

  // Two weights of 1, -1 or 1/2 for each output; all biases.
  static Numbers parameter(const Sizes& shape, Random& random) {
    const int64_t size =
        std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    Numbers values(size);
    const auto draw = [&] { return random() % 4 == 0 ? 0.5 : random() % 3 == 0 ? -1.0 : 1.0; };
    if (shape.size() == 1) {
      for (double& value : values) value = draw();
      return values;
    }
    for (int64_t i = 0; i < 2 * shape[0] * (shape[2] > 5 ? shape[2] : 1); ++i) {
      const int64_t own = size / shape[0];
      values[i % shape[0] * own + static_cast<int64_t>(random() % own)] = draw();
    }
    return values;
  }

  Map window(int64_t image, int64_t cell) const {
    const int64_t side = text.patch_size + 2 * text.halo;
    const int64_t top = cell / grid.grid_cols * text.patch_size - text.halo;
    const int64_t left = cell % grid.grid_cols * text.patch_size - text.halo;
    Map made(text.channels, side, side);
    for (int64_t c = 0; c < text.channels; ++c) {
      for (int64_t y = 0; y < side; ++y) {
        for (int64_t x = 0; x < side; ++x) {
          made.at(c, y, x) = features[image].outside_zero(c, top + y, left + x);
        }
      }
    }
    return made;
  }

  // What the canvas is to hold where patches are.
  void write_expected(const TensorView& canvas) const {
    const Sizes& shape = program.shapes[program.result];
    for (size_t i = 0; i < index.size(); ++i) {
      const int64_t cell = index[i], image = static_cast<int64_t>(i) / k;
      if (cell < 0 || cell >= grid.grid_rows * grid.grid_cols) continue;
      const Map made = run_formula(program, weights, dtype, window(image, cell))[program.result];
      const int64_t top = cell / grid.grid_cols * shape[1], left = cell % grid.grid_cols * shape[2];
      for_each(canvas, [&](int64_t offset, int64_t b, int64_t c, int64_t y, int64_t x) {
        const bool own = y >= top && y < top + shape[1] && x >= left && x < left + shape[2];
        if (b == image && own) write_element(canvas, offset, made.at(c, y - top, x - left));
      });
    }
  }
};

Tensor words_of(const std::vector<int32_t>& words) {
  return vector_of(Numbers(words.begin(), words.end()), DType::kInt32);
}

Numbers pick(const Numbers& from, const std::vector<int32_t>& elements) {
  Numbers made;
  for (const int32_t e : elements) made.push_back(e < 0 ? 0 : from[e]);
  return made;
}

// Where both are near each other, the expected value becomes what there is.
void forgive(const TensorView& expected, const TensorView& got, DType dtype) {
  double most = 0;
  for_each(expected, [&](int64_t at, int64_t, int64_t, int64_t, int64_t) {
    most = std::max(most, std::abs(read_element(expected, at)));
  });
  const double part = dtype == DType::kBFloat16 ? 0.02 : dtype == DType::kFloat16 ? 0.003 : 1e-5;
  for_each(expected, [&](int64_t at, int64_t, int64_t, int64_t, int64_t) {
    const double wanted = read_element(expected, at), is = read_element(got, at);
    if (std::abs(wanted - is) <= part * most) write_element(expected, at, is);
  });
}

void check_program(const Case& c, Layout layout, int64_t group) {
  const cuda::PatchPlan plan = cuda::plan_patch_program(c.program, c.dtype);
  if (!plan.obstacle.empty()) fail<std::runtime_error>(c.text.name, ": refused: ", plan.obstacle);
  cuda::PatchTableHead head;
  std::memcpy(&head, plan.table.data(), sizeof(head));
  Numbers packed, vectors;
  for (const auto& [parameter, order] : plan.weights) {
    const Numbers part = pick(c.weights[parameter], plan.orders[order]);
    packed.insert(packed.end(), part.begin(), part.end());
  }
  packed.resize(head.num_weights);
  for (const cuda::PackedPart& part : plan.vectors) {
    const Numbers own = pick(c.weights[part.parameter], part.elements);
    vectors.insert(vectors.end(), own.begin(), own.end());
  }
  while (group > 1 && head.zero_bytes + group * head.patch_bytes > 98 * 1024) --group;

  const Tensor feature(c.dtype, {c.batch, c.text.channels, c.height, c.width}, layout);
  for_each(feature.view, [&](int64_t at, int64_t b, int64_t ch, int64_t y, int64_t x) {
    write_element(feature.view, at, c.features[b].at(ch, y, x));
  });
  const int64_t scale = head.out_side / c.text.patch_size;
  Tensor got(c.dtype, {c.batch, head.out_channels, scale * c.height, scale * c.width}, layout);
  got.fill(Values::kExact, 3);
  const Tensor expected = got.copy();
  c.write_expected(expected.view);
  const Tensor index(DType::kInt32, {c.batch, c.k});
  for (size_t i = 0; i < c.index.size(); ++i) {
    write_element(index.view, static_cast<int64_t>(i), static_cast<double>(c.index[i]));
  }
  const Tensor table = words_of(plan.table);
  const Tensor weights = vector_of(packed, c.dtype), floats = vector_of(vectors, DType::kFloat32);
  cuda::refine_patches(got.view, feature.view, index.view, table.view, table.view, weights.view,
                       floats.view, c.text.patch_size, c.text.halo, group, nullptr);
  if (!c.text.exact) forgive(expected.view, got.view, c.dtype);
  Tensor::expect_equal(std::string("refine_patches_ of ") + c.text.name + " on " + feature.name() +
                           ", groups of " + std::to_string(group),
                       expected, got);
}

constexpr DType kComputed[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
constexpr Layout kLayouts[] = {Layout::kContiguous, Layout::kLast,        Layout::kSlice,
                               Layout::kCropped,    Layout::kCroppedLast, Layout::kSliceLast};
constexpr int64_t kGroups[] = {0, 1, 3, 8, 2};

void expect_obstacle(PatchProgram program, DType dtype, int64_t bytes, const char* text) {
  const std::string got = cuda::plan_program(program, dtype, bytes).obstacle;
  if (got.find(text) != std::string::npos) return;
  fail<std::runtime_error>("expected the obstacle '", text, "', got '", got, "'");
}

void check_refusals(Progress& progress) {
  if (!progress.next()) return;
  const Case c(kTexts[0], DType::kFloat32, 1);
  expect_obstacle(c.program, DType::kFloat64, 1 << 20, "float64");
  expect_obstacle(c.program, DType::kFloat32, 4096, "of shared memory for one patch");
  PatchProgram unknown = c.program;
  unknown.steps.push_back(step_of("v6 = warp v5"));
  unknown.shapes.push_back(unknown.shapes.back());
  expect_obstacle(unknown, DType::kFloat32, 1 << 20, "'warp'");
  ++progress.passed;
}

}  // namespace

void check_program_ops(Progress& progress) {
  for (const Text& text : kTexts) {
    for (const DType dtype : kComputed) {
      for (int i = 0; i < 2; ++i) {
        if (!progress.next()) continue;
        const int seen = progress.seen;
        check_program(Case(text, dtype, static_cast<uint64_t>(seen)), kLayouts[seen % 6],
                      kGroups[seen % 5]);
        ++progress.passed;
      }
    }
  }
  check_refusals(progress);
}

}  // namespace check
}  // namespace sparsesr
