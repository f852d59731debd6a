// Convolutions at listed pixels. A register block holds a few pixels, which may lie anywhere, times
// a few vectors of outputs; the inputs of one tap are broadcast one by one against the weights of
// all those outputs, so any number of input channels will do and no im2col is built.
//
// Inputs and weights are read in units of 32 bits: one float32 channel, or two adjacent bfloat16
// ones. `Singles` and `Pairs` say how units multiply and how sums become units again; sums are
// float32.
#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "common/listed_pixel.h"
#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/vectors.h"

SPARSESR_BEGIN_ISA

// kMaxVectors times six pixels, the weights and a broadcast input fill the registers.
#if defined(__AVX512F__)
constexpr int kMaxVectors = 4;
#else
constexpr int kMaxVectors = 2;
#endif

struct Singles {
  static constexpr int64_t kChannels = 1;  // of a unit

  template <class Vector>
  static Vector broadcast(const float* unit) {
    return *unit - Vector{};
  }
  template <class Vector>
  static Vector multiply(Vector sum, Vector input, Vector weight) {
    return sum + input * weight;
  }
  template <class Vector>
  static void store_units(float* to, Vector sums) {
    store(to, sums);
  }
};

#if defined(__AVX512BF16__)
struct Pairs {
  static constexpr int64_t kChannels = 2;

  template <class Vector>
  static Vector broadcast(const float* unit) {
    int32_t bits;
    std::memcpy(&bits, unit, sizeof(bits));
    if constexpr (sizeof(Vector) == sizeof(Wide)) {
      return (Vector)_mm512_set1_epi32(bits);
    } else {
      return (Vector)_mm256_set1_epi32(bits);
    }
  }
  static Wide multiply(Wide sum, Wide input, Wide weight) {
    return (Wide)_mm512_dpbf16_ps((__m512)sum, (__m512bh)input, (__m512bh)weight);
  }
  static Narrow multiply(Narrow sum, Narrow input, Narrow weight) {
    return (Narrow)_mm256_dpbf16_ps((__m256)sum, (__m256bh)input, (__m256bh)weight);
  }
  static void store_units(float* to, Wide sums) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)sums);
    std::memcpy(to, &rounded, sizeof(rounded));
  }
  static void store_units(float* to, Narrow sums) {
    const __m128bh rounded = _mm256_cvtneps_pbh((__m256)sums);
    std::memcpy(to, &rounded, sizeof(rounded));
  }
};
#endif

// Pixels of a block: more where fewer vectors leave registers, and latency to hide.
constexpr int block_pixels(int vectors) { return vectors < kMaxVectors ? 8 : 6; }

// Pixels that are worked on together: whole blocks of either size, and features that stay in the
// first cache until the next convolution reads them.
constexpr int64_t kChunk = 24;

// The map that is read. Channels are adjacent, strides count units; `zeros` is a pixel of zeros.
struct Source {
  const float* data;
  int64_t row, pixel;
  int64_t height, width;
  const float* zeros;
};

// Weights [groups][side * side][inputs][outputs of a group], groups of kMaxVectors vectors, the
// last one narrower. Inputs are units. Of each tap only the first `used` are multiplied, and only
// the first `lean` where no pixel of the block has an active neighbour: the others are zero there.
struct Filter {
  const float* weights;
  int64_t side, inputs, outputs;
  int64_t used, lean;
};

// The map that is written. Totals start with what is there (`add`) or at zero; `bias`, which holds
// whole vectors, is added last, where a rounding costs least. Where the pixels have room for whole
// vectors (`padded`), these are written, zeros in the rest.
// Strides count units, or float32 elements where sums stay such.
struct Sink {
  float* data;
  int64_t row, pixel;
  const float* bias;
  bool add, relu, padded;
};

// One tap: sums += inputs x weights.
template <class Math, class Vector, int kPixels, int kVectors>
__attribute__((always_inline)) inline void multiply_tap(Vector (&sums)[kPixels][kVectors],
                                                        const float* const (&inputs)[kPixels],
                                                        const float* weights, int64_t units) {
  for (int64_t c = 0; c < units; ++c, weights += kVectors * lanes<Vector>()) {
    Vector weight[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) weight[v] = load<Vector>(weights + v * lanes<Vector>());
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
      Vector input = Math::template broadcast<Vector>(inputs[p] + c);
      if (kVectors > 1) SPARSESR_KEEP(input);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[p][v] = Math::multiply(sums[p][v], input, weight[v]);
    }
  }
}

// A part of a list of pixels: `count` <= kChunk to work on, `left` until the list ends.
struct Chunk {
  const ListedPixel* pixels;
  int64_t count, left;
};

// Asks for a pixel that is needed soon. Where it lies need not exist.
inline void fetch(const float* pixel, int64_t units) {
  constexpr int64_t kLine = 16;
  for (int64_t c = 0; c < units; c += kLine) __builtin_prefetch(pixel + c, 0, 2);
}

inline bool is_inside(const Source& from, int64_t y, int64_t x) {
  return y >= 0 && y < from.height && x >= 0 && x < from.width;
}

// All taps of a block: totals += convolution at `pixels`. Every row of taps is summed by itself,
// because the rounding error of one long sum grows with its length. Meanwhile the inputs of the
// next block, whose pixels are at `next`, come into the second cache: listed pixels follow each
// other in no pattern that the hardware could foresee.
template <class Math, class Vector, int kPixels, int kVectors>
__attribute__((always_inline)) inline void multiply_taps(Vector (&totals)[kPixels][kVectors],
                                                         const Source& from, const Filter& filter,
                                                         const float* weights,
                                                         const ListedPixel* const* pixels,
                                                         const float* const* next) {
  const int64_t radius = filter.side / 2;
  const float* centre[kPixels];
  bool interior = true;
  uint32_t near = 0;
  for (int p = 0; p < kPixels; ++p) {
    const int64_t y = pixels[p]->y, x = pixels[p]->x;
    centre[p] = from.data + y * from.row + x * from.pixel;
    interior &= is_inside(from, y - radius, x - radius) && is_inside(from, y + radius, x + radius);
    near |= pixels[p]->near;
  }
  const bool has_lean = filter.lean < filter.used;
  int tap = 0;
  for (int64_t dy = -radius; dy <= radius; ++dy) {
    Vector sums[kPixels][kVectors] = {};
    for (int64_t dx = -radius; dx <= radius; ++dx, ++tap) {
      const int64_t offset = dy * from.row + dx * from.pixel;
      const float* inputs[kPixels];
      for (int p = 0; p < kPixels; ++p) {
        const bool inside = interior || is_inside(from, pixels[p]->y + dy, pixels[p]->x + dx);
        inputs[p] = inside ? centre[p] + offset : from.zeros;
        if (radius > 0) fetch(next[p] + offset, filter.used);
      }
      const bool lean = has_lean && (near >> tap & 1) == 0;
      multiply_tap<Math>(sums, inputs, weights, lean ? filter.lean : filter.used);
      weights += filter.inputs * kVectors * lanes<Vector>();
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) totals[p][v] += sums[p][v];
    }
  }
}

// Where the sums of a register block go, in whole vectors.
template <int kPixels>
struct Ends {
  float* at[kPixels];
  const float* bias;
  bool add, relu;
};

// One register block.
template <class Math, class Store, class Vector, int kPixels, int kVectors>
__attribute__((noinline)) void convolve_block(const Source& from, const Filter& filter,
                                              const float* weights,
                                              const ListedPixel* const* pixels,
                                              const float* const* next, const Ends<kPixels>& to) {
  Vector totals[kPixels][kVectors];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      totals[p][v] = to.add ? load<Vector>(to.at[p] + v * lanes<Vector>()) : Vector{};
    }
  }
  multiply_taps<Math>(totals, from, filter, weights, pixels, next);
  const Vector least = to.relu ? Vector{} : Vector{} - __builtin_inff();
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Vector sum = totals[p][v] + load<Vector>(to.bias + v * lanes<Vector>());
      float* at = to.at[p] + v * lanes<Vector>() / Store::kChannels;
      Store::store_units(at, least > sum ? least : sum);  // NaN stays
    }
  }
}

// One group of outputs. The last block repeats the last pixel.
template <class Math, class Store, class Vector, int kVectors>
inline void convolve_group(const Source& from, const Filter& filter, const float* weights,
                           const Sink& to, int64_t first, const Chunk& chunk) {
  constexpr int kPixels = block_pixels(kVectors);
  constexpr int64_t kOutputs = kVectors * lanes<Vector>();
  const int64_t outputs = filter.outputs - first;
  const bool whole = to.padded || outputs >= kOutputs;
  float aside[kPixels][kOutputs] = {};  // where a pixel has no room for whole vectors
  for (int64_t begin = 0; begin < chunk.count; begin += kPixels) {
    const ListedPixel* block[kPixels];
    const float* next[kPixels];
    float* at[kPixels];
    Ends<kPixels> ends = {{}, to.bias + first, to.add, to.relu};
    for (int64_t p = 0; p < kPixels; ++p) {
      const int64_t here = begin + p, ahead = here + kPixels;
      block[p] = chunk.pixels + (here < chunk.count ? here : chunk.count - 1);
      const ListedPixel& after = chunk.pixels[ahead < chunk.left ? ahead : chunk.left - 1];
      next[p] = from.data + after.y * from.row + after.x * from.pixel;
      at[p] = to.data + block[p]->y * to.row + block[p]->x * to.pixel + first / Store::kChannels;
      ends.at[p] = whole ? at[p] : aside[p];
      if (!whole && to.add) std::memcpy(aside[p], at[p], outputs * sizeof(float));
    }
    convolve_block<Math, Store, Vector, kPixels, kVectors>(from, filter, weights, block, next,
                                                           ends);
    for (int64_t p = 0; p < kPixels && !whole; ++p) {
      std::memcpy(at[p], aside[p], outputs * sizeof(float));
    }
  }
}

// All outputs at the pixels of a chunk. `Store` says whether sums become units.
template <class Math, class Store, class Vector>
inline void convolve_chunk(const Source& from, const Filter& filter, const Sink& to,
                           const Chunk& chunk) {
  const int64_t group = kMaxVectors * lanes<Vector>();
  const float* weights = filter.weights;
  for (int64_t first = 0; first < filter.outputs; first += group) {
    const int64_t left = filter.outputs - first;
    const int64_t vectors = left >= group ? kMaxVectors : (left - 1) / lanes<Vector>() + 1;
    switch (vectors) {
      case 1:
        convolve_group<Math, Store, Vector, 1>(from, filter, weights, to, first, chunk);
        break;
      case 2:
        convolve_group<Math, Store, Vector, 2>(from, filter, weights, to, first, chunk);
        break;
#if defined(__AVX512F__)
      case 3:
        convolve_group<Math, Store, Vector, 3>(from, filter, weights, to, first, chunk);
        break;
      case 4:
        convolve_group<Math, Store, Vector, 4>(from, filter, weights, to, first, chunk);
        break;
#endif
    }
    weights += filter.side * filter.side * filter.inputs * vectors * lanes<Vector>();
  }
}

// Calls body(chunk) for all of a list, shared among threads.
template <class Body>
inline void for_each_chunk(int threads, const ListedPixel* pixels, int64_t count,
                           const Body& body) {
  parallel_for(threads, (count + kChunk - 1) / kChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t left = count - i * kChunk;
      body(Chunk{pixels + i * kChunk, left < kChunk ? left : kChunk, left});
    }
  });
}

// Calls run(math) with the arithmetic of the element type: bfloat16 only where packing_rule() says
// that there is one.
template <class Run>
inline void with_math(bool pairs, const Run& run) {
#if defined(__AVX512BF16__)
  if (pairs) return run(Pairs{});
#endif
  (void)pairs;
  run(Singles{});
}

SPARSESR_END_ISA
