// What the CUDA runtime says of itself and of this machine. Nothing here needs a GPU to build or to
// call.
#pragma once

#include <string>

namespace sparsesr {

struct CudaInfo {
  int runtime_version;  // 13000 is 13.0
  int driver_version;   // 0 without a driver
  int device_count;
  std::string error;  // why device_count is 0, else empty
};

CudaInfo cuda_info();

}  // namespace sparsesr
