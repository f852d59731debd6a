// Which instruction set the CPU kernels use in this process.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace sparsesr {

// The best variant this CPU can run, or what SPARSESR_CPU_ISA names; settled at the first call.
// Throws std::invalid_argument when that variable names none.
const CpuKernels& cpu_kernels();

// Compiled in and supported by this CPU, best first.
std::vector<std::string> cpu_isas();

// For tests and benchmarks. Throws std::invalid_argument unless `name` is one of cpu_isas().
void set_cpu_isa(const std::string& name);

}  // namespace sparsesr
