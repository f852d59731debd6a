#include "cpu/parallel.h"
#include "cpu/program_io.h"

SPARSESR_BEGIN_ISA
namespace {

constexpr int64_t kLanes = lanes<Wide>();

void read_row_of(const RunProgramArgs& args, const Frame& frame, int64_t image, int64_t y) {
  const ProgramImage& x = args.x;
  const char* from = x.data + image * x.image + y * x.row;
  const int64_t channels = frame.program.values[0].channels, channel = frame.buffers[0].channel;
  float* to = frame.row(0, y);
  if (x.pixel == bytes_of(x.dtype)) {
    for (int64_t c = 0; c < channels; ++c) {
      const char* line = from + c * x.channel;
      if (x.dtype == DType::kFloat32) {
        std::memcpy(to + c * channel, line, args.width * 4);
        continue;
      }
      for (int64_t i = 0; i < args.width; ++i) {
        to[c * channel + i] = read_element(line + i * x.pixel, x.dtype);
      }
    }
  } else {
    for (int64_t i = 0; i < args.width; i += kLanes) {
      const char* pixels[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) {
        pixels[l] = i + l < args.width ? from + (i + l) * x.pixel : nullptr;
      }
      read_pixels(pixels, x, channels, to + i, channel);
    }
  }
  clear_margins(frame, 0, y);
}

void write_row_of(const RunProgramArgs& args, const Frame& frame, int64_t image, int64_t y) {
  const ProgramResult& result = frame.program.result;
  const ProgramImage& out = args.out;
  const PixelPlanes planes = planes_of(result, out);
  float* scratch = frame.memory + args.scratch;
  for (int64_t dy = 0; dy < result.factor; ++dy) {
    char* row = out.data + image * out.image + (y * result.factor + dy) * out.row;
    for (int64_t plane = 0; plane < planes.planes; ++plane) {
      const float* channels[kMostColours];
      list_channels(frame, planes, plane, y, dy, channels);
      char* to = row + (planes.planes == 1 ? 0 : plane * out.channel);
      if (planes.count == 1) {
        write_elements(channels[0], args.width, to, out.dtype, out.pixel);
        continue;
      }
      const bool direct = out.dtype == DType::kFloat32 && planes.step == 4;
      for (int64_t x = 0; x < args.width; x += kLanes) {
        char* at = to + x * result.factor * out.pixel;
        // Straight to the image where as many pixels follow in the row: lanes write beyond theirs.
        const bool inside = direct && x + 2 * kLanes <= args.width;
        float* pixels = inside ? reinterpret_cast<float*>(at) : scratch;
        gather_lanes(channels, planes.count, pixels, planes.count);
        if (!inside) {
          const int64_t count = args.width - x < kLanes ? args.width - x : kLanes;
          write_elements(scratch, count * planes.count, at, out.dtype, planes.step);
        }
        for (int64_t j = 0; j < planes.count; ++j) channels[j] += kLanes;
      }
    }
  }
}

// Every value advances by a row at each tick, late enough for what it reads to be there.
void run_band(const RunProgramArgs& args, const Frame& frame, const ProgramBand& band) {
  const Program& program = frame.program;
  const auto wanted = [&](int64_t value, int64_t y) {
    const int64_t low = band.begin - args.reaches[2 * value];
    const int64_t high = band.end + args.reaches[2 * value + 1];
    return y >= (low > 0 ? low : 0) && y < (high < args.height ? high : args.height);
  };
  const int64_t last = args.delays[program.result.value] + band.end;
  const int64_t low = band.begin - args.reaches[0];
  for (int64_t tick = low > 0 ? low : 0; tick < last; ++tick) {
    if (wanted(0, tick)) read_row_of(args, frame, band.image, tick);
    for (int64_t s = 0; s < program.num_steps; ++s) {
      const ProgramStep& step = program.steps[s];
      const int64_t y = tick - args.delays[step.result];
      if (wanted(step.result, y)) compute_row(frame, step, y);
    }
    const int64_t y = tick - args.delays[program.result.value];
    if (y >= band.begin && y < band.end) write_row_of(args, frame, band.image, y);
  }
}

void clear(float* memory, int64_t count) {
  for (int64_t i = 0; i < count; ++i) memory[i] = 0.0f;
}

}  // namespace

void run_program(const RunProgramArgs& args) {
  parallel_for(args.threads, args.num_bands, [&](int64_t begin, int64_t end, int thread) {
    const Frame frame = frame_of(args, thread, /*patches=*/false);
    clear(frame.memory, args.memory_size);  // the margins stay so
    for (int64_t b = begin; b < end; ++b) run_band(args, frame, args.bands[b]);
  });
}

SPARSESR_END_ISA
