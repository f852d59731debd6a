// Lists of pixels by class against a stable sort, and average_neighbors against the CPU op.
#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "common/checks.h"
#include "cpu/ops.h"
#include "cuda/route_kernels.h"
#include "cuda/route_ops.h"
#include "testing/check_tensors.h"
#include "testing/cuda_route_check.h"

namespace sparsesr {
namespace check {
namespace {

using Random = std::mt19937_64;

constexpr Layout kLayouts[] = {Layout::kContiguous, Layout::kLast,        Layout::kSlice,
                               Layout::kCropped,    Layout::kCroppedLast, Layout::kSliceLast};

// More chunks and buckets than the block that adds them up has threads.
void check_lists(Progress& progress, int64_t pixels, int32_t buckets) {
  if (!progress.next()) return;
  Random random(static_cast<uint64_t>(pixels));
  std::vector<uint8_t> classes(pixels);
  for (uint8_t& own : classes) own = static_cast<uint8_t>(random() % (buckets + 1));
  const int64_t chunks = (pixels + cuda::kChunkPixels - 1) / cuda::kChunkPixels;
  std::vector<int32_t> starts(buckets * chunks + 1), listed(pixels), expected(pixels);
  cuda::launch::list_pixels({classes.data(), static_cast<int32_t>(pixels),
                             static_cast<int32_t>(chunks), buckets, starts.data(), listed.data()},
                            nullptr);
  std::iota(expected.begin(), expected.end(), 0);
  const auto bucket_of = [&](int32_t i) { return std::min<int32_t>(classes[i], buckets - 1); };
  std::stable_sort(expected.begin(), expected.end(),
                   [&](int32_t a, int32_t b) { return bucket_of(a) < bucket_of(b); });
  int64_t begin = 0;
  for (int32_t j = 0; j < buckets; ++j) {
    if (starts[j * chunks] != begin) fail<std::runtime_error>("list_pixels: start of bucket ", j);
    begin += std::count_if(expected.begin(), expected.end(),
                           [&](int32_t i) { return bucket_of(i) == j; });
  }
  if (starts.back() != pixels) fail<std::runtime_error>("list_pixels: end of the last bucket");
  if (listed != expected) fail<std::runtime_error>("list_pixels of ", pixels, " pixels");
  ++progress.passed;
}

void check_average(Progress& progress, std::vector<int64_t> sizes, DType dtype, Layout layout) {
  if (!progress.next()) return;
  const auto seed = static_cast<uint64_t>(progress.seen);
  Random random(seed);
  const Tensor class_map(DType::kUInt8, {sizes[0], sizes[2], sizes[3]});
  auto* classes = static_cast<uint8_t*>(class_map.view.data);
  for (int64_t i = 0; i < num_elements(class_map.view); ++i) {
    classes[i] = static_cast<uint8_t>(random() % 4 == 0 ? 1 + random() % 2 : 0);
  }
  Tensor image(dtype, sizes, layout);
  const int64_t rules[][2] = {{1, 1}, {3, 1}, {2, 2}, {9, 1}, {1, 0}, {12, 1}, {1, 300}};
  for (const auto& [min_heavy, first_heavy] : rules) {
    const bool copies = min_heavy > 9 || first_heavy > 255;
    image.fill(copies ? Values::kSpecial : Values::kExact, seed);
    const Tensor expected = image.copy(), got(dtype, sizes, layout);
    cpu::average_neighbors(image.view, class_map.view, min_heavy, first_heavy, expected.view, 1);
    cuda::average_neighbors(image.view, class_map.view, min_heavy, first_heavy, got.view, nullptr);
    Tensor::expect_equal("average_neighbors of " + image.name(), expected, got);
  }
  ++progress.passed;
}

void check_averages(Progress& progress) {
  constexpr DType kAll[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};
  for (const DType dtype : kAll) {
    for (const Layout layout : kLayouts) {
      check_average(progress, {2, 3, 9, 6}, dtype, layout);
      check_average(progress, {1, 3, 3, 3}, dtype, layout);
      check_average(progress, {1, 4, 2, 8}, dtype, layout);
      check_average(progress, {1, 1, 17, 40}, dtype, layout);
    }
  }
}

}  // namespace

void check_pixel_ops(Progress& progress) {
  check_lists(progress, 1, 1);
  check_lists(progress, 1025, 3);
  check_lists(progress, 70000, 17);
  check_averages(progress);
}

}  // namespace check
}  // namespace sparsesr
