// What the kernels of the shim's self-test share.
#pragma once

#include <cstdio>
#include <cstring>
#include <vector>

#include "testing/simt.h"

namespace selftest {

constexpr int kThreads = 128;

inline std::vector<float> ramp(int n) {
  std::vector<float> values(n);
  for (int i = 0; i < n; ++i) values[i] = static_cast<float>(i * 37 % 101 + 1);
  return values;
}

// Launches a kernel of (in, out) with one block and compares out[i] with expected(in, i).
template <class Expected>
bool maps_to(void (*kernel)(const float*, float*), Expected expected, size_t shared_bytes = 0) {
  const std::vector<float> in = ramp(kThreads);
  std::vector<float> out(kThreads, -1.0f);
  SIMT_LAUNCH(kernel, 1, kThreads, shared_bytes, nullptr, in.data(), out.data());
  for (int i = 0; i < kThreads; ++i) {
    if (out[i] == expected(in, i)) continue;
    std::printf("wrong: out[%d] = %g instead of %g\n", i, out[i], expected(in, i));
    return false;
  }
  return true;
}

inline float same(const std::vector<float>& in, int i) { return in[i]; }

}  // namespace selftest
