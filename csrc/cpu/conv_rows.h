// Convolutions over rows of vectors: a register block is a few vectors of pixels times a few
// outputs, pixels are loaded and weights broadcast.
#pragma once

#include "cpu/vector_math.h"

SPARSESR_BEGIN_ISA

#if defined(__AVX512F__)
constexpr int kBlockOutputs = 12;
#else
constexpr int kBlockOutputs = 6;
#endif
constexpr int kMostVectors = 4;

// Vectors of a register block of so many outputs: sums enough to hide the latency of a
// multiply-add, few enough for the registers.
constexpr int block_vectors(int outputs) {
#if defined(__AVX512F__)
  return outputs > 6 ? 2 : 4;
#else
  return outputs > 3 ? 2 : outputs == 3 ? 3 : 4;
#endif
}

// Inputs whose rows and weights lie behind each other: channels of one value under one row of taps.
struct ConvRun {
  const float* x;  // pixel 0, first tap
  const float* weights;
  int64_t channels, channel;
};

struct ConvTaps {
  int64_t count, step;  // across; floats from one to the next
  int64_t pixel;        // floats from one vector of outputs to the next, at the input
  // The first tap of the row's first vector, and the last tap of its last, lie outside the patch.
  bool skip_first, skip_last;
  int64_t vectors;  // of the row
};

struct ConvTarget {
  const float* bias;
  const float* slopes;
  ActKind act;
  const float* add;  // of the row, or nullptr; then mul
  const float* mul;
  float* out;
  int64_t add_channel, mul_channel, out_channel;
};

template <int kVectors, int kOutputs>
inline void add_tap(Wide (&sums)[kOutputs][kVectors], const float* x, int64_t pixel,
                    const float* weights, bool skip_low, bool skip_high) {
  if (kVectors == 1 && (skip_low || skip_high)) return;
  Wide values[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    values[v] = load<Wide>(x + v * pixel);
    SPARSESR_KEEP(values[v]);
  }
  if (kVectors > 1 && __builtin_expect(skip_low || skip_high, 0)) {
    const int begin = skip_low ? 1 : 0, end = skip_high ? kVectors - 1 : kVectors;
#pragma GCC unroll 12
    for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        if (v >= begin && v < end) sums[o][v] += values[v] * weights[o];
      }
    }
    return;
  }
#pragma GCC unroll 12
  for (int o = 0; o < kOutputs; ++o) {
    Wide weight = broadcast(weights[o]);
    if (kVectors > 1) SPARSESR_KEEP(weight);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[o][v] += values[v] * weight;
  }
}

// Elementary functions take so many instructions that they are not repeated for every sum.
__attribute__((noinline)) inline void activate_stored(const ConvTarget& to, int64_t outputs,
                                                      int64_t begin, int64_t end) {
  for (int64_t o = 0; o < outputs; ++o) {
    float* out = to.out + o * to.out_channel;
    for (int64_t i = begin; i < end; i += lanes<Wide>()) {
      Wide value = activated(load<Wide>(out + i), to.act, nullptr);
      if (to.mul != nullptr) value *= load<Wide>(to.mul + o * to.mul_channel + i);
      store(out + i, value);
    }
  }
}

template <int kVectors, int kOutputs>
inline void finish_block(Wide (&sums)[kOutputs][kVectors], const ConvTarget& to, int64_t at) {
  constexpr int64_t kLanes = lanes<Wide>();
  const bool simple = to.act <= ActKind::kSlope;
  const int64_t begin = at * kLanes;
#pragma GCC unroll 12
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t place = begin + v * kLanes;
      Wide sum = sums[o][v] + to.bias[o];
      if (to.add != nullptr) sum += load<Wide>(to.add + o * to.add_channel + place);
      if (to.act == ActKind::kRelu) sum = relu(sum);
      if (to.act == ActKind::kSlope) sum = sloped(sum, to.slopes[o]);
      if (simple && to.mul != nullptr) sum *= load<Wide>(to.mul + o * to.mul_channel + place);
      store(to.out + o * to.out_channel + place, sum);
    }
  }
  if (!simple) activate_stored(to, kOutputs, begin, begin + kVectors * kLanes);
}

// Vectors [at, at + kVectors) of a row. kTaps 0: as many as `taps` says.
template <int kVectors, int kOutputs, int kTaps>
__attribute__((noinline)) void convolve_block(const ConvRun* runs, int64_t num_runs,
                                              const ConvTaps& taps, const ConvTarget& to,
                                              int64_t at) {
  const bool low = taps.skip_first && at == 0;
  const bool high = taps.skip_last && at + kVectors == taps.vectors;
  const int64_t count = kTaps > 0 ? kTaps : taps.count;
  const int64_t step = taps.step, pixel = taps.pixel;
  Wide sums[kOutputs][kVectors];
#pragma GCC unroll 12
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[o][v] = Wide{};
  }
  for (int64_t r = 0; r < num_runs; ++r) {
    const ConvRun run = runs[r];
    const float* x = run.x + at * pixel;
    const float* weights = run.weights;
    for (int64_t c = 0; c < run.channels; ++c, x += run.channel) {
      if (kTaps > 0) {
#pragma GCC unroll 3
        for (int t = 0; t < kTaps; ++t, weights += kOutputs) {
          add_tap(sums, x + t * step, pixel, weights, t == 0 && low, t == kTaps - 1 && high);
        }
      } else {
        for (int64_t t = 0; t < count; ++t, weights += kOutputs) {
          add_tap(sums, x + t * step, pixel, weights, t == 0 && low, t == count - 1 && high);
        }
      }
    }
  }
  finish_block(sums, to, at);
}

using ConvolveBlock = void (*)(const ConvRun*, int64_t, const ConvTaps&, const ConvTarget&,
                               int64_t);

template <int kVectors, int kOutputs>
inline ConvolveBlock block_for_taps(int64_t taps) {
  switch (taps) {
    case 1:
      return &convolve_block<kVectors, kOutputs, 1>;
    case 2:
      return &convolve_block<kVectors, kOutputs, 2>;
    case 3:
      return &convolve_block<kVectors, kOutputs, 3>;
    default:
      return &convolve_block<kVectors, kOutputs, 0>;
  }
}

// Vectors that are left over at the end of a row go through narrower blocks.
template <int kOutputs>
inline void convolve_row_of(const ConvRun* runs, int64_t num_runs, const ConvTaps& taps,
                            const ConvTarget& to) {
  constexpr int kVectors = block_vectors(kOutputs);
  const ConvolveBlock whole = block_for_taps<kVectors, kOutputs>(taps.count);
  int64_t at = 0;
  for (; at + kVectors <= taps.vectors; at += kVectors) whole(runs, num_runs, taps, to, at);
  if (kVectors > 2 && at + 2 <= taps.vectors) {
    block_for_taps<(kVectors > 2 ? 2 : 1), kOutputs>(taps.count)(runs, num_runs, taps, to, at);
    at += 2;
  }
  if (at < taps.vectors) {
    block_for_taps<1, kOutputs>(taps.count)(runs, num_runs, taps, to, at);
  }
}

inline void convolve_row(int64_t outputs, const ConvRun* runs, int64_t num_runs,
                         const ConvTaps& taps, const ConvTarget& to) {
  switch (outputs) {
#define SPARSESR_OUTPUTS(n) \
  case n:                   \
    return convolve_row_of<n>(runs, num_runs, taps, to);
    SPARSESR_OUTPUTS(1)
    SPARSESR_OUTPUTS(2)
    SPARSESR_OUTPUTS(3)
    SPARSESR_OUTPUTS(4)
    SPARSESR_OUTPUTS(5)
    SPARSESR_OUTPUTS(6)
#if defined(__AVX512F__)
    SPARSESR_OUTPUTS(7)
    SPARSESR_OUTPUTS(8)
    SPARSESR_OUTPUTS(9)
    SPARSESR_OUTPUTS(10)
    SPARSESR_OUTPUTS(11)
    SPARSESR_OUTPUTS(12)
#endif
#undef SPARSESR_OUTPUTS
    default:
      return;
  }
}

SPARSESR_END_ISA
