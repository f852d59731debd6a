// How the SIMT shim executes a grid: blocks one after another, the threads of a block in turns, one
// fiber each, from one meeting point (barrier, warp collective) to the next. simt.h says what is
// modelled; kernels do not use these names but those of simt.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "testing/simt_vectors.h"

namespace simt {

constexpr int kWarp = 32;

enum class Order { kAscending, kDescending, kShuffled };
enum class Poison { kNegative, kPositive, kNone };
enum class CopyAsync { kEager, kAtWait };

struct Options {
  Order order = Order::kAscending;
  unsigned seed = 0;                  // of kShuffled
  Poison poison = Poison::kNegative;  // 0xffff or 0x7fff throughout: NaN in every float type
  CopyAsync cp_async = CopyAsync::kEager;
};

// Those of the next launch; at first what SIMT_ORDER, SIMT_POISON and SIMT_CP_ASYNC ask for.
Options& options();

// A place in the source of a kernel.
struct Site {
  const char* file;
  int line;
};
#define SIMT_HERE \
  simt::Site { __FILE__, __LINE__ }

std::string text_of(const Site& site);  // "select_patches.cu:80"

// One thread's part in a warp collective. It lives on that thread's stack while the thread waits.
struct WarpCall {
  const char* op;
  Site site;
  unsigned mask;
  bool orders_memory;
  const void* in;
  void* out;
  // Fills every lane's `out` from the `in` of all; null pointers stand for lanes outside the mask.
  void (*finish)(const WarpCall* const* lanes);
};

struct AsyncCopy {
  void* to;  // null when the copy has been made
  uint4 value;
  int group;
  Site site;
};

enum class State { kReady, kInBarrier, kInWarpCall, kExited };

struct Thread {
  uint3 index;
  int number;  // in the block
  State state;
  const char* op;  // the meeting point it waits at
  Site site;
  const WarpCall* call;
  int vote;   // into a barrier
  int votes;  // of all threads, out of a barrier
  std::vector<AsyncCopy> copies;
  int groups;  // of copies, committed so far

  int lane() const { return number % kWarp; }
};

extern Thread* current;

// Ends the launch, from within a kernel: run_grid throws std::runtime_error with this text.
[[noreturn]] void fail(const std::string& text);
[[noreturn]] void fail_here(const Site& site, const std::string& text);

// Waits for all threads of the block; returns how many came with a predicate that is not 0.
int barrier(const Site& site, const char* op, int predicate);
// Waits for the lanes of call.mask; the last of them runs call.finish. Lanes that the block does
// not have are left out of call.mask.
void warp_collective(WarpCall& call);
// Orders this thread's memory accesses against those of every thread that calls it, in any block.
void fence();
// The shared array known by `key`, which is the same for all threads; fresh in every block.
void* shared_memory(const void* key, size_t bytes);
void* dynamic_shared_memory();

// `body` is called once per thread.
void run_grid(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()>& body);

}  // namespace simt
