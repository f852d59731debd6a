// Steps of a program, one row of the result at a time.
#pragma once

#include "cpu/conv_rows.h"
#include "cpu/pairs.h"

SPARSESR_BEGIN_ISA

struct RowOfBlock;

// Channels in units of `depth`, which is 1 or 2: a division takes too long where rows are short.
inline int64_t units_of(int64_t channels, int64_t depth) { return channels >> (depth - 1); }

// A thread's values, and room for what the blocks of a convolution read. `pixel`: floats between
// neighbouring pixels; a vector is one pixel of several patches, or several pixels.
struct Frame {
  const Program& program;
  const ProgramBuffer* buffers;
  float* memory;
  int64_t map_width;  // of what is computed of a map; 0: patches
  RowOfBlock* rows;
  ConvRun* runs;

  bool patches() const { return map_width == 0; }
  int64_t pixel() const { return patches() ? lanes<Wide>() : 1; }
  int64_t width(int64_t value) const { return patches() ? program.values[value].width : map_width; }

  // Floats of a row that are computed, whole vectors.
  int64_t computed(int64_t value) const {
    const int64_t floats = width(value) * pixel();
    return (floats + lanes<Wide>() - 1) / lanes<Wide>() * lanes<Wide>();
  }

  float* row(int64_t value, int64_t y) const { return row(buffers[value], y); }
  float* row(const ProgramBuffer& buffer, int64_t y) const {
    return memory + buffer.start + y % buffer.rows * buffer.row;
  }

  // Where a convolution reads a value in units of so many channels.
  const ProgramBuffer& units(int64_t value, int64_t depth) const {
    return buffers[depth > 1 ? program.num_values + value : value];
  }
};

// Zeros around a row: what convolutions read there, and what vectors have written too much.
inline void clear_margins(const Frame& frame, int64_t value, int64_t y) {
  const ProgramBuffer& buffer = frame.buffers[value];
  const ProgramValue& shape = frame.program.values[value];
  const int64_t width = frame.width(value) * frame.pixel();
  const int64_t tail = frame.computed(value) - width;
  if (tail == 0 && buffer.margin == 0) return;
  float* row = frame.row(value, y);
  for (int64_t c = 0; c < shape.channels; ++c, row += buffer.channel) {
    for (int64_t i = 1; frame.patches() && i <= buffer.margin; ++i) row[-i] = 0.0f;
    const int64_t end = width + (frame.patches() ? buffer.margin : tail);
    for (int64_t i = width; i < end; ++i) row[i] = 0.0f;
  }
}

// Rows of pairs, where a convolution reads them. On a map, margins have been zero from the start.
inline void pack_pairs(const Frame& frame, int64_t value, int64_t y) {
#if defined(SPARSESR_PAIRS)
  const ProgramBuffer &from = frame.buffers[value], &to = frame.units(value, /*depth=*/2);
  if (to.rows == 0) return;
  const int64_t margin = frame.patches() ? to.margin : 0;
  const int64_t end = frame.computed(value) + margin;
  const float* even = frame.row(value, y);
  float* pairs = frame.row(to, y);
  for (int64_t c = 0; c + 1 < frame.program.values[value].channels; c += 2) {
    const float* odd = even + from.channel;
    for (int64_t i = -margin; i < end; i += lanes<Wide>()) {
      store(pairs + i, packed(load<Wide>(even + i), load<Wide>(odd + i)));
    }
    even += 2 * from.channel;
    pairs += to.channel;
  }
#else
  (void)frame, (void)value, (void)y;
#endif
}

// What is left to do once a row has been computed or read.
inline void finish_row(const Frame& frame, int64_t value, int64_t y) {
  clear_margins(frame, value, y);
  pack_pairs(frame, value, y);
}

// What a block of outputs reads for row y; rows outside are left out.
inline int64_t list_runs(const Frame& frame, const ProgramStep& step, const ProgramBlock& block,
                         int64_t y, ConvRun* runs) {
  const Program& program = frame.program;
  const int64_t depth = step.depth;
  int64_t count = 0;
  for (int64_t t = 0; t < block.down; ++t) {
    const int64_t at = y * step.stride - step.pad + block.top + t;
    int64_t seen = 0;  // channels of the step's input so far
    for (int64_t s = 0; s < step.num_reads; ++s) {
      const ProgramSegment& segment = program.segments[step.reads + s];
      const int64_t low = seen > block.in_first ? seen : block.in_first;
      const int64_t ends = seen + segment.count, last = block.in_first + block.in_count;
      const int64_t high = ends < last ? ends : last;
      const int64_t before = low - seen;
      seen = ends;
      if (high <= low || at < 0 || at >= program.values[segment.value].height) continue;
      const ProgramBuffer& from = frame.units(segment.value, depth);
      const float* x = frame.row(from, at) +
                       units_of(segment.first + before, depth) * from.channel +
                       (block.left - step.pad) * frame.pixel();
      const int64_t place =
          units_of(t * block.in_count + low - block.in_first, depth) * block.across;
      runs[count++] = {x, program.constants + block.constants + place * block.outputs,
                       units_of(high - low, depth), from.channel};
    }
  }
  return count;
}

// A block of outputs at row y, ready for any of its vectors.
struct RowOfBlock {
  ConvTaps taps;
  ConvTarget to;
  const ConvRun* runs;
  int64_t num_runs, outputs;

  void convolve(int64_t begin, int64_t end) const {
    convolve_row(outputs, runs, num_runs, taps, to, begin, end);
  }

  // Vectors of a map, without a stride, from any pixel on, and as far apart as is said.
  void convolve_at(int64_t pixel, int64_t vectors, int64_t apart) const {
    ConvTaps from = taps;
    ConvTarget target = to;
    from.start = target.start = pixel;
    from.vector = target.vector = apart;
    convolve_row(outputs, runs, num_runs, from, target, 0, vectors);
  }
};

static_assert(sizeof(RowOfBlock) <= kBlockBytes && sizeof(ConvRun) <= kRunBytes,
              "the room for them would be too small");

// What a thread works with: its values, and the room behind them.
template <class Args>
inline Frame frame_of(const Args& args, int thread, int64_t map_width) {
  float* memory = args.memory + thread * args.memory_size;
  return {args.program,
          args.buffers,
          memory,
          map_width,
          reinterpret_cast<RowOfBlock*>(memory + args.blocks),
          reinterpret_cast<ConvRun*>(memory + args.runs)};
}

// `vectors` of them from row y on: more than one row where they lie behind each other.
inline RowOfBlock row_of_block(const Frame& frame, const ProgramStep& step,
                               const ProgramBlock& block, int64_t y, int64_t vectors,
                               ConvRun* runs) {
  const int64_t first = block.left - step.pad;  // of the taps, relative to the pixel
  const int64_t last = first + block.across - 1;
  const bool edges =
      frame.patches() && step.stride == 1 && (block.across == 2 || block.across == 3);
  constexpr int64_t kLong = 300;  // terms
  const bool part = block.down * block.in_count * block.across >= kLong;
  const ConvTaps taps = {
      block.across,         frame.pixel(),      0,    lanes<Wide>() * step.stride,
      edges && first == -1, edges && last == 1, part, vectors,
      step.depth > 1};
  const float* bias =
      frame.program.constants + block.constants +
      block.down * units_of(block.in_count, step.depth) * block.across * block.outputs;
  ConvTarget to = {};
  to.bias = bias;
  to.slopes = bias + block.outputs;
  to.act = step.act;
  to.vector = lanes<Wide>();
  const auto at_block = [&](int64_t value, int64_t& channel) {
    channel = frame.buffers[value].channel;
    return frame.row(value, y) + block.first * channel;
  };
  if (step.add >= 0) to.add = at_block(step.add, to.add_channel);
  if (step.mul >= 0) to.mul = at_block(step.mul, to.mul_channel);
  to.out = at_block(step.result, to.out_channel);
  return {taps, to, runs, list_runs(frame, step, block, y, runs), block.outputs};
}

// Channel c of what a step reads, at row y.
inline const float* read_row(const Frame& frame, const ProgramStep& step, int64_t c, int64_t y) {
  const ProgramSegment* segment = frame.program.segments + step.reads;
  for (; c >= segment->count; ++segment) c -= segment->count;
  return frame.row(segment->value, y) +
         (segment->first + c) * frame.buffers[segment->value].channel;
}

// act, and add and mul with the second operand behind the first; an operand of one row and one
// pixel, or of one channel, serves all.
inline void compute_elements(const Frame& frame, const ProgramStep& step, int64_t y) {
  constexpr int64_t kLanes = lanes<Wide>();
  const ProgramValue& shape = frame.program.values[step.result];
  const int64_t count = frame.computed(step.result), channel = frame.buffers[step.result].channel;
  const bool binary = step.kind != StepKind::kAct;
  const int64_t operand = binary ? step.reads + step.num_reads - 1 : 0;
  const ProgramSegment* second = frame.program.segments + operand;
  const ProgramValue* other = binary ? frame.program.values + second->value : nullptr;
  const bool one = binary && other->height == 1 && other->width == 1;
  float* to = frame.row(step.result, y);
  for (int64_t c = 0; c < shape.channels; ++c, to += channel) {
    const float* from = read_row(frame, step, c, y);
    const float* factor = nullptr;
    if (binary) {
      const int64_t of = second->first + (second->count == 1 ? 0 : c);
      factor = frame.row(second->value, one ? 0 : y) + of * frame.buffers[second->value].channel;
    }
    const float* slope = frame.program.constants + step.slopes + c;
    for (int64_t i = 0; i < count; i += kLanes) {
      const Wide value = load<Wide>(from + i);
      const Wide by = binary ? load<Wide>(factor + (one ? 0 : i)) : Wide{};
      store(to + i, step.kind == StepKind::kAdd   ? value + by
                    : step.kind == StepKind::kMul ? value * by
                                                  : activated(value, step.act, slope));
    }
  }
}

// Rows are summed apart, so that errors do not pile up.
inline void compute_mean(const Frame& frame, const ProgramStep& step) {
  const ProgramSegment& segment = frame.program.segments[step.reads];
  const ProgramValue& shape = frame.program.values[segment.value];
  const auto pixels = static_cast<float>(shape.height * shape.width);
  for (int64_t c = 0; c < frame.program.values[step.result].channels; ++c) {
    Wide total = {};
    for (int64_t y = 0; y < shape.height; ++y) {
      const float* from = read_row(frame, step, c, y);
      Wide sum = {};
      for (int64_t x = 0; x < shape.width; ++x) sum += load<Wide>(from + x * frame.pixel());
      total += sum;
    }
    store(frame.row(step.result, 0) + c * frame.buffers[step.result].channel, total / pixels);
  }
}

inline void compute_softmax(const Frame& frame, const ProgramStep& step, int64_t y) {
  const int64_t channels = frame.program.values[step.result].channels;
  const int64_t channel = frame.buffers[step.result].channel;
  float* to = frame.row(step.result, y);
  for (int64_t i = 0; i < frame.computed(step.result); i += lanes<Wide>()) {
    Wide largest = load<Wide>(read_row(frame, step, 0, y) + i);
    for (int64_t c = 1; c < channels; ++c) {
      const Wide value = load<Wide>(read_row(frame, step, c, y) + i);
      largest = value > largest ? value : largest;
    }
    Wide sum = {};
    for (int64_t c = 0; c < channels; ++c) {
      const Wide value = exponential(load<Wide>(read_row(frame, step, c, y) + i) - largest);
      store(to + c * channel + i, value);
      sum += value;
    }
    for (int64_t c = 0; c < channels; ++c) {
      store(to + c * channel + i, load<Wide>(to + c * channel + i) / sum);
    }
  }
}

// Where a row or column of an enlarged map lies in one of `length`, corners not aligned.
struct Between {
  int64_t low, high;
  float part;
};

inline Between between(int64_t i, int64_t length, int64_t enlarged) {
  const float ratio = static_cast<float>(length) / static_cast<float>(enlarged);
  float at = (static_cast<float>(i) + 0.5f) * ratio - 0.5f;
  at = at > 0.0f ? at : 0.0f;
  const auto low = static_cast<int64_t>(at);
  return {low < length - 1 ? low : length - 1, low + 1 < length ? low + 1 : length - 1,
          at - static_cast<float>(low)};
}

inline void compute_resized(const Frame& frame, const ProgramStep& step, int64_t y) {
  const ProgramValue& from = frame.program.values[frame.program.segments[step.reads].value];
  const ProgramValue& made = frame.program.values[step.result];
  const Between row = between(y, from.height, made.height);
  for (int64_t c = 0; c < made.channels; ++c) {
    const float* low = read_row(frame, step, c, row.low);
    const float* high = read_row(frame, step, c, row.high);
    float* to = frame.row(step.result, y) + c * frame.buffers[step.result].channel;
    for (int64_t x = 0; x < made.width; ++x) {
      const Between col = between(x, from.width, made.width);
      const auto blend = [&](const float* line) {
        return load<Wide>(line + col.low * frame.pixel()) * (1.0f - col.part) +
               load<Wide>(line + col.high * frame.pixel()) * col.part;
      };
      store(to + x * frame.pixel(), blend(low) * (1.0f - row.part) + blend(high) * row.part);
    }
  }
}

// nearest, pad, crop and shuffle: every pixel is a copy of another.
inline void copy_pixels(const Frame& frame, const ProgramStep& step, int64_t y) {
  const ProgramValue& from = frame.program.values[frame.program.segments[step.reads].value];
  const ProgramValue& made = frame.program.values[step.result];
  const int64_t factor = step.factor;
  const bool shuffles = step.kind == StepKind::kShuffle;
  const int64_t wanted = y / factor, source_y = wanted < from.height ? wanted : from.height - 1;
  for (int64_t c = 0; c < made.channels; ++c) {
    float* to = frame.row(step.result, y) + c * frame.buffers[step.result].channel;
    for (int64_t phase = 0; phase < factor; ++phase) {
      const int64_t* order = frame.program.orders + step.order;
      const int64_t channel = shuffles ? order[(c * factor + y % factor) * factor + phase] : c;
      const float* line = read_row(frame, step, channel, source_y);
      for (int64_t x = phase; x < made.width; x += factor) {
        const int64_t source = x / factor < from.width ? x / factor : from.width - 1;
        store(to + x * frame.pixel(), load<Wide>(line + source * frame.pixel()));
      }
    }
  }
}

// Asks for what a convolution reads for pixels [first, last) of row y. The rows of a map's values
// lie too far apart to be foreseen by the CPU, and too many between two uses to stay near.
inline void fetch_chunk(const Frame& frame, const ProgramStep& step, int64_t down, int64_t y,
                        int64_t first, int64_t last) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(float));
  for (int64_t s = 0; s < step.num_reads; ++s) {
    const ProgramSegment& segment = frame.program.segments[step.reads + s];
    const ProgramBuffer& from = frame.units(segment.value, step.depth);
    for (int64_t t = 0; t < down; ++t) {
      const int64_t at = y - step.pad + t;
      if (at < 0 || at >= frame.program.values[segment.value].height) continue;
      const float* row = frame.row(from, at) + units_of(segment.first, step.depth) * from.channel;
      for (int64_t c = 0; c < segment.count; c += step.depth, row += from.channel) {
        for (int64_t i = first; i < last; i += kLine) __builtin_prefetch(row + i, 0, 3);
      }
    }
  }
}

// Vectors that are computed together: few enough for what they read to stay in the innermost cache,
// and what register blocks take where there can be that many.
inline int64_t vectors_together(const Frame& frame, const ProgramStep& step) {
  constexpr int64_t kBytes = 12 * 1024;
  const ProgramBlock& block = frame.program.blocks[step.blocks];
  const int64_t units = units_of(block.in_count, step.depth);
  const int64_t fits = kBytes / (units * block.down * static_cast<int64_t>(sizeof(Wide)));
  return fits >= 12 ? fits / 12 * 12 : fits >= 6 ? 6 : fits >= 4 ? 4 : 2;
}

// All blocks of a convolution at row y of a map; how many rows they read.
inline int64_t prepare_blocks(const Frame& frame, const ProgramStep& step, int64_t y,
                              int64_t vectors) {
  const ProgramBlock* blocks = frame.program.blocks + step.blocks;
  ConvRun* runs = frame.runs;
  int64_t down = 0;
  for (int64_t b = 0; b < step.num_blocks; ++b) {
    frame.rows[b] = row_of_block(frame, step, blocks[b], y, vectors, runs);
    runs += frame.rows[b].num_runs;
    const int64_t rows = blocks[b].top + blocks[b].down;
    down = rows > down ? rows : down;
  }
  return down;
}

// A row of a map: all outputs of a few pixels before the next, so that what they read stays near
// while the weights go by.
inline void convolve_in_chunks(const Frame& frame, const ProgramStep& step, int64_t y) {
  constexpr int64_t kLanes = lanes<Wide>();
  const int64_t vectors = frame.computed(step.result) / kLanes;
  const int64_t chunk = vectors_together(frame, step);
  const int64_t down = prepare_blocks(frame, step, y, vectors);
  for (int64_t begin = 0; begin < vectors; begin += chunk) {
    const int64_t end = vectors - begin < chunk ? vectors : begin + chunk;
    const int64_t next = vectors - end < chunk ? vectors : end + chunk;
    fetch_chunk(frame, step, down, y, end * kLanes, next * kLanes);
    for (int64_t b = 0; b < step.num_blocks; ++b) frame.rows[b].convolve(begin, end);
  }
}

// Vectors from a pixel on, and the pixels from one to the next: those of one, where they lie behind
// each other, or of two, anything.
struct Stretch {
  int32_t pixel, vectors, apart;
};

// Parts of a row of a map, none longer than what is computed together.
inline void convolve_stretches(const Frame& frame, const ProgramStep& step, int64_t y,
                               const Stretch* stretches, int64_t count) {
  const int64_t down = prepare_blocks(frame, step, y, frame.computed(step.result) / lanes<Wide>());
  for (int64_t i = 0; i < count; ++i) {
    const Stretch now = stretches[i];
    const Stretch next = i + 1 < count ? stretches[i + 1] : Stretch{};
    for (int64_t v = 0; v < next.vectors; ++v) {
      const int64_t first = next.pixel + v * next.apart;
      fetch_chunk(frame, step, down, y, first, first + lanes<Wide>());
    }
    for (int64_t b = 0; b < step.num_blocks; ++b) {
      frame.rows[b].convolve_at(now.pixel, now.vectors, now.apart);
    }
  }
}

inline void compute_row(const Frame& frame, const ProgramStep& step, int64_t y) {
  switch (step.kind) {
    case StepKind::kConv:
      convolve_in_chunks(frame, step, y);
      break;
    case StepKind::kAct:
    case StepKind::kAdd:
    case StepKind::kMul:
      compute_elements(frame, step, y);
      break;
    case StepKind::kMean:
      compute_mean(frame, step);
      break;
    case StepKind::kSoftmax:
      compute_softmax(frame, step, y);
      break;
    case StepKind::kResize:
      compute_resized(frame, step, y);
      break;
    default:
      copy_pixels(frame, step, y);
  }
  finish_row(frame, step.result, y);
}

// Whether a step computes every pixel from the same pixel of values without margins, so that all
// rows of a patch are as good as one.
inline bool rows_join(const Frame& frame, const ProgramStep& step) {
  const auto joins = [&](int64_t value) { return frame.buffers[value].margin == 0; };
  bool all = joins(step.result) && step.stride == 1;
  for (int64_t s = 0; s < step.num_reads; ++s) {
    all = all && joins(frame.program.segments[step.reads + s].value);
  }
  if (step.add >= 0) all = all && joins(step.add);
  if (step.mul >= 0) all = all && joins(step.mul);
  for (int64_t b = 0; b < step.num_blocks; ++b) {
    const ProgramBlock& block = frame.program.blocks[step.blocks + b];
    all = all && block.down == 1 && block.across == 1 && block.top == step.pad &&
          block.left == step.pad;
  }
  return all;
}

// All rows of patches. A convolution's weights stay in cache while its rows go by.
inline void compute_step(const Frame& frame, const ProgramStep& step) {
  const ProgramValue& made = frame.program.values[step.result];
  if (step.kind != StepKind::kConv) {
    for (int64_t y = 0; y < made.height; ++y) compute_row(frame, step, y);
    return;
  }
  const bool joined = rows_join(frame, step);
  const int64_t rows = joined ? 1 : made.height;
  const int64_t vectors = joined ? made.height * made.width : made.width;
  for (int64_t b = 0; b < step.num_blocks; ++b) {
    const ProgramBlock& block = frame.program.blocks[step.blocks + b];
    for (int64_t y = 0; y < rows; ++y) {
      row_of_block(frame, step, block, y, vectors, frame.runs).convolve(0, vectors);
    }
  }
  for (int64_t y = 0; y < made.height; ++y) finish_row(frame, step.result, y);
}

SPARSESR_END_ISA
