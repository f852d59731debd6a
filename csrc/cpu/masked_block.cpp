#include "cpu/masked_conv.h"

SPARSESR_BEGIN_ISA
namespace {

// What the convolutions of one layer read and write. Features lie in memory with the layer's dense
// channels in front; the sparse ones are zero at inactive pixels beside active ones and undefined
// farther away, where nothing reads them.
struct LayerMaps {
  Source before;   // x, or the features of the layer before
  Source feature;  // this layer's, as the 1x1 convolution reads them
  Sink to_feature, to_out;
};

LayerMaps maps_of(const MaskedBlockArgs& args, int64_t i) {
  const int64_t row = args.width * args.pitch;
  const auto source = [&](const float* data, int64_t row_stride, int64_t pixel_stride) {
    return Source{data, row_stride, pixel_stride, args.height, args.width, args.zeros};
  };
  const bool first = i == 0;
  float* feature = args.features[i % 2];
  LayerMaps maps = {};
  maps.before = first ? source(args.x.data, args.x.row, args.x.pixel)
                      : source(args.features[(i - 1) % 2], row, args.pitch);
  maps.feature = source(feature, row, args.pitch);
  maps.to_feature = {feature,       row,           args.pitch,     args.zeros,
                     /*add=*/false, /*relu=*/true, /*padded=*/true};
  maps.to_out = {args.out.data,  args.out.row,   args.out.pixel,  first ? args.bias : args.zeros,
                 /*add=*/!first, /*relu=*/false, /*padded=*/false};
  return maps;
}

template <class Math>
int64_t units(int64_t channels) {
  return (channels + Math::kChannels - 1) / Math::kChannels;
}

// The 1x1 convolution will add to these pixels after a 3x3 one, time enough to bring them near.
void fetch_sums(const MaskedBlockArgs& args, const Sink& to, const Chunk& chunk) {
  if (!to.add) return;
  for (int64_t p = 0; p < chunk.count; ++p) {
    fetch(to.data + chunk.pixels[p].y * to.row + chunk.pixels[p].x * to.pixel, args.out_channels);
  }
}

// Active pixels: every output from every input.
template <class Math>
void run_active(const MaskedBlockArgs& args, const MaskedLayer& layer, const LayerMaps& maps) {
  const int64_t inputs = units<Math>(args.channels);
  const Filter conv = {layer.full,    /*side=*/3, inputs,
                       args.channels, inputs,     units<Math>(layer.dense_inputs)};
  const Filter collect = {layer.collect, /*side=*/1, inputs, args.out_channels, inputs, inputs};
  for_each_chunk(args.threads, args.active, args.num_active, [&](const Chunk& chunk) {
    fetch_sums(args, maps.to_out, chunk);
    convolve_chunk<Math, Math, Wide>(maps.before, conv, maps.to_feature, chunk);
    convolve_chunk<Math, Singles, Wide>(maps.feature, collect, maps.to_out, chunk);
  });
}

// What active pixels will read of inactive neighbours' sparse channels. Two layers ago all but that
// layer's dense channels became zero here.
template <class Math>
void clear_sparse(const MaskedBlockArgs& args, int64_t i, const Sink& to, const Chunk& chunk) {
  constexpr int64_t kBytes = sizeof(float) / Math::kChannels;  // of a channel
  const int64_t begin = args.layers[i].dense_outputs;
  const int64_t end = i < 2 ? args.channels : args.layers[i - 2].dense_outputs;
  if (begin >= end) return;
  for (int64_t p = 0; p < chunk.count; ++p) {
    const ListedPixel& pixel = chunk.pixels[p];
    if (pixel.near == 0) continue;
    auto* channels = reinterpret_cast<char*>(to.data + pixel.y * to.row + pixel.x * to.pixel);
    std::memset(channels + begin * kBytes, 0, (end - begin) * kBytes);
  }
}

// Inactive pixels: dense outputs from dense inputs. (An odd number of them shares its last unit
// with a sparse channel, which a zero weight meets: of that channel, infinity and NaN get through.)
template <class Math, class Vector>
void run_inactive(const MaskedBlockArgs& args, int64_t i, const LayerMaps& maps) {
  const MaskedLayer& layer = args.layers[i];
  const int64_t inputs = units<Math>(layer.dense_inputs);
  const int64_t collected = units<Math>(layer.dense_outputs);
  const Filter conv = {layer.dense, /*side=*/3, inputs, layer.dense_outputs, inputs, inputs};
  const Filter collect = {layer.collect,     /*side=*/1, units<Math>(args.channels),
                          args.out_channels, collected,  collected};
  const bool is_read = i + 1 < args.num_layers;
  const bool collects = layer.dense_outputs > 0 || i == 0;  // the first writes the bias
  if (!is_read && !collects) return;
  for_each_chunk(args.threads, args.inactive, args.num_inactive, [&](const Chunk& chunk) {
    convolve_chunk<Math, Math, Vector>(maps.before, conv, maps.to_feature, chunk);
    if (is_read) clear_sparse<Math>(args, i, maps.to_feature, chunk);
    if (collects) convolve_chunk<Math, Singles, Wide>(maps.feature, collect, maps.to_out, chunk);
  });
}

template <class Math>
void run(const MaskedBlockArgs& args) {
  for (int64_t i = 0; i < args.num_layers; ++i) {
    const LayerMaps maps = maps_of(args, i);
    run_active<Math>(args, args.layers[i], maps);
    if (args.layers[i].dense_outputs <= lanes<Narrow>()) {
      run_inactive<Math, Narrow>(args, i, maps);
    } else {
      run_inactive<Math, Wide>(args, i, maps);
    }
  }
}

}  // namespace

// Layer by layer over the whole map, each followed at once by its share of the 1x1 convolution. A
// pixel's sums have one order, whichever chunk and thread it falls to.
void masked_block(const MaskedBlockArgs& args) {
  with_math(args.pairs, [&](auto math) { run<decltype(math)>(args); });
}

SPARSESR_END_ISA
