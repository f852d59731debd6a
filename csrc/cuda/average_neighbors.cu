#include "cuda/device.h"
#include "cuda/route_kernels.h"
#include "cuda/scalar.h"
#include "cuda/windows.h"

namespace sparsesr {
namespace cuda {
namespace {

// Whether a light pixel not on the frame has enough heavy ones around it.
__device__ __forceinline__ bool is_averaged(const AverageNeighborsArgs& args, int64_t pixel,
                                            int32_t y, int32_t x) {
  if (y < 1 || x < 1 || y + 1 >= args.height || x + 1 >= args.width) return false;
  const uint8_t* classes = args.class_map + pixel;
  if (*classes >= args.first_heavy) return false;
  int32_t heavy = 0;
#pragma unroll
  for (int32_t dy = -1; dy <= 1; ++dy) {
#pragma unroll
    for (int32_t dx = -1; dx <= 1; ++dx) {
      heavy += classes[int64_t{dy} * args.width + dx] >= args.first_heavy;
    }
  }
  return heavy >= args.min_heavy;
}

template <class T>
__device__ __forceinline__ T mean_around(const AverageNeighborsArgs& args, const char* from) {
  Sums<T, T> sums;
  sums.clear();
#pragma unroll
  for (int32_t dy = -1; dy <= 1; ++dy) {
#pragma unroll
    for (int32_t dx = -1; dx <= 1; ++dx) {
      sums.add(load_word<T>(from + dy * args.image_strides[2] + dx * args.image_strides[3]));
    }
  }
  return sums.mean(9);
}

// A thread per pixel.
template <class T>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerSm)
    average_neighbors_fwd_kernel(AverageNeighborsArgs args) {
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= static_cast<int64_t>(args.batch) * args.height * args.width) return;
  auto rest = static_cast<uint32_t>(pixel);
  auto line = static_cast<uint32_t>(divide(rest, args.by_width));
  const auto x = static_cast<int32_t>(rest);
  const int32_t image = divide(line, args.by_height);
  const auto y = static_cast<int32_t>(line);
  const bool averaged = is_averaged(args, pixel, y, x);
  const int64_t* in = args.image_strides;
  const int64_t* to = args.out_strides;
  const char* from = args.image + image * in[0] + y * in[2] + x * in[3];
  char* at = args.out + image * to[0] + y * to[2] + x * to[3];
  for (int32_t c = 0; c < args.channels; ++c) {
    store_word(at, averaged ? mean_around<T>(args, from) : load_word<T>(from));
    from += in[1];
    at += to[1];
  }
}

}  // namespace

void launch::average_neighbors(const AverageNeighborsArgs& args, void* stream) {
  const int64_t pixels = int64_t{args.batch} * args.height * args.width;
  const auto blocks = static_cast<unsigned>((pixels + kBlockThreads - 1) / kBlockThreads);
  for_dtype(args.dtype, [&](auto element) {
    auto* average_neighbors_fwd = average_neighbors_fwd_kernel<typename decltype(element)::type>;
    SIMT_LAUNCH(average_neighbors_fwd, blocks, kBlockThreads, 0, stream, args);
  });
}

}  // namespace cuda
}  // namespace sparsesr
