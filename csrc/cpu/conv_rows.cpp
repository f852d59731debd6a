// A register block is a few vectors of pixels times a few outputs: pixels are loaded, weights
// broadcast, and the sums stay in registers from the first input to the last.
#include "cpu/conv_rows.h"
#include "cpu/pairs.h"

// Sums that are handed to a function stay in registers only where it is compiled into its caller.
#define SPARSESR_INLINE __attribute__((always_inline)) inline

SPARSESR_BEGIN_ISA
namespace {

// Vectors of a register block of so many outputs: sums enough to hide the latency of a
// multiply-add, few enough for the registers.
constexpr int block_vectors(int outputs) {
#if defined(SPARSESR_VECTORS_OF_16)
  return outputs > 6 ? 2 : 4;
#else
  return outputs > 4 ? 2 : outputs > 2 ? 3 : 4;
#endif
}

// How a unit of an input multiplies its weight.
struct Singles {
  static SPARSESR_INLINE Wide weight(const float* at) { return broadcast(*at); }
  static SPARSESR_INLINE Wide add(Wide sums, Wide values, Wide weight) {
    return sums + values * weight;
  }
};

#if defined(SPARSESR_PAIRS)
struct Pairs {
  static SPARSESR_INLINE Wide weight(const float* at) {
    int32_t bits;
    std::memcpy(&bits, at, sizeof(bits));
    return lanes_of_bits(WideBits{} + bits);
  }
  static SPARSESR_INLINE Wide add(Wide sums, Wide values, Wide weight) {
    return dot(sums, values, weight);
  }
};
#endif

// One tap of one input, for vectors [kBegin, kEnd) of the block.
template <class Math, int kVectors, int kOutputs, int kBegin, int kEnd>
SPARSESR_INLINE void add_tap(Wide (&sums)[kOutputs][kVectors], const float* x, int64_t vector,
                             const float* weights) {
  Wide values[kVectors];
#pragma GCC unroll 4
  for (int v = kBegin; v < kEnd; ++v) {
    values[v] = load<Wide>(x + v * vector);
    SPARSESR_KEEP(values[v]);
  }
#pragma GCC unroll 12
  for (int o = 0; o < kOutputs; ++o) {
    Wide weight = Math::weight(weights + o);
    if (kEnd - kBegin > 1) SPARSESR_KEEP(weight);
#pragma GCC unroll 4
    for (int v = kBegin; v < kEnd; ++v) sums[o][v] = Math::add(sums[o][v], values[v], weight);
  }
}

// Elementary functions take so many instructions that they are not repeated for every sum.
__attribute__((noinline)) void activate_stored(const ConvTarget& to, int64_t outputs, int64_t at,
                                               int64_t vectors) {
  for (int64_t o = 0; o < outputs; ++o) {
    float* out = to.out + o * to.out_channel;
    for (int64_t v = at; v < at + vectors; ++v) {
      const int64_t i = to.start + v * to.vector;
      Wide value = activated(load<Wide>(out + i), to.act, nullptr);
      if (to.mul != nullptr) value *= load<Wide>(to.mul + o * to.mul_channel + i);
      store(out + i, value);
    }
  }
}

// All sums of a block: output o, vector v. A loop of lambdas would not stay in registers.
// clang-format off
#define SPARSESR_FOR_SUMS                            \
  _Pragma("GCC unroll 12")                           \
  for (int o = 0; o < kOutputs; ++o)                 \
    _Pragma("GCC unroll 4")                          \
    for (int v = 0; v < kVectors; ++v)
// clang-format on

template <int kVectors, int kOutputs>
SPARSESR_INLINE void clear(Wide (&sums)[kOutputs][kVectors]) {
  SPARSESR_FOR_SUMS {
    sums[o][v] = Wide{};
    SPARSESR_KEEP(sums[o][v]);  // else GCC keeps a flag for each of whether it is still zero
  }
}

template <int kVectors, int kOutputs>
SPARSESR_INLINE void finish_block(Wide (&sums)[kOutputs][kVectors], const ConvTarget& to,
                                  int64_t at) {
  constexpr int64_t kLanes = lanes<Wide>();
  const bool simple = to.act <= ActKind::kSlope;
  const int64_t begin = to.start + at * to.vector;
  if (to.earlier != nullptr) {
    SPARSESR_FOR_SUMS sums[o][v] += load<Wide>(to.earlier + (o * kVectors + v) * kLanes);
  }
  if (to.bias == nullptr) {  // a part of a sum
    float* part = to.out;
    SPARSESR_FOR_SUMS store(part + (o * kVectors + v) * kLanes, sums[o][v]);
    return;
  }
  SPARSESR_FOR_SUMS sums[o][v] += to.bias[o];
  if (to.add != nullptr) {
    const float* add = to.add + begin;
    SPARSESR_FOR_SUMS sums[o][v] += load<Wide>(add + o * to.add_channel + v * to.vector);
  }
  if (to.act == ActKind::kRelu) {
    SPARSESR_FOR_SUMS sums[o][v] = relu(sums[o][v]);
  } else if (to.act == ActKind::kSlope) {
    SPARSESR_FOR_SUMS sums[o][v] = sloped(sums[o][v], to.slopes[o]);
  }
  if (simple && to.mul != nullptr) {
    const float* mul = to.mul + begin;
    SPARSESR_FOR_SUMS sums[o][v] *= load<Wide>(mul + o * to.mul_channel + v * to.vector);
  }
  float* out = to.out + begin;
  SPARSESR_FOR_SUMS store(out + o * to.out_channel + v * to.vector, sums[o][v]);
  if (!simple) activate_stored(to, kOutputs, at, kVectors);
}

// Vectors [at, at + kVectors) of a row. kLow, kHigh: the first tap of the first vector, the last
// tap of the last one are left out.
template <class Math, int kVectors, int kOutputs, int kTaps, bool kLow = false, bool kHigh = false>
__attribute__((noinline)) void convolve_block(const ConvRun* runs, int64_t num_runs,
                                              const ConvTaps& taps, const ConvTarget& to,
                                              int64_t at) {
  constexpr int kLast = kTaps - 1;
  const int64_t step = taps.step, vector = taps.vector;
  Wide sums[kOutputs][kVectors];
  clear(sums);
  for (int64_t r = 0; r < num_runs; ++r) {
    const ConvRun run = runs[r];
    const float* x = run.x + taps.start + at * vector;
    const float* weights = run.weights;
    for (int64_t c = 0; c < run.channels; ++c, x += run.channel, weights += kTaps * kOutputs) {
      __builtin_prefetch(x + 4 * run.channel);
      add_tap<Math, kVectors, kOutputs, kLow, kVectors>(sums, x, vector, weights);
      if (kTaps > 2) {
        add_tap<Math, kVectors, kOutputs, 0, kVectors>(sums, x + step, vector, weights + kOutputs);
      }
      if (kTaps > 1) {
        add_tap<Math, kVectors, kOutputs, 0, kVectors - kHigh>(sums, x + kLast * step, vector,
                                                               weights + kLast * kOutputs);
      }
    }
  }
  finish_block(sums, to, at);
}

// Any number of taps. Where some are left out, which happens to single vectors alone, the others
// are those from `first` to `last`.
template <class Math, int kVectors, int kOutputs>
__attribute__((noinline)) void convolve_any_block(const ConvRun* runs, int64_t num_runs,
                                                  const ConvTaps& taps, const ConvTarget& to,
                                                  int64_t at) {
  const int64_t first = kVectors == 1 && taps.skip_first && at == 0;
  const int64_t last = taps.count - (kVectors == 1 && taps.skip_last && at + 1 == taps.vectors);
  Wide sums[kOutputs][kVectors];
  clear(sums);
  for (int64_t r = 0; r < num_runs; ++r) {
    const ConvRun run = runs[r];
    const float* x = run.x + taps.start + at * taps.vector;
    const float* weights = run.weights;
    for (int64_t c = 0; c < run.channels; ++c, x += run.channel, weights += taps.count * kOutputs) {
      for (int64_t t = first; t < last; ++t) {
        add_tap<Math, kVectors, kOutputs, 0, kVectors>(sums, x + t * taps.step, taps.vector,
                                                       weights + t * kOutputs);
      }
    }
  }
  finish_block(sums, to, at);
}

using ConvolveBlock = void (*)(const ConvRun*, int64_t, const ConvTaps&, const ConvTarget&,
                               int64_t);

template <class Math, int kVectors, int kOutputs, int kTaps>
inline ConvolveBlock block_at_edge(bool low, bool high) {
  if (low && high) return &convolve_block<Math, kVectors, kOutputs, kTaps, true, true>;
  if (low) return &convolve_block<Math, kVectors, kOutputs, kTaps, true, false>;
  if (high) return &convolve_block<Math, kVectors, kOutputs, kTaps, false, true>;
  return &convolve_block<Math, kVectors, kOutputs, kTaps>;
}

template <class Math, int kVectors, int kOutputs>
inline ConvolveBlock block_for(const ConvTaps& taps, int64_t at) {
  const bool low = taps.skip_first && at == 0;
  const bool high = taps.skip_last && at + kVectors == taps.vectors;
  switch (taps.count) {
    case 1:
      return &convolve_block<Math, kVectors, kOutputs, 1>;
    case 2:
      return block_at_edge<Math, kVectors, kOutputs, 2>(low, high);
    case 3:
      return block_at_edge<Math, kVectors, kOutputs, 3>(low, high);
    default:
      return &convolve_any_block<Math, kVectors, kOutputs>;
  }
}

// Long sums are made in parts, so that errors do not pile up: what each run adds, one after the
// other.
template <int kVectors, int kOutputs>
inline void convolve_vectors(ConvolveBlock block, const ConvRun* runs, int64_t num_runs,
                             const ConvTaps& taps, const ConvTarget& to, int64_t at) {
  if (!taps.part || num_runs < 2) return block(runs, num_runs, taps, to, at);
  alignas(64) float parts[kOutputs * kVectors * lanes<Wide>()];
  ConvTarget part = {};
  part.out = parts;
  for (int64_t r = 0; r + 1 < num_runs; ++r) {
    block(runs + r, 1, taps, part, at);
    part.earlier = parts;
  }
  ConvTarget last = to;
  last.earlier = parts;
  block(runs + num_runs - 1, 1, taps, last, at);
}

// What whole blocks leave goes through narrower ones, none of a single vector where two by two
// work.
template <class Math, int kOutputs>
inline void convolve_row_of(const ConvRun* runs, int64_t num_runs, const ConvTaps& taps,
                            const ConvTarget& to, int64_t at, int64_t end) {
  constexpr int kVectors = block_vectors(kOutputs);
  while (end - at >= kVectors && !(kVectors == 3 && end - at == 4)) {
    convolve_vectors<kVectors, kOutputs>(block_for<Math, kVectors, kOutputs>(taps, at), runs,
                                         num_runs, taps, to, at);
    at += kVectors;
  }
  for (; kVectors > 2 && end - at >= 2; at += 2) {
    convolve_vectors<2, kOutputs>(block_for<Math, 2, kOutputs>(taps, at), runs, num_runs, taps, to,
                                  at);
  }
  if (at < end) {
    convolve_vectors<1, kOutputs>(&convolve_any_block<Math, 1, kOutputs>, runs, num_runs, taps, to,
                                  at);
  }
}

template <class Math>
inline void convolve_row_by(int64_t outputs, const ConvRun* runs, int64_t num_runs,
                            const ConvTaps& taps, const ConvTarget& to, int64_t begin,
                            int64_t end) {
  switch (outputs) {
#define SPARSESR_OUTPUTS(n) \
  case n:                   \
    return convolve_row_of<Math, n>(runs, num_runs, taps, to, begin, end);
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

}  // namespace

void convolve_row(int64_t outputs, const ConvRun* runs, int64_t num_runs, const ConvTaps& taps,
                  const ConvTarget& to, int64_t begin, int64_t end) {
#if defined(SPARSESR_PAIRS)
  if (taps.pairs) return convolve_row_by<Pairs>(outputs, runs, num_runs, taps, to, begin, end);
#endif
  convolve_row_by<Singles>(outputs, runs, num_runs, taps, to, begin, end);
}

SPARSESR_END_ISA
