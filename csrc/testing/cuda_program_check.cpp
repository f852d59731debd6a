// Programs on patches against their formula, told step by step and pixel by pixel. Weights are few
// and small numbers, so that sums are exact; the formula rounds where the kernel does, and results
// are then compared bit by bit. Programs with functions that are not exact have a tolerance of a
// few roundings.
#include "testing/cuda_program_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/checks.h"
#include "common/patch_plan.h"
#include "cuda/program_kernels.h"
#include "cuda/program_ops.h"
#include "testing/check_tensors.h"
#include "testing/program_formula.h"

namespace sparsesr {
namespace check {
namespace {

using Random = std::mt19937_64;
struct Text {
  const char* name;
  std::vector<const char*> lines;  // the last one returns
  std::vector<Sizes> parameters;
  int64_t channels, patch_size, halo;
  bool exact = true;
};

// --- the programs: what the Refine-Nets are made of, and what is awkward

const Text kTexts[] = {
    {"fsrcnn x4",
     {"v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2",
      "v2 = conv v1 weight=3 bias=4 pad=1 act=leaky:0.5", "v3 = conv v2 weight=5 bias=6",
      "v4 = conv v3 weight=7 bias=8 act=prelu:9", "v5 = deconv v4 weight=10 bias=11 stride=4 pad=4",
      "return v5"},
     {{12, 12, 3, 3},
      {12},
      {12},
      {12, 12, 3, 3},
      {12},
      {12, 12, 3, 3},
      {12},
      {56, 12, 1, 1},
      {56},
      {56},
      {56, 3, 9, 9},
      {3}},
     12,
     4,
     1},
    {"fsrcnn x3, in the middle",
     {"v1 = conv v0 weight=0", "v2 = deconv v1 weight=1 stride=3 pad=4 act=relu",
      "v3 = conv v2 weight=2 bias=3 pad=1", "return v3"},
     {{7, 5, 3, 3}, {7, 5, 9, 9}, {2, 5, 3, 3}, {2}},
     5,
     2,
     1},
    {"fsrcnn x2",
     {"v1 = deconv v0 weight=0 stride=2 pad=4 act=leaky:0.25", "return v1"},
     {{19, 3, 9, 9}},
     19,
     3,
     0},
    {"srresnet x4",
     {"v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2", "v2 = conv v1 weight=3 pad=1 add=v0",
      "v3 = conv v2 weight=0 bias=1 pad=1 act=prelu:2", "v4 = conv v3 weight=3 pad=1 add=v2",
      "v5 = add v4 v0", "v6 = conv v5 weight=4", "v7 = conv v6 weight=5 bias=6 pad=1",
      "v8 = shuffle v7 factor=2", "v9 = act v8 act=prelu:2",
      "v10 = conv v9 weight=7 pad=1 act=prelu:8", "v11 = shuffle v10 factor=2",
      "v12 = conv v11 weight=9 bias=10 pad=4", "return v12"},
     {{20, 20, 3, 3},
      {20},
      {1},
      {20, 20, 3, 3},
      {20, 20, 3, 3},
      {80, 20, 3, 3},
      {80},
      {80, 20, 3, 3},
      {80},
      {3, 20, 9, 9},
      {3}},
     20,
     2,
     1},
    {"64 channels",
     {"v1 = conv v0 weight=0 pad=1 act=relu", "v2 = conv v1 weight=1 pad=1 add=v0",
      "v3 = conv v2 weight=2", "v4 = shuffle v3 factor=4", "return v4"},
     {{64, 64, 3, 3}, {64, 64, 3, 3}, {48, 64, 3, 3}},
     64,
     4,
     1},
    {"rcan",
     {"v1 = conv v0 weight=0 bias=1 pad=1 act=relu", "v2 = conv v1 weight=2 bias=1 pad=1",
      "v3 = mean v2", "v4 = conv v3 weight=3 bias=4 act=relu",
      "v5 = conv v4 weight=5 bias=1 act=sigmoid", "v6 = mul v2 v5", "v7 = add v6 v0",
      "v8 = conv v7 weight=6", "v9 = conv v8 weight=7 pad=1", "v10 = shuffle v9 factor=2",
      "v11 = conv v10 weight=8 pad=1", "return v11"},
     {{17, 17, 3, 3},
      {17},
      {17, 17, 3, 3},
      {3, 17, 1, 1},
      {3},
      {17, 3, 1, 1},
      {17, 17, 3, 3},
      {68, 17, 3, 3},
      {3, 17, 3, 3}},
     17,
     3,
     1,
     false},
    {"pan x2",
     {"v1 = conv v0 weight=0 act=leaky:0.25", "v2 = conv v1 weight=1 pad=1 act=leaky:0.25",
      "v3 = conv v0 weight=0 act=leaky:0.25", "v4 = conv v3 weight=2 bias=3 act=sigmoid",
      "v5 = conv v3 weight=1 pad=1 mul=v4", "v6 = conv v5 weight=1 pad=1 act=leaky:0.25",
      "v7 = concat v2 v6", "v8 = conv v7 weight=4 add=v0", "v9 = nearest v8 factor=2",
      "v10 = conv v9 weight=5", "v11 = conv v10 weight=6 bias=7 act=sigmoid", "v12 = mul v10 v11",
      "v13 = act v12 act=leaky:0.25", "v14 = conv v13 weight=8 pad=1 act=leaky:0.25",
      "v15 = conv v14 weight=9", "return v15"},
     {{10, 20, 1, 1},
      {10, 10, 3, 3},
      {10, 10, 1, 1},
      {10},
      {20, 20, 1, 1},
      {6, 20, 3, 3},
      {6, 6, 1, 1},
      {6},
      {6, 6, 3, 3},
      {3, 6, 3, 3}},
     20,
     3,
     1,
     false},
    {"rfdn",
     {"v1 = conv v0 weight=0 act=leaky:0.0625",
      "v2 = conv v0 weight=1 pad=1 add=v0 act=leaky:0.0625",
      "v3 = conv v2 weight=0 act=leaky:0.0625", "v4 = conv v2 weight=2 pad=1 act=leaky:0.0625",
      "v5 = concat v1 v3 v4", "v6 = conv v5 weight=3", "v7 = conv v6 weight=4",
      "v8 = conv v7 weight=5 stride=2", "v9 = conv v8 weight=5 pad=1 act=relu",
      "v10 = resize v9 height=6 width=6", "v11 = conv v7 weight=6", "v12 = add v10 v11",
      "v13 = conv v12 weight=7 bias=8 act=sigmoid mul=v6", "v14 = concat v13 v0 v5",
      "v15 = conv v14 weight=9 act=leaky:0.0625 add=v0", "v16 = conv v15 weight=10",
      "v17 = shuffle v16 factor=2", "return v17"},
     {{5, 10, 1, 1},
      {10, 10, 3, 3},
      {5, 10, 3, 3},
      {10, 15, 1, 1},
      {4, 10, 1, 1},
      {4, 4, 3, 3},
      {4, 4, 1, 1},
      {10, 4, 1, 1},
      {10},
      {10, 35, 1, 1},
      {12, 10, 3, 3}},
     10,
     4,
     1,
     false},
    {"drsan",
     {"v1 = conv v0 weight=0 act=prelu:1",
      "v2 = conv v1 weight=2",
      "v3 = mean v2",
      "v4 = act v0 act=prelu:3",
      "v5 = conv v4 weight=4 pad=1 act=prelu:3",
      "v6 = conv v5 weight=4 pad=1",
      "v7 = slice v3 first=0 count=1",
      "v8 = mul v0 v7",
      "v9 = add v6 v8",
      "v10 = act v6 act=sigmoid",
      "v11 = mul v9 v10",
      "v12 = slice v3 first=1 count=1",
      "v13 = mul v0 v12",
      "v14 = slice v3 first=2 count=1",
      "v15 = mul v11 v14",
      "v16 = add v13 v15",
      "v17 = concat v0 v11 v16",
      "v18 = conv v17 weight=5",
      "v19 = conv v18 weight=6",
      "v20 = shuffle v19 factor=2 order=tf",
      "v21 = conv v20 weight=7 pad=1",
      "return v21"},
     {{16, 9, 1, 1},
      {16},
      {3, 16, 1, 1},
      {9},
      {9, 9, 3, 3},
      {9, 27, 1, 1},
      {36, 9, 3, 3},
      {3, 9, 3, 3}},
     9,
     2,
     1,
     false},
    {"slices and groups",
     {"v1 = slice v0 first=16 count=17", "v2 = slice v0 first=3 count=16",
      "v3 = slice v0 first=0 count=16", "v4 = concat v1 v2 v3 v3", "v5 = conv v4 weight=0 groups=1",
      "v6 = conv v5 weight=1 pad=1 groups=3", "v7 = slice v6 first=1 count=4",
      "v8 = slice v6 first=5 count=4", "v9 = mul v7 v8", "v10 = add v7 v9",
      "v11 = slice v4 first=14 count=4", "v12 = conv v10 weight=2 add=v11 mul=v8 act=tanh",
      "return v12"},
     {{9, 65, 1, 1}, {9, 3, 3, 3}, {4, 4, 1, 1}},
     33,
     5,
     0,
     false},
    {"the input", {"return v0"}, {}, 3, 3, 0},
    {"the input, cropped", {"v1 = crop v0 height=3 width=3", "return v1"}, {}, 18, 3, 1},
    {"a result that is read",
     {"v1 = conv v0 weight=0", "v2 = conv v1 weight=0", "return v1"},
     {{8, 8, 1, 1}},
     8,
     2,
     0},
    {"a result of parts",
     {"v1 = slice v0 first=1 count=3", "v2 = concat v1 v0", "return v2"},
     {},
     5,
     1,
     0},
    {"shuffles and pads",
     {"v1 = pad v0 rows=1 cols=1", "v2 = shuffle v1 factor=2", "v3 = shuffle v1 factor=2 order=tf",
      "v4 = add v2 v3", "v5 = act v4 act=relu", "v6 = crop v5 height=6 width=6", "return v6"},
     {},
     20,
     3,
     0},
    {"one pixel",
     {"v1 = slice v0 first=2 count=1", "v2 = mul v0 v1", "v3 = slice v2 first=0 count=1",
      "v4 = add v2 v3", "v5 = mul v4 v4", "return v5"},
     {},
     19,
     1,
     0},
    {"channels alone",
     {"v1 = softmax v0", "v2 = mean v1", "v3 = add v1 v2", "v4 = act v3 act=tanh", "return v4"},
     {},
     11,
     2,
     0,
     false},
    {"one channel",
     {"v1 = conv v0 weight=0 bias=1 pad=2", "return v1"},
     {{1, 1, 5, 5}, {1}},
     1,
     7,
     0},
};

struct Case {
  const Text& text;
  DType dtype;
  PatchProgram program;
  std::vector<Numbers> weights;
  int64_t batch = 2, height, width, k;
  std::vector<Map> features;  // one for each image
  Sizes index;                // of all images
  PatchGeometry grid;

  Case(const Text& t, DType type, uint64_t seed) : text(t), dtype(type) {
    Random random(seed);
    for (size_t i = 0; i + 1 < t.lines.size(); ++i) program.steps.push_back(step_of(t.lines[i]));
    program.result = std::stoll(std::string(t.lines.back()).substr(8));
    program.parameters = t.parameters;
    for (const Sizes& shape : t.parameters) weights.push_back(parameter(shape, random));
    for (const ProgramStep& step : program.steps) {
      if (step.act != "prelu") continue;
      for (double& slope : weights[step.slopes]) slope = random() % 2 == 0 ? 0.5 : 0.25;
    }
    height = 2 * t.patch_size + 1 + static_cast<int64_t>(random() % 2);
    width = 3 * t.patch_size - static_cast<int64_t>(random() % 2);
    grid = patch_geometry("check", batch, t.channels, height, width, t.patch_size, t.halo,
                          t.patch_size);
    k = std::min<int64_t>(grid.grid_rows * grid.grid_cols, 1 + random() % 6);
    for (int64_t b = 0; b < batch; ++b) {
      features.emplace_back(t.channels, height, width);
      for (double& value : features[b].values) value = static_cast<int>(random() % 5) - 2;
      Sizes cells(grid.grid_rows * grid.grid_cols);
      std::iota(cells.begin(), cells.end(), 0);
      std::shuffle(cells.begin(), cells.end(), random);
      index.insert(index.end(), cells.begin(), cells.begin() + k);
    }
    // Neither read nor written.
    if (seed % 3 == 0) index[random() % index.size()] = grid.grid_rows * grid.grid_cols;
    if (seed % 5 == 0) index[random() % index.size()] = -1;
    for (const Map& value : run_formula(program, weights, dtype, window(0, 0))) {
      program.shapes.push_back({value.channels, value.height, value.width});
    }
  }

  // Two weights of 1, -1 or 1/2 for each output; all biases.
  static Numbers parameter(const Sizes& shape, Random& random) {
    const int64_t size =
        std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    Numbers values(size);
    const auto draw = [&] { return random() % 4 == 0 ? 0.5 : random() % 3 == 0 ? -1.0 : 1.0; };
    if (shape.size() == 1) {
      for (double& value : values) value = draw();
      return values;
    }
    for (int64_t i = 0; i < 2 * shape[0] * (shape[2] > 5 ? shape[2] : 1); ++i) {
      const int64_t own = size / shape[0];
      values[i % shape[0] * own + static_cast<int64_t>(random() % own)] = draw();
    }
    return values;
  }

  Map window(int64_t image, int64_t cell) const {
    const int64_t side = text.patch_size + 2 * text.halo;
    const int64_t top = cell / grid.grid_cols * text.patch_size - text.halo;
    const int64_t left = cell % grid.grid_cols * text.patch_size - text.halo;
    Map made(text.channels, side, side);
    for (int64_t c = 0; c < text.channels; ++c) {
      for (int64_t y = 0; y < side; ++y) {
        for (int64_t x = 0; x < side; ++x) {
          made.at(c, y, x) = features[image].outside_zero(c, top + y, left + x);
        }
      }
    }
    return made;
  }

  // What the canvas is to hold where patches are.
  void write_expected(const TensorView& canvas) const {
    const Sizes& shape = program.shapes[program.result];
    for (size_t i = 0; i < index.size(); ++i) {
      const int64_t cell = index[i], image = static_cast<int64_t>(i) / k;
      if (cell < 0 || cell >= grid.grid_rows * grid.grid_cols) continue;
      const Map made = run_formula(program, weights, dtype, window(image, cell))[program.result];
      const int64_t top = cell / grid.grid_cols * shape[1], left = cell % grid.grid_cols * shape[2];
      for_each(canvas, [&](int64_t offset, int64_t b, int64_t c, int64_t y, int64_t x) {
        const bool own = y >= top && y < top + shape[1] && x >= left && x < left + shape[2];
        if (b == image && own) write_element(canvas, offset, made.at(c, y - top, x - left));
      });
    }
  }
};

Tensor words_of(const std::vector<int32_t>& words) {
  return vector_of(Numbers(words.begin(), words.end()), DType::kInt32);
}

Numbers pick(const Numbers& from, const std::vector<int32_t>& elements) {
  Numbers made;
  for (const int32_t e : elements) made.push_back(e < 0 ? 0 : from[e]);
  return made;
}

// Where both are near each other, the expected value becomes what there is.
void forgive(const TensorView& expected, const TensorView& got, DType dtype) {
  double most = 0;
  for_each(expected, [&](int64_t at, int64_t, int64_t, int64_t, int64_t) {
    most = std::max(most, std::abs(read_element(expected, at)));
  });
  const double part = dtype == DType::kBFloat16 ? 0.02 : dtype == DType::kFloat16 ? 0.003 : 1e-5;
  for_each(expected, [&](int64_t at, int64_t, int64_t, int64_t, int64_t) {
    const double wanted = read_element(expected, at), is = read_element(got, at);
    if (std::abs(wanted - is) <= part * most) write_element(expected, at, is);
  });
}

void check_program(const Case& c, Layout layout, int64_t group) {
  const cuda::PatchPlan plan = cuda::plan_patch_program(c.program, c.dtype);
  if (!plan.obstacle.empty()) fail<std::runtime_error>(c.text.name, ": refused: ", plan.obstacle);
  cuda::PatchTableHead head;
  std::memcpy(&head, plan.table.data(), sizeof(head));
  Numbers packed, vectors;
  for (const auto& [parameter, order] : plan.weights) {
    const Numbers part = pick(c.weights[parameter], plan.orders[order]);
    packed.insert(packed.end(), part.begin(), part.end());
  }
  packed.resize(head.num_weights);
  for (const cuda::PackedPart& part : plan.vectors) {
    const Numbers own = pick(c.weights[part.parameter], part.elements);
    vectors.insert(vectors.end(), own.begin(), own.end());
  }
  while (group > 1 && head.zero_bytes + group * head.patch_bytes > 98 * 1024) --group;

  const Tensor feature(c.dtype, {c.batch, c.text.channels, c.height, c.width}, layout);
  for_each(feature.view, [&](int64_t at, int64_t b, int64_t ch, int64_t y, int64_t x) {
    write_element(feature.view, at, c.features[b].at(ch, y, x));
  });
  const int64_t scale = head.out_side / c.text.patch_size;
  Tensor got(c.dtype, {c.batch, head.out_channels, scale * c.height, scale * c.width}, layout);
  got.fill(Values::kExact, 3);
  const Tensor expected = got.copy();
  c.write_expected(expected.view);
  const Tensor index(DType::kInt32, {c.batch, c.k});
  for (size_t i = 0; i < c.index.size(); ++i) {
    write_element(index.view, static_cast<int64_t>(i), static_cast<double>(c.index[i]));
  }
  const Tensor table = words_of(plan.table);
  const Tensor weights = vector_of(packed, c.dtype), floats = vector_of(vectors, DType::kFloat32);
  cuda::refine_patches(got.view, feature.view, index.view, table.view, table.view, weights.view,
                       floats.view, c.text.patch_size, c.text.halo, group, nullptr);
  if (!c.text.exact) forgive(expected.view, got.view, c.dtype);
  Tensor::expect_equal(std::string("refine_patches_ of ") + c.text.name + " on " + feature.name() +
                           ", groups of " + std::to_string(group),
                       expected, got);
}

constexpr DType kComputed[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
constexpr Layout kLayouts[] = {Layout::kContiguous, Layout::kLast,        Layout::kSlice,
                               Layout::kCropped,    Layout::kCroppedLast, Layout::kSliceLast};
constexpr int64_t kGroups[] = {0, 1, 3, 8, 2};

void expect_obstacle(PatchProgram program, DType dtype, int64_t bytes, const char* text) {
  const std::string got = cuda::plan_program(program, dtype, bytes).obstacle;
  if (got.find(text) != std::string::npos) return;
  fail<std::runtime_error>("expected the obstacle '", text, "', got '", got, "'");
}

void check_refusals(Progress& progress) {
  if (!progress.next()) return;
  const Case c(kTexts[0], DType::kFloat32, 1);
  expect_obstacle(c.program, DType::kFloat64, 1 << 20, "float64");
  expect_obstacle(c.program, DType::kFloat32, 4096, "of shared memory for one patch");
  PatchProgram unknown = c.program;
  unknown.steps.push_back(step_of("v6 = warp v5"));
  unknown.shapes.push_back(unknown.shapes.back());
  expect_obstacle(unknown, DType::kFloat32, 1 << 20, "'warp'");
  ++progress.passed;
}

}  // namespace

void check_program_ops(Progress& progress) {
  for (const Text& text : kTexts) {
    for (const DType dtype : kComputed) {
      for (int i = 0; i < 2; ++i) {
        if (!progress.next()) continue;
        const int seen = progress.seen;
        check_program(Case(text, dtype, static_cast<uint64_t>(seen)), kLayouts[seen % 6],
                      kGroups[seen % 5]);
        ++progress.passed;
      }
    }
  }
  check_refusals(progress);
}

}  // namespace check
}  // namespace sparsesr
