// Entry points of programs: the tables checked, memory laid out, maps cut.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

#include "common/checks.h"
#include "common/patch_plan.h"
#include "cpu/dispatch.h"
#include "cpu/ops.h"
#include "cpu/threads.h"

namespace sparsesr {
namespace cpu {
namespace {

constexpr int64_t kLine = 16;  // floats of a cache line

template <class Row>
const Row* table(const char* op, const char* name, std::string_view bytes, int64_t& count) {
  if (bytes.size() % sizeof(Row) != 0) fail(op, ": the table of ", name, " is cut off");
  count = static_cast<int64_t>(bytes.size() / sizeof(Row));
  return reinterpret_cast<const Row*>(bytes.data());
}

// Throws unless [first, first + count) lies in [0, size).
void check_range(const char* op, const char* what, int64_t first, int64_t count, int64_t size) {
  if (first < 0 || count < 0 || first > size - count) {
    fail(op, ": the program's ", what, " [", first, ", ", first, " + ", count,
         ") lie outside its table of ", size);
  }
}

int64_t channels_read(const Program& program, const ProgramStep& step) {
  int64_t channels = 0;
  for (int64_t s = 0; s < step.num_reads; ++s) {
    channels += program.segments[step.reads + s].count;
  }
  return channels;
}

// Units hold channels that follow each other from an even one on, in every value and every block.
void check_depth(const char* op, const Program& program, const ProgramStep& step) {
  if (step.depth > program_rule().depth) fail(op, ": this CPU does not multiply pairs of bfloat16");
  bool whole = true;
  for (int64_t s = 0; s < step.num_reads; ++s) {
    const ProgramSegment& segment = program.segments[step.reads + s];
    whole = whole && segment.first % step.depth == 0 && segment.count % step.depth == 0;
  }
  for (int64_t b = 0; b < step.num_blocks; ++b) {
    const ProgramBlock& block = program.blocks[step.blocks + b];
    whole = whole && block.in_first % step.depth == 0 && block.in_count % step.depth == 0;
  }
  if (!whole) fail(op, ": a convolution of pairs reads half of one");
}

void check_conv(const char* op, const Program& program, const ProgramStep& step) {
  check_range(op, "blocks", step.blocks, step.num_blocks, program.num_blocks);
  const int64_t channels = channels_read(program, step);
  const bool slopes = step.act == ActKind::kSlope;
  if (step.stride < 1 || step.pad < 0) fail(op, ": a convolution's stride or padding is wrong");
  check_depth(op, program, step);
  for (int64_t b = 0; b < step.num_blocks; ++b) {
    const ProgramBlock& block = program.blocks[step.blocks + b];
    check_range(op, "outputs", block.first, block.outputs, program.values[step.result].channels);
    check_range(op, "inputs", block.in_first, block.in_count, channels);
    if (block.outputs < 1 || block.outputs > program_rule().outputs || block.top < 0 ||
        block.left < 0 || block.down < 1 || block.across < 1 || block.down > INT16_MAX ||
        block.across > INT16_MAX) {
      fail(op, ": a block of a convolution does not fit this CPU's kernels");
    }
    const int64_t weights =
        block.outputs * block.down * (block.in_count / step.depth) * block.across;
    const int64_t others = block.outputs * (slopes ? 2 : 1);
    check_range(op, "constants", block.constants, weights + others, program.num_constants);
  }
}

void check_step(const char* op, const Program& program, const ProgramStep& step, int64_t made) {
  if (step.kind < StepKind::kConv || step.kind >= StepKind::kCount || step.act < ActKind::kNone ||
      step.act >= ActKind::kCount) {
    fail(op, ": the program has a step of no known kind");
  }
  if (step.depth != 1 && (step.depth != 2 || step.kind != StepKind::kConv)) {
    fail(op, ": a step reads units of ", step.depth, " channels");
  }
  check_range(op, "values", step.result, 1, program.num_values);
  check_range(op, "segments", step.reads, step.num_reads, program.num_segments);
  if (step.num_reads < 1) fail(op, ": a step reads nothing");
  for (int64_t s = 0; s < step.num_reads; ++s) {
    const ProgramSegment& segment = program.segments[step.reads + s];
    check_range(op, "values", segment.value, 1, made);
    check_range(op, "channels", segment.first, segment.count,
                program.values[segment.value].channels);
  }
  for (const int64_t value : {step.add, step.mul}) {
    if (value < 0) continue;
    check_range(op, "values", value, 1, made);
    const ProgramValue &own = program.values[step.result], &other = program.values[value];
    if (other.channels != own.channels || other.height != own.height || other.width != own.width) {
      fail(op, ": a value is added to, or multiplied with, one of another size");
    }
  }
  if (step.kind == StepKind::kConv) check_conv(op, program, step);
  if (step.kind == StepKind::kAct && step.act == ActKind::kSlope) {
    check_range(op, "constants", step.slopes, program.values[step.result].channels,
                program.num_constants);
  }
  if (step.factor < 1) fail(op, ": a step enlarges by ", step.factor);
  if (step.kind == StepKind::kShuffle) {
    const int64_t count = program.values[step.result].channels * step.factor * step.factor;
    check_range(op, "orders", step.order, count, program.num_orders);
  }
}

// The tables as a program: every index in them is in range, every step reads what is there.
Program program_of(const char* op, const ProgramTables& tables, const TensorView& constants) {
  Program program = {};
  program.values = table<ProgramValue>(op, "values", tables.values, program.num_values);
  program.segments = table<ProgramSegment>(op, "segments", tables.segments, program.num_segments);
  program.blocks = table<ProgramBlock>(op, "blocks", tables.blocks, program.num_blocks);
  program.steps = table<ProgramStep>(op, "steps", tables.steps, program.num_steps);
  program.orders = table<int64_t>(op, "orders", tables.orders, program.num_orders);
  int64_t results = 0;
  const auto* result = table<ProgramResult>(op, "results", tables.result, results);
  check_cpu({op, "constants", constants});
  check_dtype({op, "constants", constants}, DType::kFloat32);
  check_contiguous({op, "constants", constants});
  program.constants = static_cast<const float*>(constants.data);
  program.num_constants = num_elements(constants);
  if (results != 1 || program.num_values < 1) fail(op, ": the program has no result");
  program.result = *result;
  for (int64_t v = 0; v < program.num_values; ++v) {
    const ProgramValue& value = program.values[v];
    if (value.channels < 1 || value.height < 1 || value.width < 1 || value.margin < 0) {
      fail(op, ": a value of the program is empty");
    }
  }
  for (int64_t s = 0; s < program.num_steps; ++s) {
    if (program.steps[s].result != s + 1) fail(op, ": steps and values do not match");
    check_step(op, program, program.steps[s], s + 1);
  }
  check_range(op, "values", result->value, 1, program.num_steps + 1);
  if (result->factor < 1 || result->channels < 1) fail(op, ": the program's result is empty");
  const int64_t count = result->channels * result->factor * result->factor;
  check_range(op, "orders", result->order, count, program.num_orders);
  for (int64_t i = 0; i < program.num_orders; ++i) {
    check_range(op, "orders", program.orders[i], 1, INT32_MAX);
  }
  for (int64_t i = 0; i < count; ++i) {
    check_range(op, "channels", program.orders[result->order + i], 1,
                program.values[result->value].channels);
  }
  return program;
}

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

// Throws where taps of a convolution would fall beyond the zeros beside a row. On patches the
// kernels leave out one of two or three taps that lies one pixel outside.
void check_margins(const char* op, const Program& program, bool patches) {
  for (int64_t s = 0; s < program.num_steps; ++s) {
    const ProgramStep& step = program.steps[s];
    if (step.kind != StepKind::kConv) continue;
    const int64_t width = program.values[step.result].width;
    for (int64_t b = 0; b < step.num_blocks; ++b) {
      const ProgramBlock& block = program.blocks[step.blocks + b];
      for (int64_t r = 0; r < step.num_reads; ++r) {
        const ProgramValue& read = program.values[program.segments[step.reads + r].value];
        const int64_t left = step.pad - block.left;
        const int64_t right = (width - 1) * step.stride - left + block.across - read.width;
        const int64_t most = std::max(left, right);
        const bool left_out =
            patches && step.stride == 1 && most <= 1 && (block.across == 2 || block.across == 3);
        if (most > read.margin && !left_out) fail(op, ": a convolution reads beyond its margin");
      }
    }
  }
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

int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Floats from one channel to the next: an odd number of cache lines, so that the channels of a
// pixel do not fall into the same few sets of the cache.
int64_t channel_floats(int64_t floats) {
  const int64_t lines = round_up(floats, kLine) / kLine;
  return (lines | 1) * kLine;
}

int64_t macs_of(const Program& program) {
  int64_t macs = 0;
  for (int64_t s = 0; s < program.num_steps; ++s) {
    const ProgramStep& step = program.steps[s];
    if (step.kind != StepKind::kConv) continue;
    const ProgramValue& made = program.values[step.result];
    for (int64_t b = 0; b < step.num_blocks; ++b) {
      const ProgramBlock& block = program.blocks[step.blocks + b];
      macs += block.outputs * block.in_count * block.down * block.across * made.height * made.width;
    }
  }
  return macs;
}

// A place for the rows of each value, and behind all values for those of their pairs. On patches,
// the rows of a channel lie behind each other, and rows that are never needed together share a
// place.
struct Layout {
  std::vector<ProgramBuffer> buffers;
  int64_t size = 0;
};

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

// Rings of as many rows as are still needed.
struct Streaming {
  std::vector<int64_t> delays, reaches;
  std::vector<int64_t> rows;  // [2, values]: of values; of pairs, 0: none
};

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

// The rings of a map, or a strip of one, of so many columns.
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

// Memory of all threads, each part on a cache line of its own.
class Arena {
 public:
  explicit Arena(int64_t floats)
      : memory_(static_cast<float*>(
            ::operator new(floats * sizeof(float), std::align_val_t(kLine * sizeof(float))))) {}

  float* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(float* memory) const {
      ::operator delete(memory, std::align_val_t(kLine * sizeof(float)));
    }
  };
  std::unique_ptr<float, Free> memory_;
};

// Appends room for the blocks and the runs of the largest convolution to a thread's memory.
template <class Args>
void add_block_room(Args& args) {
  int64_t blocks = 0, runs = 0;
  for (int64_t s = 0; s < args.program.num_steps; ++s) {
    const ProgramStep& step = args.program.steps[s];
    if (step.kind != StepKind::kConv) continue;
    int64_t own = 0;
    for (int64_t b = 0; b < step.num_blocks; ++b) {
      own += args.program.blocks[step.blocks + b].down * step.num_reads;
    }
    blocks = std::max(blocks, step.num_blocks);
    runs = std::max(runs, own);
  }
  constexpr auto kFloat = static_cast<int64_t>(sizeof(float));
  args.blocks = round_up(args.memory_size, kLine);
  args.runs = args.blocks + blocks * kBlockBytes / kFloat;
  args.memory_size = round_up(args.runs + runs * kRunBytes / kFloat, kLine);
}

ProgramImage image_of(const TensorView& view) {
  const int64_t element = element_size(view.dtype);
  return {static_cast<char*>(view.data), view.dtype,
          view.strides[0] * element,     view.strides[1] * element,
          view.strides[2] * element,     view.strides[3] * element};
}

void check_image(const Operand& image) {
  check_cpu(image);
  check_floating(image);
  if (image.view.dtype == DType::kFloat64) {
    fail<TypeMismatch>(image.op, ": expected ", image.name,
                       " in float32, bfloat16 or float16, got float64");
  }
  check_rank(image, "[B,C,H,W]", 4);
}

void check_input(const Operand& image, const Program& program, int64_t height, int64_t width) {
  const ProgramValue& input = program.values[0];
  if (input.channels != image.view.sizes[1] || input.height != height || input.width != width) {
    fail(image.op, ": the program was made for ", input.channels, " channels of ", input.height,
         "x", input.width, " px, got ", image.name, " ", shape_text(image.view));
  }
}

// Bytes of one thread's rings that a core's share of the last cache holds, about. Measured with 0.5
// MB of second-level cache and a last one of 32 MB for eight cores: an encoder of 52 layers
// takes 7.5 us a pixel with rings of 4 MB or less, 12 with 8 MB.
constexpr int64_t kNearBytes = 4 << 20;

// Columns that are computed for one of so many strips: its own, and the neighbours' that it reads.
int64_t strip_columns(int64_t width, int64_t strips, const Streaming& streaming) {
  const int64_t own = (width + strips - 1) / strips;
  return std::min(width, own + streaming.reaches[0] + streaming.reaches[1]);
}

// One strip, unless narrower ones, whose rings lie near, are worth what they compute twice.
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

// The strips of each image; where all of them are fewer than threads, in bands, none so low that
// most of its rows would be computed by its neighbours, too.
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

// Which patches of every image somebody else will write.
class Cover {
 public:
  Cover(const char* op, const std::optional<TensorView>& index, const TensorView& x,
        int64_t patch_size) {
    if (!index) return;
    check_cpu({op, "covered", *index});
    check_dtype({op, "covered", *index}, DType::kInt32);
    check_shape({op, "covered", *index}, "[B,k]", {x.sizes[0], index->sizes[1]});
    check_contiguous({op, "covered", *index});
    PatchGeometry geometry = patch_geometry(op, x.sizes[0], x.sizes[1], x.sizes[2], x.sizes[3],
                                            patch_size, /*halo=*/0, patch_size);
    geometry.k = index->sizes[1];
    const auto* slots = static_cast<const int32_t*>(index->data);
    check_index_values(op, geometry, slots, Duplicates::kAllow);
    const int64_t cells = geometry.grid_rows * geometry.grid_cols;
    cells_.resize(geometry.batch * cells);
    for (int64_t i = 0; i < geometry.batch * geometry.k; ++i) {
      cells_[i / geometry.k * cells + slots[i]] = 1;
    }
    view_ = {cells_.data(), geometry.grid_rows, geometry.grid_cols, patch_size};
  }

  const ProgramCover& view() const { return view_; }

 private:
  std::vector<uint8_t> cells_;
  ProgramCover view_ = {};
};

}  // namespace

ProgramRule program_rule() {
  ProgramRule rule;
  cpu_kernels().program_rule({&rule});
  return rule;
}

void refine_patches(const TensorView& canvas, const TensorView& feature, const TensorView& index,
                    const ProgramTables& tables, const TensorView& constants, int64_t patch_size,
                    int64_t halo, int threads) {
  const char* op = "refine_patches_";
  check_image({op, "feature", feature});
  check_image({op, "canvas", canvas});
  check_dtype({op, "canvas", canvas}, feature.dtype);
  check_writable({op, "canvas", canvas});
  check_cpu({op, "index", index});
  check_dtype({op, "index", index}, DType::kInt32);
  check_shape({op, "index", index}, "[B,k]", {feature.sizes[0], index.sizes[1]});
  check_contiguous({op, "index", index});
  const Program program = program_of(op, tables, constants);
  check_margins(op, program, /*patches=*/true);
  const int64_t side = patch_size + 2 * halo;
  check_input({op, "feature", feature}, program, side, side);
  PatchGeometry geometry = patch_geometry(op, feature.sizes[0], feature.sizes[1], feature.sizes[2],
                                          feature.sizes[3], patch_size, halo, patch_size);
  geometry.k = index.sizes[1];
  const auto* slots = static_cast<const int32_t*>(index.data);
  check_index_values(op, geometry, slots, Duplicates::kRefuse);
  const ProgramResult& result = program.result;
  const ProgramValue& made = program.values[result.value];
  const int64_t scale = made.height * result.factor / patch_size;
  if (made.width != made.height || made.height * result.factor != scale * patch_size) {
    fail(op, ": the program makes ", made.height * result.factor, "x", made.width * result.factor,
         " px of a patch, which is no multiple of ", patch_size);
  }
  check_shape(
      {op, "canvas", canvas}, "[B,O,s*H,s*W]",
      {feature.sizes[0], result.channels, scale * feature.sizes[2], scale * feature.sizes[3]});

  const int64_t lanes = program_rule().lanes;
  const Layout layout = PatchLayout(program, lanes).layout();
  RefinePatchesArgs args = {};
  args.count = feature.sizes[0] * index.sizes[1];
  if (args.count == 0) return;
  args.program = program;
  args.buffers = layout.buffers.data();
  args.scratch = round_up(layout.size, kLine);
  args.scratch_pitch = round_up(made.width * result.factor * result.channels + lanes, kLine);
  args.memory_size = args.scratch + lanes * args.scratch_pitch;
  add_block_room(args);
  args.threads = useful_threads(threads, args.count * macs_of(program));
  const Arena arena(args.threads * args.memory_size);
  args.memory = arena.data();
  args.feature = image_of(feature);
  args.canvas = image_of(canvas);
  args.height = feature.sizes[2];
  args.width = feature.sizes[3];
  args.scale = scale;
  args.patch_size = patch_size;
  args.halo = halo;
  args.index = slots;
  args.k = index.sizes[1];
  cpu_kernels().refine_patches(args);
}

void run_program(const TensorView& x, const ProgramTables& tables, const TensorView& constants,
                 const std::optional<TensorView>& cover, int64_t patch_size, const TensorView& out,
                 int threads) {
  const char* op = "run_program";
  check_image({op, "x", x});
  check_image({op, "out", out});
  check_dtype({op, "out", out}, x.dtype);
  check_writable({op, "out", out});
  const Program program = program_of(op, tables, constants);
  check_margins(op, program, /*patches=*/false);
  const int64_t batch = x.sizes[0], height = x.sizes[2], width = x.sizes[3];
  check_input({op, "x", x}, program, height, width);
  for (int64_t v = 0; v < program.num_values; ++v) {
    if (program.values[v].height != height || program.values[v].width != width) {
      fail(op, ": expected a program all of whose values have the size of its input");
    }
  }
  const ProgramResult& result = program.result;
  check_shape({op, "out", out}, "[N,C,H,W]",
              {batch, result.channels, height * result.factor, width * result.factor});
  const Cover covered(op, cover, x, patch_size);
  if (batch == 0) return;

  const int64_t lanes = program_rule().lanes;
  const Streaming streaming = streaming_of(program);
  const int64_t reach = streaming.reaches[0] + streaming.reaches[1];
  const int64_t strips = strips_of(program, streaming, width, lanes);
  const Layout layout =
      layout_of_map(program, streaming, strip_columns(width, strips, streaming), lanes);
  RunProgramArgs args = {};
  args.threads = useful_threads(threads, batch * macs_of(program));
  const std::vector<ProgramTile> tiles =
      tiles_of(batch, height, width, strips, reach, args.threads);
  args.threads = static_cast<int>(std::min<int64_t>(args.threads, tiles.size()));
  args.program = program;
  args.buffers = layout.buffers.data();
  args.delays = streaming.delays.data();
  args.reaches = streaming.reaches.data();
  args.scratch = round_up(layout.size, kLine);
  const int64_t pixel = result.channels * result.factor;
  args.memory_size = args.scratch + (lanes + 1) * (pixel + lanes);
  add_block_room(args);
  args.stretches = args.memory_size;
  args.memory_size += round_up(3 * (width / lanes + 1), kLine);
  args.cover = covered.view();
  const Arena arena(args.threads * args.memory_size);
  args.memory = arena.data();
  args.x = image_of(x);
  args.out = image_of(out);
  args.height = height;
  args.width = width;
  args.tiles = tiles.data();
  args.num_tiles = static_cast<int64_t>(tiles.size());
  cpu_kernels().run_program(args);
}

}  // namespace cpu
}  // namespace sparsesr
