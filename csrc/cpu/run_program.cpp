#include "cpu/parallel.h"
#include "cpu/program_io.h"

SPARSESR_BEGIN_ISA
namespace {

constexpr int64_t kLanes = lanes<Wide>();

// Row y, from column `left` on.
void read_row_of(const RunProgramArgs& args, const Frame& frame, int64_t image, int64_t y,
                 int64_t left) {
  const ProgramImage& x = args.x;
  const char* from = x.data + image * x.image + y * x.row + left * x.pixel;
  const int64_t channels = frame.program.values[0].channels, channel = frame.buffers[0].channel;
  float* to = frame.row(0, y);
  if (x.pixel == bytes_of(x.dtype)) {
    for (int64_t c = 0; c < channels; ++c) {
      const char* line = from + c * x.channel;
      if (x.dtype == DType::kFloat32) {
        std::memcpy(to + c * channel, line, frame.map_width * 4);
        continue;
      }
      for (int64_t i = 0; i < frame.map_width; ++i) {
        to[c * channel + i] = read_element(line + i * x.pixel, x.dtype);
      }
    }
  } else {
    for (int64_t i = 0; i < frame.map_width; i += kLanes) {
      const char* pixels[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) {
        pixels[l] = i + l < frame.map_width ? from + (i + l) * x.pixel : nullptr;
      }
      read_pixels(pixels, x, channels, to + i, channel);
    }
  }
  clear_margins(frame, 0, y);
}

// Row y of a tile, whose columns are computed from `begin` on.
void write_row_of(const RunProgramArgs& args, const Frame& frame, const ProgramTile& tile,
                  int64_t y, int64_t begin) {
  const ProgramResult& result = frame.program.result;
  const int64_t width = tile.right - tile.left, ahead = tile.left - begin;
  const ProgramImage& out = args.out;
  const PixelPlanes planes = planes_of(result, out);
  float* scratch = frame.memory + args.scratch;
  for (int64_t dy = 0; dy < result.factor; ++dy) {
    char* row = out.data + tile.image * out.image + (y * result.factor + dy) * out.row +
                tile.left * result.factor * out.pixel;
    for (int64_t plane = 0; plane < planes.planes; ++plane) {
      const float* channels[kMostColours];
      list_channels(frame, planes, plane, y, dy, channels);
      for (int64_t j = 0; j < planes.count; ++j) channels[j] += ahead;
      char* to = row + (planes.planes == 1 ? 0 : plane * out.channel);
      if (planes.count == 1) {
        write_elements(channels[0], width, to, out.dtype, out.pixel);
        continue;
      }
      const bool direct = out.dtype == DType::kFloat32 && planes.step == 4;
      for (int64_t x = 0; x < width; x += kLanes) {
        char* at = to + x * result.factor * out.pixel;
        // Straight to the image where as many pixels follow in the row: lanes write beyond theirs.
        const bool inside = direct && x + 2 * kLanes <= width;
        float* pixels = inside ? reinterpret_cast<float*>(at) : scratch;
        gather_lanes(channels, planes.count, pixels, planes.count);
        if (!inside) {
          const int64_t count = width - x < kLanes ? width - x : kLanes;
          write_elements(scratch, count * planes.count, at, out.dtype, planes.step);
        }
        for (int64_t j = 0; j < planes.count; ++j) channels[j] += kLanes;
      }
    }
  }
}

// Columns that a tile is computed from; those beyond its own are wrong by what lies outside, as far
// in as the program reaches and no further.
struct Columns {
  int64_t begin, end;
};

Columns columns_of(const RunProgramArgs& args, const ProgramTile& tile) {
  const int64_t begin = tile.left - args.reaches[0], end = tile.right + args.reaches[1];
  return {begin > 0 ? begin : 0, end < args.width ? end : args.width};
}

// Every value advances by a row at each tick, late enough for what it reads to be there.
void run_tile(const RunProgramArgs& args, const Frame& frame, const ProgramTile& tile,
              int64_t left) {
  const Program& program = frame.program;
  const auto wanted = [&](int64_t value, int64_t y) {
    const int64_t low = tile.top - args.reaches[2 * value];
    const int64_t high = tile.bottom + args.reaches[2 * value + 1];
    return y >= (low > 0 ? low : 0) && y < (high < args.height ? high : args.height);
  };
  const int64_t delay = args.delays[program.result.value];
  const int64_t low = tile.top - args.reaches[0];
  for (int64_t tick = low > 0 ? low : 0; tick < delay + tile.bottom; ++tick) {
    if (wanted(0, tick)) read_row_of(args, frame, tile.image, tick, left);
    for (int64_t s = 0; s < program.num_steps; ++s) {
      const ProgramStep& step = program.steps[s];
      const int64_t y = tick - args.delays[step.result];
      if (wanted(step.result, y)) compute_row(frame, step, y);
    }
    const int64_t y = tick - delay;
    if (y >= tile.top && y < tile.bottom) write_row_of(args, frame, tile, y, left);
  }
}

void clear(float* memory, int64_t count) {
  for (int64_t i = 0; i < count; ++i) memory[i] = 0.0f;
}

}  // namespace

void run_program(const RunProgramArgs& args) {
  parallel_for(args.threads, args.num_tiles, [&](int64_t begin, int64_t end, int thread) {
    int64_t width = 0;
    for (int64_t i = begin; i < end; ++i) {
      const Columns columns = columns_of(args, args.tiles[i]);
      const Frame frame = frame_of(args, thread, columns.end - columns.begin);
      // Margins and what lies beyond a row stay zero while tiles are of one width.
      if (frame.map_width != width) clear(frame.memory, args.memory_size);
      width = frame.map_width;
      run_tile(args, frame, args.tiles[i], columns.begin);
    }
  });
}

SPARSESR_END_ISA
