// Wrappers of inline PTX (sm_80 and later): asynchronous copies to shared memory, matrix fragments
// from shared memory, multiply-add on tensor cores. Under SPARSESR_SIMT the shim brings host
// versions of the same names.
//
// Fragments of the m16n8k16 product d[16,8] += a[16,16] b[16,8]; lane = 4 * g + t holds, two 16-bit
// elements in a register, the lower column or row in the low half:
//   a   rows g, g+8, g, g+8 (registers 0 to 3) at columns 2t, 2t+1 (registers 2 and 3: plus 8)
//   b   column g at rows 2t, 2t+1 (register 1: plus 8)
//   d   row g at columns 2t, 2t+1 (0 and 1), row g+8 likewise (2 and 3), float32
#pragma once

#include <cstdint>

#include "cuda/device.h"

#ifndef SPARSESR_SIMT

namespace sparsesr {
namespace cuda {

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Copies 16 bytes from global to shared memory, both 16-byte aligned, or writes zeros when not
// `valid`: then `global` is not read.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)),
                 "r"(valid ? 16 : 0)
               : "memory");
}

// Closes a group: the copies this thread has asked for since the last one.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" : : : "memory");
}

// Waits until at most `kInFlight` of this thread's groups are. Others' copies need a barrier.
template <int kInFlight>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kInFlight) : "memory");
}

// Four 8x8 matrices of 16-bit elements. Lane l names row l % 8 of matrix l / 8, 16 bytes at a
// 16-byte boundary of shared memory, and receives elements (l / 4, 2 * (l % 4)) and the next of
// each.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same with each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#define SPARSESR_MMA_M16N8K16(name, type)                                               \
  __device__ __forceinline__ void name(float (&d)[4], const uint32_t (&a)[4],           \
                                       const uint32_t (&b)[2]) {                        \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                 \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));   \
  }

SPARSESR_MMA_M16N8K16(mma_m16n8k16_bf16, "bf16")
SPARSESR_MMA_M16N8K16(mma_m16n8k16_f16, "f16")
#undef SPARSESR_MMA_M16N8K16

}  // namespace cuda
}  // namespace sparsesr

#endif
