// Argument checks of the entry points. They throw; kernels, which may run on several threads, never
// do.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

#include "common/tensor_view.h"

namespace sparsesr {

// A wrong dtype or device: TypeError in Python, where std::invalid_argument is ValueError.
struct TypeMismatch : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

template <class Error = std::invalid_argument, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str());
}

// One operand of one op, so that every message names both.
struct Operand {
  const char* op;
  const char* name;
  const TensorView& view;
};

const char* dtype_name(DType dtype);
int64_t element_size(DType dtype);
int64_t num_elements(const TensorView& view);
std::string shape_text(const TensorView& view);  // "[2, 64, 7, 9]"

// `expected` names the axes in the message: "[B,C,H,W]".
void check_shape(const Operand& operand, const char* expected,
                 std::initializer_list<int64_t> sizes);
void check_rank(const Operand& operand, const char* expected, int rank);
void check_dtype(const Operand& operand, DType dtype);
void check_floating(const Operand& operand);
void check_device(const Operand& operand, int device);
void check_cpu(const Operand& operand);
void check_contiguous(const Operand& operand);
// Refuses views in which two elements share an address (expanded tensors).
void check_writable(const Operand& operand);

}  // namespace sparsesr
