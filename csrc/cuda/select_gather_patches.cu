#include "cuda/kernels.h"

namespace sparsesr {
namespace cuda {

// Two kernels, one after the other on the stream: a patch is known to be selected only when all
// scores have been seen, and nothing returns to the host between them.
void launch::select_gather_patches(const SelectArgs& select, const GatherArgs& gather,
                                   void* stream) {
  select_patches(select, stream);
  gather_patches(gather, stream);
}

}  // namespace cuda
}  // namespace sparsesr
