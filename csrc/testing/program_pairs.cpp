// A Python module that runs programs and nothing else, on a CPU that multiplies pairs of bfloat16
// in bit operations (SPARSESR_EMULATED_PAIRS); tests/native/test_program_pairs.py builds it.
#include "cpu/dispatch.h"
#include "program_bindings.h"

namespace sparsesr {

const CpuKernels& cpu_kernels() {
  static const CpuKernels kernels = [] {
    CpuKernels made = {};
    made.isa = "pairs";
    made.program_rule = &portable::program_rule;
    made.refine_patches = &portable::refine_patches;
    made.run_program = &portable::run_program;
    return made;
  }();
  return kernels;
}

}  // namespace sparsesr

PYBIND11_MODULE(program_pairs, m) {
  m.doc() = "Programs of bfloat16 in pairs, for a check.";
  sparsesr::bind_programs(m);
}
