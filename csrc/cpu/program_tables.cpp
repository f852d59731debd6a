#include "cpu/program_tables.h"

#include <algorithm>
#include <cstddef>

#include "common/checks.h"

namespace sparsesr {
namespace cpu {
namespace {

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

}  // namespace

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

}  // namespace cpu
}  // namespace sparsesr
