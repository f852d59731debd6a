#include "common/checks.h"

namespace sparsesr {
namespace {

std::string device_name(int device) {
  return device == kCpu ? "cpu" : "cuda:" + std::to_string(device);
}

}  // namespace

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat64:
      return "float64";
    case DType::kInt32:
      return "int32";
    case DType::kBool:
      return "bool";
    case DType::kUInt8:
      return "uint8";
  }
  return "unknown";
}

int64_t element_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kFloat64:
      return 8;
    case DType::kBool:
    case DType::kUInt8:
      return 1;
    case DType::kFloat32:
    case DType::kInt32:
      break;
  }
  return 4;
}

int64_t num_elements(const TensorView& view) {
  int64_t count = 1;
  for (int d = 0; d < view.rank; ++d) count *= view.sizes[d];
  return count;
}

std::string shape_text(const TensorView& view) {
  std::ostringstream text;
  text << '[';
  for (int d = 0; d < view.rank; ++d) text << (d ? ", " : "") << view.sizes[d];
  text << ']';
  return text.str();
}

void check_rank(const Operand& operand, const char* expected, int rank) {
  if (operand.view.rank == rank) return;
  fail(operand.op, ": expected ", operand.name, " ", expected, ", got shape ",
       shape_text(operand.view));
}

void check_shape(const Operand& operand, const char* expected,
                 std::initializer_list<int64_t> sizes) {
  check_rank(operand, expected, static_cast<int>(sizes.size()));
  int d = 0;
  bool same = true;
  for (int64_t size : sizes) same &= operand.view.sizes[d++] == size;
  if (same) return;
  std::ostringstream wanted;
  for (int64_t size : sizes) wanted << (wanted.tellp() > 0 ? ", " : "") << size;
  fail(operand.op, ": expected ", operand.name, " ", expected, " = [", wanted.str(), "], got ",
       shape_text(operand.view));
}

void check_dtype(const Operand& operand, DType dtype) {
  if (operand.view.dtype == dtype) return;
  fail<TypeMismatch>(operand.op, ": expected ", operand.name, " ", dtype_name(dtype), ", got ",
                     dtype_name(operand.view.dtype));
}

void check_floating(const Operand& operand) {
  const DType dtype = operand.view.dtype;
  const bool floating = dtype != DType::kInt32 && dtype != DType::kBool && dtype != DType::kUInt8;
  if (floating) return;
  fail<TypeMismatch>(operand.op, ": expected ", operand.name,
                     " float32, float16, bfloat16 or float64, got ", dtype_name(dtype));
}

void check_device(const Operand& operand, int device) {
  if (operand.view.device == device) return;
  fail<TypeMismatch>(operand.op, ": expected ", operand.name, " on ", device_name(device), ", got ",
                     device_name(operand.view.device));
}

void check_cpu(const Operand& operand) { check_device(operand, kCpu); }

void check_contiguous(const Operand& operand) {
  if (num_elements(operand.view) == 0) return;
  int64_t expected = 1;
  for (int d = operand.view.rank - 1; d >= 0; --d) {
    if (operand.view.sizes[d] > 1 && operand.view.strides[d] != expected) {
      fail(operand.op, ": expected ", operand.name, " contiguous, got shape ",
           shape_text(operand.view), " with stride ", operand.view.strides[d], " in dimension ", d);
    }
    expected *= operand.view.sizes[d];
  }
}

void check_writable(const Operand& operand) {
  for (int d = 0; d < operand.view.rank; ++d) {
    if (operand.view.sizes[d] <= 1 || operand.view.strides[d] != 0) continue;
    fail(operand.op, ": ", operand.name, " is written to but dimension ", d,
         " is expanded (stride 0); pass ", operand.name, ".contiguous()");
  }
}

}  // namespace sparsesr
