#include "cpu/parallel.h"
#include "cpu/program_io.h"

SPARSESR_BEGIN_ISA
namespace {

constexpr int64_t kLanes = lanes<Wide>();

// The patches of one group; lanes beyond the last repeat it.
struct Group {
  int64_t count;
  int64_t image[kLanes], top[kLanes], left[kLanes];  // corners on the feature map
};

Group group_at(const RefinePatchesArgs& args, int64_t first) {
  const int64_t cols = (args.width + args.patch_size - 1) / args.patch_size;
  const int64_t left = args.count - first;
  Group group = {};
  group.count = left < kLanes ? left : kLanes;
  for (int64_t l = 0; l < kLanes; ++l) {
    const int64_t slot = first + (l < group.count ? l : group.count - 1);
    group.image[l] = slot / args.k;
    group.top[l] = args.index[slot] / cols * args.patch_size;
    group.left[l] = args.index[slot] % cols * args.patch_size;
  }
  return group;
}

// Asks for `count` pixels of a row of every channel, to be read or written.
template <int kWrite>
void fetch_pixels(const ProgramImage& image, const char* row, int64_t count, int64_t channels) {
  constexpr int64_t kBytes = 64;
  const bool planar = image.channel > image.pixel;
  const int64_t planes = planar ? channels : 1;
  for (int64_t c = 0; c < planes; ++c, row += image.channel) {
    const char* end = row + count * image.pixel;
    for (const char* at = row; at < end; at += kBytes) __builtin_prefetch(at, kWrite);
    __builtin_prefetch(end - 1, kWrite);
  }
}

// Asks for what the group will write, and for the windows of the next one: both lie scattered, and
// arrive while the group is computed.
void fetch_ahead(const RefinePatchesArgs& args, const Frame& frame, const Group& group,
                 const Group& next) {
  const ProgramValue& input = frame.program.values[0];
  const ProgramImage &feature = args.feature, &canvas = args.canvas;
  const int64_t side = args.scale * args.patch_size;
  for (int64_t l = 0; l < kLanes; ++l) {
    for (int64_t u = 0; u < input.height; ++u) {
      const int64_t y = next.top[l] + u - args.halo;
      if (y < 0 || y >= args.height) continue;
      const char* row = feature.data + next.image[l] * feature.image + y * feature.row +
                        next.left[l] * feature.pixel;
      fetch_pixels<0>(feature, row, input.width, input.channels);
    }
    for (int64_t u = 0; u < side; ++u) {
      const int64_t y = args.scale * group.top[l] + u;
      if (y >= args.scale * args.height) break;
      const char* row = canvas.data + group.image[l] * canvas.image + y * canvas.row +
                        args.scale * group.left[l] * canvas.pixel;
      fetch_pixels<1>(canvas, row, side, frame.program.result.channels);
    }
  }
}

// Pixel by pixel, all channels of one.
void read_pixels_of(const RefinePatchesArgs& args, const Frame& frame, const Group& group,
                    int64_t u) {
  const ProgramImage& feature = args.feature;
  const ProgramValue& input = frame.program.values[0];
  for (int64_t v = 0; v < input.width; ++v) {
    const char* from[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) {
      const int64_t y = group.top[l] + u - args.halo, x = group.left[l] + v - args.halo;
      const bool inside = y >= 0 && y < args.height && x >= 0 && x < args.width;
      from[l] = inside ? feature.data + group.image[l] * feature.image + y * feature.row +
                             x * feature.pixel
                       : nullptr;
    }
    read_pixels(from, feature, input.channels, frame.row(0, u) + v * kLanes,
                frame.buffers[0].channel);
  }
}

// `count` pixels of a row of the map, from x on, x outside reading as zero.
Wide read_line(const RefinePatchesArgs& args, const char* row, int64_t x, int64_t count) {
  Wide line;
  if (args.feature.dtype == DType::kFloat32 && x >= 0 && x + kLanes <= args.width) {
    std::memcpy(&line, row + x * 4, sizeof(line));
    return line;
  }
  float values[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) {
    if (x + i < 0 || x + i >= args.width) continue;
    values[i] = read_element(row + (x + i) * args.feature.pixel, args.feature.dtype);
  }
  return load<Wide>(values);
}

// Channel by channel, pixels side by side.
void read_lines_of(const RefinePatchesArgs& args, const Frame& frame, const Group& group,
                   int64_t u) {
  const ProgramImage& feature = args.feature;
  const ProgramValue& input = frame.program.values[0];
  float* to = frame.row(0, u);
  for (int64_t c = 0; c < input.channels; ++c, to += frame.buffers[0].channel) {
    for (int64_t v = 0; v < input.width; v += kLanes) {
      const int64_t count = input.width - v < kLanes ? input.width - v : kLanes;
      Wide rows[kLanes];
#pragma GCC unroll 16
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t y = group.top[l] + u - args.halo;
        const char* row =
            feature.data + group.image[l] * feature.image + c * feature.channel + y * feature.row;
        const bool inside = y >= 0 && y < args.height;
        rows[l] = inside ? read_line(args, row, group.left[l] + v - args.halo, count) : Wide{};
      }
      transpose(rows);
      for (int64_t i = 0; i < count; ++i) store(to + (v + i) * kLanes, rows[i]);
    }
  }
}

void read_windows(const RefinePatchesArgs& args, const Frame& frame, const Group& group) {
  const bool lines = args.feature.pixel == bytes_of(args.feature.dtype);
  for (int64_t u = 0; u < frame.program.values[0].height; ++u) {
    if (lines) {
      read_lines_of(args, frame, group, u);
    } else {
      read_pixels_of(args, frame, group, u);
    }
    finish_row(frame, 0, u);
  }
}

// One row of HR pixels of every patch, clipped at the image's border: straight to the image where
// whole vectors of all lanes lie in it.
void write_row(const RefinePatchesArgs& args, const Frame& frame, const Group& group,
               const PixelPlanes& planes, int64_t y, int64_t dy) {
  const ProgramResult& result = frame.program.result;
  const ProgramImage& canvas = args.canvas;
  const int64_t width = frame.program.values[result.value].width;
  const int64_t height = args.scale * args.height, last = args.scale * args.width;
  const int64_t together = planes.count * width <= kMostColours ? width : 1;
  const int64_t values = planes.count * together;
  float* scratch = frame.memory + args.scratch;
  bool direct = canvas.dtype == DType::kFloat32 && planes.step == 4 && values % kLanes == 0;
  char* rows[kLanes];
  for (int64_t l = 0; l < kLanes; ++l) {
    const int64_t at = args.scale * group.top[l] + y * result.factor + dy;
    const int64_t left = args.scale * group.left[l];
    const bool inside = at < height && left + width * result.factor <= last;
    direct = direct && inside;
    rows[l] = canvas.data + group.image[l] * canvas.image + at * canvas.row + left * canvas.pixel;
  }
  for (int64_t plane = 0; plane < planes.planes; ++plane) {
    const float* channels[kMostColours];
    list_channels(frame, planes, plane, y, dy, channels);
    const int64_t colour = planes.planes == 1 ? 0 : plane * canvas.channel;
    for (int64_t x = 0; x < width; x += together) {
      for (int64_t j = planes.count; j < values; ++j) {
        channels[j] = channels[j - planes.count] + kLanes;
      }
      const int64_t before = x * planes.count;
      if (direct) {
        gather_lanes(channels, values, [&](int64_t l) {
          return reinterpret_cast<float*>(rows[l] + colour) + before;
        });
      } else {
        gather_lanes(channels, values,
                     [&](int64_t l) { return scratch + l * args.scratch_pitch + before; });
      }
      for (int64_t j = 0; j < planes.count; ++j) channels[j] += kLanes;
    }
    for (int64_t l = 0; !direct && l < group.count; ++l) {
      const int64_t at = args.scale * group.top[l] + y * result.factor + dy;
      if (at >= height) continue;
      const int64_t room = (last - args.scale * group.left[l]) / result.factor;
      write_elements(scratch + l * args.scratch_pitch, (room < width ? room : width) * planes.count,
                     rows[l] + colour, canvas.dtype, planes.step);
    }
  }
}

void refine_group(const RefinePatchesArgs& args, const Frame& frame, const Group& group) {
  const ProgramResult& result = frame.program.result;
  read_windows(args, frame, group);
  for (int64_t s = 0; s < frame.program.num_steps; ++s) {
    compute_step(frame, frame.program.steps[s]);
  }
  const PixelPlanes planes = planes_of(result, args.canvas);
  for (int64_t y = 0; y < frame.program.values[result.value].height; ++y) {
    for (int64_t dy = 0; dy < result.factor; ++dy) write_row(args, frame, group, planes, y, dy);
  }
}

}  // namespace

void refine_patches(const RefinePatchesArgs& args) {
  const int64_t groups = (args.count + kLanes - 1) / kLanes;
  parallel_for(args.threads, groups, [&](int64_t begin, int64_t end, int thread) {
    const Frame frame = frame_of(args, thread, /*map_width=*/0);
    for (int64_t g = begin; g < end; ++g) {
      const Group group = group_at(args, g * kLanes);
      fetch_ahead(args, frame, group, g + 1 < end ? group_at(args, (g + 1) * kLanes) : group);
      refine_group(args, frame, group);
    }
  });
}

void program_rule(const ProgramRuleArgs& args) { *args.rule = {kLanes, kBlockOutputs, kMostDepth}; }

SPARSESR_END_ISA
