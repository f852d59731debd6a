// A small MLP over tiles of pixels. Pixels lie in the lanes and weights are broadcast, so that a
// layer of any width costs what its weights cost: no width is padded to whole vectors.
#pragma once

#include "cpu/kernels.h"
#include "cpu/vectors.h"

SPARSESR_BEGIN_ISA

// A register block: this many vectors of pixels times up to kMlpOutputs outputs, the inputs and a
// broadcast weight fill the registers.
#if defined(__AVX512F__)
constexpr int kTileVectors = 4;
#else
constexpr int kTileVectors = 2;
#endif
constexpr int64_t kTile = kTileVectors * lanes<Wide>();  // pixels

// Values are [channels][kTile]. Weights of a register block are [inputs][its outputs].
template <int kVectors, int kOutputs>
__attribute__((noinline)) void multiply_outputs(const float* values, const float* weights,
                                                const float* bias, int64_t inputs, float* to,
                                                bool activate) {
  Wide sums[kOutputs][kVectors];
#pragma GCC unroll 6
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[o][v] = Wide{};
  }
  for (int64_t c = 0; c < inputs; ++c, weights += kOutputs) {
    Wide value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      value[v] = load<Wide>(values + c * kTile + v * lanes<Wide>());
      SPARSESR_KEEP(value[v]);
    }
#pragma GCC unroll 6
    for (int o = 0; o < kOutputs; ++o) {
      Wide weight = weights[o] - Wide{};  // broadcast
      if (kVectors > 1) SPARSESR_KEEP(weight);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[o][v] += value[v] * weight;
    }
  }
#pragma GCC unroll 6
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Wide sum = sums[o][v] + bias[o];
      store(to + o * kTile + v * lanes<Wide>(), activate ? relu(sum) : sum);
    }
  }
}

template <int kVectors>
inline void run_layer(const float* values, const MlpLayer& layer, float* to, bool activate) {
  const float* weights = layer.weights;
  for (int64_t first = 0; first < layer.outputs; first += kMlpOutputs) {
    const int64_t left = layer.outputs - first;
    const float* bias = layer.bias + first;
    float* at = to + first * kTile;
    switch (left) {
      case 1:
        multiply_outputs<kVectors, 1>(values, weights, bias, layer.inputs, at, activate);
        break;
      case 2:
        multiply_outputs<kVectors, 2>(values, weights, bias, layer.inputs, at, activate);
        break;
      case 3:
        multiply_outputs<kVectors, 3>(values, weights, bias, layer.inputs, at, activate);
        break;
      case 4:
        multiply_outputs<kVectors, 4>(values, weights, bias, layer.inputs, at, activate);
        break;
      case 5:
        multiply_outputs<kVectors, 5>(values, weights, bias, layer.inputs, at, activate);
        break;
      default:
        multiply_outputs<kVectors, kMlpOutputs>(values, weights, bias, layer.inputs, at, activate);
    }
    weights += kMlpOutputs * layer.inputs;
  }
}

// All layers of `count` <= kTile pixels, ReLU between them. `values` and `spare` take turns; the
// result's place is returned.
inline float* run_layers(float* values, float* spare, const MlpLayer* layers, int64_t num_layers,
                         int64_t count) {
  for (int64_t i = 0; i < num_layers; ++i) {
    const bool activate = i + 1 < num_layers;
    if (count <= lanes<Wide>()) {
      run_layer<1>(values, layers[i], spare, activate);
    } else if (count <= 2 * lanes<Wide>()) {
      run_layer<2>(values, layers[i], spare, activate);
    } else {
      run_layer<kTileVectors>(values, layers[i], spare, activate);
    }
    float* made = spare;
    spare = values;
    values = made;
  }
  return values;
}

SPARSESR_END_ISA
