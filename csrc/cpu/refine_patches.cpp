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

// Asks for what the group will write, and for the windows of the next one: both lie scattered, and
// arrive while the group is computed.
void fetch_ahead(const RefinePatchesArgs& args, const Frame& frame, const Group& group,
                 const Group& next) {
  constexpr int64_t kBytes = 64;
  const ProgramValue& input = frame.program.values[0];
  const ProgramImage &feature = args.feature, &canvas = args.canvas;
  const int64_t side = args.scale * args.patch_size;
  for (int64_t l = 0; l < kLanes; ++l) {
    for (int64_t u = 0; u < input.height; ++u) {
      const int64_t y = next.top[l] + u - args.halo;
      if (y < 0 || y >= args.height) continue;
      const char* row = feature.data + next.image[l] * feature.image + y * feature.row +
                        next.left[l] * feature.pixel;
      for (int64_t i = 0; i < input.width * feature.pixel; i += kBytes) {
        __builtin_prefetch(row + i);
      }
    }
    for (int64_t u = 0; u < side; ++u) {
      const int64_t y = args.scale * group.top[l] + u;
      if (y >= args.scale * args.height) break;
      const char* row = canvas.data + group.image[l] * canvas.image + y * canvas.row +
                        args.scale * group.left[l] * canvas.pixel;
      for (int64_t i = 0; i < side * canvas.pixel; i += kBytes) __builtin_prefetch(row + i, 1);
    }
  }
}

void read_windows(const RefinePatchesArgs& args, const Frame& frame, const Group& group) {
  const ProgramImage& feature = args.feature;
  const ProgramValue& input = frame.program.values[0];
  for (int64_t u = 0; u < input.height; ++u) {
    float* row = frame.row(0, u);
    for (int64_t v = 0; v < input.width; ++v) {
      const char* from[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) {
        const int64_t y = group.top[l] + u - args.halo, x = group.left[l] + v - args.halo;
        const bool inside = y >= 0 && y < args.height && x >= 0 && x < args.width;
        from[l] = inside ? feature.data + group.image[l] * feature.image + y * feature.row +
                               x * feature.pixel
                         : nullptr;
      }
      read_pixels(from, feature, input.channels, row + v * kLanes, frame.buffers[0].channel);
    }
    clear_margins(frame, 0, u);
  }
}

// One row of HR pixels of every patch, clipped at the image's border.
void write_row(const RefinePatchesArgs& args, const Frame& frame, const Group& group,
               const PixelPlanes& planes, int64_t y, int64_t dy) {
  const ProgramResult& result = frame.program.result;
  const ProgramImage& canvas = args.canvas;
  const int64_t width = frame.program.values[result.value].width;
  const int64_t height = args.scale * args.height, last = args.scale * args.width;
  float* scratch = frame.memory + args.scratch;
  for (int64_t plane = 0; plane < planes.planes; ++plane) {
    const float* channels[kMostColours];
    list_channels(frame, planes, plane, y, dy, channels);
    for (int64_t x = 0; x < width; ++x) {
      gather_lanes(channels, planes.count, scratch + x * planes.count, args.scratch_pitch);
      for (int64_t j = 0; j < planes.count; ++j) channels[j] += kLanes;
    }
    for (int64_t l = 0; l < group.count; ++l) {
      const int64_t at = args.scale * group.top[l] + y * result.factor + dy;
      const int64_t left = args.scale * group.left[l];
      const int64_t room = (last - left) / result.factor;
      if (at >= height) continue;
      char* to = canvas.data + group.image[l] * canvas.image + at * canvas.row +
                 left * canvas.pixel + (planes.planes == 1 ? 0 : plane * canvas.channel);
      write_elements(scratch + l * args.scratch_pitch, (room < width ? room : width) * planes.count,
                     to, canvas.dtype, planes.step);
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

void program_rule(const ProgramRuleArgs& args) {
  *args.lanes = kLanes;
  *args.outputs = kBlockOutputs;
}

SPARSESR_END_ISA
