// The buffers of a program in shared memory: from which step to which each is needed, and where it
// lies. Plain C++.
#pragma once

#include <cstdint>
#include <vector>

namespace sparsesr {
namespace cuda {

// Per patch. Needed from the step that writes it to the last that reads it.
struct PatchBuffer {
  int64_t channels, pixels;
  int64_t pitch, bytes;
  int64_t born, last;
  int64_t offset;
  int64_t same_as;  // a buffer whose memory this one takes over, element by element; -1: none
};

class PatchMemory {
 public:
  int64_t add(int64_t channels, int64_t pixels, int64_t pitch, int64_t step);
  void read(int64_t buffer, int64_t step);

  // `buffer` may take the memory of `old` over, should that be read there for the last time: each
  // element is written by the thread that reads it.
  void may_replace(int64_t buffer, int64_t old);

  // Gives every buffer its place, those that are needed at the same time places apart. Returns how
  // many bytes that takes.
  int64_t place();

  const PatchBuffer& operator[](int64_t buffer) const { return buffers_[buffer]; }

 private:
  struct Candidate {
    int64_t buffer, old;
  };

  std::vector<PatchBuffer> buffers_;
  std::vector<Candidate> candidates_;
};

}  // namespace cuda
}  // namespace sparsesr
