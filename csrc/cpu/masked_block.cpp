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
  float* feature = args.features[i % 2];
  LayerMaps maps = {};
  maps.before = i == 0 ? source(args.x.data, args.x.row, args.x.pixel)
                       : source(args.features[(i - 1) % 2], row, args.pitch);
  maps.feature = source(feature, row, args.pitch);
  maps.to_feature = {feature,       row,           args.pitch,     args.zeros,
                     /*add=*/false, /*relu=*/true, /*padded=*/true};
  const bool first = i == 0;
  maps.to_out = {args.out.data,  args.out.row,   args.out.pixel,  first ? args.bias : args.zeros,
                 /*add=*/!first, /*relu=*/false, /*padded=*/false};
  return maps;
}

// The 1x1 convolution will add to these pixels after a 3x3 one, time enough to bring them near.
void fetch_sums(const MaskedBlockArgs& args, const Sink& to, const Chunk& chunk) {
  if (!to.add) return;
  for (int64_t p = 0; p < chunk.count; ++p) {
    fetch(to.data + chunk.pixels[p].y * to.row + chunk.pixels[p].x * to.pixel, args.out_channels);
  }
}

// Active pixels: every output from every input.
void run_active(const MaskedBlockArgs& args, const MaskedLayer& layer, const LayerMaps& maps) {
  const Filter conv = {layer.full,    /*side=*/3,    args.channels,
                       args.channels, args.channels, layer.dense_inputs};
  const Filter collect = {layer.collect,     /*side=*/1,    args.channels,
                          args.out_channels, args.channels, args.channels};
  for_each_chunk(args.threads, args.active, args.num_active, [&](const Chunk& chunk) {
    fetch_sums(args, maps.to_out, chunk);
    convolve_chunk<Wide>(maps.before, conv, maps.to_feature, chunk);
    convolve_chunk<Wide>(maps.feature, collect, maps.to_out, chunk);
  });
}

// What active pixels will read of inactive neighbours' sparse channels. Two layers ago all but that
// layer's dense channels became zero here.
void clear_sparse(const MaskedBlockArgs& args, int64_t i, const Sink& to, const Chunk& chunk) {
  const int64_t begin = args.layers[i].dense_outputs;
  const int64_t end = i < 2 ? args.channels : args.layers[i - 2].dense_outputs;
  if (begin >= end) return;
  for (int64_t p = 0; p < chunk.count; ++p) {
    const ListedPixel& pixel = chunk.pixels[p];
    if (pixel.near == 0) continue;
    std::memset(to.data + pixel.y * to.row + pixel.x * to.pixel + begin, 0,
                (end - begin) * sizeof(float));
  }
}

// Inactive pixels: dense outputs from dense inputs.
template <class Vector>
void run_inactive(const MaskedBlockArgs& args, int64_t i, const LayerMaps& maps) {
  const MaskedLayer& layer = args.layers[i];
  const Filter conv = {layer.dense,         /*side=*/3,         layer.dense_inputs,
                       layer.dense_outputs, layer.dense_inputs, layer.dense_inputs};
  const Filter collect = {layer.collect,     /*side=*/1,          args.channels,
                          args.out_channels, layer.dense_outputs, layer.dense_outputs};
  const bool is_read = i + 1 < args.num_layers;
  const bool collects = layer.dense_outputs > 0 || i == 0;  // the first writes the bias
  if (!is_read && !collects) return;
  for_each_chunk(args.threads, args.inactive, args.num_inactive, [&](const Chunk& chunk) {
    convolve_chunk<Vector>(maps.before, conv, maps.to_feature, chunk);
    if (is_read) clear_sparse(args, i, maps.to_feature, chunk);
    if (collects) convolve_chunk<Wide>(maps.feature, collect, maps.to_out, chunk);
  });
}

}  // namespace

// Layer by layer over the whole map, each followed at once by its share of the 1x1 convolution. A
// pixel's sums have one order, whichever chunk and thread it falls to.
void masked_block(const MaskedBlockArgs& args) {
  for (int64_t i = 0; i < args.num_layers; ++i) {
    const MaskedLayer& layer = args.layers[i];
    const LayerMaps maps = maps_of(args, i);
    run_active(args, layer, maps);
    if (layer.dense_outputs <= lanes<Narrow>()) {
      run_inactive<Narrow>(args, i, maps);
    } else {
      run_inactive<Wide>(args, i, maps);
    }
  }
}

SPARSESR_END_ISA
