// Entry points of the pixel routing ops.
#include <algorithm>
#include <cmath>

#include "common/checks.h"
#include "common/listed_pixel.h"
#include "cpu/dispatch.h"
#include "cpu/ops.h"
#include "cpu/threads.h"

namespace sparsesr {
namespace cpu {
namespace {

constexpr int64_t kMacsPerPixel = 256;  // of averaging one, about, with what surrounds it

float* data(const TensorView& view) { return static_cast<float*>(view.data); }

void check_map(const Operand& map) {
  check_cpu(map);
  check_dtype(map, DType::kFloat32);
  check_rank(map, "[B,C,H,W]", 4);
}

void check_class_map(const Operand& class_map, int64_t batch, int64_t height, int64_t width) {
  check_cpu(class_map);
  check_dtype(class_map, DType::kUInt8);
  check_shape(class_map, "[B,H,W]", {batch, height, width});
  check_contiguous(class_map);
}

void check_floats(const Operand& operand, const char* expected,
                  std::initializer_list<int64_t> sizes) {
  check_cpu(operand);
  check_dtype(operand, DType::kFloat32);
  check_shape(operand, expected, sizes);
  check_contiguous(operand);
}

Planes planes_of(const TensorView& map, int64_t image) {
  return {data(map) + image * map.strides[0], map.strides[1], map.strides[2], map.strides[3]};
}

// Where HR rows or columns lie among `length` LR ones; tables of biases have `entries`.
std::vector<Place> places_of(const Operand& coordinates, int64_t length, int64_t entries) {
  const auto last = static_cast<float>(length - 1);
  std::vector<Place> places(coordinates.view.sizes[0]);
  for (size_t i = 0; i < places.size(); ++i) {
    const float at = data(coordinates.view)[i];
    if (!std::isfinite(at))
      fail(coordinates.op, ": expected finite ", coordinates.name, ", got ", at);
    const float inside = std::clamp(at, 0.0f, last);
    Place& place = places[i];
    place.near = static_cast<int32_t>(std::clamp(std::nearbyint(at), 0.0f, last));
    place.entry = static_cast<int32_t>(static_cast<int64_t>(i) % entries);
    place.low = static_cast<int32_t>(inside);
    place.high = static_cast<int32_t>(std::min<int64_t>(place.low + 1, length - 1));
    place.part = inside - static_cast<float>(place.low);
  }
  return places;
}

// First rows of the runs that share their nearest LR row, and the end; `longest` becomes their
// largest length.
std::vector<int32_t> runs_of(const std::vector<Place>& rows, int64_t& longest) {
  std::vector<int32_t> starts;
  const auto count = static_cast<int32_t>(rows.size());
  for (int32_t y = 0; y < count; ++y) {
    if (y == 0 || rows[y].near != rows[y - 1].near) starts.push_back(y);
  }
  starts.push_back(count);
  longest = 0;
  for (size_t i = 1; i < starts.size(); ++i) {
    longest = std::max<int64_t>(longest, starts[i] - starts[i - 1]);
  }
  return starts;
}

// One class as the kernel takes it; the layers point into `layers`.
RouteClass class_of(const char* op, const RouteClassView& from, int64_t channels, int64_t outputs,
                    std::vector<MlpLayer>& layers) {
  if (from.widths.empty() || from.widths.back() != outputs ||
      *std::min_element(from.widths.begin(), from.widths.end()) < 1) {
    fail(op, ": expected the widths of each class >= 1 and ", outputs, " outputs");
  }
  RouteClass made = {};
  made.width = from.widths.front();
  const int64_t lanes = packing_rule(/*pairs=*/false).lanes;
  made.pitch = (made.width + lanes - 1) / lanes * lanes;
  check_floats({op, "row_bias", from.row_bias}, "[T,N]", {from.row_bias.sizes[0], made.pitch});
  check_floats({op, "col_bias", from.col_bias}, "[T,N]", {from.col_bias.sizes[0], made.pitch});
  check_floats({op, "first", from.first}, "packed", {packed_conv_size(made.width, channels, 1)});
  const float* at = data(from.later);
  int64_t elements = 0;
  for (size_t i = 1; i < from.widths.size(); ++i) {
    const int64_t inputs = from.widths[i - 1], width = from.widths[i];
    layers.push_back({at + elements, at + elements + inputs * width, inputs, width});
    elements += (inputs + 1) * width;
  }
  check_floats({op, "later", from.later}, "packed", {elements});
  made.first = data(from.first);
  made.row_bias = data(from.row_bias);
  made.col_bias = data(from.col_bias);
  made.later = layers.data();
  made.num_later = static_cast<int64_t>(layers.size());
  return made;
}

int64_t macs_of(const RouteClass& own, int64_t channels) {
  int64_t macs = own.width * channels;
  for (int64_t i = 0; i < own.num_later; ++i) macs += own.later[i].inputs * own.later[i].outputs;
  return macs;
}

// Every thread's own, one after the other.
struct Workspaces {
  std::vector<float> at_lr, blended, values;
  std::vector<ListedPixel> sources;
  std::vector<int32_t> targets;
};

Workspaces workspaces_for(RouteMlpArgs& args, int64_t longest_run) {
  int64_t pitch = args.channels, most = 0;
  for (int64_t j = 0; j < args.num_classes; ++j) {
    const RouteClass& own = args.classes[j];
    pitch = std::max(pitch, own.pitch);
    most = std::max(most, own.pitch);
    for (int64_t i = 0; i < own.num_later; ++i) most = std::max(most, own.later[i].outputs);
  }
  args.at_lr_size = args.w * pitch;
  args.blended_size = args.w;
  args.values_size = 2 * most * kTilePixels;
  args.targets_size = 2 * longest_run * args.width;
  Workspaces made;
  made.at_lr.resize(args.threads * args.at_lr_size);
  made.blended.resize(args.threads * args.blended_size);
  made.values.resize(args.threads * args.values_size);
  made.sources.resize(args.threads * args.w);
  made.targets.resize(args.threads * args.targets_size);
  args.at_lr = made.at_lr.data();
  args.blended = made.blended.data();
  args.values = made.values.data();
  args.sources = made.sources.data();
  args.targets = made.targets.data();
  return made;
}

}  // namespace

void route_mlp(const TensorView& feature, const std::optional<TensorView>& class_map,
               const std::vector<RouteClassView>& classes, const TensorView& rows,
               const TensorView& cols, const std::optional<TensorView>& image,
               const TensorView& out, int threads) {
  const char* op = "route_mlp";
  check_map({op, "feature", feature});
  check_map({op, "out", out});
  const int64_t batch = feature.sizes[0], channels = feature.sizes[1], outputs = out.sizes[1];
  const int64_t h = feature.sizes[2], w = feature.sizes[3];
  const int64_t height = out.sizes[2], width = out.sizes[3];
  if (channels > 1 && feature.strides[1] != 1) {
    fail(op, ": expected feature with adjacent channels (channels_last)");
  }
  check_shape({op, "out", out}, "[B,O,H,W]", {batch, outputs, height, width});
  check_writable({op, "out", out});
  check_floats({op, "rows", rows}, "[H]", {height});
  check_floats({op, "cols", cols}, "[W]", {width});
  if (class_map) check_class_map({op, "class_map", *class_map}, batch, height, width);
  if (image) {
    check_map({op, "image", *image});
    check_shape({op, "image", *image}, "[B,O,h,w]", {batch, outputs, h, w});
  }
  if (classes.empty() || height * width > INT32_MAX) {
    fail(op, ": expected at least one class and fewer than 2^31 pixels");
  }

  std::vector<std::vector<MlpLayer>> layers(classes.size());
  std::vector<RouteClass> made;
  int64_t macs = 0, pitch = channels;
  for (size_t j = 0; j < classes.size(); ++j) {
    made.push_back(class_of(op, classes[j], channels, outputs, layers[j]));
    macs += height * width * macs_of(made[j], channels) / static_cast<int64_t>(classes.size());
    pitch = std::max(pitch, made[j].pitch);
    if (classes[j].row_bias.sizes[0] != classes[0].row_bias.sizes[0] ||
        classes[j].col_bias.sizes[0] != classes[0].col_bias.sizes[0]) {
      fail(op, ": expected tables of biases of one length in all classes");
    }
  }
  const std::vector<Place> row_places =
      places_of({op, "rows", rows}, h, classes[0].row_bias.sizes[0]);
  const std::vector<Place> col_places =
      places_of({op, "cols", cols}, w, classes[0].col_bias.sizes[0]);
  int64_t longest_run = 0;
  const std::vector<int32_t> groups = runs_of(row_places, longest_run);
  const std::vector<float> zeros(pitch, 0.0f);

  RouteMlpArgs args = {};
  args.h = h;
  args.w = w;
  args.channels = channels;
  args.classes = made.data();
  args.num_classes = static_cast<int64_t>(made.size());
  args.rows = row_places.data();
  args.cols = col_places.data();
  args.height = height;
  args.width = width;
  args.groups = groups.data();
  args.num_groups = static_cast<int64_t>(groups.size()) - 1;
  args.outputs = outputs;
  args.zeros = zeros.data();
  args.threads = useful_threads(threads, macs);
  const Workspaces workspaces = workspaces_for(args, longest_run);
  for (int64_t b = 0; b < batch; ++b) {
    args.feature = {data(feature) + b * feature.strides[0], feature.strides[2], feature.strides[3]};
    args.class_map =
        class_map ? static_cast<const uint8_t*>(class_map->data) + b * height * width : nullptr;
    args.image = image ? planes_of(*image, b) : Planes{};
    args.out = planes_of(out, b);
    cpu_kernels().route_mlp(args);
  }
}

void average_neighbors(const TensorView& image, const TensorView& class_map, int64_t min_heavy,
                       int64_t first_heavy, const TensorView& out, int threads) {
  const char* op = "average_neighbors";
  for (const auto& [name, view] :
       {std::pair<const char*, const TensorView&>{"image", image}, {"out", out}}) {
    check_cpu({op, name, view});
    check_floating({op, name, view});
    check_rank({op, name, view}, "[B,C,H,W]", 4);
  }
  const int64_t* sizes = image.sizes;
  check_dtype({op, "out", out}, image.dtype);
  check_shape({op, "out", out}, "[B,C,H,W]", {sizes[0], sizes[1], sizes[2], sizes[3]});
  check_writable({op, "out", out});
  check_class_map({op, "class_map", class_map}, sizes[0], sizes[2], sizes[3]);
  constexpr int64_t kClasses = 256;
  if (first_heavy >= kClasses) return;  // nothing is heavy

  AverageNeighborsArgs args = {};
  args.image = static_cast<const char*>(image.data);
  args.out = static_cast<char*>(out.data);
  args.dtype = image.dtype;
  for (int d = 0; d < 4; ++d) {
    args.image_strides[d] = image.strides[d] * element_size(image.dtype);
    args.out_strides[d] = out.strides[d] * element_size(out.dtype);
  }
  args.class_map = static_cast<const uint8_t*>(class_map.data);
  args.batch = sizes[0];
  args.channels = sizes[1];
  args.height = sizes[2];
  args.width = sizes[3];
  args.min_heavy = min_heavy;
  args.first_heavy = first_heavy;
  args.threads = useful_threads(threads, num_elements(class_map) * kMacsPerPixel);
  std::vector<uint8_t> heavy(args.threads * args.width);
  args.heavy = heavy.data();
  cpu_kernels().average_neighbors(args);
}

}  // namespace cpu
}  // namespace sparsesr
