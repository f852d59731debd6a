// Host versions of the wrappers of inline PTX, with the fragment layouts of the PTX ISA. Included
// by simt.h; nvcc's versions are in cuda/ptx.h.
#pragma once

#include <cmath>

#include "testing/simt.h"
#include "testing/simt_fiber.h"

namespace simt {

inline void check_aligned(const Site& site, const char* op, const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % 16 == 0) return;
  fail_here(site, std::string(op) + ": expected an address that is a multiple of 16");
}

// 16 bytes, or zeros when not `valid`: `from` is then not read.
struct CopyAsyncAt {
  Site site;

  void operator()(void* to, const void* from, bool valid) const {
    check_aligned(site, "cp_async_16", to);
    uint4 value = {0, 0, 0, 0};
    if (valid) {
      check_aligned(site, "cp_async_16", from);
      value = *static_cast<const uint4*>(from);
    }
    const bool eager = options().cp_async == CopyAsync::kEager;
    if (eager) *static_cast<uint4*>(to) = value;
    Quiet quiet;
    current->copies.push_back({eager ? nullptr : to, value, current->groups, site});
  }
};

inline void commit_copies() {
  Quiet quiet;
  ++current->groups;
}

// Takes this thread's oldest copy of a group before `end` off its list; false when there is none.
inline bool take_copy(int end, AsyncCopy& copy) {
  Quiet quiet;
  std::vector<AsyncCopy>& copies = current->copies;
  if (copies.empty() || copies.front().group >= end) return false;
  copy = copies.front();
  copies.erase(copies.begin());
  return true;
}

// Until at most `in_flight` of this thread's groups are; what was not committed stays in flight.
inline void wait_for_copies(int in_flight) {
  AsyncCopy copy;
  while (take_copy(current->groups - in_flight, copy)) {
    if (copy.to != nullptr) *static_cast<uint4*>(copy.to) = copy.value;
  }
}

// Each lane reads the row it names in its own name, so that a bad address is laid to the right one.
struct MatrixRow {
  uint16_t element[8];
};

template <bool transposed>
struct LoadMatrix {
  static constexpr bool kOrdersMemory = false, kUniform = false;
  using In = MatrixRow;
  struct Out {
    uint32_t r[4];
  };
  // Lanes 8 m to 8 m + 7 name the rows of matrix m. A lane receives two neighbours of row lane / 4,
  // or of that column when transposed.
  static Out result(const In* const* in, int lane) {
    Out out;
    for (int m = 0; m < 4; ++m) {
      const int line = lane / 4, first = lane % 4 * 2;
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const int row = transposed ? first + i : line, col = transposed ? line : first + i;
        pair[i] = in[8 * m + row]->element[col];
      }
      out.r[m] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
    return out;
  }
};

inline void check_full_warp(const Site& site, const char* op) {
  const unsigned last = blockDim.x * blockDim.y * blockDim.z - 1;
  const auto warp_end = static_cast<unsigned>(current->number - current->lane() + kWarp - 1);
  if (warp_end > last) fail_here(site, std::string(op) + ": expected a warp of 32 threads");
}

template <bool transposed>
struct LoadMatrixAt {
  const char* name;
  Site site;

  void operator()(uint32_t (&r)[4], const void* row) const {
    check_full_warp(site, name);
    check_aligned(site, name, row);
    MatrixRow mine = *static_cast<const MatrixRow*>(row);
    const auto out = meet<LoadMatrix<transposed>>(name, site, ~0u, mine);
    for (int m = 0; m < 4; ++m) r[m] = out.r[m];
  }
};

struct BFloat16Bits {
  static float load(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
};
struct HalfBits {
  static float load(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
    return sign * (exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                 : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25));
  }
};

// d [16,8] += a [16,16] b [16,8]. With g = lane / 4 and t = lane % 4, a lane holds of
//   a: rows g, g + 8, g, g + 8 (registers 0 to 3) at columns 2 t, 2 t + 1 (2 and 3: plus 8);
//   b: column g at rows 2 t, 2 t + 1 (register 1: plus 8);
//   d: row g, then row g + 8, at columns 2 t, 2 t + 1.
// Products are summed in float64 and rounded once; the order of a GPU's sums is not specified.
template <class Element>
struct MultiplyAdd {
  static constexpr bool kOrdersMemory = false, kUniform = false;
  struct In {
    uint32_t a[4], b[2];
    float d[4];
  };
  struct Out {
    float d[4];
  };

  static float half(uint32_t pair, int which) {
    return Element::load(static_cast<uint16_t>(which == 0 ? pair : pair >> 16));
  }
  static float a(const In* const* in, int row, int col) {
    const In& lane = *in[row % 8 * 4 + col % 8 / 2];
    return half(lane.a[row / 8 + col / 8 * 2], col % 2);
  }
  static float b(const In* const* in, int row, int col) {
    return half(in[col * 4 + row % 8 / 2]->b[row / 8], row % 2);
  }
  static Out result(const In* const* in, int lane) {
    Out out;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
      double sum = in[lane]->d[i];
      for (int j = 0; j < 16; ++j) sum += static_cast<double>(a(in, row, j)) * b(in, j, col);
      out.d[i] = static_cast<float>(sum);
    }
    return out;
  }
};

template <class Element>
struct MultiplyAddAt {
  const char* name;
  Site site;

  void operator()(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) const {
    check_full_warp(site, name);
    const auto out = meet<MultiplyAdd<Element>>(
        name, site, ~0u, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {d[0], d[1], d[2], d[3]}});
    for (int i = 0; i < 4; ++i) d[i] = out.d[i];
  }
};

}  // namespace simt

#define cp_async_16 \
  simt::CopyAsyncAt { SIMT_HERE }
#define ldmatrix_x4 \
  simt::LoadMatrixAt<false> { "ldmatrix_x4", SIMT_HERE }
#define ldmatrix_x4_trans \
  simt::LoadMatrixAt<true> { "ldmatrix_x4_trans", SIMT_HERE }
#define mma_m16n8k16_bf16 \
  simt::MultiplyAddAt<simt::BFloat16Bits> { "mma_m16n8k16_bf16", SIMT_HERE }
#define mma_m16n8k16_f16 \
  simt::MultiplyAddAt<simt::HalfBits> { "mma_m16n8k16_f16", SIMT_HERE }

inline void cp_async_commit() { simt::commit_copies(); }
template <int in_flight>
void cp_async_wait() {
  simt::wait_for_copies(in_flight);
}
