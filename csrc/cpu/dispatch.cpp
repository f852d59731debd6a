#include "cpu/dispatch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>

#include "common/checks.h"

namespace sparsesr {
namespace {

#define SPARSESR_ENTRY(name, Args) &SPARSESR_TABLE_ISA::name,

#define SPARSESR_TABLE_ISA portable
constexpr CpuKernels kPortable = {"portable", SPARSESR_CPU_KERNELS(SPARSESR_ENTRY)};
#undef SPARSESR_TABLE_ISA

#ifdef SPARSESR_X86_VARIANTS
#define SPARSESR_TABLE_ISA avx2
constexpr CpuKernels kAvx2 = {"avx2", SPARSESR_CPU_KERNELS(SPARSESR_ENTRY)};
#undef SPARSESR_TABLE_ISA

#define SPARSESR_TABLE_ISA avx512
constexpr CpuKernels kAvx512 = {"avx512", SPARSESR_CPU_KERNELS(SPARSESR_ENTRY)};
#undef SPARSESR_TABLE_ISA

#define SPARSESR_TABLE_ISA avx512bf16
constexpr CpuKernels kAvx512Bf16 = {"avx512bf16", SPARSESR_CPU_KERNELS(SPARSESR_ENTRY)};
#undef SPARSESR_TABLE_ISA

// __builtin_cpu_supports knows this feature by name only since GCC 11.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// Every feature that CMakeLists.txt enables for the variant, and no other.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512bf16() {
  constexpr unsigned kBf16 = 1u << 5;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & kBf16) != 0;
}
#endif

#undef SPARSESR_ENTRY

std::vector<const CpuKernels*> usable() {
  std::vector<const CpuKernels*> variants;
#ifdef SPARSESR_X86_VARIANTS
  if (has_avx512bf16()) variants.push_back(&kAvx512Bf16);
  if (has_avx512()) variants.push_back(&kAvx512);
  if (has_avx2()) variants.push_back(&kAvx2);
#endif
  variants.push_back(&kPortable);
  return variants;
}

const CpuKernels* find(const std::string& name, const char* source) {
  std::string known;
  for (const CpuKernels* variant : usable()) {
    if (name == variant->isa) return variant;
    known += (known.empty() ? "" : ", ") + std::string(variant->isa);
  }
  fail(source, ": expected one of ", known, " on this CPU, got '", name, "'");
}

const CpuKernels* initial() {
  const char* forced = std::getenv("SPARSESR_CPU_ISA");
  if (forced == nullptr || *forced == '\0') return usable().front();
  return find(forced, "SPARSESR_CPU_ISA");
}

std::atomic<const CpuKernels*> current{nullptr};

}  // namespace

const CpuKernels& cpu_kernels() {
  const CpuKernels* kernels = current.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    kernels = initial();
    current.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const CpuKernels* variant : usable()) names.emplace_back(variant->isa);
  return names;
}

void set_cpu_isa(const std::string& name) {
  current.store(find(name, "set_cpu_isa"), std::memory_order_release);
}

}  // namespace sparsesr
