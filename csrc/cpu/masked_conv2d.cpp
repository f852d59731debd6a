#include "cpu/masked_conv.h"

SPARSESR_BEGIN_ISA

void packing_rule(const PackingRuleArgs& args) {
  with_math(args.pairs, [&](auto math) {
    *args.rule = {lanes<Wide>(), lanes<Narrow>(), kMaxVectors, decltype(math)::kChannels};
  });
}

// Only the listed pixels are written.
void masked_conv2d(const MaskedConvArgs& args) {
  const Source from = {args.x.data, args.x.row, args.x.pixel, args.height, args.width, args.zeros};
  const Filter filter = {args.weights,      args.side,   args.inputs,
                         args.out_channels, args.inputs, args.inputs};
  const Sink to = {args.out.data, args.out.row,   args.out.pixel,  args.bias,
                   /*add=*/false, /*relu=*/false, /*padded=*/false};
  with_math(args.pairs, [&](auto math) {
    for_each_chunk(args.threads, args.pixels, args.count, [&](const Chunk& chunk) {
      convolve_chunk<decltype(math), Singles, Wide>(from, filter, to, chunk);
    });
  });
}

SPARSESR_END_ISA
