// A register block is a few vectors of pixels times a few outputs: pixels are loaded, weights
// broadcast, and the sums stay in registers from the first input to the last.
#include "cpu/conv_rows.h"

SPARSESR_BEGIN_ISA
namespace {

// Vectors of a register block of so many outputs: sums enough to hide the latency of a
// multiply-add, few enough for the registers.
constexpr int block_vectors(int outputs) {
#if defined(SPARSESR_VECTORS_OF_16)
  return outputs > 6 ? 2 : 4;
#else
  return outputs > 3 ? 2 : outputs == 3 ? 3 : 4;
#endif
}

// One tap of one input, for vectors [kBegin, kEnd) of the block.
template <int kVectors, int kOutputs, int kBegin, int kEnd>
inline void add_tap(Wide (&sums)[kOutputs][kVectors], const float* x, int64_t pixel,
                    const float* weights) {
  Wide values[kVectors];
#pragma GCC unroll 4
  for (int v = kBegin; v < kEnd; ++v) {
    values[v] = load<Wide>(x + v * pixel);
    SPARSESR_KEEP(values[v]);
  }
#pragma GCC unroll 12
  for (int o = 0; o < kOutputs; ++o) {
    Wide weight = broadcast(weights[o]);
    if (kEnd - kBegin > 1) SPARSESR_KEEP(weight);
#pragma GCC unroll 4
    for (int v = kBegin; v < kEnd; ++v) sums[o][v] += values[v] * weight;
  }
}

// Elementary functions take so many instructions that they are not repeated for every sum.
__attribute__((noinline)) void activate_stored(const ConvTarget& to, int64_t outputs, int64_t begin,
                                               int64_t end) {
  for (int64_t o = 0; o < outputs; ++o) {
    float* out = to.out + o * to.out_channel;
    for (int64_t i = begin; i < end; i += lanes<Wide>()) {
      Wide value = activated(load<Wide>(out + i), to.act, nullptr);
      if (to.mul != nullptr) value *= load<Wide>(to.mul + o * to.mul_channel + i);
      store(out + i, value);
    }
  }
}

// Calls body(output, vector, where it lies in the row) for every sum.
template <int kVectors, int kOutputs, class Body>
inline void for_sums(int64_t begin, const Body& body) {
#pragma GCC unroll 12
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) body(o, v, begin + v * lanes<Wide>());
  }
}

template <int kVectors, int kOutputs>
inline void finish_block(Wide (&sums)[kOutputs][kVectors], const ConvTarget& to, int64_t at) {
  const bool simple = to.act <= ActKind::kSlope;
  const int64_t begin = at * lanes<Wide>();
  const auto each = [begin](const auto& body) { for_sums<kVectors, kOutputs>(begin, body); };
  each([&](int o, int v, int64_t) { sums[o][v] += to.bias[o]; });
  if (to.add != nullptr) {
    each([&](int o, int v, int64_t i) {
      sums[o][v] += load<Wide>(to.add + o * to.add_channel + i);
    });
  }
  if (to.act == ActKind::kRelu) {
    each([&](int o, int v, int64_t) { sums[o][v] = relu(sums[o][v]); });
  } else if (to.act == ActKind::kSlope) {
    each([&](int o, int v, int64_t) { sums[o][v] = sloped(sums[o][v], to.slopes[o]); });
  }
  if (simple && to.mul != nullptr) {
    each([&](int o, int v, int64_t i) {
      sums[o][v] *= load<Wide>(to.mul + o * to.mul_channel + i);
    });
  }
  each([&](int o, int v, int64_t i) { store(to.out + o * to.out_channel + i, sums[o][v]); });
  if (!simple) activate_stored(to, kOutputs, begin, begin + kVectors * lanes<Wide>());
}

// Vectors [at, at + kVectors) of a row. kTaps 0: as many as `taps` says. kLow, kHigh: the first tap
// of the first vector, the last tap of the last one are left out.
template <int kVectors, int kOutputs, int kTaps, bool kLow, bool kHigh>
__attribute__((noinline)) void convolve_block(const ConvRun* runs, int64_t num_runs,
                                              const ConvTaps& taps, const ConvTarget& to,
                                              int64_t at) {
  const int64_t step = taps.step, pixel = taps.pixel;
  Wide sums[kOutputs][kVectors];
  for_sums<kVectors, kOutputs>(0, [&](int o, int v, int64_t) {
    sums[o][v] = Wide{};
    SPARSESR_KEEP(sums[o][v]);  // else GCC keeps a flag for each of whether it is still zero
  });
  for (int64_t r = 0; r < num_runs; ++r) {
    const ConvRun run = runs[r];
    const float* x = run.x + at * pixel;
    const float* weights = run.weights;
    for (int64_t c = 0; c < run.channels; ++c, x += run.channel) {
      if (kTaps == 0) {
        for (int64_t t = 0; t < taps.count; ++t, weights += kOutputs) {
          add_tap<kVectors, kOutputs, 0, kVectors>(sums, x + t * step, pixel, weights);
        }
        continue;
      }
      add_tap<kVectors, kOutputs, kLow, kVectors - (kHigh && kTaps == 1)>(sums, x, pixel, weights);
      if (kTaps > 2) {
        add_tap<kVectors, kOutputs, 0, kVectors>(sums, x + step, pixel, weights + kOutputs);
      }
      if (kTaps > 1) {
        constexpr int kLast = kTaps - 1;
        add_tap<kVectors, kOutputs, 0, kVectors - kHigh>(sums, x + kLast * step, pixel,
                                                         weights + kLast * kOutputs);
      }
      weights += kTaps * kOutputs;
    }
  }
  finish_block(sums, to, at);
}

using ConvolveBlock = void (*)(const ConvRun*, int64_t, const ConvTaps&, const ConvTarget&,
                               int64_t);

template <int kVectors, int kOutputs, int kTaps>
inline ConvolveBlock block_at_edge(bool low, bool high) {
  if (low && high) return &convolve_block<kVectors, kOutputs, kTaps, true, true>;
  if (low) return &convolve_block<kVectors, kOutputs, kTaps, true, false>;
  if (high) return &convolve_block<kVectors, kOutputs, kTaps, false, true>;
  return &convolve_block<kVectors, kOutputs, kTaps, false, false>;
}

// Other numbers of taps than these read zeros at the edges.
template <int kVectors, int kOutputs>
inline ConvolveBlock block_for(const ConvTaps& taps, int64_t at) {
  const bool low = taps.skip_first && at == 0;
  const bool high = taps.skip_last && at + kVectors == taps.vectors;
  switch (taps.count) {
    case 1:
      return block_at_edge<kVectors, kOutputs, 1>(low, high);
    case 2:
      return block_at_edge<kVectors, kOutputs, 2>(low, high);
    case 3:
      return block_at_edge<kVectors, kOutputs, 3>(low, high);
    default:
      return &convolve_block<kVectors, kOutputs, 0, false, false>;
  }
}

// Vectors that are left over at the end of a row go through narrower blocks.
template <int kOutputs>
inline void convolve_row_of(const ConvRun* runs, int64_t num_runs, const ConvTaps& taps,
                            const ConvTarget& to) {
  constexpr int kVectors = block_vectors(kOutputs);
  constexpr int kNarrow = kVectors > 2 ? 2 : 1;
  int64_t at = 0;
  for (; at + kVectors <= taps.vectors; at += kVectors) {
    block_for<kVectors, kOutputs>(taps, at)(runs, num_runs, taps, to, at);
  }
  if (kNarrow > 1 && at + kNarrow <= taps.vectors) {
    block_for<kNarrow, kOutputs>(taps, at)(runs, num_runs, taps, to, at);
    at += kNarrow;
  }
  if (at < taps.vectors) block_for<1, kOutputs>(taps, at)(runs, num_runs, taps, to, at);
}

}  // namespace

void convolve_row(int64_t outputs, const ConvRun* runs, int64_t num_runs, const ConvTaps& taps,
                  const ConvTarget& to) {
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
#if defined(SPARSESR_VECTORS_OF_16)
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
