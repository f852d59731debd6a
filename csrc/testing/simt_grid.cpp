#include "testing/simt_grid.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>

#include "testing/simt.h"
#include "testing/simt_fiber.h"

dim3 gridDim, blockDim;
uint3 blockIdx;

namespace simt {

Thread* current = nullptr;

namespace {

constexpr int kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = 99 * 1024;  // of a block, on sm_86 and sm_89

struct SharedArray {
  const void* key;
  std::unique_ptr<char, decltype(&std::free)> memory;
  size_t bytes;
};

// Where fibers meet. The threads of one meeting release into an object and acquire from it; the
// next meeting uses the other one of two, or a thread that is late to acquire would be ordered
// after what the others did since.
struct Meeting {
  char objects[2];
  int rounds = 0;
  int arrived = 0;

  void* object() { return &objects[rounds % 2]; }
};

// By the lowest lane of the mask: groups of lanes that are disjoint do not order each other.
struct Warp {
  Meeting meetings[kWarp];
};

// Fresh on the heap for every block, so that nothing orders one block's threads after another's.
struct Block {
  Meeting meeting;
  std::vector<Warp> warps;
  std::vector<SharedArray> shared;
};

struct Grid {
  size_t shared_bytes;
  const std::function<void()>* body;
  std::unique_ptr<Block> block;
  std::vector<Thread> threads;
  std::mt19937 random;
  std::string error;
  // What ThreadSanitizer orders by. Were begin and end one object, a thread that starts after
  // another has ended would be ordered after it, and races between the two would not show.
  char begin, end, fence;
};

Grid* grid = nullptr;
std::vector<std::unique_ptr<Fiber>> pool;  // making a fiber is slow under ThreadSanitizer

std::string name_of(const Thread& thread) { return "thread " + std::to_string(thread.number); }

// "thread 112 waits at __syncthreads k.cu:95"
std::string whereabouts(const Thread& thread) {
  if (thread.state == State::kExited) return name_of(thread) + " has exited";
  std::string text = name_of(thread) + " waits at " + thread.op + " " + text_of(thread.site);
  if (thread.state == State::kInWarpCall) {
    char mask[24];
    std::snprintf(mask, sizeof(mask), " mask %08x", thread.call->mask);
    text += mask;
  }
  return text;
}

bool same_meeting(const Thread& a, const Thread& b) {
  const auto equal = [](const char* x, const char* y) { return x == y || std::strcmp(x, y) == 0; };
  if (a.state != b.state || a.site.line != b.site.line) return false;
  if (!equal(a.op, b.op) || !equal(a.site.file, b.site.file)) return false;
  return a.state != State::kInWarpCall || a.call->mask == b.call->mask;
}

Thread* warp_of(const Thread& thread) { return &grid->threads[thread.number / kWarp * kWarp]; }

bool expects(const Thread& waiting, const Thread& other) {
  if (waiting.state == State::kInBarrier) return true;
  return other.number / kWarp == waiting.number / kWarp &&
         (waiting.call->mask >> other.lane() & 1) != 0;
}

// Nobody can go on: names the first thread that waits, and whom it waits for in vain.
std::string divergence() {
  const Thread* first = nullptr;
  for (const Thread& thread : grid->threads) {
    if (first == nullptr && thread.state != State::kExited) first = &thread;
  }
  for (const Thread& other : grid->threads) {
    if (expects(*first, other) && !same_meeting(*first, other)) {
      return whereabouts(*first) + "; " + whereabouts(other);
    }
  }
  return whereabouts(*first);
}

void check_copies_done(const Thread& thread) {
  if (thread.copies.empty()) return;
  fail_here(thread.copies.front().site, name_of(thread) + " exits with this cp.async in flight; " +
                                            std::to_string(thread.copies.size()) + " in all");
}

// What threads throw after an error, so that every fiber ends its thread and can serve another.
struct Stop {};

void run_kernel() {
  {
    Quiet quiet;
    acquire(&grid->begin);
    if (!grid->error.empty()) return;
  }
  (*grid->body)();
  Quiet quiet;
  check_copies_done(*current);
}

void run_thread() {
  try {
    run_kernel();
  } catch (const Stop&) {
  }
  Quiet quiet;
  release(&grid->end);
  current->state = State::kExited;
}

void wait_for_turn() {
  Fiber::suspend();
  if (!grid->error.empty()) throw Stop{};
}

void start_block(uint3 index) {
  blockIdx = index;
  grid->block = std::make_unique<Block>();
  grid->block->warps.resize((grid->threads.size() + kWarp - 1) / kWarp);
  for (size_t i = 0; i < grid->threads.size(); ++i) {
    const auto n = static_cast<unsigned>(i);
    const uint3 place = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
    grid->threads[i] = {place, static_cast<int>(i), State::kReady, nullptr, {}, nullptr, 0, 0, {},
                        0};
  }
}

void permute(std::vector<int>& order) {
  std::iota(order.begin(), order.end(), 0);
  if (options().order == Order::kDescending) std::reverse(order.begin(), order.end());
  if (options().order == Order::kShuffled) std::shuffle(order.begin(), order.end(), grid->random);
}

// Runs every thread that can to its next meeting point; false when none could.
bool run_ready_threads(const std::vector<int>& order, size_t first_fiber) {
  bool any = false;
  for (const int number : order) {
    if (grid->threads[number].state != State::kReady) continue;
    current = &grid->threads[number];
    pool[(first_fiber + number) % order.size()]->resume();
    any = true;
  }
  return any;
}

// Two threads on one fiber are ordered, so each block shifts which fibers its threads run on.
void run_block(size_t first_fiber) {
  std::vector<int> order(grid->threads.size());
  const auto exited = [](const Thread& thread) { return thread.state == State::kExited; };
  while (!std::all_of(grid->threads.begin(), grid->threads.end(), exited)) {
    permute(order);
    if (run_ready_threads(order, first_fiber)) continue;
    if (grid->error.empty()) grid->error = divergence();
    for (Thread& thread : grid->threads) {
      if (thread.state != State::kExited) thread.state = State::kReady;
    }
  }
}

void check_launch(const char* kernel, dim3 g, dim3 b, size_t shared_bytes) {
  const std::string name = kernel;
  if (grid != nullptr) throw std::runtime_error(name + ": launched while another kernel runs");
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  if (threads < 1 || threads > kMaxThreads || b.z > 64) {
    throw std::runtime_error(name + ": expected a block of 1 to 1024 threads, 64 in z, got " +
                             std::to_string(threads) + ", " + std::to_string(b.z) + " in z");
  }
  if (g.x < 1 || g.y < 1 || g.z < 1 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) {
    throw std::runtime_error(name + ": expected a grid of 1 to (2147483647, 65535, 65535), got (" +
                             std::to_string(g.x) + ", " + std::to_string(g.y) + ", " +
                             std::to_string(g.z) + ")");
  }
  if (shared_bytes > kMaxSharedBytes) {
    throw std::runtime_error(name + ": expected at most " + std::to_string(kMaxSharedBytes) +
                             " bytes of shared memory, got " + std::to_string(shared_bytes));
  }
}

void poison(char* memory, size_t bytes) {
  if (options().poison == Poison::kNone) return;
  const char high = options().poison == Poison::kNegative ? '\xff' : '\x7f';
  for (size_t i = 0; i < bytes; ++i) memory[i] = i % 2 == 1 ? high : '\xff';
}

void run_blocks(dim3 size) {
  size_t first_fiber = 0;
  for (unsigned z = 0; z < size.z; ++z) {
    for (unsigned y = 0; y < size.y; ++y) {
      for (unsigned x = 0; x < size.x && grid->error.empty(); ++x) {
        start_block({x, y, z});
        run_block(first_fiber++);
      }
    }
  }
}

}  // namespace

std::string text_of(const Site& site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash == nullptr ? site.file : slash + 1) + ":" + std::to_string(site.line);
}

void fail(const std::string& text) {
  Quiet quiet;
  if (grid->error.empty()) grid->error = text;
  throw Stop{};
}

void fail_here(const Site& site, const std::string& text) { fail(text_of(site) + ": " + text); }

int barrier(const Site& site, const char* op, int predicate) {
  Quiet quiet;
  Block& block = *grid->block;
  void* object = block.meeting.object();
  release(object);
  Thread& self = *current;
  self.state = State::kInBarrier;
  self.op = op;
  self.site = site;
  self.vote = predicate != 0;
  if (++block.meeting.arrived == static_cast<int>(grid->threads.size())) {
    int votes = 0;
    for (const Thread& thread : grid->threads) {
      if (!same_meeting(self, thread)) fail(divergence());
      votes += thread.vote;
    }
    for (Thread& thread : grid->threads) {
      thread.votes = votes;
      thread.state = State::kReady;
    }
    block.meeting.arrived = 0;
    ++block.meeting.rounds;
  }
  wait_for_turn();
  acquire(object);
  return self.votes;
}

// False when lanes that `self` waits for are not there yet.
bool finish_if_complete(const Thread& self, Thread* warp) {
  const WarpCall* calls[kWarp] = {};
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((self.call->mask >> lane & 1) == 0) continue;
    if (!same_meeting(self, warp[lane])) return false;
    calls[lane] = warp[lane].call;
  }
  self.call->finish(calls);
  for (int lane = 0; lane < kWarp; ++lane) {
    if (calls[lane] != nullptr) warp[lane].state = State::kReady;
  }
  return true;
}

void warp_collective(WarpCall& call) {
  Quiet quiet;
  Thread& self = *current;
  Thread* const warp = warp_of(self);
  const int lanes = std::min<int>(kWarp, static_cast<int>(&grid->threads.back() - warp) + 1);
  if (lanes < kWarp) call.mask &= (1u << lanes) - 1;
  if ((call.mask >> self.lane() & 1) == 0) {
    fail_here(call.site, name_of(self) + " calls " + call.op + " with a mask that leaves it out");
  }
  Meeting& meeting = grid->block->warps[self.number / kWarp].meetings[__builtin_ctz(call.mask)];
  void* object = meeting.object();
  if (call.orders_memory) release(object);
  self.state = State::kInWarpCall;
  self.op = call.op;
  self.site = call.site;
  self.call = &call;

  const int expected = __builtin_popcount(call.mask);
  // Lanes that wait here for another mask or operation count as well.
  if (++meeting.arrived >= expected && finish_if_complete(self, warp)) {
    meeting.arrived -= expected;
    ++meeting.rounds;
  }
  wait_for_turn();
  if (call.orders_memory) acquire(object);
}

void fence() {
  Quiet quiet;
  acquire(&grid->fence);
  release(&grid->fence);
}

void* shared_memory(const void* key, size_t bytes) {
  Quiet quiet;
  std::vector<SharedArray>& arrays = grid->block->shared;
  size_t total = bytes;
  for (const SharedArray& array : arrays) {
    if (array.key == key) return array.memory.get();
    total += array.bytes;
  }
  if (total > kMaxSharedBytes) {
    fail("expected at most " + std::to_string(kMaxSharedBytes) + " bytes of shared memory, got " +
         std::to_string(total));
  }
  auto* memory = static_cast<char*>(std::malloc(bytes));
  poison(memory, bytes);
  arrays.push_back({key, {memory, &std::free}, bytes});
  return memory;
}

void* dynamic_shared_memory() { return shared_memory(nullptr, grid->shared_bytes); }

void run_grid(const char* kernel, dim3 size, dim3 block, size_t shared_bytes,
              const std::function<void()>& body) {
  check_launch(kernel, size, block, shared_bytes);
  Quiet quiet;
  const auto launched = std::make_unique<Grid>();
  launched->shared_bytes = shared_bytes;
  launched->body = &body;
  launched->random.seed(options().seed);
  launched->threads.resize(block.x * block.y * block.z);
  while (pool.size() < launched->threads.size()) {
    pool.push_back(std::make_unique<Fiber>(run_thread));
  }
  grid = launched.get();
  gridDim = size;
  blockDim = block;
  release(&grid->begin);
  run_blocks(size);
  acquire(&grid->end);
  grid = nullptr;
  if (launched->error.empty()) return;
  throw std::runtime_error(std::string(kernel) + ": block (" + std::to_string(blockIdx.x) + ", " +
                           std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) +
                           "): " + launched->error);
}

}  // namespace simt
