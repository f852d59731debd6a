#include "cpu/isa.h"
#include "cpu/kernels.h"

SPARSESR_BEGIN_ISA

// Two passes: a patch is known to be selected only when all scores have been seen, and both share
// one call's overhead.
void select_gather_patches(const SelectGatherArgs& args) {
  select_patches(args.select);
  gather_patches(args.gather);
}

SPARSESR_END_ISA
