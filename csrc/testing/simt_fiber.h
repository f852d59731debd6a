// Fibers for the SIMT shim: stacks that take turns on one operating-system thread, announced to
// AddressSanitizer and ThreadSanitizer where one of them is compiled in. To ThreadSanitizer every
// fiber is a thread of its own, ordered against others by release() and acquire() alone.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(SIMT_UCONTEXT)
#include <ucontext.h>
#define SIMT_USES_UCONTEXT 1
#endif

namespace simt {

class Fiber {
 public:
  // `body` runs from its start at every resume() that follows its return.
  explicit Fiber(void (*body)());
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the fiber until it suspends or `body` returns.
  void resume();
  // Back to whoever resumed the running fiber.
  static void suspend();

  // A suspended stack, the scheduler's among them.
  struct Context {
#ifdef SIMT_USES_UCONTEXT
    ucontext_t registers;
#else
    void* stack_pointer = nullptr;
#endif
    const void* stack_bottom = nullptr;
    size_t stack_bytes = 0;
    void* fake_stack = nullptr;  // AddressSanitizer's
    void* tsan_fiber = nullptr;
  };

 private:
  static void run();

  void (*body_)();
  Context context_;
};

// ThreadSanitizer: everything before release(object) in one fiber happens before everything after
// a later acquire(object) in another. `object` is an address in memory of the heap.
void release(void* object);
void acquire(void* object);

// While one lives, ThreadSanitizer takes no notice of this fiber's reads and writes: the shim's own
// are no part of the kernel.
struct Quiet {
  Quiet();
  ~Quiet();
};

}  // namespace simt
