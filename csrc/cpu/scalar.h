// The element types and their arithmetic: 16-bit floats are computed in float32 and rounded to
// nearest even.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/tensor_view.h"
#include "cpu/isa.h"

SPARSESR_BEGIN_ISA

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// IEEE binary16. In integer arithmetic and selections, so that loops over it vectorise in every
// variant, and without subnormal floats, so that flush-to-zero modes do not change it.
struct Half {
  uint16_t bits;

  static float load(Half half) {
    const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
    const uint32_t shifted = static_cast<uint32_t>(half.bits & 0x7fffu) << 13;
    const uint32_t exponent = shifted & 0x0f800000u;
    const uint32_t normal = shifted + (112u << 23);
    const uint32_t special = shifted + (224u << 23);  // infinity and NaN
    const float subnormal = float_of(shifted + (113u << 23)) - float_of(113u << 23);
    const uint32_t finite = exponent == 0 ? bits_of(subnormal) : normal;
    return float_of(sign | (exponent == 0x0f800000u ? special : finite));
  }

  static Half store(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 0.5 leaves the subnormal half in the low bits of the sum, rounded by the adder.
    const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
    const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    return {static_cast<uint16_t>(sign | (magnitude >= 0x47800000u ? special : finite))};
  }
};

struct BFloat16 {
  uint16_t bits;

  static float load(BFloat16 value) { return float_of(static_cast<uint32_t>(value.bits) << 16); }

  static BFloat16 store(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return {static_cast<uint16_t>(nan ? 0x7fc0u : rounded)};
  }
};

// The type sums are kept in, and the way there and back.
template <class T>
struct Arithmetic {
  using Acc = float;
  static float load(T value) { return T::load(value); }
  static T store(float value) { return T::store(value); }
};
template <>
struct Arithmetic<float> {
  using Acc = float;
  static float load(float value) { return value; }
  static float store(float value) { return value; }
};
template <>
struct Arithmetic<double> {
  using Acc = double;
  static double load(double value) { return value; }
  static double store(double value) { return value; }
};

// Kernel<T>::run(args) for the element type `dtype`, which the entry points have checked to be
// floating.
template <template <class> class Kernel, class Args>
inline void run_for_dtype(DType dtype, const Args& args) {
  switch (dtype) {
    case DType::kFloat32:
      return Kernel<float>::run(args);
    case DType::kFloat16:
      return Kernel<Half>::run(args);
    case DType::kBFloat16:
      return Kernel<BFloat16>::run(args);
    case DType::kFloat64:
      return Kernel<double>::run(args);
    case DType::kInt32:
    case DType::kBool:
    case DType::kUInt8:
      return;
  }
}

SPARSESR_END_ISA
