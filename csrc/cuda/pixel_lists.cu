// Pixels by class without a host sync: every warp counts the pixels of its chunk, one block turns
// the counts into places, every warp writes its chunk there. Lists keep the order of the pixels, so
// two runs give the same.
#include "cuda/device.h"
#include "cuda/route_kernels.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr uint32_t kFullWarp = 0xffffffffu;
constexpr int32_t kWarp = 32;
constexpr int32_t kThreads = 256;
constexpr int32_t kScanThreads = 1024;
constexpr int32_t kScanWarps = kScanThreads / kWarp;

static_assert(kMaxRouteClasses < kWarp, "a lane of the warp keeps the count of each bucket");

__device__ __forceinline__ int32_t lane_of_thread() {
  return static_cast<int32_t>(threadIdx.x) % kWarp;
}

__device__ __forceinline__ int32_t chunk_of_warp() {
  return static_cast<int32_t>((blockIdx.x * blockDim.x + threadIdx.x) / kWarp);
}

// Calls body(pixel, bucket) 32 pixels at a time, by whole warps; bucket is -1 beyond the last
// pixel.
template <class Body>
__device__ __forceinline__ void for_each_pixel(const PixelLists& lists, int32_t chunk,
                                               const Body& body) {
  const int64_t first = chunk * kChunkPixels;
  for (int64_t step = 0; step < kChunkPixels && first + step < lists.pixels; step += kWarp) {
    const int64_t pixel = first + step + lane_of_thread();
    int32_t bucket = -1;
    if (pixel < lists.pixels) {
      bucket = min(static_cast<int32_t>(lists.class_map[pixel]), lists.buckets - 1);
    }
    body(static_cast<int32_t>(pixel), bucket);
  }
}

__global__ void __launch_bounds__(kThreads) pixel_lists_count_kernel(PixelLists lists) {
  const int32_t chunk = chunk_of_warp();
  if (chunk >= lists.chunks) return;
  int32_t count = 0;  // of the bucket with this lane's number
  for_each_pixel(lists, chunk, [&](int32_t, int32_t bucket) {
    for (int32_t j = 0; j < lists.buckets; ++j) {
      const int32_t found = __popc(__ballot_sync(kFullWarp, bucket == j));
      if (lane_of_thread() == j) count += found;
    }
  });
  if (lane_of_thread() < lists.buckets) {
    lists.starts[static_cast<int64_t>(lane_of_thread()) * lists.chunks + chunk] = count;
  }
}

// Inclusive sums over the lanes of a warp.
__device__ __forceinline__ int32_t warp_scan(int32_t value) {
#pragma unroll
  for (int32_t step = 1; step < kWarp; step *= 2) {
    const int32_t below = __shfl_up_sync(kFullWarp, value, step);
    if (lane_of_thread() >= step) value += below;
  }
  return value;
}

// Counts become their exclusive sums: one block, of which every thread takes a run of them.
__global__ void __launch_bounds__(kScanThreads) pixel_lists_scan_kernel(PixelLists lists) {
  SIMT_SHARED(int32_t, totals, kScanWarps);
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int64_t entries = static_cast<int64_t>(lists.buckets) * lists.chunks;
  const int64_t run = (entries + kScanThreads - 1) / kScanThreads;
  const int64_t begin = thread * run;
  const int64_t end = min(begin + run, entries);
  int32_t own = 0;
  for (int64_t i = begin; i < end; ++i) own += lists.starts[i];
  const int32_t through = warp_scan(own);
  if (thread % kWarp == kWarp - 1) totals[thread / kWarp] = through;
  __syncthreads();
  const int32_t sums = warp_scan(totals[thread % kWarp]);
  const int32_t warps_before = __shfl_sync(kFullWarp, sums, max(thread / kWarp - 1, 0));
  int32_t start = through - own + (thread < kWarp ? 0 : warps_before);
  for (int64_t i = begin; i < end; ++i) {
    const int32_t count = lists.starts[i];
    lists.starts[i] = start;
    start += count;
  }
  if (thread == 0) lists.starts[entries] = lists.pixels;
}

__global__ void __launch_bounds__(kThreads) pixel_lists_fill_kernel(PixelLists lists) {
  const int32_t chunk = chunk_of_warp();
  if (chunk >= lists.chunks) return;
  const uint32_t below = (1u << lane_of_thread()) - 1u;
  int32_t next = 0;  // place in the bucket with this lane's number
  if (lane_of_thread() < lists.buckets) {
    next = lists.starts[static_cast<int64_t>(lane_of_thread()) * lists.chunks + chunk];
  }
  for_each_pixel(lists, chunk, [&](int32_t pixel, int32_t bucket) {
    for (int32_t j = 0; j < lists.buckets; ++j) {
      const uint32_t found = __ballot_sync(kFullWarp, bucket == j);
      const int32_t start = __shfl_sync(kFullWarp, next, j);
      if (bucket == j) lists.listed[start + __popc(found & below)] = pixel;
      if (lane_of_thread() == j) next += __popc(found);
    }
  });
}

}  // namespace

void launch::list_pixels(const PixelLists& lists, void* stream) {
  constexpr int32_t kWarps = kThreads / kWarp;
  const auto blocks = static_cast<unsigned>((lists.chunks + kWarps - 1) / kWarps);
  SIMT_LAUNCH(pixel_lists_count_kernel, blocks, kThreads, 0, stream, lists);
  SIMT_LAUNCH(pixel_lists_scan_kernel, 1, kScanThreads, 0, stream, lists);
  SIMT_LAUNCH(pixel_lists_fill_kernel, blocks, kThreads, 0, stream, lists);
}

}  // namespace cuda
}  // namespace sparsesr
