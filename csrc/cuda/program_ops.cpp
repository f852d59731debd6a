// Entry points of programs on patches.
#include "cuda/program_ops.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/patch_plan.h"
#include "cuda/gpu_checks.h"
#include "cuda/program_kernels.h"

namespace sparsesr {
namespace cuda {
namespace {

const char* const kOp = "refine_patches_";
constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / 2;

void check_vector(const Operand& operand, int device, DType dtype, int64_t size) {
  check_device(operand, device);
  check_dtype(operand, dtype);
  check_shape(operand, "[n]", {size});
  check_contiguous(operand);
  if (reinterpret_cast<uintptr_t>(operand.view.data) % 16 == 0) return;
  fail(operand.op, ": expected ", operand.name, " at a multiple of 16 bytes");
}

PatchTableHead head_of(const Operand& plan) {
  check_cpu(plan);
  check_dtype(plan, DType::kInt32);
  check_rank(plan, "[n]", 1);
  check_contiguous(plan);
  PatchTableHead head = {};
  const int64_t size = plan.view.sizes[0];
  if (size < kHeadWords) fail(plan.op, ": expected a plan, got ", size, " elements");
  std::memcpy(&head, plan.view.data, sizeof(head));
  const int64_t wanted =
      int64_t{kHeadWords} + int64_t{head.num_steps} * kStepWords + head.num_lists;
  if (size != wanted) fail(plan.op, ": expected a plan of ", wanted, " elements, got ", size);
  return head;
}

PatchMap map_of(const TensorView& view) {
  return {view.data, view.strides[0], view.strides[1], view.strides[2], view.strides[3]};
}

// Whether 16 bytes of a pixel's channels can be read at once.
bool whole_vectors(const TensorView& view) {
  const int64_t elements = 16 / element_size(view.dtype);
  bool whole = view.strides[1] == 1 && view.sizes[1] % elements == 0 &&
               reinterpret_cast<uintptr_t>(view.data) % 16 == 0;
  for (const int d : {0, 2, 3}) whole &= view.sizes[d] == 1 || view.strides[d] % elements == 0;
  return whole;
}

}  // namespace

PatchPlan plan_patch_program(const PatchProgram& program, DType dtype) {
  return plan_program(program, dtype, room_for_patches());
}

void refine_patches(const TensorView& canvas, const TensorView& feature, const TensorView& index,
                    const TensorView& plan, const TensorView& table, const TensorView& weights,
                    const TensorView& vectors, int64_t patch_size, int64_t halo, int64_t group,
                    void* stream) {
  check_on_gpu({kOp, "feature", feature});
  check_rank({kOp, "feature", feature}, "[B,C,H,W]", 4);
  const PatchTableHead head = head_of({kOp, "plan", plan});
  const auto dtype = static_cast<DType>(head.dtype);
  const int device = feature.device;
  check_dtype({kOp, "feature", feature}, dtype);
  check_shape({kOp, "feature", feature}, "[B,C,H,W]",
              {feature.sizes[0], head.channels, feature.sizes[2], feature.sizes[3]});
  const PatchGeometry g = patch_geometry(kOp, feature.sizes[0], feature.sizes[1], feature.sizes[2],
                                         feature.sizes[3], patch_size, halo, patch_size);
  if (head.side != g.window || head.out_side % patch_size != 0) {
    fail(kOp, ": expected patches of ", patch_size, " and a halo of ", halo,
         " to be the plan's windows of ", head.side, " and to divide its result of ",
         head.out_side);
  }
  const int64_t scale = head.out_side / patch_size;
  check_device({kOp, "canvas", canvas}, device);
  check_dtype({kOp, "canvas", canvas}, dtype);
  check_shape({kOp, "canvas", canvas}, "[B,O,s*H,s*W]",
              {g.batch, head.out_channels, scale * g.height, scale * g.width});
  check_writable({kOp, "canvas", canvas});
  check_device({kOp, "index", index}, device);
  check_dtype({kOp, "index", index}, DType::kInt32);
  check_rank({kOp, "index", index}, "[B,k]", 2);
  check_shape({kOp, "index", index}, "[B,k]", {g.batch, index.sizes[1]});
  check_contiguous({kOp, "index", index});
  check_vector({kOp, "table", table}, device, DType::kInt32, plan.sizes[0]);
  check_vector({kOp, "weights", weights}, device, dtype, head.num_weights);
  check_vector({kOp, "vectors", vectors}, device, DType::kFloat32, head.num_vectors);
  if (group < 0 || group > kMaxGroupPatches) {
    fail(kOp, ": expected group from 0 to ", kMaxGroupPatches, ", got ", group);
  }
  const int64_t slots = num_elements(index);
  const int64_t cells = g.grid_rows * g.grid_cols;
  if (std::max({slots, cells, scale * (g.height + g.window), scale * (g.width + g.window)}) >
      kMost) {
    fail(kOp, ": expected at most ", kMost, " patches, rows and columns");
  }
  if (slots == 0 || num_elements(canvas) == 0) return;

  RefinePatchesArgs args = {};
  args.head = head;
  const auto* words = static_cast<const int32_t*>(table.data) + kHeadWords;
  args.steps = reinterpret_cast<const PatchStep*>(words);
  args.lists = words + int64_t{head.num_steps} * kStepWords;
  args.weights = weights.data;
  args.vectors = static_cast<const float*>(vectors.data);
  args.feature = map_of(feature);
  args.canvas = map_of(canvas);
  args.height = static_cast<int32_t>(g.height);
  args.width = static_cast<int32_t>(g.width);
  args.canvas_height = static_cast<int32_t>(scale * g.height);
  args.canvas_width = static_cast<int32_t>(scale * g.width);
  args.index = static_cast<const int32_t*>(index.data);
  args.slots = static_cast<int32_t>(slots);
  args.cells = static_cast<int32_t>(cells);
  args.patch_size = static_cast<int32_t>(patch_size);
  args.halo = static_cast<int32_t>(halo);
  args.scale = static_cast<int32_t>(scale);
  args.by_k = fast_divisor(index.sizes[1]);
  args.by_grid_cols = fast_divisor(g.grid_cols);
  args.whole_vectors = whole_vectors(feature);
  const PatchGroups groups = plan_patch_groups(head, slots, group);
  if (groups.patches == 0) {
    fail(kOp, ": expected values of at most ", room_for_patches(), " bytes of shared memory, got ",
         head.zero_bytes + std::max<int64_t>(group, 1) * head.patch_bytes);
  }
  args.group = groups.patches;
  args.blocks = groups.blocks;
  launch::refine_patches(args, stream);
}

}  // namespace cuda
}  // namespace sparsesr
