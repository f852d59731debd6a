// Programs (sparsesr/ops/_program.py) made ready for the patch kernel: which buffers of shared
// memory hold which value when, which steps are done in one, how weights are ordered. Plain C++.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/tensor_view.h"

namespace sparsesr {
namespace cuda {

// One step as the text says it.
struct ProgramStep {
  std::string kind;
  std::vector<int64_t> inputs;
  std::map<std::string, int64_t> numbers;
  std::string act;  // empty: none
  double slope = 0;
  int64_t slopes = -1;  // parameter of a prelu
  bool tf = false;
  int64_t add = -1, mul = -1;
};

using Sizes = std::vector<int64_t>;

struct PatchProgram {
  std::vector<ProgramStep> steps;
  int64_t result;
  std::vector<Sizes> parameters;  // their shapes
  std::vector<Sizes> shapes;      // of every value: channels, height, width
};

// Elements of a parameter in the order that the kernel reads them; -1: zero.
struct PackedPart {
  int64_t parameter;
  std::vector<int32_t> elements;
};

struct PatchPlan {
  std::string obstacle;  // why the kernel cannot run the program; else empty
  std::vector<int32_t> table;
  std::vector<std::vector<int32_t>> orders;          // of weights: elements, -1: zero
  std::vector<std::pair<int64_t, int64_t>> weights;  // parameter and its order, one after another
  int64_t num_weights = 0;                           // all of them, and zeros behind
  std::vector<PackedPart> vectors;                   // biases and slopes, as float32
};

// `shared_bytes`: what a block may have for values.
PatchPlan plan_program(const PatchProgram& program, DType dtype, int64_t shared_bytes);

}  // namespace cuda
}  // namespace sparsesr
