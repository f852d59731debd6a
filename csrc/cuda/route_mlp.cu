// Every HR pixel through the MLP of its class, in three steps: pixels are listed by class, the
// feature's part of every class's first layer is computed once per LR pixel, and then a warp takes
// 32 pixels of one class through all other layers and adds the enlarged image where they lie. How
// many pixels a class has is known to the device alone: there are warps for the most tiles that
// there could be, and those without one leave.
#include "cuda/device.h"
#include "cuda/pixel_mlp.h"
#include "cuda/route_kernels.h"
#include "cuda/scalar.h"
#include "cuda/windows.h"

#include <algorithm>
#include <cmath>

namespace sparsesr {
namespace cuda {
namespace {

constexpr uint32_t kFullWarp = 0xffffffffu;
constexpr int64_t kMaxWarps = 4;
constexpr int32_t kMaxThreads = 32 * kMaxWarps;
constexpr int kBlocks = 4;      // on a multiprocessor: what registers must allow
constexpr int32_t kVector = 8;  // values of the first layer that a lane adds at once

template <class T>
__device__ __forceinline__ float value_at(const StridedMap& map, int64_t offset) {
  return Arithmetic<T>::load(static_cast<const T*>(map.data)[offset]);
}

__device__ __forceinline__ int32_t warp_of_block() {
  return static_cast<int32_t>(threadIdx.x) / 32;
}

__device__ __forceinline__ int64_t tile_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + warp_of_block();
}

// --- the first layer at LR ---

// Features of 32 LR pixels from `first` on, those beyond the last repeat it. Lanes run along the
// dimension whose elements are adjacent.
template <class T>
__device__ __forceinline__ void load_features(const RouteMlpArgs& args, int64_t first,
                                              int64_t pixels, const PixelValues<T>& to) {
  auto rest = static_cast<uint32_t>(min(first + lane_id(), pixels - 1));
  auto line = static_cast<uint32_t>(divide(rest, args.cols.by_lr));
  const StridedMap& map = args.feature;
  const int64_t own = divide(line, args.rows.by_lr) * map.image + line * map.row + rest * map.pixel;
  const auto whole = static_cast<int32_t>(whole_groups(args.channels));
  if (map.channel != 1) {
    for (int32_t c = 0; c < whole; ++c) {
      to.set(lane_id(), c, c < args.channels ? value_at<T>(map, own + c * map.channel) : 0.0f);
    }
    return;
  }
  for (int32_t pixel = 0; pixel < kTilePixels; ++pixel) {
    const auto offset =
        static_cast<int64_t>(__shfl_sync(kFullWarp, static_cast<long long>(own), pixel));
    for (int32_t c = lane_id(); c < whole; c += 32) {
      to.set(pixel, c, c < args.channels ? value_at<T>(map, offset + c) : 0.0f);
    }
  }
}

// blockIdx.y: the class.
template <class T>
__global__ void __launch_bounds__(kMaxThreads, kBlocks)
    route_mlp_fwd_first_kernel(RouteMlpArgs args) {
  SIMT_DYN_SHARED(char, shared);
  const int64_t pixels = static_cast<int64_t>(args.batch) * args.rows.lr * args.cols.lr;
  const int64_t first = tile_of_warp() * kTilePixels;
  if (first >= pixels) return;
  const PixelValues<T> features(shared + warp_of_block() * args.block.buffer_bytes, args.channels);
  load_features<T>(args, first, pixels, features);
  __syncwarp();
  const auto j = static_cast<int32_t>(blockIdx.y);
  const int32_t width = args.classes[j].widths[0];
  const auto pitch = static_cast<int32_t>(whole_groups(width));
  T* const to = static_cast<T*>(args.classes[j].at_lr);
  const auto store = [&](int32_t pixel, int32_t output, float a, float b) {
    if (first + pixel >= pixels) return;
    const T pair[2] = {Arithmetic<T>::store(output < width ? a : 0.0f),
                       Arithmetic<T>::store(output + 1 < width ? b : 0.0f)};
    memcpy(to + (first + pixel) * pitch + output, pair, sizeof(pair));
  };
  run_layer(features, args.channels, static_cast<const T*>(args.classes[j].weights), nullptr, width,
            store);
}

// --- the other layers ---

// 32 pixels of a bucket, or fewer at its end.
struct Tile {
  int32_t bucket;  // -1: there is no such tile
  int32_t begin, count;
};

__device__ __forceinline__ Tile find_tile(const PixelLists& lists, int64_t tile) {
  for (int32_t j = 0; j < lists.buckets; ++j) {
    int32_t begin = 0;
    int32_t end = lists.pixels;
    if (lists.class_map != nullptr) {
      begin = lists.starts[static_cast<int64_t>(j) * lists.chunks];
      end = lists.starts[static_cast<int64_t>(j + 1) * lists.chunks];
    }
    const int32_t tiles = (end - begin + kTilePixels - 1) / kTilePixels;
    if (tile < tiles) {
      const int32_t first = begin + static_cast<int32_t>(tile) * kTilePixels;
      return {j, first, min(kTilePixels, end - first)};
    }
    tile -= tiles;
  }
  return {-1, 0, 0};
}

// Where a coordinate lies: the nearest LR place, and those between which it is interpolated.
struct Place {
  int32_t near, low, high;
  float part;
};

// Not a number counts as 0: nothing outside the maps is ever read.
__device__ __forceinline__ Place place_on(const RouteAxis& axis, int32_t i) {
  const int32_t last = axis.lr - 1;
  const float inside = fminf(fmaxf(axis.places[i], 0.0f), static_cast<float>(last));
  const auto low = static_cast<int32_t>(inside);
  return {static_cast<int32_t>(rintf(inside)), low, min(low + 1, last),
          inside - static_cast<float>(low)};
}

// This lane's pixel.
struct Target {
  int32_t image, y, x;
  Place row, col;
};

__device__ __forceinline__ Target target_of(const RouteMlpArgs& args, int32_t pixel) {
  auto rest = static_cast<uint32_t>(pixel);
  auto line = static_cast<uint32_t>(divide(rest, args.cols.by_hr));
  const auto x = static_cast<int32_t>(rest);
  const int32_t image = divide(line, args.rows.by_hr);
  const auto y = static_cast<int32_t>(line);
  return {image, y, x, place_on(args.rows, y), place_on(args.cols, x)};
}

// kVector adjacent values at a 16-byte boundary.
template <class T>
__device__ __forceinline__ void load_vector(const T* from, float (&values)[kVector]) {
  constexpr int kWords = kVector * static_cast<int>(sizeof(T)) / 16;
  T elements[kVector];
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    const uint4 word = reinterpret_cast<const uint4*>(from)[w];
    memcpy(reinterpret_cast<char*>(elements) + 16 * w, &word, 16);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) values[i] = Arithmetic<T>::load(elements[i]);
}

// The first layer's values of this lane's pixel, kVector at a time: visit(channel, values).
template <class T, class Visit>
__device__ __forceinline__ void first_layer(const RouteMlpArgs& args, int32_t j,
                                            const Target& target, const Visit& visit) {
  const int64_t pitch = whole_groups(args.classes[j].widths[0]);
  const int64_t line = static_cast<int64_t>(target.image) * args.rows.lr + target.row.near;
  const T* at_lr = static_cast<const T*>(args.classes[j].at_lr) +
                   (line * args.cols.lr + target.col.near) * pitch;
  auto y = static_cast<uint32_t>(target.y);
  auto x = static_cast<uint32_t>(target.x);
  divide(y, args.rows.by_entries);
  divide(x, args.cols.by_entries);
  const T* row = static_cast<const T*>(args.classes[j].row_bias) + y * pitch;
  const T* col = static_cast<const T*>(args.classes[j].col_bias) + x * pitch;
  for (int32_t c = 0; c < pitch; c += kVector) {
    float values[kVector], of_row[kVector], of_col[kVector];
    load_vector(at_lr + c, values);
    load_vector(row + c, of_row);
    load_vector(col + c, of_col);
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[i] += of_row[i] + of_col[i];
    visit(c, values);
  }
}

// The MLP of class j for the warp's pixels: the outputs as float32, [outputs][kPitch], in one of
// the two buffers.
template <class T>
__device__ __forceinline__ const float* run_mlp(const RouteMlpArgs& args, int32_t j,
                                                const Target& target, char* values, char* spare) {
  const int32_t layers = args.classes[j].num_layers;
  int32_t inputs = args.classes[j].widths[0];
  const PixelValues<T> first(values, inputs);
  auto* floats = reinterpret_cast<float*>(values);
  first_layer<T>(args, j, target, [&](int32_t c, const float (&sums)[kVector]) {
#pragma unroll
    for (int i = 0; i < kVector; i += 2) {
      if (layers > 1) {
        first.set_pair(lane_id(), c + i, relu(sums[i]), relu(sums[i + 1]));
      } else {
        floats[(c + i) * kPitch + lane_id()] = sums[i];
        floats[(c + i + 1) * kPitch + lane_id()] = sums[i + 1];
      }
    }
  });
  const T* weights = static_cast<const T*>(args.classes[j].weights) +
                     packed_layer_size(inputs, args.channels, PixelValues<T>::kFragments);
  const float* bias = args.classes[j].bias;
  for (int32_t l = 1; l < layers; ++l) {
    __syncwarp();
    const int32_t outputs = args.classes[j].widths[l];
    const PixelValues<T> from(values, inputs), to(spare, outputs);
    floats = reinterpret_cast<float*>(spare);
    if (l + 1 < layers) {
      run_layer(from, inputs, weights, bias, outputs,
                [&](int32_t pixel, int32_t output, float a, float b) {
                  to.set_pair(pixel, output, output < outputs ? relu(a) : 0.0f,
                              output + 1 < outputs ? relu(b) : 0.0f);
                });
    } else {
      run_layer(from, inputs, weights, bias, outputs,
                [&](int32_t pixel, int32_t output, float a, float b) {
                  floats[output * kPitch + pixel] = a;
                  floats[(output + 1) * kPitch + pixel] = b;
                });
    }
    weights += packed_layer_size(outputs, inputs, PixelValues<T>::kFragments);
    bias += whole_groups(outputs);
    inputs = outputs;
    char* const made = spare;
    spare = values;
    values = made;
  }
  __syncwarp();
  return floats;
}

// The image at this lane's pixel, its border continued.
template <class T>
__device__ __forceinline__ float enlarged(const RouteMlpArgs& args, const Target& target,
                                          int32_t c) {
  const StridedMap& map = args.image;
  if (map.data == nullptr) return 0.0f;
  const int64_t plane = target.image * map.image + c * map.channel;
  const int64_t low = plane + target.row.low * map.row, high = plane + target.row.high * map.row;
  const int64_t left = target.col.low * map.pixel, right = target.col.high * map.pixel;
  const float down = target.row.part, across = target.col.part;
  const float at_left =
      value_at<T>(map, low + left) * (1 - down) + value_at<T>(map, high + left) * down;
  const float at_right =
      value_at<T>(map, low + right) * (1 - down) + value_at<T>(map, high + right) * down;
  return at_left * (1 - across) + at_right * across;
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads, kBlocks)
    route_mlp_fwd_pixels_kernel(RouteMlpArgs args) {
  SIMT_DYN_SHARED(char, shared);
  const Tile tile = find_tile(args.lists, tile_of_warp());
  if (tile.bucket < 0) return;
  const int32_t place = tile.begin + min(lane_id(), tile.count - 1);
  const int32_t pixel = args.lists.class_map == nullptr ? place : args.lists.listed[place];
  const Target target = target_of(args, pixel);
  const float* made = nullptr;
  if (tile.bucket < args.num_classes) {
    char* const values = shared + 2 * warp_of_block() * args.block.buffer_bytes;
    made = run_mlp<T>(args, tile.bucket, target, values, values + args.block.buffer_bytes);
  }
  if (lane_id() >= tile.count) return;
  const StridedMap& out = args.out;
  T* to = static_cast<T*>(out.data) + target.image * out.image + target.y * out.row +
          target.x * out.pixel;
  for (int32_t c = 0; c < args.outputs; ++c) {
    const float own = made == nullptr ? 0.0f : made[c * kPitch + lane_id()];
    to[c * out.channel] = Arithmetic<T>::store(own + enlarged<T>(args, target, c));
  }
}

unsigned blocks_for(int64_t tiles, int32_t warps) {
  return static_cast<unsigned>((tiles + warps - 1) / warps);
}

template <class T>
void launch_for(const RouteMlpArgs& args, void* stream) {
  const auto threads = static_cast<unsigned>(32 * args.block.warps);
  const auto bytes = static_cast<size_t>(args.block.warps) * args.block.buffer_bytes;
  const int64_t lr = int64_t{args.batch} * args.rows.lr * args.cols.lr;
  const unsigned blocks = blocks_for((lr + kTilePixels - 1) / kTilePixels, args.block.warps);
  auto* route_mlp_fwd_first = route_mlp_fwd_first_kernel<T>;
  SIMT_LAUNCH(route_mlp_fwd_first, dim3(blocks, static_cast<unsigned>(args.num_classes)), threads,
              bytes, stream, args);
  // Every bucket may end in a tile that is not full.
  const int64_t tiles = args.lists.pixels / kTilePixels + args.lists.buckets;
  auto* route_mlp_fwd_pixels = route_mlp_fwd_pixels_kernel<T>;
  SIMT_LAUNCH(route_mlp_fwd_pixels, blocks_for(tiles, args.block.warps), threads, 2 * bytes, stream,
              args);
}

}  // namespace

RouteBlock plan_route_block(DType dtype, int64_t widest, int64_t outputs) {
  const int64_t values = dtype == DType::kFloat32 ? PixelValues<float>::bytes(widest)
                                                  : PixelValues<Half>::bytes(widest);
  const int64_t bytes = std::max(values, PixelValues<float>::bytes(outputs));
  const int64_t room = shared_bytes_per_block() / (2 * bytes);
  return {static_cast<int32_t>(std::min(room, kMaxWarps)), static_cast<int32_t>(bytes)};
}

void launch::route_mlp(const RouteMlpArgs& args, void* stream) {
  if (args.lists.class_map != nullptr) list_pixels(args.lists, stream);
  if (args.dtype == DType::kFloat32) return launch_for<float>(args, stream);
  if (args.dtype == DType::kFloat16) return launch_for<Half>(args, stream);
  launch_for<BFloat16>(args, stream);
}

}  // namespace cuda
}  // namespace sparsesr
