// Entry points of the pixel routing ops.
#include "cuda/route_ops.h"

#include <algorithm>
#include <limits>

#include "cuda/gpu_checks.h"
#include "cuda/route_kernels.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - 64;  // tiles may reach beyond
constexpr int64_t kWords = 4;  // of int32 in 16 bytes, to which all of a workspace is aligned

int64_t whole_vectors(int64_t words) { return (words + kWords - 1) / kWords * kWords; }

int64_t chunks_of(int64_t pixels) { return (pixels + kChunkPixels - 1) / kChunkPixels; }

// Elements of the lists, their starts first.
int64_t starts_size(int64_t pixels, int64_t buckets) {
  return whole_vectors(buckets * chunks_of(pixels) + 1);
}

// int32 words of the first layer's outputs at LR.
int64_t at_lr_size(DType dtype, int64_t lr_pixels, int64_t width) {
  return whole_vectors(lr_pixels * whole_groups(width) * element_size(dtype) / 4);
}

void check_computed(const Operand& operand) {
  const DType dtype = operand.view.dtype;
  if (dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16) return;
  fail<TypeMismatch>(operand.op, ": expected ", operand.name, " float32, float16 or bfloat16, got ",
                     dtype_name(dtype));
}

void check_plain(const Operand& operand, int device, DType dtype, const char* expected,
                 std::initializer_list<int64_t> sizes) {
  check_device(operand, device);
  check_dtype(operand, dtype);
  check_shape(operand, expected, sizes);
  check_contiguous(operand);
}

// What is read 16 bytes at a time.
void check_packed(const Operand& operand, int device, DType dtype, const char* expected,
                  std::initializer_list<int64_t> sizes) {
  check_plain(operand, device, dtype, expected, sizes);
  if (reinterpret_cast<uintptr_t>(operand.view.data) % 16 == 0) return;
  fail(operand.op, ": expected ", operand.name, " at a multiple of 16 bytes");
}

void check_map_like(const Operand& map, const TensorView& feature, const char* expected,
                    std::initializer_list<int64_t> sizes) {
  check_device(map, feature.device);
  check_dtype(map, feature.dtype);
  check_shape(map, expected, sizes);
}

void check_few(const char* op, const char* what, int64_t count, int64_t most) {
  if (count > most) fail(op, ": expected at most ", most, " ", what, ", got ", count);
}

StridedMap map_of(const TensorView& view) {
  return {view.data, view.strides[0], view.strides[1], view.strides[2], view.strides[3]};
}

RouteAxis axis_of(const TensorView& places, int64_t lr, int64_t entries) {
  const int64_t hr = places.sizes[0];
  return {static_cast<const float*>(places.data),
          static_cast<int32_t>(lr),
          static_cast<int32_t>(hr),
          fast_divisor(lr),
          fast_divisor(hr),
          fast_divisor(entries)};
}

// One class as the kernels take it, but for its place in the workspace.
RouteClass class_of(const char* op, const RouteClassView& from, const RouteClassView& first,
                    const TensorView& feature, int64_t outputs) {
  check_few(op, "layers in a class", static_cast<int64_t>(from.widths.size()), kMaxRouteLayers);
  if (from.widths.empty() || from.widths.back() != outputs ||
      *std::min_element(from.widths.begin(), from.widths.end()) < 1) {
    fail(op, ": expected the widths of each class >= 1 and ", outputs, " outputs");
  }
  const int device = feature.device;
  const DType dtype = feature.dtype;
  const int64_t pitch = whole_groups(from.widths[0]);
  check_packed({op, "row_bias", from.row_bias}, device, dtype, "[T,N]",
               {first.row_bias.sizes[0], pitch});
  check_packed({op, "col_bias", from.col_bias}, device, dtype, "[T,N]",
               {first.col_bias.sizes[0], pitch});
  const bool fragments = dtype != DType::kFloat32;
  RouteClass made = {};
  int64_t inputs = feature.sizes[1], weights = 0, bias = 0;
  for (const int64_t width : from.widths) {
    weights += packed_layer_size(width, inputs, fragments);
    bias += made.num_layers > 0 ? whole_groups(width) : 0;
    made.widths[made.num_layers++] = static_cast<int32_t>(width);
    inputs = width;
  }
  check_packed({op, "weights", from.weights}, device, dtype, "packed", {weights});
  check_packed({op, "bias", from.bias}, device, DType::kFloat32, "packed", {bias});
  made.row_bias = from.row_bias.data;
  made.col_bias = from.col_bias.data;
  made.weights = from.weights.data;
  made.bias = static_cast<const float*>(from.bias.data);
  return made;
}

// Cuts the workspace up.
void place_workspace(RouteMlpArgs& args, const Operand& workspace, int64_t lr_pixels, int device) {
  int64_t width = 0;
  for (int32_t j = 0; j < args.num_classes; ++j) width += whole_groups(args.classes[j].widths[0]);
  const int64_t wanted =
      route_mlp_workspace(args.dtype, lr_pixels, args.lists.pixels, args.num_classes, width,
                          args.lists.class_map != nullptr);
  check_rank(workspace, "[n]", 1);
  check_packed(workspace, device, DType::kInt32, "[n]", {workspace.view.sizes[0]});
  if (workspace.view.sizes[0] < wanted) {
    fail(workspace.op, ": expected ", workspace.name, " of at least ", wanted, " elements, got ",
         workspace.view.sizes[0]);
  }
  auto* memory = static_cast<int32_t*>(workspace.view.data);
  for (int32_t j = 0; j < args.num_classes; ++j) {
    args.classes[j].at_lr = memory;
    memory += at_lr_size(args.dtype, lr_pixels, args.classes[j].widths[0]);
  }
  if (args.lists.class_map == nullptr) return;
  args.lists.starts = memory;
  args.lists.listed = memory + starts_size(args.lists.pixels, args.lists.buckets);
}

void plan_block(RouteMlpArgs& args, const char* op) {
  int64_t widest = args.channels;
  for (int32_t j = 0; j < args.num_classes; ++j) {
    const RouteClass& own = args.classes[j];
    const int32_t* end = own.widths + own.num_layers;
    widest = std::max<int64_t>(widest, *std::max_element(own.widths, end));
  }
  args.block = plan_route_block(args.dtype, widest, args.outputs);
  if (args.block.warps > 0) return;
  fail(op, ": expected layers that the shared memory of this GPU has room for, got one of ", widest,
       " channels; use the reference backend");
}

}  // namespace

int64_t route_mlp_workspace(DType dtype, int64_t lr_pixels, int64_t hr_pixels, int64_t classes,
                            int64_t first_width, bool has_class_map) {
  const int64_t at_lr = at_lr_size(dtype, lr_pixels, first_width);
  return has_class_map ? at_lr + starts_size(hr_pixels, classes + 1) + hr_pixels : at_lr;
}

void route_mlp(const TensorView& feature, const std::optional<TensorView>& class_map,
               const std::vector<RouteClassView>& classes, const TensorView& rows,
               const TensorView& cols, const std::optional<TensorView>& image,
               const TensorView& out, const TensorView& workspace, void* stream) {
  const char* op = "route_mlp";
  check_on_gpu({op, "feature", feature});
  check_computed({op, "feature", feature});
  check_rank({op, "feature", feature}, "[B,C,h,w]", 4);
  check_rank({op, "out", out}, "[B,O,H,W]", 4);
  const int device = feature.device;
  const int64_t batch = feature.sizes[0], outputs = out.sizes[1];
  const int64_t h = feature.sizes[2], w = feature.sizes[3];
  const int64_t height = out.sizes[2], width = out.sizes[3];
  check_map_like({op, "out", out}, feature, "[B,O,H,W]", {batch, outputs, height, width});
  check_writable({op, "out", out});
  check_plain({op, "rows", rows}, device, DType::kFloat32, "[H]", {height});
  check_plain({op, "cols", cols}, device, DType::kFloat32, "[W]", {width});
  if (image) check_map_like({op, "image", *image}, feature, "[B,O,h,w]", {batch, outputs, h, w});
  if (class_map) {
    check_plain({op, "class_map", *class_map}, device, DType::kUInt8, "[B,H,W]",
                {batch, height, width});
  }
  const int64_t pixels = batch * height * width;
  if (classes.empty()) fail(op, ": expected at least one class");
  check_few(op, "classes", static_cast<int64_t>(classes.size()), kMaxRouteClasses);
  check_few(op, "pixels", std::max({pixels, batch * h * w, feature.sizes[1]}), kMost);
  if (pixels == 0) return;

  RouteMlpArgs args = {};
  args.dtype = feature.dtype;
  args.feature = map_of(feature);
  args.image = image ? map_of(*image) : StridedMap{};
  args.out = map_of(out);
  args.batch = static_cast<int32_t>(batch);
  args.channels = static_cast<int32_t>(feature.sizes[1]);
  args.outputs = static_cast<int32_t>(outputs);
  args.rows = axis_of(rows, h, classes[0].row_bias.sizes[0]);
  args.cols = axis_of(cols, w, classes[0].col_bias.sizes[0]);
  // Without a map the other classes have no pixel.
  args.num_classes = class_map ? static_cast<int32_t>(classes.size()) : 1;
  for (int32_t j = 0; j < args.num_classes; ++j) {
    args.classes[j] = class_of(op, classes[j], classes[0], feature, outputs);
  }
  args.lists.class_map = class_map ? static_cast<const uint8_t*>(class_map->data) : nullptr;
  args.lists.pixels = static_cast<int32_t>(pixels);
  args.lists.chunks = static_cast<int32_t>(chunks_of(pixels));
  args.lists.buckets = class_map ? args.num_classes + 1 : 1;
  plan_block(args, op);
  place_workspace(args, {op, "workspace", workspace}, batch * h * w, device);
  launch::route_mlp(args, stream);
}

void average_neighbors(const TensorView& image, const TensorView& class_map, int64_t min_heavy,
                       int64_t first_heavy, const TensorView& out, void* stream) {
  const char* op = "average_neighbors";
  const Operand map = {op, "image", image};
  check_on_gpu(map);
  check_floating(map);
  check_rank(map, "[B,C,H,W]", 4);
  const int64_t* sizes = image.sizes;
  check_map_like({op, "out", out}, image, "[B,C,H,W]", {sizes[0], sizes[1], sizes[2], sizes[3]});
  check_writable({op, "out", out});
  check_plain({op, "class_map", class_map}, image.device, DType::kUInt8, "[B,H,W]",
              {sizes[0], sizes[2], sizes[3]});
  check_few(op, "pixels and channels", std::max(sizes[0] * sizes[2] * sizes[3], sizes[1]), kMost);
  if (num_elements(image) == 0) return;

  AverageNeighborsArgs args = {};
  args.image = static_cast<const char*>(image.data);
  args.out = static_cast<char*>(out.data);
  args.dtype = image.dtype;
  for (int d = 0; d < 4; ++d) {
    args.image_strides[d] = image.strides[d] * element_size(image.dtype);
    args.out_strides[d] = out.strides[d] * element_size(out.dtype);
  }
  args.class_map = static_cast<const uint8_t*>(class_map.data);
  args.batch = static_cast<int32_t>(sizes[0]);
  args.channels = static_cast<int32_t>(sizes[1]);
  args.height = static_cast<int32_t>(sizes[2]);
  args.width = static_cast<int32_t>(sizes[3]);
  // Beyond nine pixels, and beyond the last class, nothing changes.
  args.min_heavy = static_cast<int32_t>(std::min<int64_t>(min_heavy, 10));
  args.first_heavy = static_cast<int32_t>(std::min<int64_t>(first_heavy, 256));
  args.by_height = fast_divisor(sizes[2]);
  args.by_width = fast_divisor(sizes[3]);
  launch::average_neighbors(args, stream);
}

}  // namespace cuda
}  // namespace sparsesr
