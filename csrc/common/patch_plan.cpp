#include "common/patch_plan.h"

#include <algorithm>
#include <limits>

namespace sparsesr {
namespace {

constexpr int64_t kEmptyBandRows = 16;

int64_t grid_extent(int64_t size, int64_t patch_size, int64_t stride) {
  if (size <= patch_size) return 1;
  return (size - patch_size + stride - 1) / stride + 1;
}

}  // namespace

PatchGeometry patch_geometry(const char* op, int64_t batch, int64_t channels, int64_t height,
                             int64_t width, int64_t patch_size, int64_t halo, int64_t stride) {
  if (patch_size < 1) fail(op, ": expected patch_size >= 1, got ", patch_size);
  if (halo < 0) fail(op, ": expected halo >= 0, got ", halo);
  if (stride < 1) fail(op, ": expected stride >= 1, got ", stride);
  // Slots, corners and grid positions are kept in 32 bits; a map that large has long run out of
  // memory.
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max() / 4;
  if (std::max({height, width, patch_size, halo, stride}) > kMax) {
    fail(op, ": expected extents up to ", kMax, ", got ", height, " x ", width, ", patch_size ",
         patch_size, ", halo ", halo, ", stride ", stride);
  }
  return {batch,
          channels,
          height,
          width,
          grid_extent(height, patch_size, stride),
          grid_extent(width, patch_size, stride),
          patch_size,
          halo,
          stride,
          patch_size + 2 * halo,
          /*k=*/0};
}

void check_index_values(const char* op, const PatchGeometry& geometry, const int32_t* index,
                        Duplicates duplicates) {
  const int64_t positions = geometry.grid_rows * geometry.grid_cols;
  std::vector<bool> seen;
  for (int64_t image = 0; image < geometry.batch; ++image) {
    const int32_t* row = index + image * geometry.k;
    bool ascending = true;
    for (int64_t j = 0; j < geometry.k; ++j) {
      if (row[j] < 0 || row[j] >= positions) {
        fail(op, ": expected index values in [0, ", positions, ") for a grid of ",
             geometry.grid_rows, " x ", geometry.grid_cols, " patches, got ", row[j], " at index[",
             image, ", ", j, "]");
      }
      ascending &= j == 0 || row[j - 1] < row[j];
    }
    if (ascending || duplicates == Duplicates::kAllow) continue;
    seen.assign(positions, false);
    for (int64_t j = 0; j < geometry.k; ++j) {
      if (seen[row[j]]) {
        fail(op, ": expected each patch at most once in an image, got ", row[j],
             " a second time at index[", image, ", ", j, "]");
      }
      seen[row[j]] = true;
    }
  }
}

RowBands::RowBands(const PatchGeometry& geometry, const int32_t* index) {
  for (int64_t image = 0; image < geometry.batch; ++image) add_image(geometry, index, image);
  // patches_ has stopped growing: offsets become pointers.
  const PlacedPatch* next = patches_.data();
  for (RowBand& band : bands_) {
    band.patches = next;
    next += band.count;
  }
}

void RowBands::add_image(const PatchGeometry& g, const int32_t* index, int64_t image) {
  // Slots by grid row, each bucket in slot order (counting sort).
  std::vector<int64_t> first(g.grid_rows + 1, 0);
  std::vector<PlacedPatch> by_row(g.k);
  for (int64_t j = 0; j < g.k; ++j) ++first[index[image * g.k + j] / g.grid_cols + 1];
  for (int64_t r = 0; r < g.grid_rows; ++r) first[r + 1] += first[r];
  std::vector<int64_t> next(first.begin(), first.end() - 1);
  for (int64_t j = 0; j < g.k; ++j) {
    const int64_t slot = image * g.k + j;
    const int64_t row = index[slot] / g.grid_cols;
    const int64_t col = index[slot] % g.grid_cols;
    by_row[next[row]++] = {static_cast<int32_t>(slot),
                           static_cast<int32_t>(row * g.stride - g.halo),
                           static_cast<int32_t>(col * g.stride - g.halo)};
  }

  // The covering grid rows change only where a window begins or ends.
  std::vector<int64_t> cuts = {0, g.height};
  for (int64_t r = 0; r < g.grid_rows; ++r) {
    const int64_t top = r * g.stride - g.halo;
    if (first[r] == first[r + 1]) continue;
    cuts.push_back(std::clamp<int64_t>(top, 0, g.height));
    cuts.push_back(std::clamp<int64_t>(top + g.window, 0, g.height));
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

  for (size_t c = 0; c + 1 < cuts.size(); ++c) {
    const int64_t begin = cuts[c];
    // Grid rows r with r * stride - halo <= begin < r * stride - halo + window.
    const int64_t last = std::min((begin + g.halo) / g.stride, g.grid_rows - 1);
    const int64_t above =
        begin + g.halo - g.window;  // the largest window corner that ends too early
    const int64_t from = above < 0 ? 0 : above / g.stride + 1;
    const size_t offset = patches_.size();
    for (int64_t r = from; r <= last; ++r) {
      patches_.insert(patches_.end(), by_row.begin() + first[r], by_row.begin() + first[r + 1]);
    }
    if (last > from) {
      std::sort(patches_.begin() + static_cast<int64_t>(offset), patches_.end(),
                [](const PlacedPatch& a, const PlacedPatch& b) { return a.slot < b.slot; });
    }
    const auto count = static_cast<int64_t>(patches_.size() - offset);
    // Rows nobody covers may be many; bands are the unit of work that threads share.
    const int64_t step = count == 0 ? kEmptyBandRows : cuts[c + 1] - begin;
    for (int64_t y = begin; y < cuts[c + 1]; y += step) {
      bands_.push_back({image, y, std::min(y + step, cuts[c + 1]), nullptr, count});
    }
  }
}

}  // namespace sparsesr
