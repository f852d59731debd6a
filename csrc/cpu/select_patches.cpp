#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/scalar.h"

SPARSESR_BEGIN_ISA
namespace {

// Order-preserving bits: the best score has the largest key. Zeros compare equal; NaN has key 0,
// which no number has.
inline uint32_t sort_key(float score, bool largest) {
  const uint32_t bits = bits_of(score + 0.0f);  // -0 + 0 = +0
  const uint32_t ascending = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  const uint32_t key = largest ? ascending : ~ascending;
  return (bits & 0x7fffffffu) > 0x7f800000u ? 0u : key;
}

template <class T>
void make_keys(const SelectArgs& args, const char* mask, uint32_t* keys) {
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t c = 0; c < args.cols; ++c) {
      const T value = *reinterpret_cast<const T*>(mask + r * args.row + c * args.col);
      *keys++ = sort_key(static_cast<float>(Arithmetic<T>::load(value)), args.largest);
    }
  }
}

// The k-th largest key, and how many keys equal to it belong to the k largest.
struct Threshold {
  uint32_t key;
  int64_t ties;
};

// Radix selection: three histograms, of the top 11, the middle 11 and the low 10 bits.
Threshold find_threshold(const uint32_t* keys, int64_t count, int64_t k) {
  constexpr int kShifts[] = {21, 10, 0};
  constexpr int kBits[] = {11, 11, 10};
  uint32_t prefix = 0;
  uint32_t fixed = 0;  // the bits of `prefix` that are settled
  int64_t wanted = k;  // rank of the threshold among the keys that share the prefix
  for (int pass = 0; pass < 3; ++pass) {
    const uint32_t digits = 1u << kBits[pass];
    int32_t histogram[1 << 11] = {};
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t digit = (keys[i] >> kShifts[pass]) & (digits - 1);
      histogram[digit] += (keys[i] & fixed) == prefix;
    }
    uint32_t digit = digits - 1;
    while (histogram[digit] < wanted) wanted -= histogram[digit--];
    prefix |= digit << kShifts[pass];
    fixed |= (digits - 1) << kShifts[pass];
  }
  return {prefix, wanted};
}

// Ascending positions of the keys above the threshold and of the first `ties` equal to it.
void write_positions(const uint32_t* keys, Threshold threshold, int64_t k, int32_t* index) {
  int64_t written = 0;
  for (int64_t i = 0; written < k; ++i) {
    const bool tie = keys[i] == threshold.key && threshold.ties > 0;
    index[written] = static_cast<int32_t>(i);  // overwritten by the next one unless taken
    written += keys[i] > threshold.key || tie;
    threshold.ties -= tie;
  }
}

template <class T>
struct Select {
  static void run_image(const SelectArgs& args, int64_t image, uint32_t* keys) {
    const int64_t count = args.rows * args.cols;
    make_keys<T>(args, args.mask + image * args.image, keys);
    write_positions(keys, find_threshold(keys, count, args.k), args.k, args.index + image * args.k);
  }

  static void run(const SelectArgs& args) {
    parallel_for(args.threads, args.batch, [&](int64_t begin, int64_t end, int thread) {
      uint32_t* keys = args.keys + thread * args.rows * args.cols;
      for (int64_t image = begin; image < end; ++image) run_image(args, image, keys);
    });
  }
};

}  // namespace

void select_patches(const SelectArgs& args) {
  if (args.k > 0) run_for_dtype<Select>(args.dtype, args);
}

SPARSESR_END_ISA
