// Checks that the entry points of all CUDA ops share.
#pragma once

#include "common/checks.h"

namespace sparsesr {
namespace cuda {

inline void check_on_gpu(const Operand& operand) {
#ifdef SPARSESR_SIMT
  check_device(operand, kCpu);  // the kernels run on the host
#else
  if (operand.view.device != kCpu) return;
  fail<TypeMismatch>(operand.op, ": expected ", operand.name, " on a CUDA device, got cpu");
#endif
}

}  // namespace cuda
}  // namespace sparsesr
