// Vectors of float32, as wide as the instruction set has them, and what the kernels do with them.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

SPARSESR_BEGIN_ISA

// SPARSESR_WIDE_VECTORS (a check without such a CPU): vectors as long as those of AVX-512, which
// the compiler puts together from shorter ones.
#if defined(__AVX512F__) || defined(SPARSESR_WIDE_VECTORS)
#define SPARSESR_VECTORS_OF_16
#endif

// `Narrow` serves where so few outputs are wanted that most of a `Wide` would be padding.
#if defined(SPARSESR_VECTORS_OF_16)
typedef float Wide __attribute__((vector_size(64)));
typedef float Narrow __attribute__((vector_size(32)));
#elif defined(__AVX__)
typedef float Wide __attribute__((vector_size(32)));
typedef Wide Narrow;
#else
typedef float Wide __attribute__((vector_size(16)));
typedef Wide Narrow;
#endif

// Holds a vector in a register: without it GCC reads an operand from memory again for every
// multiplication.
#if defined(__AVX512F__)
#define SPARSESR_KEEP(vector) asm("" : "+v"(vector))
#elif defined(__SSE2__) && !defined(SPARSESR_VECTORS_OF_16)
#define SPARSESR_KEEP(vector) asm("" : "+x"(vector))
#else
#define SPARSESR_KEEP(vector)
#endif

template <class Vector>
constexpr int64_t lanes() {
  return static_cast<int64_t>(sizeof(Vector) / sizeof(float));
}

template <class Vector>
inline Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <class Vector>
inline void store(float* to, Vector value) {
  std::memcpy(to, &value, sizeof(value));
}

// Negative values become zero; NaN stays.
template <class Vector>
inline Vector relu(Vector value) {
  return Vector{} > value ? Vector{} : value;
}

// Lanes of two vectors, alternating: from their lower and from their upper halves.
#if defined(SPARSESR_VECTORS_OF_16)
#define SPARSESR_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SPARSESR_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define SPARSESR_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define SPARSESR_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define SPARSESR_ZIP_LOW 0, 4, 1, 5
#define SPARSESR_ZIP_HIGH 2, 6, 3, 7
#endif
#if defined(__clang__)
#define SPARSESR_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t WideLanes __attribute__((vector_size(sizeof(Wide))));
#define SPARSESR_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, WideLanes{__VA_ARGS__})
#endif

// Rows become columns. One round merges row i with row i + n/2 element by element, which moves the
// top bit of the row number to the bottom of the column number; log2(n) rounds exchange the two.
inline void transpose(Wide (&rows)[lanes<Wide>()]) {
  constexpr int kLanes = static_cast<int>(lanes<Wide>());
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    Wide merged[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      merged[2 * i] = SPARSESR_SHUFFLE(rows[i], rows[i + kLanes / 2], SPARSESR_ZIP_LOW);
      merged[2 * i + 1] = SPARSESR_SHUFFLE(rows[i], rows[i + kLanes / 2], SPARSESR_ZIP_HIGH);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = merged[i];
  }
}

SPARSESR_END_ISA
