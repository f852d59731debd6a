#include "cuda/program_plan.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "common/checks.h"
#include "cuda/program_kernels.h"
#include "cuda/program_memory.h"
#include "cuda/program_packing.h"
#include "cuda/program_table.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr int64_t kVectorBytes = 16;
constexpr int64_t kMostChannels = 4096;
constexpr int64_t kMostFactor = 64;
constexpr int64_t kMostSide = 1 << 14;
constexpr int64_t kMostElements = std::numeric_limits<int32_t>::max() / 4;

// Channels of a buffer; a value is one or several of them.
struct Part {
  int64_t buffer, first, count;
};
using Value = std::vector<Part>;

struct Obstacle {
  std::string text;
};

[[noreturn]] void refuse(const std::string& text) { throw Obstacle{text}; }

class Planner {
 public:
  Planner(const PatchProgram& program, DType dtype)
      : program_(program),
        size_(element_size(dtype)),
        in_vector_(kVectorBytes / size_),
        in_step_(channels_of_step(size_)),
        most_tiles_(dtype == DType::kFloat32 ? 1 : 3),
        values_(program.shapes.size()),
        readers_(program.shapes.size()),
        done_(program.steps.size()) {}

  PatchPlan plan(DType dtype, int64_t shared_bytes) {
    count_readers();
    values_[0] = {{new_buffer(program_.shapes[0]), 0, program_.shapes[0][0]}};
    for (size_t i = 0; i < program_.steps.size(); ++i) {
      if (!done_[i]) lower(static_cast<int64_t>(i));
    }
    if (!written_) write_result();
    const int64_t patch_bytes = memory_.place();
    if (table_.zero_bytes() + patch_bytes > shared_bytes) {
      refuse("its values take " + std::to_string(table_.zero_bytes() + patch_bytes) +
             " bytes of shared memory for one patch, this GPU has " + std::to_string(shared_bytes));
    }
    write_table(dtype, patch_bytes);
    return std::move(plan_);
  }

 private:
  // --- values

  int64_t now() const { return table_.num_steps(); }

  int64_t new_buffer(const Sizes& shape) {
    if (shape[0] > kMostChannels) refuse("a value of " + std::to_string(shape[0]) + " channels");
    const int64_t pitch = (vectors_of(shape[0]) | 1) * kVectorBytes;
    return memory_.add(shape[0], shape[1] * shape[2], pitch, now());
  }

  int64_t vectors_of(int64_t channels) const {
    return rounded_up(channels, in_step_) * size_ / kVectorBytes;
  }

  void use(const Part& part) { memory_.read(part.buffer, now()); }

  PatchView view_of(const Part& part) const {
    // The buffer's number until it has a place.
    return {static_cast<int32_t>(part.buffer), static_cast<int32_t>(memory_[part.buffer].pitch),
            static_cast<int32_t>(part.first * size_), PatchSpread::kPixels};
  }

  // Whether a convolution can read it in whole steps without another value's channels.
  bool in_steps(const Value& value) const {
    return std::all_of(value.begin(), value.end(), [&](const Part& part) {
      return part.first % in_vector_ == 0 &&
             (part.count % in_step_ == 0 ||
              part.first + part.count == memory_[part.buffer].channels);
    });
  }

  // A value in one buffer from a multiple of `unit` channels on, copied there where it is not.
  Part one_part(int64_t value, int64_t unit) {
    if (values_[value].size() > 1 || values_[value][0].first % unit != 0) copy(value);
    return values_[value][0];
  }

  void copy(int64_t value) {
    PatchStep step = step_of(PatchStepKind::kSelect, program_.shapes[value]);
    step.segments = table_.next();
    step.num_segments = static_cast<int32_t>(values_[value].size());
    for (const Part& part : values_[value]) add_segment(part);
    finish(step, value);
  }

  void add_segment(const Part& part) {
    use(part);
    table_.append(PatchSegment{view_of(part), static_cast<int32_t>(part.count),
                               static_cast<int32_t>(rounded_up(part.count, in_step_) / in_step_)});
  }

  // --- steps

  void count_readers() {
    for (const ProgramStep& step : program_.steps) {
      for (const int64_t v : step.inputs) ++readers_[v];
      if (step.add >= 0) ++readers_[step.add];
      if (step.mul >= 0) ++readers_[step.mul];
    }
    ++readers_[program_.result];
  }

  // The step that alone reads a value, as its first input; -1 where there is none.
  int64_t only_reader(int64_t value) const {
    if (readers_[value] != 1 || value == program_.result) return -1;
    for (size_t i = 0; i < program_.steps.size(); ++i) {
      const std::vector<int64_t>& inputs = program_.steps[i].inputs;
      if (std::count(inputs.begin(), inputs.end(), value) == 1) return static_cast<int64_t>(i);
    }
    return -1;
  }

  PatchStep step_of(PatchStepKind kind, const Sizes& shape) const {
    PatchStep step = {};
    step.kind = kind;
    step.height = static_cast<int32_t>(shape[1]);
    step.width = static_cast<int32_t>(shape[2]);
    step.by_height = fast_divisor(shape[1]);
    step.by_width = fast_divisor(shape[2]);
    step.channels = static_cast<int32_t>(shape[0]);
    step.vectors = static_cast<int32_t>(vectors_of(shape[0]));
    step.by_vectors = fast_divisor(step.vectors);
    step.in.offset = step.out.offset = step.add.offset = step.mul.offset = -1;
    step.factor = step.stride = 1;
    step.bias = -1;
    return step;
  }

  // `value` is what the step makes; `reuse`: buffers whose memory it may take over where they are
  // read for the last time, each element by the thread that then writes it.
  void finish(PatchStep& step, int64_t value, const std::vector<Part>& reuse = {}) {
    const int64_t buffer = new_buffer(program_.shapes[value]);
    for (const Part& part : reuse) {
      if (part.count == memory_[part.buffer].channels) memory_.may_replace(buffer, part.buffer);
    }
    values_[value] = {{buffer, 0, program_.shapes[value][0]}};
    step.out = view_of(values_[value][0]);
    table_.add(step);
  }

  void lower(int64_t i) {
    const ProgramStep& text = program_.steps[i];
    if (text.kind == "concat") {
      for (const int64_t v : text.inputs) {
        values_[i + 1].insert(values_[i + 1].end(), values_[v].begin(), values_[v].end());
      }
    } else if (text.kind == "slice") {
      values_[i + 1] =
          channels_of(values_[text.inputs[0]], number(text, "first"), number(text, "count"));
    } else if (text.kind == "conv" || text.kind == "deconv") {
      lower_conv(i);
    } else if (text.kind == "act" || text.kind == "add" || text.kind == "mul") {
      lower_point(i);
    } else {
      lower_move(i);
    }
  }

  static int64_t number(const ProgramStep& text, const char* name, int64_t otherwise = 0) {
    const auto found = text.numbers.find(name);
    return found == text.numbers.end() ? otherwise : found->second;
  }

  static Value channels_of(const Value& value, int64_t first, int64_t count) {
    Value made;
    for (const Part& part : value) {
      const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + count, part.count);
      if (begin < end) made.push_back({part.buffer, part.first + begin, end - begin});
      first -= part.count;
    }
    return made;
  }

  void lower_point(int64_t i) {
    const ProgramStep& text = program_.steps[i];
    int64_t value = i + 1;
    std::vector<std::pair<int64_t, bool>> others;  // operands, and whether they multiply
    if (text.kind != "act") others.push_back({text.inputs[1], text.kind == "mul"});
    const ProgramStep* act = text.kind == "act" ? &text : nullptr;
    const int64_t next = only_reader(value);
    if (text.kind == "mul" && next >= 0 && program_.steps[next].kind == "add") {
      const std::vector<int64_t>& inputs = program_.steps[next].inputs;
      const int64_t added = inputs[inputs[0] == value ? 1 : 0];
      if (added <= i && program_.shapes[value] == program_.shapes[next + 1]) {
        others.push_back({added, false});
        done_[next] = true;
        value = next + 1;
      }
    }
    const Sizes& shape = program_.shapes[value];
    // Copies are steps of their own, before this one.
    std::vector<Part> parts = {one_part(text.inputs[0], in_vector_)};
    for (const auto& [other, multiplies] : others) {
      parts.push_back(
          one_part(other, spread_of(other, shape) == PatchSpread::kOne ? 1 : in_vector_));
    }
    parts[0] = one_part(text.inputs[0], in_vector_);
    PatchStep step = step_of(PatchStepKind::kPoint, shape);
    step.in = view_of(parts[0]);
    std::vector<Part> reuse = {parts[0]};
    for (size_t o = 0; o < others.size(); ++o) {
      PatchView& view = others[o].second ? step.mul : step.add;
      view = view_of(parts[o + 1]);
      view.spread = spread_of(others[o].first, shape);
      if (view.spread == PatchSpread::kPixels) reuse.push_back(parts[o + 1]);
    }
    for (const Part& part : parts) use(part);
    // Another thread may read what this one writes where operands are different parts of a buffer.
    const auto shared = [&](const Part& one) {
      return std::any_of(parts.begin(), parts.end(), [&](const Part& other) {
        return other.buffer == one.buffer && (other.first != one.first || other.count != one.count);
      });
    };
    reuse.erase(std::remove_if(reuse.begin(), reuse.end(), shared), reuse.end());
    if (act != nullptr) set_act(step, *act, shape[0]);
    finish(step, value, reuse);
  }

  PatchSpread spread_of(int64_t value, const Sizes& shape) const {
    if (program_.shapes[value] == shape) return PatchSpread::kPixels;
    return program_.shapes[value][0] == shape[0] ? PatchSpread::kChannels : PatchSpread::kOne;
  }

  // The slopes of channels 0, 1, ...
  void set_act(PatchStep& step, const ProgramStep& text, int64_t channels) {
    std::vector<int64_t> sources(channels);
    for (int64_t c = 0; c < channels; ++c) sources[c] = c;
    set_act(step, text, sources);
  }

  void set_act(PatchStep& step, const ProgramStep& text, const std::vector<int64_t>& sources) {
    if (text.act == "relu") step.act = PatchAct::kRelu;
    if (text.act == "leaky") step.act = PatchAct::kLeaky;
    if (text.act == "sigmoid") step.act = PatchAct::kSigmoid;
    if (text.act == "tanh") step.act = PatchAct::kTanh;
    step.slope = static_cast<float>(text.slope);
    if (text.act != "prelu") return;
    step.act = PatchAct::kPrelu;
    const bool single = program_.parameters[text.slopes][0] == 1;
    step.slopes = add_vector(text.slopes, sources, single);
  }

  int32_t add_vector(int64_t parameter, const std::vector<int64_t>& sources, bool single) {
    PackedPart part = {parameter, {}};
    for (const int64_t source : sources) {
      part.elements.push_back(static_cast<int32_t>(source < 0 || !single ? source : 0));
    }
    // Read in vectors, and in pairs.
    part.elements.resize(rounded_up(static_cast<int64_t>(sources.size()), kOutputSet), -1);
    const int64_t at = num_vectors_;
    num_vectors_ += static_cast<int64_t>(part.elements.size());
    plan_.vectors.push_back(std::move(part));
    return static_cast<int32_t>(at);
  }

  void lower_move(int64_t i) {
    const ProgramStep& text = program_.steps[i];
    const int64_t from = text.inputs[0];
    const std::map<std::string, PatchStepKind> kinds = {
        {"softmax", PatchStepKind::kSoftmax}, {"mean", PatchStepKind::kMean},
        {"nearest", PatchStepKind::kNearest}, {"resize", PatchStepKind::kResize},
        {"pad", PatchStepKind::kClamp},       {"crop", PatchStepKind::kClamp},
        {"shuffle", PatchStepKind::kShuffle}};
    const auto kind = kinds.find(text.kind);
    if (kind == kinds.end()) refuse("a step '" + text.kind + "'");
    const Part part = one_part(from, in_vector_);
    PatchStep step = step_of(kind->second, program_.shapes[i + 1]);
    step.in = view_of(part);
    step.in_height = static_cast<int32_t>(program_.shapes[from][1]);
    step.in_width = static_cast<int32_t>(program_.shapes[from][2]);
    step.factor = static_cast<int32_t>(number(text, "factor", 1));
    step.tf = text.tf ? 1 : 0;
    use(part);
    finish(step, i + 1);
  }

  void write_result() {
    const Part part = one_part(program_.result, 1);
    PatchStep step = step_of(PatchStepKind::kWrite, program_.shapes[program_.result]);
    step.in = view_of(part);
    use(part);
    table_.add(step);
  }

  // --- convolutions

  // A convolution and what is done with it: a shuffle and an activation that alone read it.
  struct ConvTail {
    int64_t value;  // the last of them
    int64_t factor;
    bool tf;
    const ProgramStep* act;  // behind the shuffle: by the channels that it leaves
  };

  ConvTail tail_of(int64_t i) {
    const ProgramStep& text = program_.steps[i];
    if (text.kind == "deconv") return {i + 1, number(text, "stride"), false, nullptr};
    ConvTail tail = {i + 1, 1, false, nullptr};
    const int64_t next = only_reader(tail.value);
    if (text.add >= 0 || text.mul >= 0 || next < 0 || program_.steps[next].kind != "shuffle") {
      return tail;
    }
    done_[next] = true;
    tail = {next + 1, number(program_.steps[next], "factor"), program_.steps[next].tf, nullptr};
    const int64_t after = only_reader(tail.value);
    if (text.act.empty() && after >= 0 && program_.steps[after].kind == "act") {
      done_[after] = true;
      tail.value = after + 1;
      tail.act = &program_.steps[after];
    }
    return tail;
  }

  void lower_conv(int64_t i) {
    const ProgramStep& text = program_.steps[i];
    const bool transposed = text.kind == "deconv";
    const Sizes& made = program_.shapes[i + 1];
    const Sizes& source = program_.shapes[text.inputs[0]];
    const ConvTail tail = tail_of(i);
    if (tail.factor > kMostFactor) refuse("a factor of " + std::to_string(tail.factor));
    if (transposed && (text.add >= 0 || text.mul >= 0)) refuse("add= or mul= behind a deconv");
    if (std::max({made[1], made[2], source[1], source[2]}) >= kMostSide) {
      refuse("a window that large");
    }
    // Copies are steps of their own, before this one; that of an operand may be of the input too.
    if (!in_steps(values_[text.inputs[0]])) copy(text.inputs[0]);
    std::vector<Part> extras;
    for (const int64_t other : {text.add, text.mul}) {
      if (other >= 0) extras.push_back(one_part(other, 2));
    }
    const Value input = values_[text.inputs[0]];

    PatchStep step =
        step_of(PatchStepKind::kConv, transposed ? Sizes{made[0], source[1], source[2]} : made);
    step.channels = static_cast<int32_t>(program_.shapes[tail.value][0]);
    step.in_height = static_cast<int32_t>(source[1]);
    step.in_width = static_cast<int32_t>(source[2]);
    step.stride = static_cast<int32_t>(transposed ? 1 : number(text, "stride", 1));
    step.factor = static_cast<int32_t>(tail.factor);
    if (text.add >= 0) step.add = view_of(extras.front());
    if (text.mul >= 0) step.mul = view_of(extras.back());
    for (const Part& part : extras) use(part);
    step.segments = table_.next();
    step.num_segments = static_cast<int32_t>(input.size());
    for (const Part& part : input) add_segment(part);
    const bool to_canvas = tail.value == program_.result && readers_[tail.value] == 1;
    add_outputs(step, text, tail, input, to_canvas);
    if (to_canvas) {
      written_ = true;
      table_.add(step);
      return;
    }
    // An input's buffer cannot be written while others still read it.
    const auto is_input = [&](const Part& extra) {
      return std::any_of(input.begin(), input.end(),
                         [&](const Part& part) { return part.buffer == extra.buffer; });
    };
    extras.erase(std::remove_if(extras.begin(), extras.end(), is_input), extras.end());
    finish(step, tail.value, tail.factor == 1 ? extras : std::vector<Part>());
  }

  // Order, bias, slopes and weights.
  void add_outputs(PatchStep& step, const ProgramStep& text, const ConvTail& tail,
                   const Value& input, bool to_canvas) {
    const ConvShape shape = {text.kind == "deconv",
                             tail.tf,
                             to_canvas,
                             step.channels,
                             tail.factor,
                             number(text, "pad"),
                             number(text, "groups", 1),
                             program_.parameters[number(text, "weight")]};
    const std::vector<ConvOutput> order = order_outputs(shape, size_);
    std::vector<int64_t> sources, channels;
    step.order = table_.next();
    for (const ConvOutput& output : order) {
      sources.push_back(output.source);
      channels.push_back(output.source < 0 ? -1 : output.channel);
      const int64_t place = output.channel | output.dy << 16 | output.dx << 24;
      table_.append(static_cast<int32_t>(output.channel < 0 ? -1 : place));
    }
    if (number(text, "bias", -1) >= 0) {
      step.bias = add_vector(number(text, "bias"), sources, false);
    }
    if (tail.act != nullptr) {
      set_act(step, *tail.act, channels);
    } else {
      set_act(step, text, sources);
    }
    std::vector<int64_t> counts;
    for (const Part& part : input) counts.push_back(part.count);
    add_weights(step, number(text, "weight"), pack_conv(shape, order, counts, size_));
  }

  void add_weights(PatchStep& step, int64_t parameter, const PackedConv& packed) {
    std::vector<int32_t> places;
    for (const std::vector<int32_t>& taps : packed.taps) {
      places.push_back(table_.next());
      for (const int32_t tap : taps) table_.append(tap);
    }
    step.outputs = table_.next();
    step.num_outputs = static_cast<int32_t>(packed.sets.size());
    for (const PackedSet& set : packed.sets) {
      const int64_t bytes = (plan_.num_weights + set.first_element) * size_;
      table_.append(PatchOutputs{places[set.taps],
                                 static_cast<int32_t>(packed.taps[set.taps].size()),
                                 static_cast<int32_t>(bytes / kVectorBytes), set.half ? 1 : 2});
    }
    step.tiling = tiling_of(int64_t{step.height} * step.width, step.num_outputs, most_tiles_,
                            packed.taps.size() == 1);
    plan_.num_weights += static_cast<int64_t>(packed.elements.size());
    if (plan_.num_weights > kMostElements) refuse("too many weights");
    const auto known = std::find(plan_.orders.begin(), plan_.orders.end(), packed.elements);
    plan_.weights.push_back({parameter, known - plan_.orders.begin()});
    if (known == plan_.orders.end()) plan_.orders.push_back(packed.elements);
  }

  void write_table(DType dtype, int64_t patch_bytes) {
    const Sizes& input = program_.shapes[0];
    const Sizes& result = program_.shapes[program_.result];
    plan_.num_weights += 32 * kVectorBytes / size_;  // a warp reads ahead
    PatchTableHead head = {};
    head.dtype = static_cast<int32_t>(dtype);
    head.channels = static_cast<int32_t>(input[0]);
    head.side = static_cast<int32_t>(input[1]);
    head.out_channels = static_cast<int32_t>(result[0]);
    head.out_side = static_cast<int32_t>(result[1]);
    head.patch_bytes = static_cast<int32_t>(patch_bytes);
    head.num_weights = static_cast<int32_t>(plan_.num_weights);
    head.num_vectors = static_cast<int32_t>(num_vectors_);
    head.input = view_of({0, 0, input[0]});
    head.by_side = fast_divisor(input[1]);
    head.by_input_vectors = fast_divisor(vectors_of(input[0]));
    plan_.table = table_.finish(head, memory_);
  }

  const PatchProgram& program_;
  const int64_t size_, in_vector_, in_step_, most_tiles_;
  std::vector<Value> values_;
  std::vector<int64_t> readers_;
  std::vector<bool> done_;  // steps that are a part of an earlier one
  bool written_ = false;
  PatchMemory memory_;
  PatchTable table_;
  int64_t num_vectors_ = 0;
  PatchPlan plan_;
};

}  // namespace

PatchPlan plan_program(const PatchProgram& program, DType dtype, int64_t shared_bytes) {
  PatchPlan plan;
  try {
    if (dtype != DType::kFloat32 && dtype != DType::kFloat16 && dtype != DType::kBFloat16) {
      refuse(std::string("values of ") + dtype_name(dtype));
    }
    return Planner(program, dtype).plan(dtype, shared_bytes);
  } catch (const Obstacle& obstacle) {
    plan.obstacle = obstacle.text;
  }
  return plan;
}

}  // namespace cuda
}  // namespace sparsesr
