// The element types and their arithmetic: 16-bit floats are computed in float32 and rounded to
// nearest even, with the GPU's own conversions or, on the host, with the CPU ops' portable ones.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/tensor_view.h"
#include "cuda/device.h"

#ifdef SPARSESR_SIMT
#ifndef SPARSESR_ISA
#define SPARSESR_ISA portable
#endif
#include "cpu/scalar.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace sparsesr {
namespace cuda {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

#ifdef SPARSESR_SIMT
inline float widen(Half value) { return SPARSESR_ISA::Half::load({value.bits}); }
inline float widen(BFloat16 value) { return SPARSESR_ISA::BFloat16::load({value.bits}); }
inline void narrow(float value, Half* to) { to->bits = SPARSESR_ISA::Half::store(value).bits; }
inline void narrow(float value, BFloat16* to) {
  to->bits = SPARSESR_ISA::BFloat16::store(value).bits;
}
#else
__device__ __forceinline__ float widen(Half value) {
  return __half2float(__ushort_as_half(value.bits));
}
__device__ __forceinline__ float widen(BFloat16 value) {
  return __bfloat162float(__ushort_as_bfloat16(value.bits));
}
__device__ __forceinline__ void narrow(float value, Half* to) {
  to->bits = __half_as_ushort(__float2half_rn(value));
}
__device__ __forceinline__ void narrow(float value, BFloat16* to) {
  to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
#endif

// The type sums are kept in, and the way there and back.
template <class T>
struct Arithmetic {
  using Acc = float;
  static __device__ __forceinline__ float load(T value) { return widen(value); }
  static __device__ __forceinline__ T store(float value) {
    T result;
    narrow(value, &result);
    return result;
  }
};
template <>
struct Arithmetic<float> {
  using Acc = float;
  static __device__ __forceinline__ float load(float value) { return value; }
  static __device__ __forceinline__ float store(float value) { return value; }
};
template <>
struct Arithmetic<double> {
  using Acc = double;
  static __device__ __forceinline__ double load(double value) { return value; }
  static __device__ __forceinline__ double store(double value) { return value; }
};

// The elements of one word, and sums over such words.
template <class T, class Word>
struct Sums {
  using Acc = typename Arithmetic<T>::Acc;
  static constexpr int kCount = static_cast<int>(sizeof(Word) / sizeof(T));

  Acc values[kCount];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = Acc(0);
  }

  __device__ __forceinline__ void add(Word word) {
    T elements[kCount];
    memcpy(elements, &word, sizeof(Word));
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += Arithmetic<T>::load(elements[i]);
  }

  // The sums divided by `count` and rounded.
  __device__ __forceinline__ Word mean(int32_t count) const {
    T elements[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      elements[i] = Arithmetic<T>::store(values[i] / Acc(count));
    }
    Word word;
    memcpy(&word, elements, sizeof(Word));
    return word;
  }
};

// Calls run(Type<T>()) for the element type, which the entry points have checked to be floating.
template <class T>
struct Type {
  using type = T;
};

template <class Run>
void for_dtype(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::kFloat32:
      return run(Type<float>());
    case DType::kFloat16:
      return run(Type<Half>());
    case DType::kBFloat16:
      return run(Type<BFloat16>());
    case DType::kFloat64:
      return run(Type<double>());
    case DType::kInt32:
    case DType::kBool:
    case DType::kUInt8:
      return;
  }
}

// Calls run(Type<Word>()) for words of 2, 4, 8 or 16 bytes.
template <class Run>
void for_word(int bytes, const Run& run) {
  switch (bytes) {
    case 2:
      return run(Type<uint16_t>());
    case 4:
      return run(Type<uint32_t>());
    case 8:
      return run(Type<uint2>());
    default:
      return run(Type<uint4>());
  }
}

}  // namespace cuda
}  // namespace sparsesr
