#include "cpu/masked_conv.h"

SPARSESR_BEGIN_ISA

void packing_rule(const PackingRuleArgs& args) {
  *args.rule = {lanes<Wide>(), lanes<Narrow>(), kMaxVectors};
}

// Only the listed pixels are written.
void masked_conv2d(const MaskedConvArgs& args) {
  const Source from = {args.x.data, args.x.row, args.x.pixel, args.height, args.width, args.zeros};
  const Filter filter = {args.weights,      args.side,        args.in_channels,
                         args.out_channels, args.in_channels, args.in_channels};
  const Sink to = {args.out.data, args.out.row,   args.out.pixel,  args.bias,
                   /*add=*/false, /*relu=*/false, /*padded=*/false};
  for_each_chunk(args.threads, args.pixels, args.count,
                 [&](const Chunk& chunk) { convolve_chunk<Wide>(from, filter, to, chunk); });
}

SPARSESR_END_ISA
