#include "cuda/masked_sums.h"

namespace sparsesr {
namespace cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kTileThreads, kTileBlocksPerSm)
    masked_conv2d_fwd_kernel(MaskedConvArgs args) {
  SIMT_DYN_SHARED(char, shared);
  SIMT_SHARED(uint8_t, pixels, kTilePixels);
  const Tile tile = tile_of(args.grid);
  const PixelList list = list_pixels(args.mask, args.grid, tile, pixels);
  const auto first = static_cast<int32_t>(blockIdx.y) * kBlockOutputs;
  const int32_t end = min(first + kBlockOutputs, args.out.channels);

  TileSums<T> sums;
  clear(sums);
  const Rows inactive = rows_of(list.pixels + list.active, list.inactive);
  store(sums, inactive, args.out, tile, first, end, [](float zero, int32_t) { return zero; });
  if (list.active == 0) return;

  const Rows active = rows_of(list.pixels, list.active);
  const int32_t pitch = whole_steps(args.x.channels);
  const int64_t outputs = whole_steps(args.out.channels);
  const auto* weights = static_cast<const T*>(args.weights);
  const Filter<T> filter = {weights + static_cast<int64_t>(first) * pitch, args.side, pitch,
                            outputs * pitch};
  accumulate(sums, active, args.x, args.grid, tile, filter, pitch, whole_steps(end - first),
             shared);
  const auto* bias = static_cast<const T*>(args.bias);
  store(sums, active, args.out, tile, first, end, [&](float sum, int32_t channel) {
    return bias == nullptr ? sum : sum + Arithmetic<T>::load(bias[channel]);
  });
}

}  // namespace

void launch::masked_conv2d(const MaskedConvArgs& args, void* stream) {
  const dim3 blocks = blocks_over(args.grid, args.out.channels);
  for_computed_dtype(args.dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    auto* masked_conv2d_fwd = masked_conv2d_fwd_kernel<T>;
    SIMT_LAUNCH(masked_conv2d_fwd, blocks, kTileThreads, shared_bytes(args.side), stream, args);
  });
}

}  // namespace cuda
}  // namespace sparsesr
