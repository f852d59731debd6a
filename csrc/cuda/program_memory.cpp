#include "cuda/program_memory.h"

#include <algorithm>

namespace sparsesr {
namespace cuda {

int64_t PatchMemory::add(int64_t channels, int64_t pixels, int64_t pitch, int64_t step) {
  buffers_.push_back({channels, pixels, pitch, pixels * pitch, step, step, 0, -1});
  return static_cast<int64_t>(buffers_.size()) - 1;
}

void PatchMemory::read(int64_t buffer, int64_t step) {
  buffers_[buffer].last = std::max(buffers_[buffer].last, step);
}

void PatchMemory::may_replace(int64_t buffer, int64_t old) {
  const PatchBuffer &a = buffers_[buffer], &b = buffers_[old];
  if (a.channels == b.channels && a.pixels == b.pixels) candidates_.push_back({buffer, old});
}

int64_t PatchMemory::place() {
  for (const Candidate& candidate : candidates_) {
    PatchBuffer& made = buffers_[candidate.buffer];
    const int64_t same = buffers_[candidate.old].same_as;
    const int64_t root = same >= 0 ? same : candidate.old;
    if (made.same_as >= 0 || buffers_[root].last != made.born) continue;
    made.same_as = root;
    buffers_[root].last = std::max(buffers_[root].last, made.last);
  }
  int64_t bytes = 0;
  std::vector<const PatchBuffer*> placed;  // by their offsets
  for (PatchBuffer& buffer : buffers_) {
    if (buffer.same_as >= 0) {
      buffer.offset = buffers_[buffer.same_as].offset;
      continue;
    }
    buffer.offset = 0;
    for (const PatchBuffer* other : placed) {
      const bool together = other->born <= buffer.last && buffer.born <= other->last;
      if (!together || other->offset + other->bytes <= buffer.offset) continue;
      if (other->offset >= buffer.offset + buffer.bytes) break;
      buffer.offset = other->offset + other->bytes;
    }
    const auto behind = [&](const PatchBuffer* other) { return other->offset > buffer.offset; };
    placed.insert(std::find_if(placed.begin(), placed.end(), behind), &buffer);
    bytes = std::max(bytes, buffer.offset + buffer.bytes);
  }
  return bytes;
}

}  // namespace cuda
}  // namespace sparsesr
