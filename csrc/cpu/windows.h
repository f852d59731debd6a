// Patches on a map, and what covers a band of rows.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/patch_geometry.h"
#include "common/row_band.h"
#include "cpu/isa.h"
#include "cpu/kernels.h"

SPARSESR_BEGIN_ISA

// The part of a window that lies on the map, counted from the window's corner; empty when end <=
// begin.
struct Span {
  int64_t begin, end;
};

inline Span clip(int64_t corner, int64_t window, int64_t extent) {
  const int64_t end = extent - corner;
  return {corner < 0 ? -corner : 0, end < window ? end : window};
}

struct Window {
  int64_t top, left;
  Span rows, cols;
  bool inside;  // wholly on the map
  bool empty;   // wholly outside
};

inline Window window_at(const PatchGeometry& g, int64_t position) {
  const int64_t top = position / g.grid_cols * g.stride - g.halo;
  const int64_t left = position % g.grid_cols * g.stride - g.halo;
  const Span rows = clip(top, g.window, g.height);
  const Span cols = clip(left, g.window, g.width);
  const bool inside = rows.end - rows.begin == g.window && cols.end - cols.begin == g.window;
  return {top, left, rows, cols, inside, rows.end <= rows.begin || cols.end <= cols.begin};
}

// Columns [begin, end) of a band that have the same value: the patch that wins them (-1: none), or
// how many cover them.
struct Run {
  int32_t begin, end, value;
};

static_assert(sizeof(int32_t) + sizeof(Run) == kColumnBytes,
              "workspaces are sized by kColumnBytes");

// One thread's workspace for a band, kColumnBytes per column: a value each, and the runs of equal
// values.
struct BandColumns {
  int32_t* values;
  Run* runs;
  int64_t num_runs;

  BandColumns(char* workspace, int64_t width)
      : values(reinterpret_cast<int32_t*>(workspace)),
        runs(reinterpret_cast<Run*>(workspace + width * static_cast<int64_t>(sizeof(int32_t)))),
        num_runs(0) {}

  // The patch of the band, by position in its list, that is last in slot order.
  void find_winners(const RowBand& band, const PatchGeometry& g) {
    std::memset(values, 0xff, g.width * sizeof(int32_t));
    for (int64_t j = 0; j < band.count; ++j) {
      const Span cols = clip(band.patches[j].left, g.window, g.width);
      for (int64_t x = cols.begin; x < cols.end; ++x)
        values[band.patches[j].left + x] = static_cast<int32_t>(j);
    }
    find_runs(g.width);
  }

  void count_covering(const RowBand& band, const PatchGeometry& g) {
    std::memset(values, 0, g.width * sizeof(int32_t));
    for (int64_t j = 0; j < band.count; ++j) {
      const Span cols = clip(band.patches[j].left, g.window, g.width);
      for (int64_t x = cols.begin; x < cols.end; ++x) ++values[band.patches[j].left + x];
    }
    find_runs(g.width);
  }

 private:
  void find_runs(int64_t width) {
    num_runs = 0;
    for (int64_t x = 0; x < width;) {
      const int64_t begin = x;
      while (x < width && values[x] == values[begin]) ++x;
      runs[num_runs++] = {static_cast<int32_t>(begin), static_cast<int32_t>(x), values[begin]};
    }
  }
};

// Calls body(plane, run) for boxes that together make up the band: all its rows, a run of columns.
template <class Body>
inline void for_each_box(const Walk& walk, const BandColumns& columns, const Body& body) {
  for (int64_t plane = 0; plane < walk.planes; ++plane) {
    for (int64_t i = 0; i < columns.num_runs; ++i) body(plane, columns.runs[i]);
  }
}

SPARSESR_END_ISA
