#include "cuda/program_table.h"

#include <algorithm>

namespace sparsesr {
namespace cuda {
namespace {

void place(PatchView& view, const PatchMemory& memory) {
  if (view.offset >= 0) view.offset = static_cast<int32_t>(memory[view.offset].offset);
}

}  // namespace

PatchSegment PatchTable::segment_at(size_t at) const {
  PatchSegment segment;
  std::memcpy(&segment, lists_.data() + at, sizeof(segment));
  return segment;
}

int32_t PatchTable::zero_bytes() const {
  int32_t bytes = 0;
  for (const size_t at : segments_) bytes = std::max(bytes, segment_at(at).view.pitch);
  return bytes;
}

std::vector<int32_t> PatchTable::finish(PatchTableHead head, const PatchMemory& memory) {
  for (PatchStep& step : steps_) {
    for (PatchView* view : {&step.in, &step.out, &step.add, &step.mul}) place(*view, memory);
  }
  head.zero_bytes = zero_bytes();
  for (const size_t at : segments_) {
    PatchSegment segment = segment_at(at);
    place(segment.view, memory);
    std::memcpy(lists_.data() + at, &segment, sizeof(segment));
  }
  place(head.input, memory);
  head.num_steps = static_cast<int32_t>(steps_.size());
  head.num_lists = static_cast<int32_t>(lists_.size());
  std::vector<int32_t> words;
  append_item(words, head);
  for (const PatchStep& step : steps_) append_item(words, step);
  words.insert(words.end(), lists_.begin(), lists_.end());
  return words;
}

}  // namespace cuda
}  // namespace sparsesr
