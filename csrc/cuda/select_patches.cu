// The k best scores of an image in ascending order of their positions: one block per image.
//
// Radix selection over order-preserving keys finds the k-th key and how many of its equals belong
// to the k best: histograms of the top 11, the middle 11 and the low 10 bits. Then the positions
// are written in order. Keys are kept in shared memory where all of them fit; otherwise scores are
// read again, and only the keys that share the threshold's top bits are kept, where those fit.
#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/scalar.h"
#include "cuda/windows.h"

namespace sparsesr {
namespace cuda {
namespace {

constexpr uint32_t kFullWarp = 0xffffffffu;
constexpr uint32_t kWarp = 32;
constexpr uint32_t kThreads = 1024;
constexpr uint32_t kWarps = kThreads / kWarp;
constexpr uint32_t kBatch = 8;  // scores of a thread in flight at once
constexpr uint32_t kChunk = kThreads * kBatch;
constexpr uint32_t kBins = 2048;

// More than the kernel's static arrays take.
constexpr int64_t kStaticBytes = 9 * 1024;

// Order-preserving bits: the best score has the largest key. Zeros compare equal; NaN has key 0,
// which no number has.
__device__ __forceinline__ uint32_t sort_key(float score, bool largest) {
  uint32_t bits;
  memcpy(&bits, &score, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0u;
  if (bits == 0x80000000u) bits = 0u;
  const uint32_t ascending = bits ^ ((bits >> 31) != 0u ? 0xffffffffu : 0x80000000u);
  return largest ? ascending : ~ascending;
}

// The scores of one image, as keys.
template <class T>
struct ScoreKeys {
  const char* scores;
  const SelectArgs& args;

  __device__ __forceinline__ uint32_t operator[](uint32_t i) const {
    uint32_t col = i;
    const int64_t row = divide(col, args.by_cols);
    const char* from = scores + row * args.row + static_cast<int64_t>(col) * args.col;
    const T score = *reinterpret_cast<const T*>(from);
    return sort_key(static_cast<float>(Arithmetic<T>::load(score)), args.largest);
  }
};

struct StoredKeys {
  const uint32_t* keys;
  __device__ __forceinline__ uint32_t operator[](uint32_t i) const { return keys[i]; }
};

// Shared memory of the block.
struct Scratch {
  uint32_t* histogram;  // [kBins], zero between passes
  uint32_t* warps;      // [2 * kWarps]
  uint32_t* chosen;     // [4]: bin, rank within it, keys in it; keys stored
  uint32_t* pool;       // [pool_words]
  uint32_t pool_words;
};

// Calls body(key, i, exists) for all i < count; whole warps call it together.
template <class Keys, class Body>
__device__ __forceinline__ void for_each_key(const Keys& keys, uint32_t count, const Body& body) {
  for (uint32_t start = threadIdx.x; start - threadIdx.x < count; start += kChunk) {
    uint32_t batch[kBatch];
#pragma unroll
    for (uint32_t b = 0; b < kBatch; ++b) {
      const uint32_t i = start + b * kThreads;
      batch[b] = i < count ? keys[i] : 0u;
    }
#pragma unroll
    for (uint32_t b = 0; b < kBatch; ++b) {
      const uint32_t i = start + b * kThreads;
      body(batch[b], i, i < count);
    }
  }
}

// Inclusive sums over the lanes of a warp.
__device__ __forceinline__ uint32_t warp_scan(uint32_t value) {
  const uint32_t lane = threadIdx.x % kWarp;
#pragma unroll
  for (uint32_t step = 1; step < kWarp; step *= 2) {
    const uint32_t below = __shfl_up_sync(kFullWarp, value, step);
    if (lane >= step) value += below;
  }
  return value;
}

// Sums over the warps before this one, and over all. `totals` is shared memory of kWarps words; one
// barrier, so the next call must use other words.
struct WarpSums {
  uint32_t before, all;
};

__device__ __forceinline__ WarpSums sum_warps(uint32_t warp_total, uint32_t* totals) {
  const uint32_t warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == 0) totals[warp] = warp_total;
  __syncthreads();
  const uint32_t sums = warp_scan(totals[threadIdx.x % kWarp]);
  const uint32_t through = __shfl_sync(kFullWarp, sums, warp);
  return {through - warp_total, __shfl_sync(kFullWarp, sums, kWarps - 1)};
}

// A pass's outcome: the bin, counted from the top, in which the wanted-th key lies, its rank there
// and how many keys the bin has. Clears the histogram.
struct Bin {
  uint32_t digit, rank, count;
};

__device__ __forceinline__ Bin find_bin(const Scratch& scratch, uint32_t wanted) {
  __syncthreads();  // the histogram is complete
  const uint32_t top = kBins - 1 - 2 * threadIdx.x;
  const uint32_t first = scratch.histogram[top];
  const uint32_t second = scratch.histogram[top - 1];
  scratch.histogram[top] = 0u;
  scratch.histogram[top - 1] = 0u;
  const uint32_t through = warp_scan(first + second);
  const uint32_t warp_total = __shfl_sync(kFullWarp, through, kWarp - 1);
  const uint32_t above = sum_warps(warp_total, scratch.warps).before + through - first - second;
  const bool in_first = above < wanted && wanted <= above + first;
  const bool in_second = above + first < wanted && wanted <= above + first + second;
  if (in_first || in_second) {
    scratch.chosen[0] = in_first ? top : top - 1;
    scratch.chosen[1] = wanted - above - (in_first ? 0u : first);
    scratch.chosen[2] = in_first ? first : second;
  }
  __syncthreads();
  return {scratch.chosen[0], scratch.chosen[1], scratch.chosen[2]};
}

// Keeps the keys that all lanes hold at once, in any order.
__device__ __forceinline__ void store_key(const Scratch& scratch, uint32_t key, bool wanted) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t mask = __ballot_sync(kFullWarp, wanted);
  if (mask == 0u) return;
  uint32_t base = 0u;
  if (lane == 0) base = atomicAdd(scratch.chosen + 3, static_cast<uint32_t>(__popc(mask)));
  base = __shfl_sync(kFullWarp, base, 0);
  if (wanted) scratch.pool[base + __popc(mask & ((1u << lane) - 1u))] = key;
}

// The k-th best key, and how many keys equal to it belong to the k best.
struct Threshold {
  uint32_t key, ties;
};

// The second and third pass over `keys`, of which those with the first pass's digit count.
template <class Keys>
__device__ __forceinline__ Threshold refine(const Scratch& scratch, const Keys& keys,
                                            uint32_t count, const Bin& top) {
  for_each_key(keys, count, [&](uint32_t key, uint32_t, bool exists) {
    if (exists && key >> 21 == top.digit) atomicAdd(scratch.histogram + (key >> 10) % kBins, 1u);
  });
  const Bin middle = find_bin(scratch, top.rank);
  const uint32_t prefix = top.digit << 11 | middle.digit;
  for_each_key(keys, count, [&](uint32_t key, uint32_t, bool exists) {
    if (exists && key >> 10 == prefix) atomicAdd(scratch.histogram + key % 1024u, 1u);
  });
  const Bin low = find_bin(scratch, middle.rank);
  return {prefix << 10 | low.digit, low.rank};
}

template <class T>
__device__ __forceinline__ Threshold find_threshold(const Scratch& scratch,
                                                    const ScoreKeys<T>& scores, uint32_t count,
                                                    uint32_t k) {
  const bool all_stored = count <= scratch.pool_words;
  for_each_key(scores, count, [&](uint32_t key, uint32_t i, bool exists) {
    if (!exists) return;
    atomicAdd(scratch.histogram + (key >> 21), 1u);
    if (all_stored) scratch.pool[i] = key;
  });
  const Bin top = find_bin(scratch, k);
  if (all_stored) return refine(scratch, StoredKeys{scratch.pool}, count, top);
  if (top.count > scratch.pool_words) return refine(scratch, scores, count, top);
  for_each_key(scores, count, [&](uint32_t key, uint32_t, bool exists) {
    store_key(scratch, key, exists && key >> 21 == top.digit);
  });
  __syncthreads();
  return refine(scratch, StoredKeys{scratch.pool}, top.count, top);
}

// What lies before a position: keys above the threshold, and equal to it.
struct Before {
  uint32_t above, equal;
};

// Ascending positions of the keys above the threshold and of the first `ties` equal to it. Of a
// chunk, a warp takes kBatch * kWarp neighbours.
template <class Keys>
__device__ __forceinline__ void write_positions(const Scratch& scratch, const Keys& keys,
                                                uint32_t count, const Threshold& threshold,
                                                uint32_t k, int32_t* index) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t below = (1u << lane) - 1u;
  const uint32_t first = threadIdx.x / kWarp * kWarp * kBatch + lane;
  Before before = {0u, 0u};
  for (uint32_t start = 0; start < count && before.above + min(before.equal, threshold.ties) < k;
       start += kChunk) {
    uint32_t above[kBatch], equal[kBatch];
    Before own = {0u, 0u};
#pragma unroll
    for (uint32_t b = 0; b < kBatch; ++b) {
      const uint32_t i = start + first + b * kWarp;
      const uint32_t key = i < count ? keys[i] : 0u;
      above[b] = __ballot_sync(kFullWarp, i < count && key > threshold.key);
      equal[b] = __ballot_sync(kFullWarp, i < count && key == threshold.key);
      own.above += __popc(above[b]);
      own.equal += __popc(equal[b]);
    }
    // Both counts in one word: a chunk has less than 2^16 keys.
    const uint32_t parity = start / kChunk % 2u;
    const WarpSums sums = sum_warps(own.above | own.equal << 16, scratch.warps + parity * kWarps);
    Before at = {before.above + (sums.before & 0xffffu), before.equal + (sums.before >> 16)};
#pragma unroll
    for (uint32_t b = 0; b < kBatch; ++b) {
      const uint32_t ahead = at.equal + __popc(equal[b] & below);
      const bool tie = (equal[b] >> lane & 1u) != 0u && ahead < threshold.ties;
      if (tie || (above[b] >> lane & 1u) != 0u) {
        const uint32_t place = at.above + __popc(above[b] & below) + min(ahead, threshold.ties);
        index[place] = static_cast<int32_t>(start + first + b * kWarp);
      }
      at.above += __popc(above[b]);
      at.equal += __popc(equal[b]);
    }
    before.above += sums.all & 0xffffu;
    before.equal += sums.all >> 16;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    select_patches_fwd_kernel(SelectArgs args, uint32_t pool_words) {
  SIMT_DYN_SHARED(uint32_t, pool);
  SIMT_SHARED(uint32_t, histogram, kBins);
  SIMT_SHARED(uint32_t, warps, 2 * kWarps);
  SIMT_SHARED(uint32_t, chosen, 4);
  const Scratch scratch = {histogram, warps, chosen, pool, pool_words};
  histogram[threadIdx.x] = 0u;
  histogram[threadIdx.x + kThreads] = 0u;
  if (threadIdx.x == 0) chosen[3] = 0u;
  __syncthreads();

  const auto image = static_cast<int64_t>(blockIdx.x);
  const ScoreKeys<T> scores = {args.mask + image * args.image, args};
  const auto count = static_cast<uint32_t>(args.count);
  const auto k = static_cast<uint32_t>(args.k);
  int32_t* index = args.index + image * args.k;
  const Threshold threshold = find_threshold(scratch, scores, count, k);
  if (count <= pool_words) {
    write_positions(scratch, StoredKeys{pool}, count, threshold, k, index);
  } else {
    write_positions(scratch, scores, count, threshold, k, index);
  }
}

}  // namespace

void launch::select_patches(const SelectArgs& args, void* stream) {
  const int64_t most_words = (shared_bytes_per_block() - kStaticBytes) / 4;
  const auto words = static_cast<uint32_t>(std::min<int64_t>(args.count, most_words));
  for_dtype(args.dtype, [&](auto element) {
    auto* select_patches_fwd = select_patches_fwd_kernel<typename decltype(element)::type>;
    SIMT_LAUNCH(select_patches_fwd, static_cast<unsigned>(args.batch), kThreads,
                words * sizeof(uint32_t), stream, args, words);
  });
}

}  // namespace cuda
}  // namespace sparsesr
