#include "cpu/program_layout.h"

#include <algorithm>

namespace sparsesr {
namespace cpu {
namespace {

// Bytes of one thread's rings that a core's share of the last cache holds, about. Measured with 0.5
// MB of second-level cache and a last one of 32 MB for eight cores: an encoder of 52 layers
// takes 7.5 us a pixel with rings of 4 MB or less, 12 with 8 MB.
constexpr int64_t kNearBytes = 4 << 20;

// Rows beyond its own that a convolution reads; none for other steps.
struct Reach {
  int64_t before, after;
};

Reach reach_of(const Program& program, const ProgramStep& step) {
  Reach reach = {0, 0};
  if (step.kind != StepKind::kConv) return reach;
  for (int64_t b = 0; b < step.num_blocks; ++b) {
    const ProgramBlock& block = program.blocks[step.blocks + b];
    reach.before = std::max(reach.before, step.pad - block.top);
    reach.after = std::max(reach.after, block.top + block.down - 1 - step.pad);
  }
  return reach;
}

// The rows in which a step reads an input: of a value, or of its pairs behind all values.
int64_t rows_read(const Program& program, const ProgramStep& step, int64_t value) {
  return step.depth > 1 ? program.num_values + value : value;
}

// Calls body(value, is_input) for all that a step reads.
template <class Body>
void for_reads(const Program& program, const ProgramStep& step, const Body& body) {
  for (int64_t s = 0; s < step.num_reads; ++s) {
    body(program.segments[step.reads + s].value, true);
  }
  if (step.add >= 0) body(step.add, false);
  if (step.mul >= 0) body(step.mul, false);
}

// Floats from one channel to the next: an odd number of cache lines, so that the channels of a
// pixel do not fall into the same few sets of the cache.
int64_t channel_floats(int64_t floats) {
  const int64_t lines = round_up(floats, kLine) / kLine;
  return (lines | 1) * kLine;
}

class PatchLayout {
 public:
  PatchLayout(const Program& program, int64_t lanes) : program_(program), lanes_(lanes) {
    std::vector<int64_t> last(2 * program.num_values, kNever);
    for (int64_t s = 0; s < program.num_steps; ++s) {
      const ProgramStep& step = program.steps[s];
      for_reads(program, step, [&](int64_t value, bool input) {
        last[input ? rows_read(program, step, value) : value] = s;
      });
    }
    last[program.result.value] = program.num_steps;
    layout_.buffers.resize(2 * program.num_values);
    for (int64_t v = 0; v < program.num_values; ++v) {
      const int64_t made = v - 1;  // by this step, while it reads others
      taken_.erase(std::remove_if(taken_.begin(), taken_.end(),
                                  [&](const Taken& other) { return other.last < made; }),
                   taken_.end());
      const int64_t pairs = program.num_values + v;
      const bool packed = last[pairs] != kNever;
      const int64_t channels = program.values[v].channels;
      layout_.buffers[v] = place(v, channels, std::max(last[v], packed ? made : made + 1));
      if (packed) layout_.buffers[pairs] = place(v, channels / 2, last[pairs]);
    }
  }

  const Layout& layout() const { return layout_; }

 private:
  static constexpr int64_t kNever = -1;

  struct Taken {
    int64_t begin, end, last;  // floats; the last step that reads it
  };

  // The first gap that is large enough.
  ProgramBuffer place(int64_t v, int64_t channels, int64_t last) {
    const ProgramValue& value = program_.values[v];
    std::sort(taken_.begin(), taken_.end(),
              [](const Taken& a, const Taken& b) { return a.begin < b.begin; });
    const int64_t margin = value.margin * lanes_, row = value.width * lanes_ + 2 * margin;
    const int64_t channel = channel_floats(value.height * row);
    const int64_t guard = round_up(lanes_, kLine);  // pixels beside a row are loaded, then dropped
    const int64_t size = channels * channel + 2 * guard;
    int64_t begin = 0;
    for (const Taken& other : taken_) {
      if (begin + size <= other.begin) break;
      begin = std::max(begin, other.end);
    }
    taken_.push_back({begin, begin + size, last});
    layout_.size = std::max(layout_.size, begin + size);
    return {begin + guard + margin, value.height, row, channel, margin};
  }

  const Program& program_;
  const int64_t lanes_;
  std::vector<Taken> taken_;
  Layout layout_;
};

}  // namespace

Layout layout_of_patches(const Program& program, int64_t lanes) {
  return PatchLayout(program, lanes).layout();
}

Streaming streaming_of(const Program& program) {
  const auto count = static_cast<size_t>(program.num_values);
  Streaming made;
  made.delays.resize(count);
  made.reaches.resize(2 * count);
  made.rows.resize(count, 1);
  made.rows.resize(2 * count, 0);
  for (int64_t s = 0; s < program.num_steps; ++s) {
    const ProgramStep& step = program.steps[s];
    const Reach reach = reach_of(program, step);
    int64_t& delay = made.delays[step.result];
    for_reads(program, step, [&](int64_t value, bool input) {
      delay = std::max(delay, made.delays[value] + (input ? reach.after : 0));
    });
    for_reads(program, step, [&](int64_t value, bool input) {
      const int64_t behind = delay + (input ? reach.before : 0) - made.delays[value];
      int64_t& rows = made.rows[input ? rows_read(program, step, value) : value];
      rows = std::max(rows, behind + 1);
    });
  }
  for (int64_t s = program.num_steps - 1; s >= 0; --s) {
    const ProgramStep& step = program.steps[s];
    const Reach reach = reach_of(program, step);
    for_reads(program, step, [&](int64_t value, bool input) {
      int64_t* of = &made.reaches[2 * value];
      const int64_t* own = &made.reaches[2 * step.result];
      of[0] = std::max(of[0], own[0] + (input ? reach.before : 0));
      of[1] = std::max(of[1], own[1] + (input ? reach.after : 0));
    });
  }
  return made;
}

Layout layout_of_map(const Program& program, const Streaming& streaming, int64_t columns,
                     int64_t lanes) {
  Layout layout;
  layout.buffers.resize(2 * program.num_values);
  for (int64_t i = 0; i < 2 * program.num_values; ++i) {
    const bool pairs = i >= program.num_values;
    const ProgramValue& value = program.values[i % program.num_values];
    const int64_t margin = round_up(value.margin, lanes);
    const int64_t channel = channel_floats(round_up(columns, lanes) + 2 * margin);
    const int64_t row = value.channels / (pairs ? 2 : 1) * channel;
    const int64_t kept = std::min(streaming.rows[i], value.height);
    layout.buffers[i] = {layout.size + margin, kept, row, channel, margin};
    layout.size += kept * row;
  }
  layout.size += 2 * lanes;  // a strip's last vector may lie across the end
  return layout;
}

int64_t strip_columns(int64_t width, int64_t strips, const Streaming& streaming) {
  const int64_t own = (width + strips - 1) / strips;
  return std::min(width, own + streaming.reaches[0] + streaming.reaches[1]);
}

int64_t strips_of(const Program& program, const Streaming& streaming, int64_t width,
                  int64_t lanes) {
  constexpr double kFar = 1.6;
  constexpr int64_t kMost = 64;
  int64_t best = 1;
  double least = 0;
  for (int64_t strips = 1; strips <= std::min(kMost, width); ++strips) {
    const int64_t columns = strip_columns(width, strips, streaming);
    const int64_t floats = layout_of_map(program, streaming, columns, lanes).size;
    const bool near = floats * static_cast<int64_t>(sizeof(float)) <= kNearBytes;
    const double cost = static_cast<double>(strips * columns) * (near ? 1 : kFar);
    if (strips == 1 || cost < least) {
      best = strips;
      least = cost;
    }
    if (near) break;
  }
  return best;
}

std::vector<ProgramTile> tiles_of(int64_t batch, int64_t height, int64_t width, int64_t strips,
                                  int64_t reach, int threads) {
  const int64_t wanted = (threads + batch * strips - 1) / (batch * strips);
  const int64_t most = std::max<int64_t>(1, height / std::max<int64_t>(1, reach));
  const int64_t bands = std::min(wanted, most);
  std::vector<ProgramTile> tiles;
  for (int64_t image = 0; image < batch; ++image) {
    for (int64_t b = 0; b < bands; ++b) {
      for (int64_t s = 0; s < strips; ++s) {
        tiles.push_back({image, height * b / bands, height * (b + 1) / bands, width * s / strips,
                         width * (s + 1) / strips});
      }
    }
  }
  return tiles;
}

}  // namespace cpu
}  // namespace sparsesr
