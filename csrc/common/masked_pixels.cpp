#include "common/masked_pixels.h"

namespace sparsesr {
namespace {

// Per pixel of a row three bits: its left neighbour, itself, its right neighbour.
void read_row(const TensorView& mask, int64_t image, int64_t y, std::vector<uint8_t>& triples) {
  const auto* row =
      static_cast<const uint8_t*>(mask.data) + image * mask.strides[0] + y * mask.strides[2];
  const int64_t width = mask.sizes[3];
  unsigned triple = row[0] != 0 ? 4 : 0;
  for (int64_t x = 0; x < width; ++x) {
    const bool right = x + 1 < width && row[(x + 1) * mask.strides[3]] != 0;
    triple = triple >> 1 | (right ? 4 : 0);
    triples[x] = static_cast<uint8_t>(triple);
  }
}

}  // namespace

MaskedPixels list_pixels(const TensorView& mask, int64_t image) {
  const int64_t height = mask.sizes[2], width = mask.sizes[3];
  constexpr uint32_t kItself = 1u << 4;
  MaskedPixels pixels;
  std::vector<uint8_t> above(width, 0), row(width, 0), below(width, 0);
  read_row(mask, image, 0, below);
  for (int64_t y = 0; y < height; ++y) {
    above.swap(row);
    row.swap(below);
    if (y + 1 < height) {
      read_row(mask, image, y + 1, below);
    } else {
      below.assign(width, 0);
    }
    for (int64_t x = 0; x < width; ++x) {
      const uint32_t near = above[x] | row[x] << 3 | below[x] << 6;
      auto& list = (near & kItself) != 0 ? pixels.active : pixels.inactive;
      list.push_back({static_cast<int32_t>(y), static_cast<int32_t>(x), near});
    }
  }
  return pixels;
}

}  // namespace sparsesr
