// The arguments of the pixel routing kernels, already checked and planned, and the functions that
// launch them. Plain C++.
#pragma once

#include <cstdint>

#include "common/tensor_view.h"
#include "cuda/walk.h"

namespace sparsesr {
namespace cuda {

// What one launch takes along by value.
constexpr int kMaxRouteClasses = 16;
constexpr int kMaxRouteLayers = 12;

#ifdef __CUDACC__
#define SPARSESR_HOST_DEVICE __host__ __device__
#else
#define SPARSESR_HOST_DEVICE
#endif

// Outputs that are computed together: widths are rounded up to whole groups, with zeros.
constexpr int kRouteGroup = 16;

SPARSESR_HOST_DEVICE constexpr int64_t whole_groups(int64_t width) {
  return (width + kRouteGroup - 1) / kRouteGroup * kRouteGroup;
}

// Elements of a layer's packed weights; fragments: as tensor cores take them, in steps of 16
// inputs.
SPARSESR_HOST_DEVICE constexpr int64_t packed_layer_size(int64_t outputs, int64_t inputs,
                                                         bool fragments) {
  return whole_groups(outputs) * (fragments ? whole_groups(inputs) : inputs);
}

// HR pixels by class, in the order of their positions. Bucket j < buckets - 1 is class j; the last
// one takes all others. A chunk is what one warp lists.
struct PixelLists {
  const uint8_t* class_map;  // [pixels]; nullptr: all are of class 0, there are no lists
  int32_t pixels, chunks, buckets;
  int32_t* starts;  // [buckets * chunks + 1]: where a chunk's pixels of a bucket begin, and the end
  int32_t* listed;  // [pixels]
};

constexpr int64_t kChunkPixels = 1024;

// The layers of one class. `weights` holds them all, each as pixel_mlp.h wants it; `bias` those of
// all layers but the first, in whole groups.
struct RouteClass {
  void* at_lr;           // [LR pixels, whole groups]: the feature's part of the first layer
  const void* row_bias;  // [entries, whole groups]
  const void* col_bias;
  const void* weights;
  const float* bias;
  int32_t num_layers;
  int32_t widths[kMaxRouteLayers];  // outputs of each layer
};

// A map [batch, channels, height, width] in any layout; strides in elements.
struct StridedMap {
  void* data;
  int64_t image, channel, row, pixel;
};

// One side of the maps: `places` are the coordinates of HR rows (columns) in LR ones.
struct RouteAxis {
  const float* places;
  int32_t lr, hr;
  FastDivisor by_lr, by_hr, by_entries;
};

// Blocks of the kernels of route_mlp: warps, and the bytes of each of a warp's two buffers. No
// warps where this GPU's shared memory has no room for layers of `widest` outputs.
struct RouteBlock {
  int32_t warps, buffer_bytes;
};

RouteBlock plan_route_block(DType dtype, int64_t widest, int64_t outputs);

struct RouteMlpArgs {
  DType dtype;                     // of the maps, tables and weights: float32, float16 or bfloat16
  StridedMap feature, image, out;  // image.data is nullptr where there is none
  int32_t batch, channels, outputs;
  RouteAxis rows, cols;
  PixelLists lists;
  int32_t num_classes;
  RouteBlock block;
  RouteClass classes[kMaxRouteClasses];
};

// Any strides, in bytes.
struct AverageNeighborsArgs {
  const char* image;
  char* out;
  DType dtype;
  int64_t image_strides[4], out_strides[4];  // image, channel, row, pixel
  const uint8_t* class_map;                  // [batch, height, width]
  int32_t batch, channels, height, width;
  int32_t min_heavy, first_heavy;
  FastDivisor by_height, by_width;
};

// Each queues its kernels on `stream`; there is at least one pixel.
namespace launch {

void list_pixels(const PixelLists& lists, void* stream);
void route_mlp(const RouteMlpArgs& args, void* stream);
void average_neighbors(const AverageNeighborsArgs& args, void* stream);

}  // namespace launch

}  // namespace cuda
}  // namespace sparsesr
