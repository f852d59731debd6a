// A convolution of the patches in shared memory, by one block: a product of pixels and outputs over
// taps and channels, on tensor cores for 16-bit types, by multiply-add for float32 (never TF32).
// Sums are float32, in one order.
//
// A warp takes up to kTiles times 16 pixels, of any patches, with up to kSets times 16 outputs. The
// im2col shift is in the addresses of the rows of a product: those outside the window are the row
// of zeros. Weights come from global memory, ordered as lanes hold them (program_plan.cpp), where
// the warps of a multiprocessor share them in L1 and all blocks in L2.
#pragma once

#include "cuda/program_block.h"
#include "cuda/ptx.h"

namespace sparsesr {
namespace cuda {

constexpr int kSets = 2;

__device__ __forceinline__ void add_product(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], Half) {
  mma_m16n8k16_f16(d, a, b);
}
__device__ __forceinline__ void add_product(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], BFloat16) {
  mma_m16n8k16_bf16(d, a, b);
}

__device__ __forceinline__ int32_t lane_of_warp() { return static_cast<int32_t>(threadIdx.x % 32); }

// Tensor cores: lane 4 g + t holds outputs 8 p + 2 t and the next (p: pairs) of rows g and g + 8.
template <class T>
struct ConvSums {
  static constexpr int kTiles = 3;
  static constexpr int kRows = 2, kPairs = 2;  // of a tile and a set, in this lane
  static constexpr int kPositions = 1;         // rows of a tile whose inputs this lane reads
  static constexpr int kStepBytes = 32;        // channels of a step
  static constexpr int kStepVectors = 32;      // of a set's weights in a step

  float values[kTiles][kSets][kPairs][kRows * 2];

  static __device__ __forceinline__ int32_t row(int r) { return lane_of_warp() / 4 + 8 * r; }
  static __device__ __forceinline__ int32_t output(int p) { return 8 * p + lane_of_warp() % 4 * 2; }
  static __device__ __forceinline__ int32_t input_row(int) { return lane_of_warp() % 16; }

  uint4 ahead[kSets];  // the weights of the next step

  __device__ __forceinline__ void start(const uint4* const (&weights)[kSets]) {
#pragma unroll
    for (int s = 0; s < kSets; ++s) ahead[s] = __ldg(weights[s]);
  }

  // Adds `steps` steps of channels. rows: where they begin in shared memory, by position; weights:
  // this lane's of this step, those of all steps behind each other.
  __device__ __forceinline__ void add(const char* shared, const int32_t (&rows)[kTiles][kPositions],
                                      int32_t tiles, int32_t steps,
                                      const uint4* const (&weights)[kSets], int32_t sets,
                                      int32_t halves) {
    for (int32_t step = 0; step < steps; ++step) {
      uint4 both[kSets];
#pragma unroll
      for (int s = 0; s < kSets; ++s) {
        both[s] = ahead[s];
        if (s < sets) ahead[s] = __ldg(weights[s] + (step + 1) * kStepVectors);
      }
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        if (t >= tiles) break;
        uint32_t a[4];
        ldmatrix_x4(a, shared + rows[t][0] + step * kStepBytes + lane_of_warp() / 16 * 16);
#pragma unroll
        for (int s = 0; s < kSets; ++s) {
          if (s >= sets) break;
          const uint32_t left[2] = {both[s].x, both[s].y}, right[2] = {both[s].z, both[s].w};
          add_product(values[t][s][0], a, left, T{});
          if (halves > 1) add_product(values[t][s][1], a, right, T{});
        }
      }
    }
  }
  static __device__ __forceinline__ int32_t first_vector() { return lane_of_warp(); }
};

// Multiply-add: lane 8 q + t holds outputs 2 t and the next of rows 4 q to 4 q + 3.
template <>
struct ConvSums<float> {
  static constexpr int kTiles = 1;
  static constexpr int kRows = 4, kPairs = 1, kPositions = 4;
  static constexpr int kStepBytes = 16;
  static constexpr int kStepVectors = 16;

  float values[kTiles][kSets][kPairs][kRows * 2];

  static __device__ __forceinline__ int32_t row(int r) { return lane_of_warp() / 8 * 4 + r; }
  static __device__ __forceinline__ int32_t output(int) { return lane_of_warp() % 8 * 2; }
  static __device__ __forceinline__ int32_t input_row(int i) { return row(i); }

  __device__ __forceinline__ void start(const uint4* const (&)[kSets]) {}

  __device__ __forceinline__ void add(const char* shared, const int32_t (&rows)[kTiles][kPositions],
                                      int32_t tiles, int32_t steps,
                                      const uint4* const (&weights)[kSets], int32_t sets, int32_t) {
    for (int32_t step = 0; step < steps; ++step) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        if (t >= tiles) break;
        float4 x[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          x[r] = *reinterpret_cast<const float4*>(shared + rows[t][r] + step * kStepBytes);
        }
#pragma unroll
        for (int s = 0; s < kSets; ++s) {
          if (s >= sets) break;
          const auto* own = reinterpret_cast<const float2*>(weights[s] + step * kStepVectors) +
                            lane_of_warp() % 8;
          const float2 w0 = own[0], w1 = own[8], w2 = own[16], w3 = own[24];
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            float* const sums = values[t][s][0] + 2 * r;
            sums[0] += x[r].x * w0.x;
            sums[1] += x[r].x * w0.y;
            sums[0] += x[r].y * w1.x;
            sums[1] += x[r].y * w1.y;
            sums[0] += x[r].z * w2.x;
            sums[1] += x[r].z * w2.y;
            sums[0] += x[r].w * w3.x;
            sums[1] += x[r].w * w3.y;
          }
        }
      }
    }
  }
  static __device__ __forceinline__ int32_t first_vector() { return 0; }
};

// Part of a convolution: tiles of 16 pixels and sets of 16 outputs.
struct ConvItem {
  int32_t first_row, end_row, tiles;
  int32_t first_set, sets;
};

// The pixel of the input on which an output pixel's taps are centred; rows and columns are few.
struct ConvPosition {
  int32_t pixel, y_x;

  __device__ __forceinline__ int32_t y() const { return y_x >> 16; }
  __device__ __forceinline__ int32_t x() const { return y_x & 0xffff; }
};

// Rows beyond `end` repeat the last; what they sum is not stored.
__device__ __forceinline__ ConvPosition position_of(const PatchStep& step, int32_t row,
                                                    int32_t end) {
  auto x = static_cast<uint32_t>(min(row, end - 1));
  auto y = static_cast<uint32_t>(divide(x, step.by_width));
  const int32_t patch = divide(y, step.by_height);
  const int32_t top = static_cast<int32_t>(y) * step.stride;
  const int32_t left = static_cast<int32_t>(x) * step.stride;
  return {(patch * step.in_height + top) * step.in_width + left, top << 16 | left};
}

template <class T>
__device__ __forceinline__ void sum_item(const PatchBlock& block, const PatchStep& step,
                                         const ConvItem& item, ConvSums<T>& sums) {
  using Sums = ConvSums<T>;
#pragma unroll
  for (int t = 0; t < Sums::kTiles; ++t) {
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
#pragma unroll
      for (int p = 0; p < Sums::kPairs; ++p) {
#pragma unroll
        for (int i = 0; i < Sums::kRows * 2; ++i) sums.values[t][s][p][i] = 0.0f;
      }
    }
  }
  ConvPosition positions[Sums::kTiles][Sums::kPositions];
#pragma unroll
  for (int t = 0; t < Sums::kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < Sums::kPositions; ++i) {
      positions[t][i] =
          position_of(step, item.first_row + kProductRows * t + Sums::input_row(i), item.end_row);
    }
  }
  const auto* outputs =
      reinterpret_cast<const PatchOutputs*>(block.list(step.outputs)) + item.first_set;
  const int32_t taps = outputs->taps, num_taps = outputs->num_taps;
  const int32_t halves = item.sets > 1 ? 2 : outputs->halves;
  const auto* weights_of_all = static_cast<const uint4*>(block.args.weights) + Sums::first_vector();
  const uint4* weights[kSets];
#pragma unroll
  for (int s = 0; s < kSets; ++s) {
    weights[s] = weights_of_all + outputs[s < item.sets ? s : 0].weights;
  }
  sums.start(weights);
  __syncwarp();  // products want whole warps
  const auto* segments = reinterpret_cast<const PatchSegment*>(block.list(step.segments));
  const int32_t in_height = step.in_height, in_width = step.in_width;
  const int32_t num_segments = step.num_segments;
  for (int32_t tap = 0; tap < num_taps; ++tap) {
    const int32_t shift = *block.list(taps + tap);
    const int32_t dy = shift >> 16, dx = static_cast<int16_t>(shift & 0xffff);
    for (int32_t part = 0; part < num_segments; ++part) {
      const PatchSegment& segment = segments[part];
      const int32_t pixels = block.offset(segment.view);
      int32_t rows[Sums::kTiles][Sums::kPositions];
#pragma unroll
      for (int t = 0; t < Sums::kTiles; ++t) {
#pragma unroll
        for (int i = 0; i < Sums::kPositions; ++i) {
          const ConvPosition& at = positions[t][i];
          const bool inside =
              static_cast<uint32_t>(at.y() + dy) < static_cast<uint32_t>(in_height) &&
              static_cast<uint32_t>(at.x() + dx) < static_cast<uint32_t>(in_width);
          rows[t][i] = inside ? pixels + (at.pixel + dy * in_width + dx) * segment.view.pitch : 0;
        }
      }
      const int32_t steps = segment.steps;
      sums.add(block.shared, rows, item.tiles, steps, weights, item.sets, halves);
#pragma unroll
      for (int s = 0; s < kSets; ++s) weights[s] += steps * Sums::kStepVectors;
    }
  }
}

// --- what follows the sums: one thing after the other for all of them, so that each is chosen once

// visit(output) for two outputs side by side; what it returns takes their values of every row of
// this lane: (values, tile, row of the tile).
template <class T, class Visit>
__device__ __forceinline__ void for_each_pair(ConvSums<T>& sums, const ConvItem& item,
                                              const Visit& visit) {
  using Sums = ConvSums<T>;
#pragma unroll
  for (int s = 0; s < kSets; ++s) {
    if (s >= item.sets) break;
#pragma unroll
    for (int p = 0; p < Sums::kPairs; ++p) {
      const auto& own = visit((item.first_set + s) * kOutputSet + Sums::output(p));
#pragma unroll
      for (int t = 0; t < Sums::kTiles; ++t) {
#pragma unroll
        for (int r = 0; r < Sums::kRows; ++r) own(sums.values[t][s][p] + 2 * r, t, r);
      }
    }
  }
}

template <class T>
__device__ __forceinline__ int32_t row_of(const ConvItem& item, int t, int r) {
  return item.first_row + kProductRows * t + ConvSums<T>::row(r);
}

template <class T>
__device__ __forceinline__ void add_bias(const PatchBlock& block, const PatchStep& step,
                                         const ConvItem& item, ConvSums<T>& sums) {
  const float* const bias = block.args.vectors + step.bias;
  for_each_pair(sums, item, [&](int32_t output) {
    const float first = __ldg(bias + output), second = __ldg(bias + output + 1);
    return [=](float* pair, int, int) {
      pair[0] += first;
      pair[1] += second;
    };
  });
}

// combine(value, operand's) of all values.
template <class T, class Combine>
__device__ __forceinline__ void with_operand(const PatchBlock& block, const PatchView& view,
                                             const ConvItem& item, ConvSums<T>& sums,
                                             int32_t channels, const Combine& combine) {
  const char* const pixels = block.at(view);
  for_each_pair(sums, item, [&](int32_t output) {
    return [=](float* pair, int t, int r) {
      const int32_t row = row_of<T>(item, t, r);
      if (row >= item.end_row || output >= channels) return;
      T both[2];
      memcpy(both, pixels + row * view.pitch + output * static_cast<int32_t>(sizeof(T)),
             sizeof(both));
      pair[0] = combine(pair[0], Arithmetic<T>::load(both[0]));
      pair[1] = combine(pair[1], Arithmetic<T>::load(both[1]));
    };
  });
}

template <class T, class Function>
__device__ __forceinline__ void for_each_value(ConvSums<T>& sums, const ConvItem& item,
                                               const Function& function) {
  for_each_pair(sums, item, [&](int32_t) {
    return [=](float* pair, int, int) {
      pair[0] = function(pair[0]);
      pair[1] = function(pair[1]);
    };
  });
}

template <class T>
__device__ __forceinline__ void activate(const PatchBlock& block, const PatchStep& step,
                                         const ConvItem& item, ConvSums<T>& sums) {
  switch (step.act) {
    case PatchAct::kNone:
      return;
    case PatchAct::kRelu:
      return for_each_value(sums, item, [](float value) { return relu_of(value); });
    case PatchAct::kLeaky: {
      const float slope = step.slope;
      return for_each_value(sums, item, [=](float value) { return leaky_of(value, slope); });
    }
    case PatchAct::kPrelu: {
      const float* const slopes = block.args.vectors + step.slopes;
      return for_each_pair(sums, item, [&](int32_t output) {
        const float first = __ldg(slopes + output), second = __ldg(slopes + output + 1);
        return [=](float* pair, int, int) {
          pair[0] = leaky_of(pair[0], first);
          pair[1] = leaky_of(pair[1], second);
        };
      });
    }
    case PatchAct::kSigmoid:
      return for_each_value(sums, item, [](float value) { return sigmoid_of(value); });
    case PatchAct::kTanh:
      return for_each_value(sums, item, [](float value) { return tanhf(value); });
  }
}

__device__ __forceinline__ int32_t channel_of(int32_t order) { return order & 0xffff; }
__device__ __forceinline__ int32_t down_of(int32_t order) { return order >> 16 & 0xff; }
__device__ __forceinline__ int32_t right_of(int32_t order) { return order >> 24; }

template <class T>
__device__ __forceinline__ void store_values(const PatchBlock& block, const PatchStep& step,
                                             const ConvItem& item, ConvSums<T>& sums) {
  using Sums = ConvSums<T>;
  // All lines of all patches are below each other, shuffled or not.
  const int32_t pitch = step.out.pitch, width = step.width * step.factor;
  int32_t corners[Sums::kTiles][Sums::kRows];
#pragma unroll
  for (int t = 0; t < Sums::kTiles; ++t) {
#pragma unroll
    for (int r = 0; r < Sums::kRows; ++r) {
      const int32_t row = row_of<T>(item, t, r);
      auto x = static_cast<uint32_t>(row);
      const int32_t line = divide(x, step.by_width);
      const int32_t pixel = (line * width + static_cast<int32_t>(x)) * step.factor;
      corners[t][r] = row < item.end_row ? pixel * pitch : -1;
    }
  }
  char* const to = block.at(step.out);
  const int32_t channels = step.channels;
  for_each_pair(sums, item, [&](int32_t output) {
    const int32_t order = *block.list(step.order + output);
    const int32_t channel = channel_of(order);
    char* const own = to + (down_of(order) * width + right_of(order)) * pitch +
                      channel * static_cast<int32_t>(sizeof(T));
    return [=, &corners](const float* pair, int t, int r) {
      if (order < 0 || corners[t][r] < 0) return;
      const T both[2] = {Arithmetic<T>::store(channel < channels ? pair[0] : 0.0f),
                         Arithmetic<T>::store(channel + 1 < channels ? pair[1] : 0.0f)};
      memcpy(own + corners[t][r], both, sizeof(both));
    };
  });
}

template <class T>
__device__ __forceinline__ void write_values(const PatchBlock& block, const PatchStep& step,
                                             const ConvItem& item, ConvSums<T>& sums) {
  using Sums = ConvSums<T>;
  const RefinePatchesArgs& args = block.args;
  CanvasPlace places[Sums::kTiles][Sums::kRows];
#pragma unroll
  for (int t = 0; t < Sums::kTiles; ++t) {
#pragma unroll
    for (int r = 0; r < Sums::kRows; ++r) {
      const int32_t row = row_of<T>(item, t, r);
      auto x = static_cast<uint32_t>(min(row, item.end_row - 1));
      auto y = static_cast<uint32_t>(divide(x, step.by_width));
      const int32_t patch = divide(y, step.by_height);
      places[t][r] = place_on_canvas(block, patch, static_cast<int32_t>(y) * step.factor,
                                     static_cast<int32_t>(x) * step.factor);
      if (row >= item.end_row) places[t][r].rows = 0;
    }
  }
  T* const canvas = static_cast<T*>(args.canvas.data);
  for_each_pair(sums, item, [&](int32_t output) {
    const int32_t* const orders = block.list(step.order + output);
    const int32_t first = orders[0], second = orders[1];
    const PatchMap& map = args.canvas;
    const int64_t at[2] = {
        down_of(first) * map.row + right_of(first) * map.pixel + channel_of(first) * map.channel,
        down_of(second) * map.row + right_of(second) * map.pixel +
            channel_of(second) * map.channel};
    return [=, &places](const float* pair, int t, int r) {
      const CanvasPlace& place = places[t][r];
      if (first >= 0 && down_of(first) < place.rows && right_of(first) < place.cols) {
        canvas[place.offset + at[0]] = Arithmetic<T>::store(pair[0]);
      }
      if (second >= 0 && down_of(second) < place.rows && right_of(second) < place.cols) {
        canvas[place.offset + at[1]] = Arithmetic<T>::store(pair[1]);
      }
    };
  });
}

template <class T>
__device__ __forceinline__ void finish_item(const PatchBlock& block, const PatchStep& step,
                                            const ConvItem& item, ConvSums<T>& sums) {
  if (step.bias >= 0) add_bias(block, step, item, sums);
  if (step.add.offset >= 0) {
    with_operand(block, step.add, item, sums, step.channels,
                 [](float value, float other) { return value + other; });
  }
  activate(block, step, item, sums);
  if (step.mul.offset >= 0) {
    with_operand(block, step.mul, item, sums, step.channels,
                 [](float value, float other) { return value * other; });
  }
  if (step.out.offset >= 0) {
    store_values(block, step, item, sums);
  } else {
    write_values(block, step, item, sums);
  }
}

// All threads of the block.
template <class T>
__device__ __forceinline__ void run_conv(const PatchBlock& block, const PatchStep& step) {
  const int32_t rows = block.live * step.height * step.width;
  const uint32_t tiling = step.tiling >> 4 * (block.args.group - 1);
  const auto tiles = static_cast<int32_t>(tiling & 3u) + 1;
  const auto sets = static_cast<int32_t>(tiling >> 2 & 1u) + 1;
  const int32_t all_tiles = (rows + kProductRows - 1) / kProductRows;
  const int32_t down = (all_tiles + tiles - 1) / tiles;
  const int32_t items = down * ((step.num_outputs + sets - 1) / sets);
  for (auto i = static_cast<int32_t>(threadIdx.x / 32); i < items; i += kProgramWarps) {
    const int32_t set = i / down * sets, tile = i % down * tiles;
    const ConvItem item = {kProductRows * tile, min(kProductRows * (tile + tiles), rows),
                           min(tiles, all_tiles - tile), set, min(sets, step.num_outputs - set)};
    ConvSums<T> sums;
    sum_item(block, step, item, sums);
    finish_item(block, step, item, sums);
  }
}

}  // namespace cuda
}  // namespace sparsesr
