// CUDA kernels as plain C++, executed on the host: what cuda/device.h includes under SPARSESR_SIMT
// in place of the CUDA toolkit. A test without a GPU then sees what the kernels compute, and the
// sanitizers see every access they make:
//
//   g++ -std=c++17 -fno-strict-aliasing -DSPARSESR_SIMT -Icsrc -x c++ <kernels>.cu
//       csrc/testing/simt_{grid,fiber,options}.cpp ...
//
// with nothing, -fsanitize=address,undefined or -fsanitize=thread added. README.md in this folder
// shows the commands; simt_selftest.cpp holds a planted fault of every kind and what finds it.
//
// Modelled: grids, blocks and threads (one fiber each); static and dynamic shared memory, fresh
// and poisoned in every block; barriers, warp collectives and shuffles; atomics; cp.async, ldmatrix
// and mma.sync (simt_ptx.h); the limits of a launch. The threads of a block run in turns, from one
// meeting point to the next. All threads of a barrier, all lanes of a mask must meet at the same
// operation of the same source line: anything else ends the launch with std::runtime_error, such as
//   my_kernel: block (0, 0, 0): thread 0 waits at __shfl_sync k.cu:80 mask ffffffff; thread 7 waits
//   at __syncthreads k.cu:95
//
// The environment chooses how (simt_grid.h: options() does so from within a program):
//   SIMT_ORDER     ascending | descending | a number: threads shuffled, by this seed
//   SIMT_POISON    negative | positive: shared memory holds 0xffff or 0x7fff, NaN as any float;
//                  none: as malloc left it, for valgrind
//   SIMT_CP_ASYNC  eager | wait: the copy lands when it is issued, or when it is waited for
//
// ThreadSanitizer takes every thread of every block for a thread of its own, ordered by barriers,
// __syncwarp and __threadfence, not by shuffles or votes, which on a GPU order no memory either.
// So it sees races of shared and of global memory whether or not this run came out wrong, between
// blocks as well, unless both threads happened to run on one fiber.
//
// Not modelled: blocks or warps that really run at once (a block that waits for another one hangs
// or fails); what a warp does in lockstep; the fences' scopes: __threadfence counts as a barrier of
// those who call it, so a missing one shows only as a race; bank conflicts, coalescing, time. Code
// that nvcc alone compiles, cuda/ptx.h above all, is not executed. One operating-system thread may
// launch at a time. thread_local variables are one for all threads of a kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "testing/simt_grid.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

using cudaStream_t = struct CUstream_st*;

extern dim3 gridDim, blockDim;
extern uint3 blockIdx;
#define threadIdx (simt::current->index)
constexpr int warpSize = simt::kWarp;

// A reference to an array keeps its extent: UBSan checks constant-size arrays' indices.
#define SIMT_SHARED(T, name, n)                    \
  T(&name)                                         \
  [n] = *static_cast<T(*)[n]>(simt::shared_memory( \
      []() -> void* {                              \
        static char key;                           \
        return &key;                               \
      }(),                                         \
      sizeof(T[n])))
#define SIMT_DYN_SHARED(T, name) T* const name = static_cast<T*>(simt::dynamic_shared_memory())
#define SIMT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  simt::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)

namespace simt {

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, void* /*stream*/, const Arguments&... arguments) {
  run_grid(name, grid, block, shared_bytes, [&] { kernel(arguments...); });
}

// What a warp collective `Op` is made of: In, Out, and Out result(const In* const* in, int lane),
// where `in` has null pointers for lanes outside the mask. kUniform: one result for all lanes.
template <class Op>
void finish_call(const WarpCall* const* lanes) {
  const typename Op::In* in[kWarp] = {};
  for (int i = 0; i < kWarp; ++i) {
    if (lanes[i] != nullptr) in[i] = static_cast<const typename Op::In*>(lanes[i]->in);
  }
  typename Op::Out result = {};
  bool known = false;
  for (int i = 0; i < kWarp; ++i) {
    if (in[i] == nullptr) continue;
    if (!known || !Op::kUniform) result = Op::result(in, i);
    *static_cast<typename Op::Out*>(lanes[i]->out) = result;
    known = true;
  }
}

template <class Op>
typename Op::Out meet(const char* name, const Site& site, unsigned mask,
                      const typename Op::In& in) {
  typename Op::Out out = {};
  WarpCall call = {name, site, mask, Op::kOrdersMemory, &in, &out, &finish_call<Op>};
  warp_collective(call);
  return out;
}

struct Sync {
  static constexpr bool kOrdersMemory = true, kUniform = true;
  struct In {};
  using Out = bool;
  static Out result(const In* const*, int) { return true; }
};

struct Vote {
  static constexpr bool kOrdersMemory = false, kUniform = true;
  using In = bool;
  struct Out {
    unsigned yes, all;
  };
  static Out result(const In* const* in, int) {
    Out out = {0, 0};
    for (int i = 0; i < kWarp; ++i) {
      if (in[i] == nullptr) continue;
      out.all |= 1u << i;
      if (*in[i]) out.yes |= 1u << i;
    }
    return out;
  }
};

struct Match {
  static constexpr bool kOrdersMemory = false, kUniform = false;
  using In = uint64_t;
  using Out = unsigned;
  static Out result(const In* const* in, int lane) {
    unsigned equal = 0;
    for (int i = 0; i < kWarp; ++i) {
      if (in[i] != nullptr && *in[i] == *in[lane]) equal |= 1u << i;
    }
    return equal;
  }
};

template <class T>
struct Shuffle {
  static constexpr bool kOrdersMemory = false, kUniform = false;
  struct In {
    T value;
    int source;
  };
  using Out = T;
  static Out result(const In* const* in, int lane) {
    const int source = in[lane]->source;
    if (in[source] == nullptr) {
      fail("a shuffle in lane " + std::to_string(lane) + " reads lane " + std::to_string(source) +
           ", which takes no part");
    }
    return in[source]->value;
  }
};

// The intrinsics below are objects that know their source line; calling one is the intrinsic.
enum class Direction { kTo, kUp, kDown, kXor };

template <Direction direction>
struct ShuffleAt {
  const char* name;
  Site site;

  template <class T>
  T operator()(unsigned mask, T value, int operand, int width = kWarp) const {
    static_assert(std::is_arithmetic<T>::value, "shuffles take arithmetic types");
    const int lane = current->lane();
    const int first = lane & ~(width - 1);
    int source = first + (operand & (width - 1));
    if (direction == Direction::kUp) source = lane - operand < first ? lane : lane - operand;
    if (direction == Direction::kDown) {
      source = lane + operand < first + width ? lane + operand : lane;
    }
    if (direction == Direction::kXor) {
      source = (lane ^ operand) < first + width ? lane ^ operand : lane;
    }
    return meet<Shuffle<T>>(name, site, mask, {value, source});
  }
};

struct VoteAt {
  const char* name;
  Site site;

  Vote::Out operator()(unsigned mask, int predicate) const {
    return meet<Vote>(name, site, mask, predicate != 0);
  }
};
struct BallotAt : VoteAt {
  unsigned operator()(unsigned mask, int p) const { return VoteAt::operator()(mask, p).yes; }
};
struct AnyAt : VoteAt {
  int operator()(unsigned mask, int p) const { return VoteAt::operator()(mask, p).yes != 0; }
};
struct AllAt : VoteAt {
  int operator()(unsigned mask, int p) const {
    const Vote::Out votes = VoteAt::operator()(mask, p);
    return votes.yes == votes.all;
  }
};

struct MatchAt {
  Site site;

  template <class T>
  unsigned operator()(unsigned mask, T value) const {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "__match_any_sync takes 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return meet<Match>("__match_any_sync", site, mask, bits);
  }
};

struct SyncWarpAt {
  Site site;

  void operator()(unsigned mask = ~0u) const { meet<Sync>("__syncwarp", site, mask, {}); }
};

enum class Count { kNothing, kAll, kAny, kEvery };

template <Count count>
struct BarrierAt {
  const char* name;
  Site site;

  int operator()(int predicate = 0) const {
    const int votes = barrier(site, name, predicate);
    const auto threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    if (count == Count::kAny) return votes != 0;
    return count == Count::kEvery ? votes == threads : votes;
  }
};
template <>
struct BarrierAt<Count::kNothing> {
  Site site;

  void operator()() const { barrier(site, "__syncthreads", 0); }
};

struct TrapAt {
  Site site;

  [[noreturn]] void operator()() const { fail_here(site, "__trap()"); }
};

// Relaxed, as on the GPU: an atomic orders nothing but itself.
template <class T, class Update>
T update(T* address, Update next) {
  static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value ||
                    std::is_same<T, unsigned long long>::value || std::is_same<T, float>::value ||
                    std::is_same<T, double>::value,
                "CUDA has no such atomic");
  T old;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  for (;;) {
    T desired = next(old);
    if (__atomic_compare_exchange(address, &old, &desired, false, __ATOMIC_RELAXED,
                                  __ATOMIC_RELAXED)) {
      return old;
    }
  }
}

template <class T>
using Same = typename std::common_type<T>::type;  // not deduced

}  // namespace simt

#define __syncthreads \
  simt::BarrierAt<simt::Count::kNothing> { SIMT_HERE }
#define __syncthreads_count \
  simt::BarrierAt<simt::Count::kAll> { "__syncthreads_count", SIMT_HERE }
#define __syncthreads_or \
  simt::BarrierAt<simt::Count::kAny> { "__syncthreads_or", SIMT_HERE }
#define __syncthreads_and \
  simt::BarrierAt<simt::Count::kEvery> { "__syncthreads_and", SIMT_HERE }
#define __syncwarp \
  simt::SyncWarpAt { SIMT_HERE }
#define __shfl_sync \
  simt::ShuffleAt<simt::Direction::kTo> { "__shfl_sync", SIMT_HERE }
#define __shfl_up_sync \
  simt::ShuffleAt<simt::Direction::kUp> { "__shfl_up_sync", SIMT_HERE }
#define __shfl_down_sync \
  simt::ShuffleAt<simt::Direction::kDown> { "__shfl_down_sync", SIMT_HERE }
#define __shfl_xor_sync \
  simt::ShuffleAt<simt::Direction::kXor> { "__shfl_xor_sync", SIMT_HERE }
#define __ballot_sync \
  simt::BallotAt { "__ballot_sync", SIMT_HERE }
#define __any_sync \
  simt::AnyAt { "__any_sync", SIMT_HERE }
#define __all_sync \
  simt::AllAt { "__all_sync", SIMT_HERE }
#define __match_any_sync \
  simt::MatchAt { SIMT_HERE }
#define __trap \
  simt::TrapAt { SIMT_HERE }

inline void __threadfence() { simt::fence(); }

template <class T>
T atomicAdd(T* address, simt::Same<T> value) {
  return simt::update(address, [&](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMax(T* address, simt::Same<T> value) {
  static_assert(std::is_integral<T>::value, "CUDA has no such atomic");
  return simt::update(address, [&](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, simt::Same<T> value) {
  static_assert(std::is_integral<T>::value, "CUDA has no such atomic");
  return simt::update(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* address, simt::Same<T> value) {
  return simt::update(address, [&](T old) { return old | value; });
}
template <class T>
T atomicExch(T* address, simt::Same<T> value) {
  return simt::update(address, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* address, simt::Same<T> expected, simt::Same<T> value) {
  static_assert(std::is_integral<T>::value, "CUDA has no such atomic");
  return simt::update(address, [&](T old) { return old == expected ? value : old; });
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

// Of CUDA's overloads those of two arguments of one type.
#define SIMT_MIN_MAX(T)                               \
  constexpr T min(T a, T b) { return b < a ? b : a; } \
  constexpr T max(T a, T b) { return a < b ? b : a; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __popcll(unsigned long long value) { return __builtin_popcountll(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned __brev(unsigned value) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (value >> i & 1u) << (31 - i);
  return reversed;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

#include "testing/simt_ptx.h"
