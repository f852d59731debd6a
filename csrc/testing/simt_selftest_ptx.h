// Self-test of the shim: cp.async, ldmatrix, mma.sync.
#pragma once

#include "testing/simt_selftest.h"

namespace selftest {

// --- cp.async

enum class Wait { kBeforeUse, kAfterUse, kNever };

template <Wait wait>
__global__ void copy_kernel(const float* in, float* out) {
  SIMT_SHARED(float4, tile, kThreads / 4);
  const unsigned t = threadIdx.x;
  if (t < kThreads / 4) cp_async_16(&tile[t], in + 4 * t, true);  // fault: copy_in_flight
  cp_async_commit();
  if (wait == Wait::kBeforeUse) cp_async_wait<0>();
  __syncthreads();
  out[t] = reinterpret_cast<const float*>(tile)[t];
  if (wait == Wait::kAfterUse) cp_async_wait<0>();
}
template <Wait wait>
bool copy() {
  return maps_to(copy_kernel<wait>, same);
}

// Two buffers take turns; a barrier keeps a buffer until the last reader is done with it.
constexpr int kTiles = 6;
template <bool fault>
__global__ void ring_kernel(const float* in, float* out) {
  SIMT_DYN_SHARED(float4, buffers);
  const unsigned t = threadIdx.x;
  const auto fetch = [&](int tile) {
    const bool valid = tile < kTiles;
    cp_async_16(buffers + tile % 2 * 32 + t, in + (valid ? tile : 0) * 128 + 4 * t, valid);
    cp_async_commit();
  };
  fetch(0);
  float sum = 0.0f;
  for (int tile = 0; tile < kTiles; ++tile) {
    fetch(tile + 1);
    cp_async_wait<1>();
    __syncthreads();
    const auto* values = reinterpret_cast<const float*>(buffers + tile % 2 * 32);
    for (int i = 0; i < 4; ++i) sum += values[(t * 4 + 5 * i) % 128];
    if (!fault) __syncthreads();
  }
  cp_async_wait<0>();
  out[t] = sum;
}
template <bool fault>
bool ring() {
  const std::vector<float> in = ramp(kTiles * 128);
  std::vector<float> out(32);
  auto* kernel = ring_kernel<fault>;
  SIMT_LAUNCH(kernel, 1, 32, 2 * 32 * sizeof(float4), nullptr, in.data(), out.data());
  for (int t = 0; t < 32; ++t) {
    float sum = 0.0f;
    for (int i = 0; i < 4 * kTiles; ++i) sum += in[i / 4 * 128 + (t * 4 + 5 * (i % 4)) % 128];
    if (out[t] != sum) return std::printf("wrong: out[%d] = %g, not %g\n", t, out[t], sum), false;
  }
  return true;
}

// --- tensor cores: [16,16] times [16,16], through shared memory

template <bool bf16>
uint16_t bits_of(float value) {  // of a small multiple of 1/8, which both types represent
  uint32_t bits = __float_as_uint(value);
  if (bf16) return static_cast<uint16_t>(bits >> 16);
  if (value == 0.0f) return 0;
  const uint32_t magnitude = ((bits & 0x7fffffffu) >> 13) - (112u << 10);
  return static_cast<uint16_t>((bits >> 16 & 0x8000u) | magnitude);
}

template <bool bf16, bool fault>
__global__ void matmul_kernel(const uint16_t* a, const uint16_t* b, float* out) {
  SIMT_SHARED(uint4, rows_a, 32);
  SIMT_SHARED(uint4, rows_b, 32);
  const unsigned lane = threadIdx.x;
  rows_a[lane] = reinterpret_cast<const uint4*>(a)[lane];
  rows_b[lane] = reinterpret_cast<const uint4*>(b)[lane];
  __syncwarp();
  // Row lane % 16 of both; columns 0 to 7 for the first two matrices, 8 to 15 for the others.
  const unsigned row = lane % 16 * 2 + lane / 16;
  uint32_t fragment_a[4], fragment_b[4];
  ldmatrix_x4(fragment_a, &rows_a[row]);
  if (fault) {
    ldmatrix_x4(fragment_b, &rows_b[row]);
  } else {
    ldmatrix_x4_trans(fragment_b, &rows_b[row]);
  }
  for (int tile = 0; tile < 2; ++tile) {
    const uint32_t columns[2] = {fragment_b[2 * tile], fragment_b[2 * tile + 1]};
    float d[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    if (bf16) {
      mma_m16n8k16_bf16(d, fragment_a, columns);
    } else {
      mma_m16n8k16_f16(d, fragment_a, columns);
    }
    for (int i = 0; i < 4; ++i) {
      out[(lane / 4 + i / 2 * 8) * 16 + tile * 8 + lane % 4 * 2 + i % 2] = d[i] - 1.0f - i;
    }
  }
}
template <bool bf16, bool fault>
bool matmul_of() {
  std::vector<float> a(256), b(256), out(256);
  std::vector<uint16_t> bits_a(256), bits_b(256);
  for (int i = 0; i < 256; ++i) {
    a[i] = static_cast<float>(i * 7 % 31 - 15) / 8;
    b[i] = static_cast<float>(i * 5 % 29 - 14) / 8;
    bits_a[i] = bits_of<bf16>(a[i]);
    bits_b[i] = bits_of<bf16>(b[i]);
  }
  auto* kernel = matmul_kernel<bf16, fault>;
  SIMT_LAUNCH(kernel, 1, 32, 0, nullptr, bits_a.data(), bits_b.data(), out.data());
  for (int i = 0; i < 256; ++i) {
    float sum = 0.0f;  // exact: multiples of 1/64 below 2^10
    for (int j = 0; j < 16; ++j) sum += a[i / 16 * 16 + j] * b[j * 16 + i % 16];
    if (out[i] != sum) return std::printf("wrong: out[%d] = %g, not %g\n", i, out[i], sum), false;
  }
  return true;
}
template <bool fault>
bool matmul() {
  return matmul_of<true, fault>() && matmul_of<false, fault>();
}

}  // namespace selftest
