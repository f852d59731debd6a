// Elementary functions of vectors of float32.
#pragma once

#include "cpu/kernels.h"
#include "cpu/program.h"
#include "cpu/vectors.h"

SPARSESR_BEGIN_ISA

typedef int32_t WideBits __attribute__((vector_size(sizeof(Wide))));

inline Wide broadcast(float value) { return value - Wide{}; }

inline WideBits bits_of_lanes(Wide value) {
  WideBits bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline Wide lanes_of_bits(WideBits bits) {
  Wide value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// e^x within two units in the last place; what float32 cannot hold becomes its nearest normal
// number. x = n ln 2 + r with |r| <= ln 2 / 2, and a polynomial of r (Cephes' coefficients).
inline Wide exponential(Wide x) {
  constexpr float kLargest = 88.0f, kSmallest = -87.0f;
  constexpr float kRound = 12582912.0f;  // adding 1.5 * 2^23 rounds to a whole number
  x = x > kLargest ? broadcast(kLargest) : x;
  x = x < kSmallest ? broadcast(kSmallest) : x;
  const Wide shifted = x * 1.44269504f + kRound;
  const Wide n = shifted - kRound;
  const Wide r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Wide sum = broadcast(1.9875691500e-4f);
  sum = sum * r + 1.3981999507e-3f;
  sum = sum * r + 8.3334519073e-3f;
  sum = sum * r + 4.1665795894e-2f;
  sum = sum * r + 1.6666665459e-1f;
  sum = sum * r + 5.0000001201e-1f;
  sum = sum * (r * r) + r + 1.0f;
  // The low bits of `shifted` are n; a NaN stays one through the product.
  const WideBits power = bits_of_lanes(shifted) - bits_of_lanes(broadcast(kRound)) + 127;
  return sum * lanes_of_bits(power << 23);
}

inline Wide sigmoid(Wide x) { return 1.0f / (1.0f + exponential(-x)); }

// Of the magnitude first: (1 - e) / (1 + e) with e = exp(-2 |x|).
inline Wide hyperbolic_tangent(Wide x) {
  const Wide e = exponential(x > 0.0f ? -2.0f * x : 2.0f * x);
  const Wide magnitude = (1.0f - e) / (1.0f + e);
  return x > 0.0f ? magnitude : -magnitude;
}

inline Wide sloped(Wide x, float slope) { return x > 0.0f ? x : x * slope; }

inline Wide activated(Wide x, ActKind act, const float* slope) {
  switch (act) {
    case ActKind::kRelu:
      return relu(x);
    case ActKind::kSlope:
      return sloped(x, *slope);
    case ActKind::kSigmoid:
      return sigmoid(x);
    case ActKind::kTanh:
      return hyperbolic_tangent(x);
    default:
      return x;
  }
}

SPARSESR_END_ISA
