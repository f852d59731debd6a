// A program (sparsesr/ops/_program.py) as the CPU runs it: sizes known, parameters packed,
// concatenations and slices dissolved into the segments that steps read.
//
// Values are float32 rows. On patches a vector holds one pixel of as many patches as there are
// lanes, on a map as many pixels side by side; a step computes its result row by row and the two
// differ in nothing but the distance between neighbouring pixels. Weights are broadcast, so that no
// number of channels is padded and taps that are zero cost nothing. Where the CPU multiplies pairs
// of bfloat16, a value of that type that convolutions read has rows of pairs beside its own.
#pragma once

#include <cstdint>

#include "common/tensor_view.h"

namespace sparsesr {

enum class StepKind : int64_t {
  kConv,
  kAct,  // of one segment or several, one after the other: a copy, too
  kAdd,
  kMul,
  kMean,
  kSoftmax,
  kNearest,
  kResize,
  kPad,
  kCrop,
  kShuffle,
  kCount
};

enum class ActKind : int64_t { kNone, kRelu, kSlope, kSigmoid, kTanh, kCount };

// The following lie in tables of int64 that Python fills (sparsesr/ops/_cpu_programs.py).

struct ProgramValue {
  int64_t channels, height, width;
  int64_t margin;  // pixels of zeros that steps read on both sides
};

// Channels [first, first + count) of a value.
struct ProgramSegment {
  int64_t value, first, count;
};

// Outputs [first, first + outputs) of a convolution, which share their inputs and a rectangle of
// taps. At `constants`: weights [taps down][inputs][taps across][outputs] in units of `depth`
// inputs, then the biases, then the slopes below zero where the activation has some.
struct ProgramBlock {
  int64_t outputs, first;
  int64_t in_first, in_count;
  int64_t top, down, left, across;  // taps
  int64_t constants;
};

struct ProgramStep {
  StepKind kind;
  int64_t result;            // value
  int64_t reads, num_reads;  // segments
  int64_t add, mul;          // values, -1: none
  ActKind act;
  int64_t stride, pad;         // of a convolution, pad: in front
  int64_t blocks, num_blocks;  // of a convolution
  int64_t factor, order;  // of an enlargement; of a shuffle: where its order of channels begins
  int64_t slopes;         // of kAct: constants [channels]
  int64_t depth;          // inputs of a unit of 32 bits: 1 float32, or 2 bfloat16 of a convolution
};

// Where the image comes from: channel [order[(c * factor + dy) * factor + dx]] of a value is pixel
// (dy, dx) of channel c.
struct ProgramResult {
  int64_t value, channels, factor, order;
};

struct Program {
  const ProgramValue* values;
  const ProgramSegment* segments;
  const ProgramBlock* blocks;
  const ProgramStep* steps;
  const int64_t* orders;
  const float* constants;
  int64_t num_values, num_segments, num_blocks, num_steps, num_orders, num_constants;
  ProgramResult result;
};

// Rows of a value in a thread's memory, all counted in floats. Row y lies at slot y % rows, pixel 0
// of its channel 0 at `start`, with a margin on both sides. Rows of pairs have half as many
// channels; `rows` is 0 where no step reads them.
struct ProgramBuffer {
  int64_t start, rows, row, channel, margin;
};

// One image [channels, height, width] of any floating type but float64; strides in bytes.
struct ProgramImage {
  char* data;
  DType dtype;
  int64_t image, channel, row, pixel;
};

struct RefinePatchesArgs {
  Program program;
  const ProgramBuffer* buffers;  // [2, values]: of values, of their pairs
  float* memory;                 // of all threads
  int64_t memory_size;           // of one
  int64_t scratch;               // where the image's rows are put together: [lanes, scratch_pitch]
  int64_t scratch_pitch;
  int64_t blocks, runs;  // room for those of one convolution, in its memory
  ProgramImage feature, canvas;
  int64_t height, width;  // of the feature map
  int64_t scale;
  int64_t patch_size, halo;
  const int32_t* index;  // [batch * k]
  int64_t count, k;      // batch * k
  int threads;
};

// Rows [top, bottom) and columns [left, right) of one image's result, by one thread.
struct ProgramTile {
  int64_t image, top, bottom, left, right;
};

// Patches of a map that somebody else will write: what a program makes of their pixels is not read.
struct ProgramCover {
  const uint8_t* cells;  // [images, rows, cols], or nullptr: none
  int64_t rows, cols, patch_size;
};

struct RunProgramArgs {
  Program program;
  const ProgramBuffer* buffers;  // [2, values]
  const int64_t* delays;         // of every value: rows behind the input
  const int64_t* reaches;  // [values, 2]: rows before and after one of the result that it needs
  float* memory;
  int64_t memory_size;
  int64_t scratch;
  int64_t blocks, runs, stretches;  // room, in a thread's memory
  ProgramImage x, out;
  ProgramCover cover;
  int64_t height, width;
  const ProgramTile* tiles;
  int64_t num_tiles;
  int threads;
};

// What an instruction set wants: lanes of a vector; outputs of a block, and inputs of a unit, at
// most.
struct ProgramRule {
  int64_t lanes, outputs, depth;
};

struct ProgramRuleArgs {
  ProgramRule* rule;  // written
};

// Bytes that a thread wants for each block of a convolution, and for each run of channels that one
// reads.
constexpr int64_t kBlockBytes = 192, kRunBytes = 32;

}  // namespace sparsesr
