// The part of cuda_ops_check that runs programs on patches.
#pragma once

#include "testing/check_progress.h"

namespace sparsesr {
namespace check {

// Throws std::runtime_error that names the first case whose result is not the formula's.
void check_program_ops(Progress& progress);

}  // namespace check
}  // namespace sparsesr
