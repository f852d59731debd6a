// Tensors for checks of one implementation against another: in heap blocks of exactly their extent,
// so that AddressSanitizer sees any access beyond, and in every memory layout that a caller may
// hand in.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/tensor_view.h"

namespace sparsesr {
namespace check {

// The slices leave out channels, and the crops rows and columns, of a larger tensor; both begin at
// an odd address. kLast: channels_last. Tensors of other ranks than 4 are contiguous or cropped.
enum class Layout { kContiguous, kLast, kSlice, kSliceLast, kCropped, kCroppedLast };

enum class Values {
  kExact,    // small multiples of a power of two: sums of a few hundred are exact in any order
  kSpecial,  // those, and NaN, infinities, both zeros, subnormals
  kEqual,
  kFiveLevels,
};

class Tensor {
 public:
  Tensor(DType dtype, std::vector<int64_t> sizes, Layout layout = Layout::kContiguous);

  void fill(Values values, uint64_t seed);
  void set(int64_t slot, double value);  // all elements of view [slot, ...]
  Tensor copy() const;
  // view [first, first + count, ...]
  TensorView narrow(int64_t first, int64_t count) const;

  TensorView view;
  std::string name() const;  // "[2, 3, 5, 7] float16 sliced channels_last"

  // The memory of both, the gaps between elements included, byte by byte; throws
  // std::runtime_error that says where they differ.
  static void expect_equal(const std::string& what, const Tensor& expected, const Tensor& got);

 private:
  template <class Visit>
  void for_each_element(const TensorView& part, const Visit& visit) const;
  void store(char* at, double value) const;
  double load(const char* at) const;

  Layout layout_;
  int64_t bytes_;
  std::unique_ptr<char[]> memory_;
};

}  // namespace check
}  // namespace sparsesr
