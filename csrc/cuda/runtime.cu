#include "cuda/runtime.h"

#include <cuda_runtime_api.h>

namespace sparsesr {

CudaInfo cuda_info() {
  CudaInfo info = {0, 0, 0, ""};
  cudaRuntimeGetVersion(&info.runtime_version);
  cudaDriverGetVersion(&info.driver_version);
  const cudaError_t status = cudaGetDeviceCount(&info.device_count);
  if (status != cudaSuccess) {
    info.device_count = 0;
    info.error = cudaGetErrorString(status);
    cudaGetLastError();  // a query leaves no error behind
  }
  return info;
}

}  // namespace sparsesr
