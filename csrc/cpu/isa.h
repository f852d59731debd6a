// The files of this folder that include this header are compiled once per instruction set, each
// time into a namespace of its own: SPARSESR_ISA is portable, avx2, avx512 or avx512bf16. Nothing
// they instantiate may be shared between the variants: the linker keeps one copy of an inline
// function or template, and an AVX-512 copy would crash an older CPU. So they use no templates of
// the standard library, and tests/native checks their weak symbols.
#pragma once

#ifndef SPARSESR_ISA
#error "compile with -DSPARSESR_ISA=portable, avx2, avx512 or avx512bf16"
#endif

#define SPARSESR_BEGIN_ISA \
  namespace sparsesr {     \
  namespace SPARSESR_ISA {

#define SPARSESR_END_ISA \
  }                      \
  }
