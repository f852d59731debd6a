// Numbers in tensors of any type that the checks use, rounded as the kernels round.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/scalar.h"
#include "testing/check_tensors.h"

namespace sparsesr {
namespace check {

inline double rounded(double value, DType dtype) {
  const auto single = static_cast<float>(value);
  if (dtype == DType::kFloat16) return SPARSESR_ISA::Half::load(SPARSESR_ISA::Half::store(single));
  if (dtype == DType::kBFloat16) {
    return SPARSESR_ISA::BFloat16::load(SPARSESR_ISA::BFloat16::store(single));
  }
  return single;
}

inline void write_element(const TensorView& view, int64_t offset, double value) {
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
    case DType::kUInt8:
      static_cast<uint8_t*>(view.data)[offset] = static_cast<uint8_t>(value);
      return;
    case DType::kBool:
      static_cast<uint8_t*>(view.data)[offset] = value != 0;
      return;
    default:
      static_cast<float*>(view.data)[offset] = single;
  }
}

inline double read_element(const TensorView& view, int64_t offset) {
  if (view.dtype == DType::kFloat16) {
    return SPARSESR_ISA::Half::load(static_cast<SPARSESR_ISA::Half*>(view.data)[offset]);
  }
  if (view.dtype == DType::kBFloat16) {
    return SPARSESR_ISA::BFloat16::load(static_cast<SPARSESR_ISA::BFloat16*>(view.data)[offset]);
  }
  return static_cast<float*>(view.data)[offset];
}

// A contiguous tensor of these values.
inline Tensor flat_tensor(const std::vector<double>& values, std::vector<int64_t> sizes,
                          DType dtype) {
  Tensor tensor(dtype, std::move(sizes));
  for (size_t i = 0; i < values.size(); ++i) {
    write_element(tensor.view, static_cast<int64_t>(i), values[i]);
  }
  return tensor;
}

}  // namespace check
}  // namespace sparsesr
