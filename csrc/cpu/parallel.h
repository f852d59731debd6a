// One way to share work among threads: contiguous shares of a range, so that results never depend
// on timing.
#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu/isa.h"

SPARSESR_BEGIN_ISA

// Calls body(begin, end, thread) for shares of [0, count). One thread enters no OpenMP region,
// which keeps forked data-loader workers safe (libgomp's pool does not survive a fork).
template <class Body>
inline void parallel_for(int threads, int64_t count, const Body& body) {
#ifdef _OPENMP
  if (threads > 1 && count > 1) {
#pragma omp parallel num_threads(threads)
    {
      const int64_t thread = omp_get_thread_num();
      const int64_t team = omp_get_num_threads();
      body(count * thread / team, count * (thread + 1) / team, static_cast<int>(thread));
    }
    return;
  }
#else
  (void)threads;
#endif
  body(int64_t{0}, count, 0);
}

SPARSESR_END_ISA
