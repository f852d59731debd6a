#include "cuda/masked_sums.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr int kTaps = 9;
constexpr int kPackThreads = 256;

// --- packing

// Where channels stand once the dense ones are in front: order[place] is the channel. Returns how
// many are dense. All threads of the block; `order` is shared.
__device__ __forceinline__ int32_t order_channels(const uint8_t* dense, int32_t channels,
                                                  int32_t* order) {
  int32_t count = 0;
  for (int32_t c = 0; c < channels; ++c) count += dense[c] != 0;
  for (auto channel = static_cast<int32_t>(threadIdx.x); channel < channels;
       channel += kPackThreads) {
    int32_t dense_before = 0;
    for (int32_t c = 0; c < channel; ++c) dense_before += dense[c] != 0;
    const bool is_dense = dense[channel] != 0;
    order[is_dense ? dense_before : count + channel - dense_before] = channel;
  }
  return count;
}

// One tap of one layer's 3x3 filter: a weight of `full` and of `dense` for each place.
template <class T>
__device__ __forceinline__ void pack_tap(const PackBlockArgs& args, int32_t layer, int32_t tap,
                                         const int32_t* inputs, int32_t dense_inputs,
                                         const int32_t* outputs, int32_t dense_outputs) {
  const PackedBlock& packed = args.packed;
  const int32_t channels = packed.channels, pitch = packed.pitch;
  const int64_t part = (static_cast<int64_t>(layer) * kTaps + tap) * pitch * pitch;
  T* const full = reinterpret_cast<T*>(packed.full) + part;
  T* const dense = reinterpret_cast<T*>(packed.dense) + part;
  const auto* weights = static_cast<const T*>(args.weights);
  for (auto i = static_cast<int32_t>(threadIdx.x); i < pitch * pitch; i += kPackThreads) {
    const int32_t output = i / pitch, input = i % pitch;
    T weight = {};
    if (output < channels && input < channels) {
      const int64_t filter = static_cast<int64_t>(layer) * channels + outputs[output];
      weight = weights[(filter * channels + inputs[input]) * kTaps + tap];
    }
    full[i] = weight;
    dense[i] = output < dense_outputs && input < dense_inputs ? weight : T{};
  }
}

// One layer's share of the 1x1 filter.
template <class T>
__device__ __forceinline__ void pack_share(const PackBlockArgs& args, int32_t layer,
                                           const int32_t* inputs) {
  const PackedBlock& packed = args.packed;
  const int32_t channels = packed.channels, pitch = packed.pitch;
  const int32_t size = whole_steps(packed.outputs) * pitch;
  T* const share = reinterpret_cast<T*>(packed.collect) + static_cast<int64_t>(layer) * size;
  const auto* collect = static_cast<const T*>(args.collect);
  for (auto i = static_cast<int32_t>(threadIdx.x); i < size; i += kPackThreads) {
    const int32_t output = i / pitch, input = i % pitch;
    T weight = {};
    if (output < packed.outputs && input < channels) {
      const int64_t row = static_cast<int64_t>(output) * packed.layers + layer;
      weight = collect[row * channels + inputs[input]];
    }
    share[i] = weight;
  }
}

// blockIdx.x: layer; blockIdx.y: tap, or the share of the 1x1 filter behind the last.
template <class T>
__global__ void __launch_bounds__(kPackThreads, 4) masked_block_pack_kernel(PackBlockArgs args) {
  SIMT_DYN_SHARED(int32_t, orders);
  const int32_t channels = args.packed.channels;
  const auto layer = static_cast<int32_t>(blockIdx.x), tap = static_cast<int32_t>(blockIdx.y);
  int32_t* const outputs = orders;
  int32_t* const inputs = orders + channels;
  const uint8_t* dense = args.dense + static_cast<int64_t>(layer) * channels;
  const int32_t dense_outputs = order_channels(dense, channels, outputs);
  int32_t dense_inputs = channels;
  if (layer > 0) {
    dense_inputs = order_channels(dense - channels, channels, inputs);
  } else {  // the block's own input keeps its order and is dense everywhere
    for (auto c = static_cast<int32_t>(threadIdx.x); c < channels; c += kPackThreads) inputs[c] = c;
  }
  __syncthreads();
  if (tap < kTaps) {
    return pack_tap<T>(args, layer, tap, inputs, dense_inputs, outputs, dense_outputs);
  }
  pack_share<T>(args, layer, outputs);
  if (threadIdx.x == 0) args.packed.counts[layer] = dense_outputs;
}

// --- layers

__device__ __forceinline__ Pixels features_of(const MaskedBlockArgs& args, int32_t layer) {
  Pixels features = args.features;
  features.data += layer * args.layer;
  return features;
}

__device__ __forceinline__ float relu(float value) { return value < 0.0f ? 0.0f : value; }

// Features of one layer. Active pixels: every output from every input. Others: dense outputs from
// dense inputs; their sparse channels become zero, but where no active pixel is near to read them.
template <class T>
__global__ void __launch_bounds__(kTileThreads, kTileBlocksPerSm)
    masked_block_layer_kernel(MaskedBlockArgs args, int32_t layer) {
  SIMT_DYN_SHARED(char, shared);
  SIMT_SHARED(uint8_t, pixels, kTilePixels);
  const PackedBlock& packed = args.packed;
  const Tile tile = tile_of(args.grid);
  const PixelList list = list_pixels(args.mask, args.grid, tile, pixels);
  const bool is_near = list.active > 0 || any_active_near(args.mask, args.grid, tile);
  const auto first = static_cast<int32_t>(blockIdx.y) * kBlockOutputs;
  const int32_t outputs = min(kBlockOutputs, packed.pitch - first);
  const Pixels before = layer == 0 ? args.x : features_of(args, layer - 1);
  const Pixels features = features_of(args, layer);
  const int64_t part = packed.pitch * (layer * static_cast<int64_t>(kTaps) * packed.pitch + first);
  const auto filter_of = [&](const char* weights) {
    return Filter<T>{reinterpret_cast<const T*>(weights) + part, 3, packed.pitch,
                     static_cast<int64_t>(packed.pitch) * packed.pitch};
  };
  const auto finish = [](float sum, int32_t) { return relu(sum); };

  TileSums<T> sums;
  if (list.active > 0) {
    const Rows rows = rows_of(list.pixels, list.active);
    clear(sums);
    accumulate(sums, rows, before, args.grid, tile, filter_of(packed.full), packed.pitch, outputs,
               shared);
    store(sums, rows, features, tile, first, first + outputs, finish);
  }
  if (list.inactive == 0) return;
  const int32_t dense_inputs = whole_steps(layer == 0 ? packed.channels : packed.counts[layer - 1]);
  const int32_t dense_outputs = min(whole_steps(packed.counts[layer]) - first, outputs);
  const int32_t written = is_near ? outputs : dense_outputs;
  if (written <= 0) return;
  const Rows rows = rows_of(list.pixels + list.active, list.inactive);
  clear(sums);
  if (dense_outputs > 0) {
    accumulate(sums, rows, before, args.grid, tile, filter_of(packed.dense), dense_inputs,
               dense_outputs, shared);
  }
  store(sums, rows, features, tile, first, first + written, finish);
}

// --- the 1x1 filter over the features of all layers

// `whole`: all channels, else a pixel's dense ones.
template <class T>
__device__ __forceinline__ void collect_rows(const MaskedBlockArgs& args, const Tile& tile,
                                             const Rows& rows, bool whole, char* shared) {
  const PackedBlock& packed = args.packed;
  const auto first = static_cast<int32_t>(blockIdx.y) * kBlockOutputs;
  const int32_t end = min(first + kBlockOutputs, packed.outputs);
  const int64_t share = static_cast<int64_t>(whole_steps(packed.outputs)) * packed.pitch;
  const T* weights =
      reinterpret_cast<const T*>(packed.collect) + static_cast<int64_t>(first) * packed.pitch;
  TileSums<T> sums;
  clear(sums);
  for (int32_t layer = 0; layer < packed.layers; ++layer) {
    const int32_t inputs = whole ? packed.pitch : whole_steps(packed.counts[layer]);
    const Filter<T> filter = {weights + layer * share, 1, packed.pitch, share};
    accumulate(sums, rows, features_of(args, layer), args.grid, tile, filter, inputs,
               whole_steps(end - first), shared);
  }
  const auto* bias = static_cast<const T*>(args.bias);
  store(sums, rows, args.out, tile, first, end, [&](float sum, int32_t channel) {
    return bias == nullptr ? sum : sum + Arithmetic<T>::load(bias[channel]);
  });
}

template <class T>
__global__ void __launch_bounds__(kTileThreads, kTileBlocksPerSm)
    masked_block_collect_kernel(MaskedBlockArgs args) {
  SIMT_DYN_SHARED(char, shared);
  SIMT_SHARED(uint8_t, pixels, kTilePixels);
  const Tile tile = tile_of(args.grid);
  const PixelList list = list_pixels(args.mask, args.grid, tile, pixels);
  const Rows active = rows_of(list.pixels, list.active);
  const Rows inactive = rows_of(list.pixels + list.active, list.inactive);
  if (active.count > 0) collect_rows<T>(args, tile, active, true, shared);
  if (inactive.count > 0) collect_rows<T>(args, tile, inactive, false, shared);
}

template <class T>
void launch_block(const MaskedBlockArgs& args, void* stream) {
  auto* masked_block_layer = masked_block_layer_kernel<T>;
  const dim3 layer_blocks = blocks_over(args.grid, args.packed.pitch);
  for (int32_t layer = 0; layer < args.packed.layers; ++layer) {
    SIMT_LAUNCH(masked_block_layer, layer_blocks, kTileThreads, shared_bytes(3), stream, args,
                layer);
  }
  auto* masked_block_collect = masked_block_collect_kernel<T>;
  const dim3 collect_blocks = blocks_over(args.grid, args.packed.outputs);
  SIMT_LAUNCH(masked_block_collect, collect_blocks, kTileThreads, shared_bytes(1), stream, args);
}

}  // namespace

void launch::pack_block(const PackBlockArgs& args, void* stream) {
  const PackedBlock& packed = args.packed;
  const dim3 blocks(static_cast<unsigned>(packed.layers), kTaps + 1);
  const int64_t shared = 2 * packed.channels * static_cast<int64_t>(sizeof(int32_t));
  for_computed_dtype(args.dtype, [&](auto element) {
    using T = typename decltype(element)::type;
    auto* masked_block_pack = masked_block_pack_kernel<T>;
    SIMT_LAUNCH(masked_block_pack, blocks, kPackThreads, shared, stream, args);
  });
}

void launch::masked_block(const MaskedBlockArgs& args, void* stream) {
  for_computed_dtype(args.dtype, [&](auto element) {
    launch_block<typename decltype(element)::type>(args, stream);
  });
}

}  // namespace cuda
}  // namespace sparsesr
