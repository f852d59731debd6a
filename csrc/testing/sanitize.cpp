// Runs the CPU ops at awkward sizes under the sanitizers, without Python: heap blocks of exactly
// the tensors' extent turn any access beyond them into an error. tests/native/test_core.py compiles
// and runs it (g++ -fsanitize=address,undefined -DSPARSESR_ISA=portable -Icsrc, on
// csrc/common/*.cpp, csrc/cpu/*.cpp and this file).
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "common/patch_plan.h"
#include "cpu/ops.h"

namespace {

using namespace sparsesr;

struct Tensor {
  Tensor(DType dtype, std::vector<int64_t> sizes, bool channels_last = false) {
    view = {nullptr, dtype, kCpu, static_cast<int>(sizes.size()), {}, {}};
    std::vector<int> order(sizes.size());  // dimensions from innermost to outermost
    for (size_t d = 0; d < sizes.size(); ++d) order[d] = static_cast<int>(sizes.size() - 1 - d);
    if (channels_last) order = {1, 3, 2, 0};
    int64_t stride = 1;
    for (int d : order) {
      view.sizes[d] = sizes[d];
      view.strides[d] = stride;
      stride *= sizes[d];
    }
    const int64_t bytes = stride * element_size(dtype);
    memory.reset(new char[bytes]);
    for (int64_t i = 0; i < bytes; ++i) memory[i] = static_cast<char>(i * 37 % 101);
    view.data = memory.get();
  }

  TensorView view;
  std::unique_ptr<char[]> memory;
};

struct Map {
  int64_t batch, channels, height, width;
};

constexpr Map kMaps[] = {{1, 1, 1, 1},   {2, 3, 5, 7},   {1, 5, 3, 2},
                         {2, 16, 12, 8}, {1, 2, 17, 14}, {1, 9, 33, 20}};
constexpr cpu::PatchShape kShapes[] = {{4, 1, 4}, {1, 0, 1},   {8, 2, 8}, {2, 1, 5},
                                       {4, 0, 2}, {16, 0, 16}, {5, 3, 3}, {24, 0, 7}};

// Every second patch, in descending order.
Tensor some_patches(const PatchGeometry& g) {
  const int64_t cells = g.grid_rows * g.grid_cols;
  const int64_t k = (cells + 1) / 2;
  Tensor index(DType::kInt32, {g.batch, k});
  auto* values = static_cast<int32_t*>(index.view.data);
  for (int64_t i = 0; i < g.batch * k; ++i) {
    values[i] = static_cast<int32_t>(cells - 1 - 2 * (i % k));
  }
  return index;
}

void run(const Map& m, const cpu::PatchShape& shape, DType dtype, bool last, bool patches_last) {
  const PatchGeometry g = patch_geometry("sanitize", m.batch, m.channels, m.height, m.width,
                                         shape.patch_size, shape.halo, shape.stride);
  const Tensor index = some_patches(g);
  const int64_t slots = m.batch * index.view.sizes[1];
  const auto map = [&] { return Tensor(dtype, {m.batch, m.channels, m.height, m.width}, last); };
  const auto patches = [&](int64_t side) {
    return Tensor(dtype, {slots, m.channels, side, side}, patches_last);
  };
  const Tensor x = map(), grad_x = map();
  const Tensor windows = patches(g.window), cores = patches(g.patch_size);
  cpu::gather_patches(x.view, index.view, windows.view, shape, 1);
  cpu::gather_patches_backward(windows.view, index.view, grad_x.view, shape, 1);

  const Tensor mask(dtype, {m.batch, g.grid_rows, g.grid_cols});
  const Tensor selected(DType::kInt32, {m.batch, index.view.sizes[1]});
  cpu::select_patches(mask.view, selected.view, /*largest=*/false, 1);
  cpu::select_gather_patches(mask.view, x.view, selected.view, windows.view, shape, true, 1);

  const cpu::PatchShape core = {shape.patch_size, 0, shape.stride};
  for (const cpu::Reduce reduce : {cpu::Reduce::kReplace, cpu::Reduce::kMean}) {
    const Tensor out = map();
    cpu::scatter_patches(x.view, cores.view, index.view, out.view, core, reduce, 1);
    cpu::scatter_patches(out.view, cores.view, index.view, out.view, core, reduce, 1);
    cpu::scatter_patches_backward(out.view, index.view, grad_x.view, cores.view, core, reduce, 1);
  }
}

}  // namespace

int main() {
  int count = 0;
  for (const Map& map : kMaps) {
    for (const cpu::PatchShape& shape : kShapes) {
      for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kFloat64}) {
        for (const int layouts : {0, 1, 2, 3}) {
          run(map, shape, dtype, (layouts & 1) != 0, (layouts & 2) != 0);
          ++count;
        }
      }
    }
  }
  std::printf("%d cases\n", count);
  return 0;
}
