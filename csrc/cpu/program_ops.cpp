// Entry points of programs: operands checked, memory laid out, maps cut.
#include <algorithm>
#include <memory>
#include <new>

#include "common/checks.h"
#include "common/patch_plan.h"
#include "cpu/dispatch.h"
#include "cpu/ops.h"
#include "cpu/program_layout.h"
#include "cpu/program_tables.h"
#include "cpu/threads.h"

namespace sparsesr {
namespace cpu {
namespace {

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
  const Layout layout = layout_of_patches(program, lanes);
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
