// Self-test of the shim: the intrinsics of which no fault is planted.
#pragma once

#include "testing/simt_selftest.h"

namespace selftest {

// --- every other intrinsic, in warps of which the last has 8 lanes

struct Results {
  int shuffled[4], votes[3], counts[3];
  unsigned ballot, match, place;
};

__global__ inline void intrinsics_kernel(Results* results) {
  const unsigned t = threadIdx.x + blockDim.x * threadIdx.y;
  const int lane = static_cast<int>(t % 32), n = static_cast<int>(t);
  Results& mine = results[t];
  mine.shuffled[0] = __shfl_sync(~0u, n, 3, 8);
  mine.shuffled[1] = __shfl_up_sync(~0u, n, 2, 8);
  mine.shuffled[2] = __shfl_down_sync(~0u, n, 2, 8);
  mine.shuffled[3] = __shfl_xor_sync(~0u, n, 4);
  mine.ballot = __ballot_sync(~0u, lane % 3 == 0);
  mine.votes[0] = __any_sync(~0u, lane == 7);
  mine.votes[1] = __all_sync(~0u, lane < 31);
  if (lane < 4) mine.votes[2] = __all_sync(0xfu, lane < 4);
  mine.match = __match_any_sync(~0u, lane % 4);
  mine.counts[0] = __syncthreads_count(n % 2);
  mine.counts[1] = __syncthreads_or(n == 1000);
  mine.counts[2] = __syncthreads_and(n < 1000);
  mine.place = blockIdx.y * gridDim.x + blockIdx.x;
}

inline bool intrinsics() {
  constexpr int kCount = 40;
  std::vector<Results> results(kCount);
  SIMT_LAUNCH(intrinsics_kernel, dim3(1, 1), dim3(8, 5), 0, nullptr, results.data());
  bool right = true;
  for (int t = 0; t < kCount; ++t) {
    const int first = t / 8 * 8, last = first + 7, lane = t % 32;
    const uint32_t present = t < 32 ? ~0u : 0xffu;
    const Results& r = results[t];
    right = right && r.shuffled[0] == first + 3 && r.shuffled[1] == (t - 2 < first ? t : t - 2) &&
            r.shuffled[2] == (t + 2 > last ? t : t + 2) && r.shuffled[3] == (t ^ 4) &&
            r.ballot == (0x49249249u & present) && r.votes[0] == 1 && r.votes[1] == (t >= 32) &&
            (lane >= 4 || r.votes[2] == 1) && r.match == (0x11111111u << t % 4 & present) &&
            r.counts[0] == kCount / 2 && r.counts[1] == 0 && r.counts[2] == 1 && r.place == 0;
  }
  return right && __popc(0xf0f0u) == 8 && __clz(1) == 31 && __clz(0) == 32 && __ffs(8) == 4 &&
         __ffs(0) == 0 && __brev(1u) == 0x80000000u;
}

__global__ inline void atomics_kernel(int* ints, unsigned* words, unsigned long long* wide) {
  const int t = static_cast<int>(threadIdx.x);
  atomicMax(&ints[0], t);
  atomicMin(&ints[1], -t);
  atomicCAS(&ints[2], 0, t + 1);
  atomicOr(&words[0], 1u << t);
  atomicAdd(&words[1], 3u);
  atomicAdd(wide, 1ull << 33);
}

inline bool atomics() {
  std::vector<int> ints(3, 0);
  std::vector<unsigned> words(2, 0);
  std::vector<unsigned long long> wide(1, 0);
  SIMT_LAUNCH(atomics_kernel, 2, 32, 0, nullptr, ints.data(), words.data(), wide.data());
  return ints[0] == 31 && ints[1] == -31 && ints[2] >= 1 && ints[2] <= 32 && words[0] == ~0u &&
         words[1] == 192 && wide[0] == 64ull << 33;
}

}  // namespace selftest
