#include "testing/check_tensors.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

#include "common/checks.h"
#include "cpu/scalar.h"

namespace sparsesr {
namespace check {
namespace {

using SPARSESR_ISA::BFloat16;
using SPARSESR_ISA::Half;

bool channels_last(Layout layout) {
  return layout == Layout::kLast || layout == Layout::kSliceLast || layout == Layout::kCroppedLast;
}

// The first element of the view in each dimension of the larger tensor, and how much longer that
// is.
struct Margins {
  int64_t first[TensorView::kMaxRank] = {};
  int64_t more[TensorView::kMaxRank] = {};
};

Margins margins_of(Layout layout, int rank) {
  Margins margins;
  if (layout == Layout::kSlice || layout == Layout::kSliceLast) {
    margins.first[1] = 1;
    margins.more[1] = 3;
  } else if (layout == Layout::kCropped || layout == Layout::kCroppedLast) {
    for (int d : {rank - 2, rank - 1}) {
      margins.first[d] = 1;
      margins.more[d] = d == rank - 1 ? 4 : 1;
    }
  }
  return margins;
}

template <class T>
T load_as(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <class T>
void store_as(char* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

double special(uint64_t draw) {
  const double inf = std::numeric_limits<double>::infinity();
  const double values[] = {std::nan(""), inf, -inf, 0.0, -0.0, std::ldexp(1.0, -24), -1.0};
  return values[draw % (sizeof(values) / sizeof(values[0]))];
}

}  // namespace

Tensor::Tensor(DType dtype, std::vector<int64_t> sizes, Layout layout)
    : view{nullptr, dtype, kCpu, static_cast<int>(sizes.size()), {}, {}}, layout_(layout) {
  const int rank = view.rank;
  const Margins margins = margins_of(layout, rank);
  std::vector<int> order(rank);  // dimensions from outermost to innermost
  std::iota(order.begin(), order.end(), 0);
  if (channels_last(layout)) order = {0, 2, 3, 1};
  int64_t stride = 1, first = 0, last = 0;
  bool empty = false;
  for (int i = rank - 1; i >= 0; --i) {
    const int d = order[i];
    view.sizes[d] = sizes[d];
    view.strides[d] = stride;
    first += margins.first[d] * stride;
    last += (sizes[d] - 1) * stride;
    stride *= std::max<int64_t>(sizes[d] + margins.more[d], 1);
    empty = empty || sizes[d] == 0;
  }
  const int64_t element = element_size(dtype);
  const int64_t lead = first % (16 / element);  // keeps the address as odd as it is in the whole
  bytes_ = empty ? 0 : (lead + last + 1) * element;
  memory_.reset(new char[bytes_]);
  for (int64_t i = 0; i < bytes_; ++i) memory_[i] = static_cast<char>(i * 37 % 101);
  view.data = memory_.get() + (empty ? 0 : lead * element);
}

template <class Visit>
void Tensor::for_each_element(const TensorView& part, const Visit& visit) const {
  const int64_t count = num_elements(part);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i, offset = 0;
    for (int d = part.rank - 1; d >= 0; --d) {
      offset += rest % part.sizes[d] * part.strides[d];
      rest /= part.sizes[d];
    }
    visit(static_cast<char*>(part.data) + offset * element_size(part.dtype));
  }
}

void Tensor::store(char* at, double value) const {
  const auto single = static_cast<float>(value);
  switch (view.dtype) {
    case DType::kFloat32:
      return store_as(at, single);
    case DType::kFloat16:
      return store_as(at, Half::store(single));
    case DType::kBFloat16:
      return store_as(at, BFloat16::store(single));
    case DType::kFloat64:
      return store_as(at, value);
    case DType::kInt32:
      return store_as(at, static_cast<int32_t>(value));
    case DType::kBool:
      return store_as(at, static_cast<uint8_t>(value != 0));
    case DType::kUInt8:
      return store_as(at, static_cast<uint8_t>(value));
  }
}

double Tensor::load(const char* at) const {
  switch (view.dtype) {
    case DType::kFloat32:
      return load_as<float>(at);
    case DType::kFloat16:
      return Half::load(load_as<Half>(at));
    case DType::kBFloat16:
      return BFloat16::load(load_as<BFloat16>(at));
    case DType::kFloat64:
      return load_as<double>(at);
    case DType::kInt32:
      return load_as<int32_t>(at);
    case DType::kBool:
    case DType::kUInt8:
      return load_as<uint8_t>(at);
  }
  return 0.0;
}

void Tensor::fill(Values values, uint64_t seed) {
  std::mt19937_64 random(seed);
  // Seven bits in bfloat16; in float64 more than a float32 accumulator could keep.
  const bool wide = view.dtype == DType::kFloat64;
  const double unit = wide ? std::ldexp(1.0, -30) : 1.0 / 16;
  const auto steps = static_cast<int64_t>(wide ? int64_t{1} << 32 : 128);
  for_each_element(view, [&](char* at) {
    const uint64_t draw = random();
    double value = static_cast<double>(static_cast<int64_t>(draw % (2 * steps)) - steps) * unit;
    if (values == Values::kSpecial && draw >> 60 < 6) value = special(draw >> 40);
    if (values == Values::kEqual) value = 0.25;
    if (values == Values::kFiveLevels) value = static_cast<double>(draw % 5) / 4;
    store(at, value);
  });
}

void Tensor::set(int64_t slot, double value) {
  for_each_element(narrow(slot, 1), [&](char* at) { store(at, value); });
}

TensorView Tensor::narrow(int64_t first, int64_t count) const {
  TensorView part = view;
  part.data = static_cast<char*>(view.data) + first * view.strides[0] * element_size(view.dtype);
  part.sizes[0] = count;
  return part;
}

Tensor Tensor::copy() const {
  Tensor twin(view.dtype, {view.sizes, view.sizes + view.rank}, layout_);
  if (bytes_ > 0) std::memcpy(twin.memory_.get(), memory_.get(), bytes_);
  return twin;
}

std::string Tensor::name() const {
  const char* const layouts[] = {"",         " channels_last",
                                 " sliced",  " sliced channels_last",
                                 " cropped", " cropped channels_last"};
  return shape_text(view) + " " + dtype_name(view.dtype) + layouts[static_cast<int>(layout_)];
}

void Tensor::expect_equal(const std::string& what, const Tensor& expected, const Tensor& got) {
  if (std::memcmp(expected.memory_.get(), got.memory_.get(), expected.bytes_) == 0) return;
  const auto offset = [](const Tensor& tensor, const char* at) {
    return at - tensor.memory_.get();
  };
  int64_t element = 0;
  expected.for_each_element(expected.view, [&](const char* at) {
    const char* other = got.memory_.get() + offset(expected, at);
    if (std::memcmp(at, other, element_size(expected.view.dtype)) != 0) {
      fail<std::runtime_error>(what, ": element ", element, " of ", got.name(), " is ",
                               got.load(other), " instead of ", expected.load(at));
    }
    ++element;
  });
  fail<std::runtime_error>(what, ": memory between the elements of ", got.name(), " was written");
}

}  // namespace check
}  // namespace sparsesr
