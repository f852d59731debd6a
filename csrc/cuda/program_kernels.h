// A program on patches as the kernel takes it: a table of steps over buffers in shared memory, and
// the arguments of a launch. Plain C++; program_plan.cpp writes the table, refine_patches.cu reads
// it.
//
// Shared memory of a block of G patches: a row of zeros, which stands for pixels outside the
// window, then the buffers, each [G][height * width][pitch]. Buffers hold values, channels side by
// side, at the same places for every G but for that factor; channels are rounded up to whole steps
// of a product, with zeros. An odd number of 16-byte vectors lies between pixels, so that eight of
// them in a row are in different banks.
#pragma once

#include <cstdint>

#include "common/tensor_view.h"
#include "cuda/walk.h"

namespace sparsesr {
namespace cuda {

constexpr int32_t kProgramThreads = 256;
constexpr int32_t kProgramWarps = kProgramThreads / 32;
constexpr int32_t kProgramBlocksPerSm = 2;  // what registers must allow
constexpr int32_t kMaxGroupPatches = 8;

// Where a patch lies on the feature map, its window's corner included.
struct PatchTarget {
  int32_t image, top, left;
  bool named;  // by an index on the grid
};

// Shared memory beside the values.
constexpr int64_t kProgramStaticBytes = kMaxGroupPatches * sizeof(PatchTarget);

constexpr int32_t kOutputSet = 16;    // outputs of a product: two of m16n8k16
constexpr int32_t kProductRows = 16;  // pixels of a product

enum class PatchStepKind : int32_t {
  kConv,     // and transposed convolution, whose taps are the table's; ((sum + add) act) * mul
  kPoint,    // ((in * mul) + add) act
  kSelect,   // channels from one or several places
  kSoftmax,  // over channels
  kMean,     // over pixels
  kNearest,
  kResize,
  kClamp,  // crop, and pad by the last row and column
  kShuffle,
  kWrite,  // to the canvas
};

enum class PatchAct : int32_t { kNone, kRelu, kLeaky, kPrelu, kSigmoid, kTanh };

// How an operand covers the pixels and channels of a step.
enum class PatchSpread : int32_t { kPixels, kChannels, kOne };

// A value, or a part of its channels, in shared memory.
struct PatchView {
  int32_t offset;        // bytes, to be multiplied by the patches of a block; < 0: there is none
  int32_t pitch, first;  // bytes between pixels, and to the first channel
  PatchSpread spread;
};

// Channels that a convolution reads: whole steps of them.
struct PatchSegment {
  PatchView view;
  int32_t channels, steps;
};

// kOutputSet outputs of a convolution.
struct PatchOutputs {
  int32_t taps, num_taps;  // in the lists: rows << 16 | columns & 0xffff, relative to the pixel
  int32_t weights;         // where theirs begin: in units of one lane's vector of 16 bytes
  int32_t halves;          // 1 where the last eight are nothing
};

// Places in the lists count int32 words from their beginning.
struct PatchStep {
  PatchStepKind kind;
  int32_t height, width;  // of the result; of a convolution before its pixel shuffle
  FastDivisor by_height, by_width;
  int32_t in_height, in_width;
  int32_t channels;  // of the result
  int32_t vectors;   // 16 bytes each, of a pixel of the result, the rounding included
  FastDivisor by_vectors;
  PatchView in, out, add, mul;  // no out: the canvas
  PatchAct act;
  float slope;
  int32_t slopes;  // of prelu, in the vectors
  // kConv
  int32_t stride;
  int32_t factor;                  // of the pixel shuffle behind it, or of kNearest and kShuffle
  int32_t segments, num_segments;  // in the lists; of kSelect too
  int32_t outputs, num_outputs;    // PatchOutputs in the lists
  int32_t order;    // in the lists, of each output: channel | row << 16 | column << 24
                    // of the shuffle; < 0: nothing
  int32_t bias;     // in the vectors; < 0: none
  uint32_t tiling;  // of each G four bits: tiles - 1 (two), sets - 1
  int32_t tf;       // the order of kShuffle
};

// At the front of a table; steps and lists follow.
struct PatchTableHead {
  int32_t dtype;
  int32_t channels, side;          // of the windows
  int32_t out_channels, out_side;  // of the patches on the canvas
  int32_t num_steps, num_lists;
  int32_t zero_bytes, patch_bytes;  // of shared memory
  int32_t num_weights, num_vectors;
  PatchView input;
  FastDivisor by_side, by_input_vectors;
};

constexpr int32_t words_of(int64_t bytes) { return static_cast<int32_t>(bytes / 4); }
constexpr int32_t kHeadWords = words_of(sizeof(PatchTableHead));
constexpr int32_t kStepWords = words_of(sizeof(PatchStep));

// Strides in elements.
struct PatchMap {
  void* data;
  int64_t image, channel, row, pixel;
};

struct RefinePatchesArgs {
  PatchTableHead head;
  const PatchStep* steps;
  const int32_t* lists;
  const void* weights;  // 16-byte aligned
  const float* vectors;
  PatchMap feature, canvas;
  int32_t height, width;  // of the feature map
  int32_t canvas_height, canvas_width;
  const int32_t* index;
  int32_t slots, cells;
  int32_t patch_size, halo, scale;
  FastDivisor by_k, by_grid_cols;
  bool whole_vectors;  // windows can be read 16 bytes at a time
  int32_t group;       // patches of a block
  int32_t blocks;
};

// Shared memory that a block of the current device has for values.
int64_t room_for_patches();

struct PatchGroups {
  int32_t patches, blocks;
};

// Patches of a block, `wanted` or as many as seem best, and how many blocks there are; no patches
// where the values of so many have no room.
PatchGroups plan_patch_groups(const PatchTableHead& head, int64_t slots, int64_t wanted);

namespace launch {

void refine_patches(const RefinePatchesArgs& args, void* stream);

}  // namespace launch

}  // namespace cuda
}  // namespace sparsesr
