// Where a program keeps its values, and how a map is cut for it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/program.h"

namespace sparsesr {
namespace cpu {

constexpr int64_t kLine = 16;  // floats of a cache line

inline int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// A place for the rows of each value, and behind all values for those of their pairs.
struct Layout {
  std::vector<ProgramBuffer> buffers;
  int64_t size = 0;
};

// The rows of a channel lie behind each other; rows that are never needed together share a place.
Layout layout_of_patches(const Program& program, int64_t lanes);

// How a map goes through a program row by row, in rings of as many rows as are still needed.
struct Streaming {
  std::vector<int64_t> delays;   // [values]: rows of the input before a value's first one
  std::vector<int64_t> reaches;  // [values, 2]: rows above and below that the result takes from it
  std::vector<int64_t> rows;     // [2, values]: of values; of pairs, 0: none
};

Streaming streaming_of(const Program& program);

// The rings of a map, or a strip of one, of so many columns.
Layout layout_of_map(const Program& program, const Streaming& streaming, int64_t columns,
                     int64_t lanes);

// Columns that are computed for one of so many strips: its own, and the neighbours' that it reads.
int64_t strip_columns(int64_t width, int64_t strips, const Streaming& streaming);

// One strip, unless narrower ones, whose rings lie near, are worth what they compute twice.
int64_t strips_of(const Program& program, const Streaming& streaming, int64_t width, int64_t lanes);

// The strips of each image; where all of them are fewer than threads, in bands, none so low that
// most of its rows would be computed by its neighbours, too.
std::vector<ProgramTile> tiles_of(int64_t batch, int64_t height, int64_t width, int64_t strips,
                                  int64_t reach, int threads);

}  // namespace cpu
}  // namespace sparsesr
