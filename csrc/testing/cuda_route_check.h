// The pixel routing ops' part of cuda_ops_check.
#pragma once

#include "testing/check_progress.h"

namespace sparsesr {
namespace check {

// Throws std::runtime_error that names the first case whose result is not the formula's.
void check_route_ops(Progress& progress);

// The lists of pixels that it works on, and average_neighbors.
void check_pixel_ops(Progress& progress);

}  // namespace check
}  // namespace sparsesr
