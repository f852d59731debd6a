// How fast this core multiplies and adds where nothing else limits it: a loop over registers.
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "cpu/kernels.h"
#include "cpu/vectors.h"

SPARSESR_BEGIN_ISA
namespace {

// Sums are variables of their own: in an array, those that the asm below holds in registers would
// live on the stack. As many as leave room for the two factors; latency asks for ten or more, and
// for more than twelve with pairs.
#define SPARSESR_TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define SPARSESR_MORE(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#if defined(__AVX512F__)
#define SPARSESR_SUMS(X) SPARSESR_TWELVE(X) SPARSESR_MORE(X)
#else
#define SPARSESR_SUMS(X) SPARSESR_TWELVE(X)
#endif
#define SPARSESR_ONE(i) +1
#define SPARSESR_DEFINE(i) \
  Wide sum##i{};           \
  SPARSESR_KEEP(sum##i);
#define SPARSESR_MULTIPLY(i)                   \
  sum##i = Math::multiply(sum##i, one, other); \
  SPARSESR_KEEP(sum##i);
#define SPARSESR_ADD_UP(i) total += sum##i;

constexpr int64_t kSums = 0 SPARSESR_SUMS(SPARSESR_ONE);

struct Singles {
  static constexpr int64_t kProducts = lanes<Wide>();
  static Wide multiply(Wide sum, Wide one, Wide other) { return sum * one + other; }
};

#if defined(__AVX512BF16__)
struct Pairs {
  static constexpr int64_t kProducts = 2 * lanes<Wide>();
  static Wide multiply(Wide sum, Wide one, Wide other) {
    return (Wide)_mm512_dpbf16_ps((__m512)sum, (__m512bh)one, (__m512bh)other);
  }
};
#endif

#if defined(__SSE2__)  // elsewhere nothing keeps the compiler from seeing through the loop
template <class Math>
void run(const FmaPeakArgs& args) {
  Wide one = 0.5f - Wide{}, other = 1.0f - Wide{};  // sums stay far from overflow and underflow
  SPARSESR_KEEP(one);
  SPARSESR_KEEP(other);
  SPARSESR_SUMS(SPARSESR_DEFINE)
  for (int64_t i = 0; i < args.iterations; ++i) {
    SPARSESR_SUMS(SPARSESR_MULTIPLY)
  }
  Wide total{};
  SPARSESR_SUMS(SPARSESR_ADD_UP)
  asm volatile("" : : "x"(total));  // somebody reads it
  *args.operations = 2 * kSums * Math::kProducts * args.iterations;
}
#endif

}  // namespace

void fma_peak(const FmaPeakArgs& args) {
  *args.operations = 0;
#if defined(__SSE2__)
  if (!args.pairs) run<Singles>(args);
#endif
#if defined(__AVX512BF16__)
  if (args.pairs) run<Pairs>(args);
#endif
}

SPARSESR_END_ISA
