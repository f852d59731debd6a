// The masked convolutions' part of cuda_ops_check.
#pragma once

#include "testing/check_progress.h"

namespace sparsesr {
namespace check {

// Throws std::runtime_error that names the first case whose result is not the formula's.
void check_masked_ops(Progress& progress);

}  // namespace check
}  // namespace sparsesr
