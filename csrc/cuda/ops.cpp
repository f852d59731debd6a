#include "cuda/ops.h"

#include <algorithm>
#include <limits>

#include "common/patch_plan.h"
#include "cuda/gpu_checks.h"
#include "cuda/kernels.h"

namespace sparsesr {
namespace cuda {
namespace {

template <class Element>
Element* data(const TensorView& view) {
  return static_cast<Element*>(view.data);
}

bool empty(const TensorView& view) { return num_elements(view) == 0; }

// The map that a call is about: every other operand has its device and dtype.
void check_map(const Operand& map) {
  check_on_gpu(map);
  check_floating(map);
  check_rank(map, "[B,C,H,W]", 4);
}

void check_like_map(const Operand& operand, const TensorView& map) {
  check_device(operand, map.device);
  check_dtype(operand, map.dtype);
  check_shape(operand, "[B,C,H,W]", {map.sizes[0], map.sizes[1], map.sizes[2], map.sizes[3]});
}

void check_index(const Operand& index, const TensorView& map) {
  check_device(index, map.device);
  check_dtype(index, DType::kInt32);
  check_rank(index, "[B,k]", 2);
  check_shape(index, "[B,k]", {map.sizes[0], index.view.sizes[1]});
  check_contiguous(index);
}

void check_patches(const Operand& patches, const PatchGeometry& g, const TensorView& map) {
  check_device(patches, map.device);
  check_dtype(patches, map.dtype);
  check_shape(patches, "[B*k,C,P,P]", {g.batch * g.k, g.channels, g.window, g.window});
}

PatchGeometry geometry_of(const char* op, const TensorView& map, const TensorView& index,
                          PatchShape shape) {
  PatchGeometry geometry = patch_geometry(op, map.sizes[0], map.sizes[1], map.sizes[2],
                                          map.sizes[3], shape.patch_size, shape.halo, shape.stride);
  geometry.k = index.sizes[1];
  return geometry;
}

bool can_overlap(const PatchShape& shape) {
  return shape.stride < shape.patch_size + 2 * shape.halo;
}

int64_t slot_map_elements(const char* op, int64_t batch, int64_t height, int64_t width,
                          PatchShape shape) {
  const PatchGeometry g =
      patch_geometry(op, batch, 1, height, width, shape.patch_size, shape.halo, shape.stride);
  return 2 * batch * g.grid_rows * g.grid_cols;
}

SlotMap slot_map_in(const Operand& workspace, const PatchGeometry& g, const TensorView& map) {
  check_device(workspace, map.device);
  check_dtype(workspace, DType::kInt32);
  check_rank(workspace, "[n]", 1);
  check_contiguous(workspace);
  const int64_t entries = g.batch * g.grid_rows * g.grid_cols;
  if (workspace.view.sizes[0] < 2 * entries) {
    fail(workspace.op, ": expected ", workspace.name, " of at least ", 2 * entries,
         " elements, got ", workspace.view.sizes[0]);
  }
  auto* memory = data<int32_t>(workspace.view);
  return {memory, memory + entries};
}

// One row of scores where rows follow each other without a gap: positions need no division.
SelectArgs select_args(const char* op, const TensorView& mask, const TensorView& index,
                       bool largest) {
  const Operand scores = {op, "mask", mask};
  check_on_gpu(scores);
  check_floating(scores);
  check_rank(scores, "[B,Gh,Gw]", 3);
  check_index({op, "index", index}, mask);
  const int64_t cells = mask.sizes[1] * mask.sizes[2];
  const int64_t k = index.sizes[1];
  if (k > cells) fail(op, ": expected k <= Gh*Gw = ", cells, ", got k = ", k);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (std::max(cells, mask.sizes[0]) > kMost) {
    fail(op, ": expected at most ", kMost, " images and scores in each, got mask ",
         shape_text(mask));
  }
  const int64_t element = element_size(mask.dtype);
  const bool gapless = mask.sizes[1] == 1 || mask.strides[1] == mask.sizes[2] * mask.strides[2];
  const int64_t cols = std::max<int64_t>(gapless ? cells : mask.sizes[2], 1);
  SelectArgs args = {};
  args.mask = data<const char>(mask);
  args.dtype = mask.dtype;
  args.image = mask.strides[0] * element;
  args.row = mask.strides[1] * element;
  args.col = mask.strides[2] * element;
  args.batch = static_cast<int32_t>(mask.sizes[0]);
  args.count = static_cast<int32_t>(cells);
  args.by_cols = fast_divisor(cols);
  args.k = static_cast<int32_t>(k);
  args.largest = largest;
  args.index = data<int32_t>(index);
  return args;
}

PatchGeometry check_gather(const char* op, const TensorView& map, const TensorView& index,
                           const TensorView& patches, PatchShape shape) {
  check_map({op, "x", map});
  check_index({op, "index", index}, map);
  const PatchGeometry geometry = geometry_of(op, map, index, shape);
  check_patches({op, "patches", patches}, geometry, map);
  check_writable({op, "patches", patches});
  return geometry;
}

GatherArgs gather_args(const char* op, const PatchGeometry& geometry, const TensorView& map,
                       const TensorView& index, const TensorView& patches) {
  const PatchWalk walk = plan_walk(op, geometry, {&map, &patches}, WordSizes::kAny);
  return {walk, lines_of(map, walk), lines_of(patches, walk), data<const int32_t>(index)};
}

}  // namespace

void select_patches(const TensorView& mask, const TensorView& index, bool largest, void* stream) {
  const SelectArgs args = select_args("select_patches", mask, index, largest);
  if (!empty(index)) launch::select_patches(args, stream);
}

void gather_patches(const TensorView& map, const TensorView& index, const TensorView& patches,
                    PatchShape shape, void* stream) {
  const char* op = "gather_patches";
  const PatchGeometry geometry = check_gather(op, map, index, patches, shape);
  if (empty(patches)) return;
  launch::gather_patches(gather_args(op, geometry, map, index, patches), stream);
}

void select_gather_patches(const TensorView& mask, const TensorView& map, const TensorView& index,
                           const TensorView& patches, PatchShape shape, bool largest,
                           void* stream) {
  const char* op = "select_gather_patches";
  const SelectArgs select = select_args(op, mask, index, largest);
  const PatchGeometry g = check_gather(op, map, index, patches, shape);
  check_shape({op, "mask", mask}, "[B,Gh,Gw]", {g.batch, g.grid_rows, g.grid_cols});
  if (empty(index)) return;
  if (empty(patches)) return launch::select_patches(select, stream);
  launch::select_gather_patches(select, gather_args(op, g, map, index, patches), stream);
}

int64_t gather_patches_backward_workspace(int64_t batch, int64_t height, int64_t width,
                                          PatchShape shape) {
  return slot_map_elements("gather_patches_backward", batch, height, width, shape);
}

void gather_patches_backward(const TensorView& grad, const TensorView& index,
                             const TensorView& grad_x, const TensorView& workspace,
                             PatchShape shape, void* stream) {
  const char* op = "gather_patches_backward";
  check_map({op, "grad_x", grad_x});
  check_writable({op, "grad_x", grad_x});
  check_index({op, "index", index}, grad_x);
  const PatchGeometry geometry = geometry_of(op, grad_x, index, shape);
  check_patches({op, "grad", grad}, geometry, grad_x);
  const SlotMap slots = slot_map_in({op, "workspace", workspace}, geometry, grad_x);
  if (empty(grad_x)) return;
  const PatchWalk walk = plan_walk(op, geometry, {&grad_x, &grad}, WordSizes::kArithmetic);
  launch::gather_patches_backward({walk, grad_x.dtype, lines_of(grad, walk), lines_of(grad_x, walk),
                                   data<const int32_t>(index), slots},
                                  stream);
}

int64_t scatter_patches_workspace(int64_t batch, int64_t height, int64_t width, PatchShape shape,
                                  bool in_place) {
  const int64_t elements = slot_map_elements("scatter_patches", batch, height, width, shape);
  return in_place && !can_overlap(shape) ? 0 : elements;
}

void scatter_patches(const TensorView& canvas, const TensorView& patches, const TensorView& index,
                     const TensorView& out, const TensorView& workspace, PatchShape shape,
                     Reduce reduce, void* stream) {
  const bool in_place = out.data == canvas.data;
  const char* op = in_place ? "scatter_patches_" : "scatter_patches";
  check_map({op, "canvas", canvas});
  check_index({op, "index", index}, canvas);
  const PatchGeometry geometry = geometry_of(op, canvas, index, shape);
  check_patches({op, "patches", patches}, geometry, canvas);
  check_like_map({op, "out", out}, canvas);
  check_writable({op, in_place ? "canvas" : "out", out});
  const bool paste = in_place && !can_overlap(shape);
  const SlotMap slots =
      paste ? SlotMap{} : slot_map_in({op, "workspace", workspace}, geometry, canvas);
  if (empty(out) || (in_place && empty(patches))) return;

  const bool mean = reduce == Reduce::kMean && can_overlap(shape);  // of one patch: the patch
  ScatterArgs args = {};
  args.walk = plan_walk(op, geometry, {&canvas, &patches, &out},
                        mean ? WordSizes::kArithmetic : WordSizes::kAny);
  args.dtype = canvas.dtype;
  args.mean = mean;
  args.in_place = in_place;
  args.canvas = lines_of(canvas, args.walk);
  args.patches = lines_of(patches, args.walk);
  args.out = lines_of(out, args.walk);
  args.index = data<const int32_t>(index);
  args.slots = slots;
  launch::scatter_patches(args, stream);
}

int64_t scatter_patches_backward_workspace(int64_t batch, int64_t height, int64_t width,
                                           PatchShape shape) {
  return slot_map_elements("scatter_patches_backward", batch, height, width, shape);
}

void scatter_patches_backward(const TensorView& grad, const TensorView& index,
                              const TensorView& grad_canvas, const TensorView& grad_patches,
                              const TensorView& workspace, PatchShape shape, Reduce reduce,
                              void* stream) {
  const char* op = "scatter_patches_backward";
  check_map({op, "grad", grad});
  check_index({op, "index", index}, grad);
  const PatchGeometry geometry = geometry_of(op, grad, index, shape);
  check_like_map({op, "grad_canvas", grad_canvas}, grad);
  check_patches({op, "grad_patches", grad_patches}, geometry, grad);
  check_writable({op, "grad_canvas", grad_canvas});
  check_writable({op, "grad_patches", grad_patches});
  const SlotMap slots = slot_map_in({op, "workspace", workspace}, geometry, grad);
  if (empty(grad_canvas)) return;

  const bool overlap = can_overlap(shape);
  ScatterBackwardArgs args = {};
  args.mean = reduce == Reduce::kMean && overlap;
  args.walk = plan_walk(op, geometry, {&grad, &grad_canvas, &grad_patches},
                        args.mean ? WordSizes::kArithmetic : WordSizes::kAny);
  args.dtype = grad.dtype;
  args.overlap = overlap;
  args.grad = lines_of(grad, args.walk);
  args.grad_canvas = lines_of(grad_canvas, args.walk);
  args.grad_patches = lines_of(grad_patches, args.walk);
  args.index = data<const int32_t>(index);
  args.slots = slots;
  launch::scatter_patches_backward(args, stream);
}

}  // namespace cuda
}  // namespace sparsesr
