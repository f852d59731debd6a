// A tensor as the core sees it: where it lies and how it is strided. Nothing here knows torch.
#pragma once

#include <cstdint>

namespace sparsesr {

enum class DType : int {
  kFloat32 = 0,
  kFloat16 = 1,
  kBFloat16 = 2,
  kFloat64 = 3,
  kInt32 = 4,
  kBool = 5,
  kUInt8 = 6
};

constexpr int kNumDTypes = 7;
constexpr int kCpu = -1;  // `device` of host memory; CUDA devices count from 0

// Not owning. Strides count elements, as torch's do; entries from `rank` on are unset.
struct TensorView {
  static constexpr int kMaxRank = 6;

  void* data;
  DType dtype;
  int device;
  int rank;
  int64_t sizes[kMaxRank];
  int64_t strides[kMaxRank];
};

}  // namespace sparsesr
