// The table of a plan while it is made: steps, and the lists that they refer to. Views name buffers
// until these have their places. Plain C++.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "cuda/program_kernels.h"
#include "cuda/program_memory.h"

namespace sparsesr {
namespace cuda {

class PatchTable {
 public:
  int64_t num_steps() const { return static_cast<int64_t>(steps_.size()); }
  void add(const PatchStep& step) { steps_.push_back(step); }

  // Where the next item of the lists will be.
  int32_t next() const { return static_cast<int32_t>(lists_.size()); }
  void append(int32_t word) { lists_.push_back(word); }
  void append(const PatchOutputs& outputs) { append_item(lists_, outputs); }
  void append(const PatchSegment& segment) {
    segments_.push_back(lists_.size());
    append_item(lists_, segment);
  }

  // Gives all views their places and returns the table. `head`: all but counts and the zeros.
  std::vector<int32_t> finish(PatchTableHead head, const PatchMemory& memory);

  // The row of zeros that every pixel of a segment can be replaced with.
  int32_t zero_bytes() const;

 private:
  template <class T>
  static void append_item(std::vector<int32_t>& to, const T& item) {
    static_assert(sizeof(T) % sizeof(int32_t) == 0, "words");
    const size_t at = to.size();
    to.resize(at + sizeof(T) / sizeof(int32_t));
    std::memcpy(to.data() + at, &item, sizeof(T));
  }
  PatchSegment segment_at(size_t at) const;

  std::vector<PatchStep> steps_;
  std::vector<int32_t> lists_;
  std::vector<size_t> segments_;  // where they are in the lists
};

}  // namespace cuda
}  // namespace sparsesr
