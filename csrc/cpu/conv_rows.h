// Convolutions over rows of vectors; conv_rows.cpp.
#pragma once

#include "cpu/vector_math.h"

SPARSESR_BEGIN_ISA

// Outputs of a block at most.
#if defined(SPARSESR_VECTORS_OF_16)
constexpr int kBlockOutputs = 12;
#else
constexpr int kBlockOutputs = 6;
#endif

// Inputs whose rows and weights lie behind each other: channels of one value under one row of taps,
// or pairs of them.
struct ConvRun {
  const float* x;  // pixel 0, first tap
  const float* weights;
  int64_t channels, channel;
};

struct ConvTaps {
  int64_t count, step;  // across; floats from one to the next
  int64_t start,
      vector;  // floats before the first vector of outputs, and between two, at the input
  // The first tap of the row's first vector, and the last tap of its last, lie outside the patch:
  // of two taps or three.
  bool skip_first, skip_last;
  bool part;        // the sum is long: what each run adds is summed apart
  int64_t vectors;  // of the row
  bool pairs;       // inputs are pairs
};

struct ConvTarget {
  const float* bias;  // nullptr: the sums are a part of longer ones, and stored side by side
  const float* slopes;
  ActKind act;
  const float* add;  // of the row, or nullptr; then mul
  const float* mul;
  float* out;
  int64_t add_channel, mul_channel, out_channel;
  int64_t start, vector;  // floats before the first vector, and between two, of add, mul and out
  const float* earlier;   // parts of the same sums so far, side by side, or nullptr
};

// Vectors [begin, end) of `outputs` <= kBlockOutputs outputs.
void convolve_row(int64_t outputs, const ConvRun* runs, int64_t num_runs, const ConvTaps& taps,
                  const ConvTarget& to, int64_t begin, int64_t end);

SPARSESR_END_ISA
