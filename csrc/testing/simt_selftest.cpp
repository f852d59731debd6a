// Small kernels for the SIMT shim itself, each sound, and once more with a fault planted. The
// argument names the fault to run, "clean" runs all the sound ones; exit status 0 when the results
// are right and nothing was reported. tests/native/test_simt.py says which build and which options
// must find which fault; the comments "fault: <name>" mark the lines it expects in reports.
#include "testing/simt_selftest.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "testing/simt_selftest_intrinsics.h"
#include "testing/simt_selftest_ptx.h"

namespace selftest {
namespace {

// --- shared memory and barriers

template <bool fault>
__global__ void reverse_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, kThreads);
  const unsigned t = threadIdx.x;
  tile[t] = in[t];
  if (!fault) __syncthreads();
  out[t] = tile[kThreads - 1 - t];  // fault: missing_barrier_before_read
}
template <bool fault>
bool reverse() {
  return maps_to(reverse_kernel<fault>, [](const auto& in, int i) { return in[kThreads - 1 - i]; });
}

// The fault stays unseen in ascending order: every thread reads its neighbour before that writes.
template <bool fault>
__global__ void shift_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, kThreads);
  const unsigned t = threadIdx.x;
  tile[t] = in[t];
  __syncthreads();
  const float next = tile[t + 1 < kThreads ? t + 1 : t];
  if (!fault) __syncthreads();
  tile[t] = next;  // fault: missing_barrier_before_write
  __syncthreads();
  out[t] = tile[t];
}
template <bool fault>
bool shift() {
  return maps_to(shift_kernel<fault>,
                 [](const auto& in, int i) { return in[i + 1 < kThreads ? i + 1 : i]; });
}

template <bool fault>
__global__ void shift_in_warp_kernel(const float* in, float* out) {
  SIMT_DYN_SHARED(float, tile);
  const unsigned t = threadIdx.x;
  tile[t] = in[t];
  if (!fault) __syncwarp();
  out[t] = tile[t % 32 == 0 ? t : t - 1];  // fault: missing_syncwarp
}
template <bool fault>
bool shift_in_warp() {
  const auto expected = [](const auto& in, int i) { return in[i % 32 == 0 ? i : i - 1]; };
  return maps_to(shift_in_warp_kernel<fault>, expected, kThreads * sizeof(float));
}

template <bool fault>
__global__ void half_filled_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, kThreads);
  const unsigned t = threadIdx.x;
  if (t < kThreads / 2 || !fault) tile[t] = in[t];
  __syncthreads();
  out[t] = tile[t];
}
template <bool fault>
bool half_filled() {
  return maps_to(half_filled_kernel<fault>, same);
}

// What is read is not used: no poison shows it.
template <bool fault>
__global__ void harmless_kernel(const float* in, float* out) {
  SIMT_SHARED(float, tile, kThreads);
  const unsigned t = threadIdx.x;
  if (t < kThreads / 2 || !fault) tile[t] = in[t];
  __syncthreads();
  out[t] = tile[t] == -7.0f ? 0.0f : in[t];
}
template <bool fault>
bool harmless() {
  return maps_to(harmless_kernel<fault>, same);
}

// --- accesses out of bounds, whose values are not used

template <bool fault>
__global__ void read_global_kernel(const float* in, float* out) {
  const unsigned t = threadIdx.x;
  const unsigned last = fault ? kThreads : kThreads - 1;
  const float next = in[t < last ? t + 1 : last];  // fault: out_of_bounds_global
  out[t] = next == -7.0f ? 0.0f : in[t];
}
template <bool fault>
bool read_global() {
  return maps_to(read_global_kernel<fault>, same);
}

template <bool fault, bool dynamic>
__global__ void read_shared_kernel(const float* in, float* out) {
  SIMT_SHARED(float, fixed, kThreads);
  SIMT_DYN_SHARED(float, sized);
  float* tile = dynamic ? sized : fixed;
  const unsigned t = threadIdx.x;
  tile[t] = in[t];
  __syncthreads();
  const unsigned last = fault ? kThreads : kThreads - 1;
  const float next = tile[t < last ? t + 1 : last];  // fault: out_of_bounds_shared
  out[t] = next == -7.0f ? 0.0f : in[t];
}
template <bool fault, bool dynamic>
bool read_shared() {
  const size_t bytes = dynamic ? kThreads * sizeof(float) : 0;
  return maps_to(read_shared_kernel<fault, dynamic>, same, bytes);
}

// --- races of global memory

template <bool fault>
__global__ void total_kernel(const float* in, float* total) {
  if (fault) {
    *total += in[threadIdx.x];  // fault: two_threads_one_global
  } else {
    atomicAdd(total, in[threadIdx.x]);
  }
}
template <bool fault>
bool total() {
  const std::vector<float> in = ramp(kThreads);
  std::vector<float> sum(1, 0.0f);
  float expected = 0.0f;
  for (const float value : in) expected += value;
  auto* kernel = total_kernel<fault>;
  SIMT_LAUNCH(kernel, 1, kThreads, 0, nullptr, in.data(), sum.data());
  return sum[0] == expected;
}

constexpr int kBlocks = 5;
template <bool fault>
__global__ void count_blocks_kernel(int* count) {
  if (threadIdx.x != 0) return;
  if (fault) {
    ++*count;  // fault: two_blocks_one_global
  } else {
    atomicAdd(count, 1);
  }
}
template <bool fault>
bool count_blocks() {
  std::vector<int> count(1, 0);
  auto* kernel = count_blocks_kernel<fault>;
  SIMT_LAUNCH(kernel, kBlocks, 32, 0, nullptr, count.data());
  return count[0] == kBlocks;
}

// The last block to finish adds up what all have left.
template <bool fault>
__global__ void last_block_kernel(float* parts, int* done, float* sum) {
  if (threadIdx.x != 0) return;
  parts[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
  if (!fault) __threadfence();
  const int before = atomicAdd(done, 1);
  if (!fault) __threadfence();
  if (before + 1 < static_cast<int>(gridDim.x)) return;
  for (unsigned i = 0; i < gridDim.x; ++i) *sum += parts[i];  // fault: missing_threadfence
}
template <bool fault>
bool last_block() {
  std::vector<float> parts(kBlocks), sum(1, 0.0f);
  std::vector<int> done(1, 0);
  auto* kernel = last_block_kernel<fault>;
  SIMT_LAUNCH(kernel, kBlocks, 32, 0, nullptr, parts.data(), done.data(), sum.data());
  return sum[0] == kBlocks * (kBlocks + 1) / 2;
}

// --- divergence

template <bool fault>
__global__ void divergent_shuffle_kernel(const float* in, float* out) {
  const unsigned t = threadIdx.x;
  if (fault && t % 32 == 7) __syncthreads();  // fault: divergent_barrier_of_one
  out[t] = __shfl_xor_sync(~0u, in[t], 1);    // fault: divergent_shuffle_of_others
}
template <bool fault>
bool divergent_shuffle() {
  return maps_to(divergent_shuffle_kernel<fault>, [](const auto& in, int i) { return in[i ^ 1]; });
}

template <bool fault>
__global__ void divergent_ballot_kernel(const float* in, float* out) {
  const unsigned t = threadIdx.x;
  unsigned votes = 0;
  if (fault && t % 2 == 1) {
    votes = __ballot_sync(~0u, in[t] > 50.0f);  // fault: divergent_ballot_odd
  } else {
    votes = __ballot_sync(~0u, in[t] > 50.0f);  // fault: divergent_ballot_even
  }
  out[t] = static_cast<float>(votes >> (t % 32) & 1u);
}
template <bool fault>
bool divergent_ballot() {
  const auto expected = [](const auto& in, int i) { return in[i] > 50.0f ? 1.0f : 0.0f; };
  return maps_to(divergent_ballot_kernel<fault>, expected);
}

template <bool fault>
__global__ void early_exit_kernel(const float* in, float* out) {
  if (fault && threadIdx.x == 5) return;
  __syncthreads();  // fault: early_exit
  out[threadIdx.x] = in[threadIdx.x];
}
template <bool fault>
bool early_exit() {
  return maps_to(early_exit_kernel<fault>, same);
}

template <bool fault>
__global__ void trap_kernel(const float* in, float* out) {
  if (fault && threadIdx.x == 9) __trap();  // fault: trap
  out[threadIdx.x] = in[threadIdx.x];
}
template <bool fault>
bool trap() {
  return maps_to(trap_kernel<fault>, same);
}

struct Case {
  const char* name;  // of the fault
  bool (*clean)();
  bool (*faulty)();
};

constexpr Case kCases[] = {
    {"missing_barrier_before_read", reverse<false>, reverse<true>},
    {"missing_barrier_before_write", shift<false>, shift<true>},
    {"missing_syncwarp", shift_in_warp<false>, shift_in_warp<true>},
    {"uninitialised_shared", half_filled<false>, half_filled<true>},
    {"uninitialised_harmless", harmless<false>, harmless<true>},
    {"out_of_bounds_global", read_global<false>, read_global<true>},
    {"out_of_bounds_static_shared", read_shared<false, false>, read_shared<true, false>},
    {"out_of_bounds_dynamic_shared", read_shared<false, true>, read_shared<true, true>},
    {"two_threads_one_global", total<false>, total<true>},
    {"two_blocks_one_global", count_blocks<false>, count_blocks<true>},
    {"missing_threadfence", last_block<false>, last_block<true>},
    {"divergent_shuffle", divergent_shuffle<false>, divergent_shuffle<true>},
    {"divergent_ballot", divergent_ballot<false>, divergent_ballot<true>},
    {"early_exit", early_exit<false>, early_exit<true>},
    {"trap", trap<false>, trap<true>},
    {"copy_used_before_wait", copy<Wait::kBeforeUse>, copy<Wait::kAfterUse>},
    {"copy_in_flight", copy<Wait::kBeforeUse>, copy<Wait::kNever>},
    {"missing_barrier_in_ring", ring<false>, ring<true>},
    {"matrix_not_transposed", matmul<false>, matmul<true>},
    {"intrinsics", intrinsics, nullptr},
    {"atomics", atomics, nullptr},
};

int run_all_clean() {
  int count = 0;
  for (const Case& c : kCases) {
    if (!c.clean()) return std::printf("%s: the sound kernel is wrong\n", c.name), 1;
    ++count;
  }
  return std::printf("%d cases\n", count), 0;
}

int run(const char* name) {
  if (std::strcmp(name, "clean") == 0) return run_all_clean();
  for (const Case& c : kCases) {
    if (c.faulty == nullptr || std::strcmp(name, c.name) != 0) continue;
    const bool right = c.faulty();
    return std::printf("%s\n", right ? "right" : "wrong"), right ? 0 : 1;
  }
  return std::fprintf(stderr, "no case of this name: %s\n", name), 2;
}

}  // namespace
}  // namespace selftest

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: %s clean|<fault>\n", argv[0]), 2;
  try {
    return selftest::run(argv[1]);
  } catch (const std::exception& error) {
    return std::printf("reported: %s\n", error.what()), 1;
  }
}
