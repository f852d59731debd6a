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

Tensor zeros(DType dtype, std::vector<int64_t> sizes, bool channels_last = false) {
  Tensor tensor(dtype, sizes, channels_last);
  std::memset(tensor.view.data, 0, element_size(dtype) * num_elements(tensor.view));
  return tensor;
}

// Every third pixel is active, or all, or none.
Tensor pixel_mask(const Map& m, int every) {
  Tensor mask = zeros(DType::kBool, {m.batch, 1, m.height, m.width});
  auto* values = static_cast<uint8_t*>(mask.view.data);
  for (int64_t i = 0; i < num_elements(mask.view); ++i) values[i] = every != 0 && i % every == 0;
  return mask;
}

void run_masked(const Map& m, int every) {
  const PackingRule rule = cpu::packing_rule(/*pairs=*/false);
  const auto padded = [](int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; };
  const auto packed = [&](int64_t lanes, int64_t outputs, int64_t inputs, int64_t side) {
    return padded(side * side * inputs * padded(outputs, lanes), 16);
  };
  const int64_t outputs = m.channels + 1, none = 0;
  const auto map = [&](int64_t channels) {
    return zeros(DType::kFloat32, {m.batch, channels, m.height, m.width}, true);
  };
  const Tensor x = map(m.channels), out = map(outputs), mask = pixel_mask(m, every);
  const Tensor bias = zeros(DType::kFloat32, {outputs}), no_bias(DType::kFloat32, {none});
  for (const int64_t side : {1, 3, 5}) {
    const Tensor weights = zeros(DType::kFloat32, {packed(rule.lanes, outputs, m.channels, side)});
    cpu::masked_conv2d(x.view, weights.view, side, bias.view, mask.view, out.view, 1);
  }

  const std::vector<int64_t> dense = {m.channels / 2, m.channels, 0, 1};
  int64_t elements = 0, inputs = m.channels;
  for (const int64_t count : dense) {
    elements += packed(rule.lanes, m.channels, m.channels, 3);
    elements += packed(rule.lanes, outputs, m.channels, 1);
    elements += packed(count <= rule.narrow ? rule.narrow : rule.lanes, count, inputs, 3);
    inputs = count;
  }
  const Tensor weights = zeros(DType::kFloat32, {elements});
  const int64_t room = m.height * m.width * padded(m.channels, rule.lanes);
  const Tensor features(DType::kFloat32, {room}), other(DType::kFloat32, {room});
  cpu::masked_block(x.view, weights.view, dense, no_bias.view, mask.view, features.view, other.view,
                    out.view, 1);
}

// Two classes, of one and of two layers, and a class that is not there.
void run_routing(const Map& m, int scale) {
  const int64_t height = m.height * scale, width = m.width * scale, outputs = 3, hidden = 5;
  const auto map = [&](int64_t channels, int64_t rows, int64_t columns, bool last) {
    return zeros(DType::kFloat32, {m.batch, channels, rows, columns}, last);
  };
  const Tensor feature = map(m.channels, m.height, m.width, true);
  const Tensor image = map(outputs, m.height, m.width, false);
  const Tensor out = map(outputs, height, width, scale % 2 == 0);
  const Tensor rows = zeros(DType::kFloat32, {height}), cols = zeros(DType::kFloat32, {width});
  Tensor class_map(DType::kUInt8, {m.batch, height, width});
  auto* classes = static_cast<uint8_t*>(class_map.view.data);
  for (int64_t i = 0; i < num_elements(class_map.view); ++i) classes[i] = i % 3;

  const int64_t lanes = cpu::packing_rule(/*pairs=*/false).lanes;
  const auto table = [&](int64_t n) {
    return zeros(DType::kFloat32, {scale, (n + lanes - 1) / lanes * lanes});
  };
  const auto first = [&](int64_t n) {
    return zeros(DType::kFloat32, {cpu::packed_conv_size(n, m.channels, 1)});
  };
  const Tensor light = first(outputs), light_bias = table(outputs), none(DType::kFloat32, {0});
  const Tensor heavy = first(hidden), heavy_bias = table(hidden);
  const Tensor later = zeros(DType::kFloat32, {(hidden + 1) * outputs});
  cpu::route_mlp(feature.view, class_map.view,
                 {{light.view, light_bias.view, light_bias.view, none.view, {outputs}},
                  {heavy.view, heavy_bias.view, heavy_bias.view, later.view, {hidden, outputs}}},
                 rows.view, cols.view, image.view, out.view, 1);
  const Tensor averaged = map(outputs, height, width, true);
  cpu::average_neighbors(out.view, class_map.view, 1, 1, averaged.view, 1);
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
  for (const Map& map : kMaps) {
    for (const int every : {0, 1, 3}) {
      run_masked(map, every);
      ++count;
    }
    for (const int scale : {1, 2, 3}) {
      run_routing(map, scale);
      ++count;
    }
  }
  std::printf("%d cases\n", count);
  return 0;
}
