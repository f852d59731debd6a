#include "cpu/ops.h"

#include <algorithm>
#include <memory>

#include "common/patch_plan.h"
#include "cpu/dispatch.h"

namespace sparsesr {
namespace cpu {
namespace {

// Below this a thread costs more to wake than it saves.
constexpr int64_t kBytesPerThread = 128 * 1024;

// An output as large as this is written around the caches. A caching allocator rarely hands out
// memory that still lies in them, so cached stores would first read what they are about to replace,
// and push the map out besides. Measured with 32 MB of last-level cache, 64 channels of float32, as
// torch's allocator hands out outputs: gathering 9.4 MB and a 1x1 convolution over it are 23 %
// faster so (6.5 MB: 15 % faster or 24 % slower, depending on what the allocator kept).
constexpr int64_t kStreamingBytes = 8 << 20;

// With as many patches as this neither they nor the windows they come from lie in a core's own
// cache: fetching ahead is then worth its instructions. Measured with 1 MB of L2 cache, 64 channels
// of float32: 2 MB 5 % slower, 4 MB even, 6.5 MB 10 % faster, 9.4 MB 30 to 50 %.
constexpr int64_t kFetchAheadBytes = 4 << 20;

int useful_threads(int threads, int64_t bytes) {
  return static_cast<int>(std::clamp<int64_t>(bytes / kBytesPerThread, 1, std::max(threads, 1)));
}

int64_t num_bytes(const TensorView& view) { return num_elements(view) * element_size(view.dtype); }

template <class Element>
Element* data(const TensorView& view) {
  return static_cast<Element*>(view.data);
}

void check_map(const Operand& map) {
  check_cpu(map);
  check_floating(map);
  check_rank(map, "[B,C,H,W]", 4);
}

void check_index(const Operand& index, int64_t batch) {
  check_cpu(index);
  check_dtype(index, DType::kInt32);
  check_rank(index, "[B,k]", 2);
  check_shape(index, "[B,k]", {batch, index.view.sizes[1]});
  check_contiguous(index);
}

PatchGeometry geometry_of(const char* op, const TensorView& map, const TensorView& index,
                          PatchShape shape) {
  PatchGeometry geometry = patch_geometry(op, map.sizes[0], map.sizes[1], map.sizes[2],
                                          map.sizes[3], shape.patch_size, shape.halo, shape.stride);
  geometry.k = index.sizes[1];
  return geometry;
}

void check_patches(const Operand& patches, const PatchGeometry& g, DType dtype) {
  check_cpu(patches);
  check_dtype(patches, dtype);
  check_shape(patches, "[B*k,C,P,P]", {g.batch * g.k, g.channels, g.window, g.window});
}

void check_like_map(const Operand& operand, const TensorView& map) {
  check_cpu(operand);
  check_dtype(operand, map.dtype);
  check_shape(operand, "[B,C,H,W]", {map.sizes[0], map.sizes[1], map.sizes[2], map.sizes[3]});
}

bool channels_adjacent(const TensorView& view) {
  return view.strides[1] == 1 || view.sizes[1] == 1;
}

// All operands of a call are walked alike.
Walk walk_of(std::initializer_list<const TensorView*> views) {
  const TensorView& first = **views.begin();
  bool adjacent = true;
  for (const TensorView* view : views) adjacent &= channels_adjacent(*view);
  const int64_t channels = first.sizes[1];
  const int64_t element = element_size(first.dtype);
  return adjacent ? Walk{1, channels * element} : Walk{channels, element};
}

Lines lines_of(const TensorView& view) {
  const int64_t element = element_size(view.dtype);
  return {data<char>(view), view.strides[0] * element, view.strides[1] * element,
          view.strides[2] * element, view.strides[3] * element};
}

// Per-thread workspaces, a whole number of cache lines each.
struct Workspace {
  Workspace(int threads, int64_t bytes_each)
      : bytes((bytes_each + 63) / 64 * 64), memory(new char[threads * bytes]) {}

  int64_t bytes;
  std::unique_ptr<char[]> memory;
};

// Room for one row of sums over all columns, in the widest accumulator.
int64_t sum_bytes(const PatchGeometry& g, const Walk& walk, DType dtype) {
  const auto widest = static_cast<int64_t>(sizeof(double));
  return g.width * walk.unit_bytes / element_size(dtype) * widest;
}

SelectArgs select_args(const char* op, const TensorView& mask, const TensorView& index,
                       bool largest, int threads) {
  const Operand scores = {op, "mask", mask};
  check_cpu(scores);
  check_floating(scores);
  check_rank(scores, "[B,Gh,Gw]", 3);
  check_index({op, "index", index}, mask.sizes[0]);
  const int64_t cells = mask.sizes[1] * mask.sizes[2];
  const int64_t k = index.sizes[1];
  if (k > cells) fail(op, ": expected k <= Gh*Gw = ", cells, ", got k = ", k);
  const int64_t element = element_size(mask.dtype);
  const int used = useful_threads(threads, num_bytes(mask) * 4);
  return {data<char>(mask),
          mask.dtype,
          mask.strides[0] * element,
          mask.strides[1] * element,
          mask.strides[2] * element,
          mask.sizes[0],
          mask.sizes[1],
          mask.sizes[2],
          k,
          largest,
          data<int32_t>(index),
          /*keys=*/nullptr,
          used};
}

GatherArgs gather_args(const char* op, const TensorView& map, const TensorView& index,
                       const TensorView& patches, PatchShape shape, int threads) {
  check_map({op, "x", map});
  check_index({op, "index", index}, map.sizes[0]);
  const PatchGeometry geometry = geometry_of(op, map, index, shape);
  check_patches({op, "patches", patches}, geometry, map.dtype);
  check_writable({op, "patches", patches});
  const int64_t bytes = num_bytes(patches);
  return {geometry,
          walk_of({&map, &patches}),
          lines_of(map),
          lines_of(patches),
          data<const int32_t>(index),
          bytes >= kFetchAheadBytes,
          bytes >= kStreamingBytes,
          useful_threads(threads, bytes)};
}

}  // namespace

void select_patches(const TensorView& mask, const TensorView& index, bool largest, int threads) {
  SelectArgs args = select_args("select_patches", mask, index, largest, threads);
  const std::unique_ptr<uint32_t[]> keys(new uint32_t[args.threads * args.rows * args.cols]);
  args.keys = keys.get();
  cpu_kernels().select_patches(args);
}

void gather_patches(const TensorView& map, const TensorView& index, const TensorView& patches,
                    PatchShape shape, int threads) {
  const char* op = "gather_patches";
  const GatherArgs args = gather_args(op, map, index, patches, shape, threads);
  check_index_values(op, args.geometry, args.index, Duplicates::kAllow);
  cpu_kernels().gather_patches(args);
}

void select_gather_patches(const TensorView& mask, const TensorView& map, const TensorView& index,
                           const TensorView& patches, PatchShape shape, bool largest, int threads) {
  const char* op = "select_gather_patches";
  SelectGatherArgs args = {select_args(op, mask, index, largest, threads),
                           gather_args(op, map, index, patches, shape, threads)};
  const PatchGeometry& g = args.gather.geometry;
  check_shape({op, "mask", mask}, "[B,Gh,Gw]", {g.batch, g.grid_rows, g.grid_cols});
  const std::unique_ptr<uint32_t[]> keys(
      new uint32_t[args.select.threads * g.grid_rows * g.grid_cols]);
  args.select.keys = keys.get();
  cpu_kernels().select_gather_patches(args);
}

void gather_patches_backward(const TensorView& grad, const TensorView& index,
                             const TensorView& grad_x, PatchShape shape, int threads) {
  const char* op = "gather_patches_backward";
  check_map({op, "grad_x", grad_x});
  check_writable({op, "grad_x", grad_x});
  check_index({op, "index", index}, grad_x.sizes[0]);
  const PatchGeometry geometry = geometry_of(op, grad_x, index, shape);
  check_patches({op, "grad", grad}, geometry, grad_x.dtype);
  const auto* slots = data<const int32_t>(index);
  check_index_values(op, geometry, slots, Duplicates::kAllow);

  const RowBands bands(geometry, slots);
  const Walk walk = walk_of({&grad, &grad_x});
  const int used = useful_threads(threads, num_bytes(grad_x));
  const Workspace workspace(used, sum_bytes(geometry, walk, grad.dtype));
  cpu_kernels().gather_patches_backward({geometry, walk, grad.dtype, lines_of(grad),
                                         lines_of(grad_x), bands.data(), bands.size(),
                                         workspace.memory.get(), workspace.bytes, used});
}

void scatter_patches(const TensorView& canvas, const TensorView& patches, const TensorView& index,
                     const TensorView& out, PatchShape shape, Reduce reduce, int threads) {
  const bool in_place = out.data == canvas.data;
  const char* op = in_place ? "scatter_patches_" : "scatter_patches";
  check_map({op, "canvas", canvas});
  check_index({op, "index", index}, canvas.sizes[0]);
  const PatchGeometry geometry = geometry_of(op, canvas, index, shape);
  check_patches({op, "patches", patches}, geometry, canvas.dtype);
  check_like_map({op, "out", out}, canvas);
  check_writable({op, in_place ? "canvas" : "out", out});
  const auto* slots = data<const int32_t>(index);
  check_index_values(op, geometry, slots, Duplicates::kRefuse);

  const bool overlap = geometry.stride < geometry.window;
  const bool mean = reduce == Reduce::kMean && overlap;  // the mean of one patch is the patch
  const Walk walk = walk_of({&canvas, &patches, &out});
  ScatterArgs args = {};
  args.geometry = geometry;
  args.walk = walk;
  args.dtype = canvas.dtype;
  args.mean = mean;
  args.canvas = lines_of(canvas);
  args.patches = lines_of(patches);
  args.out = lines_of(out);
  args.in_place = in_place;
  args.streaming = !in_place && num_bytes(out) >= kStreamingBytes;
  args.index = slots;
  args.threads = useful_threads(threads, num_bytes(in_place ? patches : out));
  if (in_place && !overlap) return cpu_kernels().scatter_patches(args);

  const RowBands bands(geometry, slots);
  const Workspace workspace(args.threads, geometry.width * kColumnBytes +
                                              (mean ? sum_bytes(geometry, walk, args.dtype) : 0));
  args.bands = bands.data();
  args.num_bands = bands.size();
  args.workspace = workspace.memory.get();
  args.workspace_bytes = workspace.bytes;
  cpu_kernels().scatter_patches(args);
}

void scatter_patches_backward(const TensorView& grad, const TensorView& index,
                              const TensorView& grad_canvas, const TensorView& grad_patches,
                              PatchShape shape, Reduce reduce, int threads) {
  const char* op = "scatter_patches_backward";
  check_map({op, "grad", grad});
  check_index({op, "index", index}, grad.sizes[0]);
  const PatchGeometry geometry = geometry_of(op, grad, index, shape);
  check_like_map({op, "grad_canvas", grad_canvas}, grad);
  check_patches({op, "grad_patches", grad_patches}, geometry, grad.dtype);
  check_writable({op, "grad_canvas", grad_canvas});
  check_writable({op, "grad_patches", grad_patches});
  const auto* slots = data<const int32_t>(index);
  check_index_values(op, geometry, slots, Duplicates::kRefuse);

  const bool mean = reduce == Reduce::kMean && geometry.stride < geometry.window;
  const RowBands bands(geometry, slots);
  const int used = useful_threads(threads, num_bytes(grad));
  const Workspace workspace(used, geometry.width * kColumnBytes);
  cpu_kernels().scatter_patches_backward({geometry, walk_of({&grad, &grad_canvas, &grad_patches}),
                                          grad.dtype, mean, lines_of(grad), lines_of(grad_canvas),
                                          lines_of(grad_patches), slots, bands.data(), bands.size(),
                                          workspace.memory.get(), workspace.bytes, used});
}

int64_t fma_peak(int64_t iterations, bool pairs) {
  if (iterations < 0) fail("fma_peak: expected iterations >= 0, got ", iterations);
  int64_t operations = 0;
  cpu_kernels().fma_peak({iterations, pairs, &operations});
  return operations;
}

}  // namespace cpu
}  // namespace sparsesr
