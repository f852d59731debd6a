// What every patch op settles before it writes anything: the grid, the indices' validity, who owns
// which rows.
#pragma once

#include <cstdint>
#include <vector>

#include "common/checks.h"
#include "common/patch_geometry.h"
#include "common/row_band.h"

namespace sparsesr {

// Throws when patch_size < 1, halo < 0 or stride < 1. `k` is left 0.
PatchGeometry patch_geometry(const char* op, int64_t batch, int64_t channels, int64_t height,
                             int64_t width, int64_t patch_size, int64_t halo, int64_t stride);

enum class Duplicates { kAllow, kRefuse };

// Throws when a value of index[B,k] lies outside [0, Gh * Gw), or twice in an image where that is
// refused.
void check_index_values(const char* op, const PatchGeometry& geometry, const int32_t* index,
                        Duplicates duplicates);

// All bands of the batch, from the top of the first image to the bottom of the last.
class RowBands {
 public:
  RowBands(const PatchGeometry& geometry, const int32_t* index);
  RowBands(const RowBands&) = delete;  // bands point into patches_
  RowBands& operator=(const RowBands&) = delete;

  const RowBand* data() const { return bands_.data(); }
  int64_t size() const { return static_cast<int64_t>(bands_.size()); }

 private:
  void add_image(const PatchGeometry& geometry, const int32_t* index, int64_t image);

  std::vector<RowBand> bands_;
  std::vector<PlacedPatch> patches_;
};

}  // namespace sparsesr
