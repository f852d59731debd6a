// Copies of rows. Elements move as bytes; nothing is computed per element.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "cpu/isa.h"
#include "cpu/kernels.h"

SPARSESR_BEGIN_ISA

typedef unsigned char Bytes16 __attribute__((vector_size(16)));
typedef unsigned char Bytes32 __attribute__((vector_size(32)));
typedef unsigned char Bytes64 __attribute__((vector_size(64)));

// The widest register. Wider vectors would compile, too, but travel through the stack.
#if defined(__AVX512F__)
typedef Bytes64 Widest;
#elif defined(__AVX__)
typedef Bytes32 Widest;
#else
typedef Bytes16 Widest;
#endif
constexpr int64_t kWidest = sizeof(Widest);

// A register's worth of bytes, at any address.
template <class Register>
inline Register load(const char* from) {
  Register value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <class Register>
inline void store(char* to, Register value) {
  std::memcpy(to, &value, sizeof(value));
}

// sizeof(Register) <= bytes <= 2 * sizeof(Register): two moves that overlap, so no size needs a
// loop or a tail.
template <class Register>
inline void copy_pair(char* to, const char* from, int64_t bytes) {
  const int64_t last = bytes - static_cast<int64_t>(sizeof(Register));
  const Register head = load<Register>(from);
  const Register tail = load<Register>(from + last);
  store(to, head);
  store(to + last, tail);
}

constexpr int64_t kFour = 4 * kWidest;

inline void copy_four(char* to, const char* from) {
  const Widest a = load<Widest>(from);
  const Widest b = load<Widest>(from + kWidest);
  const Widest c = load<Widest>(from + 2 * kWidest);
  const Widest d = load<Widest>(from + 3 * kWidest);
  store(to, a);
  store(to + kWidest, b);
  store(to + 2 * kWidest, c);
  store(to + 3 * kWidest, d);
}

// bytes >= kWidest; the last move overlaps the one before it.
inline void copy_long(char* to, const char* from, int64_t bytes) {
  const int64_t last = bytes - kWidest;
  const Widest tail = load<Widest>(from + last);
  int64_t i = 0;
  for (; i + kFour <= bytes; i += kFour) copy_four(to + i, from + i);
  for (; i < last; i += kWidest) store(to + i, load<Widest>(from + i));
  store(to + last, tail);
}

// Past 32 KiB the library's copy, which knows the machine, is as fast.
constexpr int64_t kLibraryBytes = 32768;

// Copies `rows` rows of `bytes` >= 2 each; steps are the distances between rows, also in bytes.
inline void copy_rows(char* to, int64_t to_step, const char* from, int64_t from_step, int64_t rows,
                      int64_t bytes) {
  const auto each = [=](auto copy_row) {
    for (int64_t r = 0; r < rows; ++r) copy_row(to + r * to_step, from + r * from_step, bytes);
  };
  if (bytes <= 4) return each(copy_pair<uint16_t>);
  if (bytes <= 8) return each(copy_pair<uint32_t>);
  if (bytes <= 16) return each(copy_pair<uint64_t>);
  if (bytes <= 32) return each(copy_pair<Bytes16>);
#ifdef __AVX512F__
  if (bytes <= 64) return each(copy_pair<Bytes32>);
#endif
  if (bytes <= 2 * kWidest) return each(copy_pair<Widest>);
  if (bytes <= kLibraryBytes) return each(copy_long);
  each([](char* a, const char* b, int64_t n) { std::memcpy(a, b, n); });
}

// copy_rows with stores that bypass the caches, where can_stream(). The thread calls
// end_streaming() after its last one.
#ifdef __SSE2__
constexpr int64_t kStreamBytes = 64;  // a cache line: a part of one would be written with a read

inline bool can_stream(const char* to, int64_t to_step, int64_t bytes) {
  return (static_cast<int64_t>(reinterpret_cast<intptr_t>(to)) | to_step | bytes) % kStreamBytes ==
         0;
}

inline void copy_rows_streaming(char* to, int64_t to_step, const char* from, int64_t from_step,
                                int64_t rows, int64_t bytes) {
  for (int64_t r = 0; r < rows; ++r, to += to_step, from += from_step) {
    for (int64_t i = 0; i < bytes; i += kStreamBytes) {
#ifdef __AVX512F__
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#else
      for (int64_t part = i; part < i + kStreamBytes; part += 16) {
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + part),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + part)));
      }
#endif
    }
  }
}

inline void end_streaming() { _mm_sfence(); }
#else
inline bool can_stream(const char*, int64_t, int64_t) { return false; }
inline void copy_rows_streaming(char*, int64_t, const char*, int64_t, int64_t, int64_t) {}
inline void end_streaming() {}
#endif

// Whether a copy writes around the caches; see kStreamingBytes in cpu/ops.cpp.
enum class Stores { kCached, kStreaming };

constexpr int64_t kLineBytes = 64;

inline void fetch(const char* at, int64_t bytes) {
#ifdef __GNUC__
  for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(at + i);
#endif
}

inline void fetch_for_writing(const char* at, int64_t bytes) {
#ifdef __GNUC__
  for (int64_t i = 0; i < bytes; i += kLineBytes) __builtin_prefetch(at + i, 1);
#endif
}

// Copies one row, bytes >= kWidest, while the cache lines of the next one are on their way.
inline void copy_row_ahead(char* to, const char* from, int64_t bytes, Stores stores, char* next_to,
                           const char* next_from) {
  if (stores == Stores::kStreaming && can_stream(to, 0, bytes)) {
    fetch(next_from, bytes);
    copy_rows_streaming(to, 0, from, 0, 1, bytes);
    return;
  }
  int64_t i = 0;
  for (; i + kFour <= bytes; i += kFour) {  // a few lines at a time: many would queue
    fetch(next_from + i, kFour);
    fetch_for_writing(next_to + i, kFour);
    copy_four(to + i, from + i);
  }
  if (i == bytes) return;
  fetch(next_from + i, bytes - i);
  fetch_for_writing(next_to + i, bytes - i);
  const int64_t rest = bytes - i < kWidest ? bytes - kWidest : i;
  copy_long(to + rest, from + rest, bytes - rest);
}

// A box of rows x units of one plane, `to` and `from` at its first unit.
inline void copy_plane_box(const Walk& walk, const Lines& to_lines, char* to,
                           const Lines& from_lines, const char* from, int64_t rows, int64_t units,
                           Stores stores = Stores::kCached) {
  if (to_lines.unit == walk.unit_bytes && from_lines.unit == walk.unit_bytes) {
    const int64_t bytes = units * walk.unit_bytes;
    if (stores == Stores::kStreaming && can_stream(to, to_lines.row, bytes)) {
      copy_rows_streaming(to, to_lines.row, from, from_lines.row, rows, bytes);
    } else {
      copy_rows(to, to_lines.row, from, from_lines.row, rows, bytes);
    }
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    copy_rows(to + r * to_lines.row, to_lines.unit, from + r * from_lines.row, from_lines.unit,
              units, walk.unit_bytes);
  }
}

// The same box of every plane.
inline void copy_box(const Walk& walk, const Lines& to_lines, char* to, const Lines& from_lines,
                     const char* from, int64_t rows, int64_t units,
                     Stores stores = Stores::kCached) {
  for (int64_t plane = 0; plane < walk.planes; ++plane) {
    copy_plane_box(walk, to_lines, to + plane * to_lines.plane, from_lines,
                   from + plane * from_lines.plane, rows, units, stores);
  }
}

inline void zero_plane_box(const Walk& walk, const Lines& lines, char* at, int64_t rows,
                           int64_t units) {
  for (int64_t r = 0; r < rows; ++r) {
    char* row = at + r * lines.row;
    if (lines.unit == walk.unit_bytes) {
      std::memset(row, 0, units * walk.unit_bytes);
    } else {
      for (int64_t u = 0; u < units; ++u) std::memset(row + u * lines.unit, 0, walk.unit_bytes);
    }
  }
}

inline void zero_box(const Walk& walk, const Lines& lines, char* at, int64_t rows, int64_t units) {
  for (int64_t plane = 0; plane < walk.planes; ++plane) {
    zero_plane_box(walk, lines, at + plane * lines.plane, rows, units);
  }
}

SPARSESR_END_ISA
