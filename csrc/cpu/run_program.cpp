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
  finish_row(frame, 0, y);
}

// The first pixel from x on, of those before `end`, that a patch of the cover holds, or none does;
// or `end`.
int64_t next_pixel(const ProgramCover& cover, bool covered, int64_t image, int64_t y, int64_t x,
                   int64_t end) {
  const int64_t p = cover.patch_size;
  const uint8_t* row = cover.cells + (image * cover.rows + y / p) * cover.cols;
  while (x < end && (row[x / p] != 0) != covered) x = (x / p + 1) * p;
  return x < end ? x : end;
}

int64_t next_open(const ProgramCover& cover, int64_t image, int64_t y, int64_t x, int64_t end) {
  return cover.cells == nullptr ? x : next_pixel(cover, /*covered=*/false, image, y, x, end);
}

// Stretches that hold every open pixel of a row, and what they cost: two vectors together less than
// one and one, wherever they lie, a little more where they are not neighbours.
class OpenRow {
 public:
  OpenRow(const RunProgramArgs& args, const Frame& frame, int64_t begin, int64_t chunk)
      : cover_(args.cover),
        begin_(begin),
        computed_(frame.computed(frame.program.result.value)),
        chunk_(chunk),
        stretches_(reinterpret_cast<Stretch*>(frame.memory + args.stretches)) {}

  // Whether that takes less time than the whole row.
  bool list(const ProgramTile& tile, int64_t y) {
    cost_ = count_ = 0;
    alone_ = nullptr;
    for (int64_t x = tile.left; x < tile.right;) {
      x = next_open(cover_, tile.image, y, x, tile.right);
      const int64_t end = next_pixel(cover_, /*covered=*/true, tile.image, y, x, tile.right);
      while (x < end) {
        x += add(x, (end - x + kLanes - 1) / kLanes) * kLanes;
        if (cost_ >= computed_ / kLanes * kPair / 2) return false;
      }
    }
    return true;
  }

  const Stretch* stretches() const { return stretches_; }
  int64_t count() const { return count_; }

 private:
  static constexpr int64_t kPair = 20, kApart = 24, kSingle = 13;

  // From column x on, as many vectors as are wanted and come together; how many that are.
  int64_t add(int64_t x, int64_t wanted) {
    int64_t vectors = wanted < chunk_ ? wanted : chunk_;
    if (vectors > 1) vectors -= vectors % 2;
    const int64_t last = computed_ - vectors * kLanes;  // none ends behind the row
    const int64_t pixel = x - begin_ < last ? x - begin_ : last;
    if (vectors == 1 && alone_ != nullptr) {
      alone_->vectors = 2;
      alone_->apart = static_cast<int32_t>(pixel - alone_->pixel);
      alone_ = nullptr;
      cost_ += kApart - kSingle;
      return 1;
    }
    Stretch& made = stretches_[count_++];
    made = {static_cast<int32_t>(pixel), static_cast<int32_t>(vectors), kLanes};
    if (vectors == 1) alone_ = &made;
    cost_ += vectors == 1 ? kSingle : vectors / 2 * kPair;
    return vectors;
  }

  const ProgramCover& cover_;
  int64_t begin_, computed_, chunk_, cost_ = 0, count_ = 0;
  Stretch* stretches_;
  Stretch* alone_ = nullptr;  // a vector that waits for another
};

// The last step, which makes what is written: only what is not covered, where that saves time.
void compute_open(const RunProgramArgs& args, const Frame& frame, const ProgramTile& tile,
                  const ProgramStep& step, int64_t y, int64_t begin) {
  if (args.cover.cells != nullptr && step.kind == StepKind::kConv) {
    const int64_t chunk = vectors_together(frame, step);
    OpenRow row(args, frame, begin, chunk);
    if (row.list(tile, y)) {
      return convolve_stretches(frame, step, y, row.stretches(), row.count());
    }
  }
  compute_row(frame, step, y);
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
        const int64_t end = width < x + kLanes ? width : x + kLanes;
        const int64_t open =
            next_open(args.cover, tile.image, y, tile.left + x, tile.left + end) - tile.left;
        if (open == end) continue;
        const float* lines[kMostColours];
        for (int64_t j = 0; j < planes.count; ++j) lines[j] = channels[j] + x;
        char* at = to + x * result.factor * out.pixel;
        // Straight to the image where as many pixels follow in the row: lanes write beyond theirs.
        const bool inside = direct && x + 2 * kLanes <= width;
        float* pixels = inside ? reinterpret_cast<float*>(at) : scratch;
        gather_lanes(lines, planes.count, [&](int64_t l) { return pixels + l * planes.count; });
        if (!inside) {
          write_elements(scratch, (end - x) * planes.count, at, out.dtype, planes.step);
        }
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
      if (!wanted(step.result, y)) continue;
      if (s + 1 == program.num_steps && step.result == program.result.value) {
        compute_open(args, frame, tile, step, y, left);
      } else {
        compute_row(frame, step, y);
      }
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
