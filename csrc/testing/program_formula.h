// Programs told plainly: their text read, every step computed pixel by pixel in float64 and rounded
// where the kernel of programs on patches rounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "cuda/program_plan.h"
#include "testing/elements.h"

namespace sparsesr {
namespace check {

using Numbers = std::vector<double>;
using cuda::PatchProgram;
using cuda::ProgramStep;
using cuda::Sizes;

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

inline Tensor vector_of(const Numbers& values, DType dtype) {
  return flat_tensor(values, {static_cast<int64_t>(values.size())}, dtype);
}

// --- programs as text, in the words of sparsesr/ops/_program.py

inline ProgramStep step_of(const std::string& line) {
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

inline int64_t number(const ProgramStep& step, const char* name, int64_t otherwise = 0) {
  const auto found = step.numbers.find(name);
  return found == step.numbers.end() ? otherwise : found->second;
}

// --- the formula

inline double activated(const PatchProgram& program, const std::vector<Numbers>& weights,
                        const ProgramStep& step, double value, int64_t channel) {
  if (step.act == "relu") return std::max(value, 0.0);
  if (step.act == "leaky") return value < 0 ? static_cast<float>(step.slope) * value : value;
  if (step.act == "sigmoid") return 1 / (1 + std::exp(-value));
  if (step.act == "tanh") return std::tanh(value);
  if (step.act != "prelu" || value >= 0) return value;
  return value * weights[step.slopes][program.parameters[step.slopes][0] == 1 ? 0 : channel];
}

inline Map convolution(const PatchProgram& program, const std::vector<Numbers>& weights,
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

inline double between(const Map& x, int64_t c, double y, double u) {
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
inline double element_of(const ProgramStep& step, const std::vector<Map>& inputs, const Map& made,
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

inline Sizes shape_of(const ProgramStep& step, const std::vector<Sizes>& inputs) {
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
inline std::vector<Map> run_formula(const PatchProgram& program,
                                    const std::vector<Numbers>& weights, DType dtype,
                                    const Map& window) {
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
          made.at(c, y, u) = keep ? value : rounded(value, dtype);
        }
      }
    }
    values.push_back(made);
  }
  return values;
}

}  // namespace check
}  // namespace sparsesr
