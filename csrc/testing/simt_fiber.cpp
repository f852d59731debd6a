#include "testing/simt_fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#define SIMT_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define SIMT_UNSEEN
#endif

#ifndef SIMT_USES_UCONTEXT
// Saves the registers that a call preserves, and changes stacks. A switch by ucontext takes some
// five times as long: it sets the signal mask in the kernel.
extern "C" void simt_switch_stacks(void** from, void* to);
asm(R"(
.text
.p2align 4
.type simt_switch_stacks, @function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, . - simt_switch_stacks
)");
#endif

namespace simt {
namespace {

// Sanitizers write their reports on the stack of the fiber that they caught.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kStackBytes = 256 * 1024;
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

Fiber* running = nullptr;
Fiber::Context scheduler;

// A stack with a page below it that no one may touch.
char* new_stack() {
  const auto guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
    throw std::runtime_error("simt: no memory for the stack of a fiber");
  }
  char* bottom = static_cast<char*>(memory) + guard;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(bottom,
                                kStackBytes);  // whoever had these pages may have left marks
#endif
  return bottom;
}

// Between the two announcements the code runs on one stack and is accounted to the other.
SIMT_UNSEEN void switch_context(Fiber::Context& from, Fiber::Context& to) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
#endif
#ifdef __SANITIZE_THREAD__
  from.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef SIMT_USES_UCONTEXT
  swapcontext(&from.registers, &to.registers);
#else
  simt_switch_stacks(&from.stack_pointer, to.stack_pointer);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace

Fiber::Fiber(void (*body)()) : body_(body) {
  char* bottom = new_stack();
  context_.stack_bottom = bottom;
  context_.stack_bytes = kStackBytes;
#ifdef SIMT_USES_UCONTEXT
  getcontext(&context_.registers);
  context_.registers.uc_stack.ss_sp = bottom;
  context_.registers.uc_stack.ss_size = kStackBytes;
  makecontext(&context_.registers, &Fiber::run, 0);
#else
  // What simt_switch_stacks pops: six registers and where to return to. One word stays above, so
  // that run() finds the stack aligned as after a call.
  auto* top = reinterpret_cast<uintptr_t*>(bottom + kStackBytes);
  top[-2] = reinterpret_cast<uintptr_t>(&Fiber::run);
  context_.stack_pointer = top - 8;
#endif
#ifdef __SANITIZE_THREAD__
  context_.tsan_fiber = __tsan_create_fiber(0);
#endif
}

SIMT_UNSEEN void Fiber::run() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack_bottom, &scheduler.stack_bytes);
#endif
  for (;;) {
    running->body_();
    suspend();
  }
}

SIMT_UNSEEN void Fiber::resume() {
  running = this;
  switch_context(scheduler, context_);
}

SIMT_UNSEEN void Fiber::suspend() { switch_context(running->context_, scheduler); }

#ifdef __SANITIZE_THREAD__
void release(void* object) { __tsan_release(object); }
void acquire(void* object) { __tsan_acquire(object); }
Quiet::Quiet() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
Quiet::~Quiet() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
#else
void release(void*) {}
void acquire(void*) {}
Quiet::Quiet() {}
Quiet::~Quiet() {}
#endif

}  // namespace simt
