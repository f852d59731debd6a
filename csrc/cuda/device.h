// What device code is written against: the CUDA toolkit under nvcc, the host's SIMT shim under
// SPARSESR_SIMT. Every .cu includes this first and uses nothing of CUDA beyond it: what the shim
// does not provide could not be tested without a GPU.
//
//   SIMT_SHARED(T, name, n)     a static shared array `T name[n]` of the kernel
//   SIMT_DYN_SHARED(T, name)    `T* name`, the launch's dynamic shared memory, 16-byte aligned
//   SIMT_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)
//                               launches and throws std::runtime_error when that fails; a template
//                               instance is bound to a name first: auto* kernel = kernel_of<T>;
//   shared_bytes_per_block()    how much shared memory a kernel may ask for
//   gpu_size()                  how many blocks run at once
#pragma once

#include <cstdint>

namespace sparsesr {
namespace cuda {

struct GpuSize {
  int64_t multiprocessors;
  int64_t shared_bytes;  // of each
};

}  // namespace cuda
}  // namespace sparsesr

#ifdef SPARSESR_SIMT

#include "testing/simt.h"

namespace sparsesr {
namespace cuda {

// That of sm_86 and sm_89, the least of all GPUs since sm_80.
inline int64_t shared_bytes_per_block() { return 99 * 1024; }

inline GpuSize gpu_size() { return {2, 100 * 1024}; }  // kernels go round more than two blocks

}  // namespace cuda
}  // namespace sparsesr

#else

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <utility>

#define SIMT_SHARED(T, name, n) __shared__ T name[n]

#define SIMT_DYN_SHARED(T, name)                     \
  extern __shared__ uint4 sparsesr_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(sparsesr_dynamic_shared)

#define SIMT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                       \
  ::sparsesr::cuda::launch_kernel(#kernel, kernel, dim3(grid), dim3(block), shared_bytes, \
                                  static_cast<cudaStream_t>(stream), __VA_ARGS__)

namespace sparsesr {
namespace cuda {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // reported here and now: later calls start clean
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

template <class... Parameters, class... Arguments>
void launch_kernel(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream, Arguments&&... arguments) {
  if (shared_bytes > 0) {  // beyond 48 KB, static arrays included, it must be asked for
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               name);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

// The shared memory that a block of the current device can have, static and dynamic.
inline int64_t shared_bytes_per_block() {
  int device = 0;
  int bytes = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "cudaDeviceGetAttribute");
  return bytes;
}

inline GpuSize gpu_size() {
  int device = 0;
  int count = 0;
  int bytes = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device),
             "cudaDeviceGetAttribute");
  return {count, bytes};
}

}  // namespace cuda
}  // namespace sparsesr

#endif
