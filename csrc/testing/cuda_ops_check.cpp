// The CUDA ops, executed on the host by the SIMT shim, against the CPU ops, at awkward sizes:
// everything bit by bit. Sums and means too, for their inputs are such that every sum is exact in
// the accumulator (float32, or float64), so that its order cannot matter, and one correctly rounded
// division or conversion follows. Prints how many cases passed, or the first that did not.
// Arguments n and i, 1 and 0 unless given, pick every n-th case from the i-th on. README.md says
// how to compile it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "common/patch_plan.h"
#include "cpu/ops.h"
#include "cuda/ops.h"
#include "testing/check_progress.h"
#include "testing/check_tensors.h"
#include "testing/cuda_masked_check.h"
#include "testing/cuda_program_check.h"
#include "testing/cuda_route_check.h"

namespace {

using namespace sparsesr;
using check::Layout;
using check::Progress;
using check::Tensor;
using check::Values;
using cpu::PatchShape;
using cpu::Reduce;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};

Tensor workspace_of(int64_t elements) { return Tensor(DType::kInt32, {elements}); }

// --- select_patches

struct Scores {
  int64_t batch, rows, cols;
};

constexpr Scores kScores[] = {{1, 1, 1},   {2, 1, 7},   {1, 3, 11},  {2, 8, 8},
                              {1, 17, 31}, {2, 33, 32}, {1, 45, 48}, {1, 90, 90}};
constexpr Values kPatterns[] = {Values::kExact, Values::kSpecial, Values::kEqual,
                                Values::kFiveLevels};

void check_select(const Scores& s, DType dtype, Values values, Layout layout, int64_t k,
                  bool largest) {
  Tensor mask(dtype, {s.batch, s.rows, s.cols}, layout);
  mask.fill(values, static_cast<uint64_t>(s.rows * 1000 + k));
  const Tensor expected(DType::kInt32, {s.batch, k}), got = expected.copy();
  cpu::select_patches(mask.view, expected.view, largest, 1);
  cuda::select_patches(mask.view, got.view, largest, nullptr);
  Tensor::expect_equal("select_patches of " + mask.name() + ", values of kind " +
                           std::to_string(static_cast<int>(values)) + ", k = " + std::to_string(k) +
                           (largest ? ", largest" : ", smallest"),
                       expected, got);
}

void check_selects(Progress& progress) {
  for (const Scores& s : kScores) {
    const int64_t cells = s.rows * s.cols;
    for (const Values values : kPatterns) {
      for (const int64_t k : {int64_t{0}, int64_t{1}, cells / 3, cells - 1, cells}) {
        if (!progress.next()) continue;
        const DType dtype = kDTypes[progress.seen % 4];
        const Layout layout = progress.seen % 3 == 0 ? Layout::kCropped : Layout::kContiguous;
        check_select(s, dtype, values, layout, k, progress.seen % 2 == 0);
        ++progress.passed;
      }
    }
  }
  // More scores than a block's shared memory holds: the candidates fit, or do not.
  const Layout whole = Layout::kContiguous;
  check_select({1, 180, 180}, DType::kFloat32, Values::kFiveLevels, whole, 3240, true);
  check_select({1, 256, 512}, DType::kFloat16, Values::kSpecial, Layout::kCropped, 32768, true);
  check_select({1, 256, 512}, DType::kFloat32, Values::kEqual, whole, 70000, false);
  progress.passed += 3;
}

// --- the patch ops

struct Map {
  int64_t batch, channels, height, width;
};

struct Geometry {
  Map map;
  PatchShape shape;
};

constexpr Geometry kGeometries[] = {
    {{1, 1, 1, 1}, {4, 1, 4}},     {{2, 3, 5, 7}, {2, 1, 2}},    {{1, 5, 3, 2}, {8, 2, 8}},
    {{2, 16, 12, 8}, {4, 1, 4}},   {{1, 8, 17, 14}, {4, 0, 2}},  {{1, 12, 9, 20}, {5, 3, 3}},
    {{1, 64, 8, 8}, {4, 1, 4}},    {{2, 12, 10, 16}, {4, 0, 6}}, {{1, 16, 16, 16}, {8, 0, 4}},
    {{1, 3, 20, 24}, {8, 2, 8}},   {{1, 1, 20, 18}, {1, 0, 1}},  {{2, 8, 6, 6}, {3, 3, 2}},
    {{1, 16, 16, 32}, {16, 0, 8}}, {{1, 64, 5, 4}, {1, 3, 2}},   {{2, 5, 13, 9}, {2, 1, 5}},
};

struct Layouts {
  Layout map, patches;
};

constexpr Layouts kLayouts[] = {
    {Layout::kContiguous, Layout::kContiguous}, {Layout::kLast, Layout::kLast},
    {Layout::kSlice, Layout::kContiguous},      {Layout::kCropped, Layout::kContiguous},
    {Layout::kLast, Layout::kContiguous},       {Layout::kSliceLast, Layout::kLast},
    {Layout::kCroppedLast, Layout::kLast},      {Layout::kContiguous, Layout::kCroppedLast},
};

// One set of operands for all patch ops.
struct Case {
  Map map;
  PatchShape shape, core;  // core: without halo
  DType dtype;
  Layouts layouts;
  int64_t k, cells;
  PatchGeometry geometry;
  uint64_t seed;

  int64_t slots() const { return map.batch * k; }
  Tensor new_map(Values values) const {
    Tensor tensor(dtype, {map.batch, map.channels, map.height, map.width}, layouts.map);
    tensor.fill(values, seed);
    return tensor;
  }
  Tensor new_patches(int64_t side, Values values) const {
    Tensor tensor(dtype, {slots(), map.channels, side, side}, layouts.patches);
    tensor.fill(values, seed + 1);
    return tensor;
  }
  void expect_equal(const char* op, const Tensor& expected, const Tensor& got) const {
    const Tensor x = new_map(Values::kEqual);
    std::string text = std::string(op) + ", map " + x.name() + ", patch " +
                       std::to_string(shape.patch_size) + " halo " + std::to_string(shape.halo) +
                       " stride " + std::to_string(shape.stride) + " k " + std::to_string(k);
    Tensor::expect_equal(text, expected, got);
  }
};

int32_t* values_of(const Tensor& index) { return static_cast<int32_t*>(index.view.data); }

// Distinct in each image, in no order.
Tensor distinct_index(const Case& c) {
  Tensor index(DType::kInt32, {c.map.batch, c.k});
  std::vector<int32_t> cells(c.cells);
  std::iota(cells.begin(), cells.end(), 0);
  std::mt19937_64 random(c.seed);
  for (int64_t b = 0; b < c.map.batch; ++b) {
    std::shuffle(cells.begin(), cells.end(), random);
    std::copy_n(cells.begin(), c.k, values_of(index) + b * c.k);
  }
  return index;
}

Tensor repeating_index(const Case& c) {
  Tensor index(DType::kInt32, {c.map.batch, c.k});
  std::mt19937_64 random(c.seed);
  const auto few = static_cast<uint64_t>((c.cells + 1) / 2);
  for (int64_t i = 0; i < c.slots(); ++i) {
    values_of(index)[i] = static_cast<int32_t>(random() % few);
  }
  return index;
}

void check_gather(const Case& c, const Tensor& index) {
  const Tensor x = c.new_map(Values::kSpecial);
  const Tensor expected = c.new_patches(c.geometry.window, Values::kEqual), got = expected.copy();
  cpu::gather_patches(x.view, index.view, expected.view, c.shape, 1);
  cuda::gather_patches(x.view, index.view, got.view, c.shape, nullptr);
  c.expect_equal("gather_patches", expected, got);

  const Tensor grad = c.new_patches(c.geometry.window, Values::kExact);
  const Tensor grad_x = c.new_map(Values::kEqual), grad_got = grad_x.copy();
  const Tensor workspace = workspace_of(
      cuda::gather_patches_backward_workspace(c.map.batch, c.map.height, c.map.width, c.shape));
  cpu::gather_patches_backward(grad.view, index.view, grad_x.view, c.shape, 1);
  cuda::gather_patches_backward(grad.view, index.view, grad_got.view, workspace.view, c.shape,
                                nullptr);
  c.expect_equal("gather_patches_backward", grad_x, grad_got);
}

void check_select_gather(const Case& c) {
  const Tensor x = c.new_map(Values::kSpecial);
  Tensor mask(c.dtype, {c.map.batch, c.geometry.grid_rows, c.geometry.grid_cols});
  mask.fill(Values::kFiveLevels, c.seed);
  const Tensor index(DType::kInt32, {c.map.batch, c.k}), index_got = index.copy();
  const Tensor expected = c.new_patches(c.geometry.window, Values::kEqual), got = expected.copy();
  const bool largest = c.seed % 2 == 0;
  cpu::select_gather_patches(mask.view, x.view, index.view, expected.view, c.shape, largest, 1);
  cuda::select_gather_patches(mask.view, x.view, index_got.view, got.view, c.shape, largest,
                              nullptr);
  c.expect_equal("select_gather_patches: index", index, index_got);
  c.expect_equal("select_gather_patches", expected, got);
}

void check_scatter(const Case& c, const Tensor& index, Reduce reduce) {
  const bool mean = reduce == Reduce::kMean;
  const Values values = mean ? Values::kExact : Values::kSpecial;
  const Tensor canvas = c.new_map(Values::kSpecial),
               patches = c.new_patches(c.shape.patch_size, values);
  const Tensor expected = c.new_map(Values::kEqual), got = expected.copy();
  const auto workspace = [&](bool in_place) {
    return workspace_of(
        cuda::scatter_patches_workspace(c.map.batch, c.map.height, c.map.width, c.core, in_place));
  };
  cpu::scatter_patches(canvas.view, patches.view, index.view, expected.view, c.core, reduce, 1);
  cuda::scatter_patches(canvas.view, patches.view, index.view, got.view, workspace(false).view,
                        c.core, reduce, nullptr);
  c.expect_equal(mean ? "scatter_patches mean" : "scatter_patches replace", expected, got);

  const Tensor here = canvas.copy(), here_got = canvas.copy();
  cpu::scatter_patches(here.view, patches.view, index.view, here.view, c.core, reduce, 1);
  cuda::scatter_patches(here_got.view, patches.view, index.view, here_got.view,
                        workspace(true).view, c.core, reduce, nullptr);
  c.expect_equal(mean ? "scatter_patches_ mean" : "scatter_patches_ replace", here, here_got);

  const Tensor grad = c.new_map(values);
  const Tensor grad_canvas = c.new_map(Values::kEqual), canvas_got = grad_canvas.copy();
  const Tensor grad_patches = c.new_patches(c.shape.patch_size, Values::kEqual);
  const Tensor patches_got = grad_patches.copy();
  const Tensor backward_workspace = workspace_of(
      cuda::scatter_patches_backward_workspace(c.map.batch, c.map.height, c.map.width, c.core));
  cpu::scatter_patches_backward(grad.view, index.view, grad_canvas.view, grad_patches.view, c.core,
                                reduce, 1);
  cuda::scatter_patches_backward(grad.view, index.view, canvas_got.view, patches_got.view,
                                 backward_workspace.view, c.core, reduce, nullptr);
  c.expect_equal("scatter_patches_backward: grad_canvas", grad_canvas, canvas_got);
  c.expect_equal("scatter_patches_backward: grad_patches", grad_patches, patches_got);
}

// Indices outside the grid, which only the GPU takes, in the first and the last slot of one image.
// What is expected comes from the slots between.
void check_off_grid(const Case& c, int32_t below, int32_t above) {
  const Tensor index = distinct_index(c);
  values_of(index)[0] = below;
  values_of(index)[c.k - 1] = above;
  TensorView inner = index.view;
  inner.data = values_of(index) + 1;
  inner.sizes[1] = inner.strides[0] = c.k - 2;

  const Tensor x = c.new_map(Values::kSpecial);
  Tensor windows = c.new_patches(c.geometry.window, Values::kExact);
  const Tensor windows_got = windows.copy(), grad = windows.copy();
  cpu::gather_patches(x.view, inner, windows.narrow(1, c.k - 2), c.shape, 1);
  cuda::gather_patches(x.view, index.view, windows_got.view, c.shape, nullptr);
  windows.set(0, 0.0);
  windows.set(c.k - 1, 0.0);
  c.expect_equal("gather_patches off the grid", windows, windows_got);

  const Tensor grad_x = c.new_map(Values::kEqual), grad_got = grad_x.copy();
  const Tensor workspace = workspace_of(
      std::max({cuda::gather_patches_backward_workspace(1, c.map.height, c.map.width, c.shape),
                cuda::scatter_patches_workspace(1, c.map.height, c.map.width, c.core, false),
                cuda::scatter_patches_backward_workspace(1, c.map.height, c.map.width, c.core)}));
  cpu::gather_patches_backward(grad.narrow(1, c.k - 2), inner, grad_x.view, c.shape, 1);
  cuda::gather_patches_backward(grad.view, index.view, grad_got.view, workspace.view, c.shape,
                                nullptr);
  c.expect_equal("gather_patches_backward off the grid", grad_x, grad_got);

  for (const Reduce reduce : {Reduce::kReplace, Reduce::kMean}) {
    Tensor cores = c.new_patches(c.shape.patch_size, Values::kExact);
    const Tensor cores_got = cores.copy();
    const Tensor out = x.copy(), out_got = x.copy(), in = c.new_map(Values::kExact);
    cpu::scatter_patches(in.view, cores.narrow(1, c.k - 2), inner, out.view, c.core, reduce, 1);
    cuda::scatter_patches(in.view, cores.view, index.view, out_got.view, workspace.view, c.core,
                          reduce, nullptr);
    c.expect_equal("scatter_patches off the grid", out, out_got);
    cpu::scatter_patches_backward(in.view, inner, out.view, cores.narrow(1, c.k - 2), c.core,
                                  reduce, 1);
    cuda::scatter_patches_backward(in.view, index.view, out_got.view, cores_got.view,
                                   workspace.view, c.core, reduce, nullptr);
    cores.set(0, 0.0);
    cores.set(c.k - 1, 0.0);
    c.expect_equal("scatter_patches_backward off the grid: grad_canvas", out, out_got);
    c.expect_equal("scatter_patches_backward off the grid: grad_patches", cores, cores_got);
  }
}

void check_patch_ops(Case c, int which) {
  const int64_t some[] = {c.cells, (c.cells + 1) / 2, 1, c.cells / 3, 0};
  c.k = some[which % 5];
  check_gather(c, distinct_index(c));
  check_gather(c, repeating_index(c));
  check_select_gather(c);
  for (const Reduce reduce : {Reduce::kReplace, Reduce::kMean}) {
    check_scatter(c, distinct_index(c), reduce);
  }
  if (c.map.batch > 1 || c.cells < 4) return;
  c.k = std::min<int64_t>(c.cells, 6);
  const auto cells = static_cast<int32_t>(c.cells);
  const auto most = std::numeric_limits<int32_t>::max();
  which % 2 == 0 ? check_off_grid(c, -1, cells) : check_off_grid(c, -most - 1, most);
}

void check_all_patch_ops(Progress& progress) {
  for (const Geometry& g : kGeometries) {
    for (const DType dtype : kDTypes) {
      for (const Layouts& layouts : kLayouts) {
        if (!progress.next()) continue;
        Case c = {};
        c.map = g.map;
        c.shape = g.shape;
        c.core = {g.shape.patch_size, 0, g.shape.stride};
        c.dtype = dtype;
        c.layouts = layouts;
        c.geometry = patch_geometry("check", g.map.batch, g.map.channels, g.map.height, g.map.width,
                                    g.shape.patch_size, g.shape.halo, g.shape.stride);
        c.cells = c.geometry.grid_rows * c.geometry.grid_cols;
        c.seed = static_cast<uint64_t>(progress.seen);
        check_patch_ops(c, progress.seen);
        ++progress.passed;
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IONBF, 0);  // a sanitizer may end the program at any time
  const auto argument = [&](int i, int absent) { return argc > i ? std::atoi(argv[i]) : absent; };
  Progress progress = {argument(1, 1), argument(2, 0)};
  try {
    check_selects(progress);
    check_all_patch_ops(progress);
    check::check_masked_ops(progress);
    check::check_route_ops(progress);
    check::check_pixel_ops(progress);
    check::check_program_ops(progress);
  } catch (const std::exception& error) {
    return std::printf("FAILED %s\n", error.what()), 1;
  }
  return std::printf("%d cases\n", progress.passed), 0;
}
