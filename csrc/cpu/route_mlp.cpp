#include "cpu/masked_conv.h"
#include "cpu/pixel_mlp.h"

SPARSESR_BEGIN_ISA
namespace {

static_assert(kTile <= kTilePixels, "the workspace of values would be too small");

// What one thread works in.
struct Scratch {
  float* at_lr;
  float* blended;
  float* values;
  float* spare;
  ListedPixel* sources;
  int32_t* targets;  // row, column, row, column, ...
};

Scratch scratch_of(const RouteMlpArgs& args, int thread) {
  float* values = args.values + thread * args.values_size;
  return {args.at_lr + thread * args.at_lr_size,
          args.blended + thread * args.blended_size,
          values,
          values + args.values_size / 2,
          args.sources + thread * args.w,
          args.targets + thread * args.targets_size};
}

// The residual of one HR row, or zeros.
void start_row(const RouteMlpArgs& args, int64_t y, float* blended) {
  const Planes& image = args.image;
  const Place& row = args.rows[y];
  for (int64_t c = 0; c < args.outputs; ++c) {
    float* to = args.out.data + c * args.out.channel + y * args.out.row;
    if (image.data == nullptr) {
      for (int64_t x = 0; x < args.width; ++x) to[x * args.out.pixel] = 0.0f;
      continue;
    }
    const float* low = image.data + c * image.channel + row.low * image.row;
    const float* high = image.data + c * image.channel + row.high * image.row;
    for (int64_t x = 0; x < args.w; ++x) {
      blended[x] = low[x * image.pixel] * (1 - row.part) + high[x * image.pixel] * row.part;
    }
    for (int64_t x = 0; x < args.width; ++x) {
      const Place& col = args.cols[x];
      to[x * args.out.pixel] = blended[col.low] * (1 - col.part) + blended[col.high] * col.part;
    }
  }
}

// The pixels of class j in rows [begin, end): how many there are.
int64_t list_targets(const RouteMlpArgs& args, int64_t j, int64_t begin, int64_t end,
                     int32_t* targets) {
  int64_t count = 0;
  for (int64_t y = begin; y < end; ++y) {
    const uint8_t* classes = args.class_map == nullptr ? nullptr : args.class_map + y * args.width;
    for (int64_t x = 0; x < args.width; ++x) {
      // Written always and kept if it counts: which pixels do is hard to foresee.
      targets[2 * count] = static_cast<int32_t>(y);
      targets[2 * count + 1] = static_cast<int32_t>(x);
      count += classes == nullptr ? j == 0 : classes[x] == j;
    }
  }
  return count;
}

// The LR pixels that these HR pixels of one LR row need, each once.
int64_t list_sources(const RouteMlpArgs& args, const int32_t* targets, int64_t count,
                     ListedPixel* sources) {
  const int32_t row = args.rows[targets[0]].near;
  for (int64_t x = 0; x < args.w; ++x) sources[x] = {row, static_cast<int32_t>(x), 0};
  for (int64_t i = 0; i < count; ++i) sources[args.cols[targets[2 * i + 1]].near].near = 1;
  int64_t needed = 0;
  for (int64_t x = 0; x < args.w; ++x) {
    const ListedPixel source = sources[x];
    sources[needed] = source;
    needed += source.near;
  }
  return needed;
}

// The feature's part of the first layer, for one LR row.
void convolve_sources(const RouteMlpArgs& args, const RouteClass& own, const ListedPixel* sources,
                      int64_t count, float* at_lr) {
  const Source from = {args.feature.data, args.feature.row, args.feature.pixel, args.h, args.w,
                       args.zeros};
  const Filter filter = {own.first, /*side=*/1,    args.channels,
                         own.width, args.channels, args.channels};
  const Sink to = {at_lr,         /*row=*/0,      own.pitch,      args.zeros,
                   /*add=*/false, /*relu=*/false, /*padded=*/true};
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t left = count - begin;
    const Chunk chunk = {sources + begin, left < kChunk ? left : kChunk, left};
    convolve_chunk<Singles, Singles, Wide>(from, filter, to, chunk);
  }
}

// First activations of a tile, [pitch][kTile]; the last pixel fills the tile's last vector.
void fill_tile(const RouteMlpArgs& args, const RouteClass& own, const float* at_lr,
               const int32_t* targets, int64_t count, float* values) {
  constexpr int64_t kLanes = lanes<Wide>();
  const bool activate = own.num_later > 0;
  for (int64_t begin = 0; begin < count; begin += kLanes) {
    const float* parts[kLanes][3];
    for (int64_t i = 0; i < kLanes; ++i) {
      const int64_t p = begin + i < count ? begin + i : count - 1;
      const Place& row = args.rows[targets[2 * p]];
      const Place& col = args.cols[targets[2 * p + 1]];
      parts[i][0] = at_lr + col.near * own.pitch;
      parts[i][1] = own.row_bias + row.entry * own.pitch;
      parts[i][2] = own.col_bias + col.entry * own.pitch;
    }
    for (int64_t n = 0; n < own.pitch; n += kLanes) {
      Wide block[kLanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        const Wide sum = load<Wide>(parts[i][0] + n) +
                         (load<Wide>(parts[i][1] + n) + load<Wide>(parts[i][2] + n));
        block[i] = activate ? relu(sum) : sum;
      }
      transpose(block);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) store(values + (n + i) * kTile + begin, block[i]);
    }
  }
}

void add_tile(const RouteMlpArgs& args, const float* made, const int32_t* targets, int64_t count) {
  const Planes& out = args.out;
  for (int64_t p = 0; p < count; ++p) {
    float* to = out.data + targets[2 * p] * out.row + targets[2 * p + 1] * out.pixel;
    for (int64_t c = 0; c < args.outputs; ++c) to[c * out.channel] += made[c * kTile + p];
  }
}

// HR rows that share their nearest LR row.
void route_rows(const RouteMlpArgs& args, int64_t begin, int64_t end, const Scratch& scratch) {
  for (int64_t y = begin; y < end; ++y) start_row(args, y, scratch.blended);
  for (int64_t j = 0; j < args.num_classes; ++j) {
    const RouteClass& own = args.classes[j];
    const int64_t count = list_targets(args, j, begin, end, scratch.targets);
    if (count == 0) continue;
    const int64_t needed = list_sources(args, scratch.targets, count, scratch.sources);
    convolve_sources(args, own, scratch.sources, needed, scratch.at_lr);
    for (int64_t first = 0; first < count; first += kTile) {
      const int64_t tile = count - first < kTile ? count - first : kTile;
      const int32_t* targets = scratch.targets + 2 * first;
      fill_tile(args, own, scratch.at_lr, targets, tile, scratch.values);
      const float* made = run_layers(scratch.values, scratch.spare, own.later, own.num_later, tile);
      add_tile(args, made, targets, tile);
    }
  }
}

}  // namespace

void route_mlp(const RouteMlpArgs& args) {
  parallel_for(args.threads, args.num_groups, [&](int64_t begin, int64_t end, int thread) {
    const Scratch scratch = scratch_of(args, thread);
    for (int64_t i = begin; i < end; ++i) {
      route_rows(args, args.groups[i], args.groups[i + 1], scratch);
    }
  });
}

SPARSESR_END_ISA
