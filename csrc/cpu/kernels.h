// The CPU kernels: plain arguments, already checked, and the table that holds one instruction set's
// variants.
#pragma once

#include <cstdint>

#include "common/patch_geometry.h"
#include "common/tensor_view.h"
#include "cpu/program.h"

namespace sparsesr {

struct ListedPixel;
struct RowBand;

// How a map or a batch of patches [N, C, H, W] is walked: N images of `planes` planes of rows of
// units. A unit is one pixel of all channels where both operands keep channels adjacent (one
// plane), else one element (C planes). All strides count bytes.
struct Lines {
  char* data;
  int64_t image, plane, row, unit;
};

// What the operands of one call have in common.
struct Walk {
  int64_t planes;
  int64_t unit_bytes;  // what one unit holds; a Lines whose `unit` equals it has dense rows
};

// Bytes per column of the map that the kernels over row bands want as workspace, before any sums.
constexpr int64_t kColumnBytes = 16;

struct SelectArgs {
  const char* mask;  // [batch, rows, cols]
  DType dtype;
  int64_t image, row, col;  // strides in bytes
  int64_t batch, rows, cols;
  int64_t k;
  bool largest;
  int32_t* index;  // [batch, k]
  uint32_t* keys;  // workspace [threads, rows * cols]
  int threads;
};

struct GatherArgs {
  PatchGeometry geometry;
  Walk walk;
  Lines map;
  Lines patches;
  const int32_t* index;
  bool fetch_ahead;  // windows come from memory: ask for the next one while copying one
  bool streaming;    // write around the caches: the output is too large to be found there by its
                     // reader
  int threads;
};

struct GatherBackwardArgs {
  PatchGeometry geometry;
  Walk walk;
  DType dtype;
  Lines grad;    // of the patches
  Lines grad_x;  // of the map
  const RowBand* bands;
  int64_t num_bands;
  char* workspace;  // [threads, workspace_bytes]
  int64_t workspace_bytes;
  int threads;
};

struct ScatterArgs {
  PatchGeometry geometry;
  Walk walk;
  DType dtype;
  bool mean;
  Lines canvas;  // read; in place: the same as out
  Lines patches;
  Lines out;
  bool in_place;
  bool streaming;
  const int32_t* index;
  const RowBand* bands;  // none where windows cannot overlap and the canvas is written in place
  int64_t num_bands;
  char* workspace;
  int64_t workspace_bytes;
  int threads;
};

struct ScatterBackwardArgs {
  PatchGeometry geometry;
  Walk walk;
  DType dtype;
  bool mean;
  Lines grad;
  Lines grad_canvas;
  Lines grad_patches;
  const int32_t* index;
  const RowBand* bands;
  int64_t num_bands;
  char* workspace;
  int64_t workspace_bytes;
  int threads;
};

struct SelectGatherArgs {
  SelectArgs select;
  GatherArgs gather;
};

// How the masked convolutions want their weights: outputs in vectors of `lanes`, `vectors` of them
// side by side; where a layer has no more than `narrow` dense outputs, in one vector of that many;
// `depth` inputs make a unit of 32 bits.
struct PackingRule {
  int64_t lanes, narrow, vectors, depth;
};

struct PackingRuleArgs {
  bool pairs;         // of bfloat16; depth 1 is the answer where the variant cannot multiply them
  PackingRule* rule;  // written
};

// One image whose channels are adjacent; strides in units of x, elements of out.
struct PixelMap {
  float* data;
  int64_t row, pixel;
};

struct MaskedConvArgs {
  const ListedPixel* pixels;
  int64_t count;
  int64_t height, width;
  int64_t inputs, out_channels, side;  // inputs: units
  PixelMap x, out;
  const float* weights;  // packed
  const float* bias;     // or zeros: [out_channels], rounded up to whole vectors
  const float* zeros;    // [inputs]
  bool pairs;
  int threads;
};

// Packed weights of one layer; inputs and outputs in the order of the features in memory.
struct MaskedLayer {
  const float* full;     // every output from every input
  const float* dense;    // dense outputs from dense inputs
  const float* collect;  // its share of the 1x1 convolution
  int64_t dense_inputs, dense_outputs;
};

struct MaskedBlockArgs {
  const ListedPixel* active;
  const ListedPixel* inactive;
  int64_t num_active, num_inactive;
  int64_t height, width;
  int64_t channels, out_channels;
  const MaskedLayer* layers;
  int64_t num_layers;
  PixelMap x, out;
  const float* bias;   // or zeros: [out_channels], rounded up to whole vectors
  float* features[2];  // workspaces [height, width, pitch], layers take turns
  int64_t pitch;       // units: those of the channels, rounded up to whole vectors
  const float* zeros;  // [the larger of channels and out_channels], rounded up likewise
  bool pairs;
  int threads;
};

// A layer of a small MLP. Outputs in groups of kMlpOutputs, the last one smaller: weights are
// [groups][inputs][outputs of the group].
constexpr int kMlpOutputs = 6;

struct MlpLayer {
  const float* weights;
  const float* bias;  // [outputs]
  int64_t inputs, outputs;
};

// What the pixels of one class go through. The first layer is a 1x1 convolution at LR, packed as
// that of masked_conv2d; its bias is the sum of an entry for the row and one for the column.
struct RouteClass {
  const float* first;     // packed
  const float* row_bias;  // [entries, pitch]
  const float* col_bias;
  int64_t width, pitch;   // outputs of the first layer; rounded up to whole vectors
  const MlpLayer* later;  // the other layers
  int64_t num_later;
};

// Where a row or a column of HR pixels lies: nearest LR one, entry in the tables of biases, and
// the LR ones between which it is interpolated: (1 - part) * low + part * high.
struct Place {
  int32_t near, entry, low, high;
  float part;
};

// An image [channels, height, width] in any layout.
struct Planes {
  float* data;
  int64_t channel, row, pixel;  // strides in elements
};

struct RouteMlpArgs {
  PixelMap feature;  // [h, w, channels]
  int64_t h, w, channels;
  const uint8_t* class_map;  // [height, width], nullptr sends all to class 0
  const RouteClass* classes;
  int64_t num_classes;
  const Place* rows;  // [height]
  const Place* cols;  // [width]
  int64_t height, width;
  const int32_t* groups;  // first row of each run of rows that share `near`, and the end
  int64_t num_groups;
  Planes image;  // [outputs, h, w], data nullptr for zeros
  Planes out;    // [outputs, height, width]
  int64_t outputs;
  const float* zeros;  // as many as the channels or the largest pitch
  // Workspaces of every thread.
  float* at_lr;          // [w, the largest pitch]
  float* blended;        // [outputs, w]
  float* values;         // two of the most values that a pixel has in a layer, times kTilePixels
  ListedPixel* sources;  // [w]
  int32_t* targets;      // rows and columns of the HR pixels of the longest run of rows
  int64_t at_lr_size, blended_size, values_size, targets_size;  // elements, of one thread
  int threads;
};

constexpr int64_t kTilePixels = 64;  // at most so many pixels go through an MLP together

// `out` is a copy of `image` beforehand. Both have any strides, in bytes.
struct AverageNeighborsArgs {
  const char* image;
  char* out;
  DType dtype;
  int64_t image_strides[4], out_strides[4];  // image, channel, row, pixel
  const uint8_t* class_map;                  // [batch, height, width]
  int64_t batch, channels, height, width;
  int64_t min_heavy, first_heavy;
  uint8_t* heavy;  // per thread [width]
  int threads;
};

// Multiplies and adds in registers, `iterations` times; writes how many floating-point operations
// that were, 0 where the instruction set has no product of bfloat16 pairs.
struct FmaPeakArgs {
  int64_t iterations;
  bool pairs;
  int64_t* operations;  // written
};

// One line per kernel; declarations, the table and its entries all follow from this list.
#define SPARSESR_CPU_KERNELS(X)                    \
  X(select_patches, SelectArgs)                    \
  X(gather_patches, GatherArgs)                    \
  X(gather_patches_backward, GatherBackwardArgs)   \
  X(scatter_patches, ScatterArgs)                  \
  X(scatter_patches_backward, ScatterBackwardArgs) \
  X(select_gather_patches, SelectGatherArgs)       \
  X(packing_rule, PackingRuleArgs)                 \
  X(masked_conv2d, MaskedConvArgs)                 \
  X(masked_block, MaskedBlockArgs)                 \
  X(route_mlp, RouteMlpArgs)                       \
  X(average_neighbors, AverageNeighborsArgs)       \
  X(program_rule, ProgramRuleArgs)                 \
  X(refine_patches, RefinePatchesArgs)             \
  X(run_program, RunProgramArgs)                   \
  X(fma_peak, FmaPeakArgs)

struct CpuKernels {
  const char* isa;
#define SPARSESR_FIELD(name, Args) void (*name)(const Args&);
  SPARSESR_CPU_KERNELS(SPARSESR_FIELD)
#undef SPARSESR_FIELD
};

#define SPARSESR_DECLARE(name, Args) void name(const Args&);
namespace portable {
SPARSESR_CPU_KERNELS(SPARSESR_DECLARE)
}
namespace avx2 {
SPARSESR_CPU_KERNELS(SPARSESR_DECLARE)
}
namespace avx512 {
SPARSESR_CPU_KERNELS(SPARSESR_DECLARE)
}
namespace avx512bf16 {
SPARSESR_CPU_KERNELS(SPARSESR_DECLARE)
}
#undef SPARSESR_DECLARE

}  // namespace sparsesr
