// Pairs of channels, bfloat16 side by side in the 32 bits of a lane, the even one in the low half:
// what they are multiplied with and how rows become rows of pairs. Only where SPARSESR_PAIRS says
// so: the instruction is there, or SPARSESR_EMULATED_PAIRS (a check without such a CPU) asks for
// the same in bit operations.
#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "cpu/vector_math.h"

#if defined(__AVX512BF16__) || defined(SPARSESR_EMULATED_PAIRS)
#define SPARSESR_PAIRS
#endif

SPARSESR_BEGIN_ISA

// Inputs of a unit of 32 bits that this instruction set multiplies, at most.
#if defined(SPARSESR_PAIRS)
constexpr int64_t kMostDepth = 2;
#else
constexpr int64_t kMostDepth = 1;
#endif

#if defined(__AVX512BF16__)

inline Wide dot(Wide sums, Wide pairs, Wide weights) {
  return (Wide)_mm512_dpbf16_ps((__m512)sums, (__m512bh)pairs, (__m512bh)weights);
}

// Two channels rounded to nearest even.
inline Wide packed(Wide even, Wide odd) {
  const __m512i order =
      (__m512i)(__v32hi){0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                         8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh behind = _mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);  // all even, all odd
  return (Wide)_mm512_permutexvar_epi16(order, (__m512i)behind);
}

#elif defined(SPARSESR_PAIRS)

inline Wide low_halves(Wide pairs) { return lanes_of_bits(bits_of_lanes(pairs) << 16); }
inline Wide high_halves(Wide pairs) { return lanes_of_bits(bits_of_lanes(pairs) & -65536); }

inline Wide dot(Wide sums, Wide pairs, Wide weights) {
  sums += high_halves(pairs) * high_halves(weights);
  return sums + low_halves(pairs) * low_halves(weights);
}

// To nearest even, in the high halves; the low ones are zero.
inline WideBits rounded(Wide value) {
  const WideBits bits = bits_of_lanes(value);
  const WideBits nearest = bits + 0x7fff + ((bits >> 16) & 1);
  return (value == value ? nearest : WideBits{} + 0x7fc00000) & -65536;
}

inline Wide packed(Wide even, Wide odd) {
  return lanes_of_bits(((rounded(even) >> 16) & 0xffff) | rounded(odd));
}

#endif

SPARSESR_END_ISA
