#pragma once

#include <algorithm>
#include <cstdint>

namespace sparsesr {
namespace cpu {

// How many threads are worth waking for an op that computes.
inline int useful_threads(int threads, int64_t macs) {
  constexpr int64_t kMacsPerThread = 1 << 20;  // below, a thread costs more than it saves
  return static_cast<int>(std::clamp<int64_t>(macs / kMacsPerThread, 1, std::max(threads, 1)));
}

}  // namespace cpu
}  // namespace sparsesr
