#include "cuda/program_packing.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "cuda/program_kernels.h"

namespace sparsesr {
namespace cuda {
namespace {

// What a tile costs beside its products: an instruction for its pixels and one for its weights.
constexpr int64_t kTileOverhead = 2;

// An input pixel relative to the output's, and the weight that it meets.
struct Tap {
  int64_t dy, dx, ky, kx;
};

// Output pixel s*y + phase of a transposed convolution sees weight phase + pad - s*d of input pixel
// y + d: the d that there are.
std::vector<int64_t> taps_of_phase(const ConvShape& shape, int64_t phase) {
  std::vector<int64_t> taps;
  const int64_t side = shape.weight[2];
  for (int64_t d = -side; d <= side; ++d) {
    const int64_t at = phase + shape.pad - shape.factor * d;
    if (at >= 0 && at < side) taps.push_back(d);
  }
  return taps;
}

std::vector<Tap> taps_of_set(const ConvShape& shape, const ConvOutput* outputs) {
  std::vector<Tap> taps;
  if (!shape.transposed) {
    for (int64_t ky = 0; ky < shape.weight[2]; ++ky) {
      for (int64_t kx = 0; kx < shape.weight[2]; ++kx) {
        taps.push_back({ky - shape.pad, kx - shape.pad, ky, kx});
      }
    }
    return taps;
  }
  for (int64_t o = 0; o < kOutputSet; ++o) {
    if (outputs[o].source < 0) continue;
    for (const int64_t dy : taps_of_phase(shape, outputs[o].dy)) {
      for (const int64_t dx : taps_of_phase(shape, outputs[o].dx)) {
        const auto same = [&](const Tap& tap) { return tap.dy == dy && tap.dx == dx; };
        if (std::none_of(taps.begin(), taps.end(), same)) taps.push_back({dy, dx, 0, 0});
      }
    }
  }
  return taps;
}

int32_t word_of(const Tap& tap) {
  return static_cast<int32_t>(static_cast<uint32_t>(tap.dy) << 16 |
                              (static_cast<uint32_t>(tap.dx) & 0xffffu));
}

// The element of the weights that joins an output, a channel of the input and a tap.
int64_t element_of(const ConvShape& shape, const ConvOutput& output, int64_t channel,
                   const Tap& tap) {
  const int64_t second = shape.weight[1], side = shape.weight[2];
  if (output.source < 0) return -1;
  if (!shape.transposed) {
    const int64_t own = shape.weight[0] / shape.groups;  // outputs of a group
    const int64_t input = channel - output.source / own * second;
    if (input < 0 || input >= second) return -1;
    return ((output.source * second + input) * side + tap.ky) * side + tap.kx;
  }
  const int64_t ky = output.dy + shape.pad - shape.factor * tap.dy;
  const int64_t kx = output.dx + shape.pad - shape.factor * tap.dx;
  if (ky < 0 || ky >= side || kx < 0 || kx >= side) return -1;
  return ((channel * second + output.source) * side + ky) * side + kx;
}

// One step of channels, from `first` on. float32: [4 inputs][16 outputs]. 16 bits: what each lane
// holds of two fragments b (ptx.h) of m16n8k16, both registers of the first 8 outputs, then of the
// others.
template <class Element>
void pack_step(std::vector<int32_t>& to, int64_t first, int64_t element_size,
               const Element& element) {
  if (element_size == 4) {
    for (int64_t c = 0; c < channels_of_step(element_size); ++c) {
      for (int64_t o = 0; o < kOutputSet; ++o) to.push_back(element(o, first + c));
    }
    return;
  }
  for (int64_t k = 0; k < 256; ++k) {
    const int64_t lane = k / 8, half = k / 4 % 2, high = k / 2 % 2, odd = k % 2;
    to.push_back(element(8 * half + lane / 4, first + 8 * high + lane % 4 * 2 + odd));
  }
}

}  // namespace

int64_t channels_of_step(int64_t element_size) { return element_size == 4 ? 4 : 16; }

int64_t rounded_up(int64_t number, int64_t unit) { return (number + unit - 1) / unit * unit; }

std::vector<ConvOutput> order_outputs(const ConvShape& shape, int64_t element_size) {
  const int64_t factor = shape.factor, channels = shape.channels;
  std::vector<std::pair<int64_t, int64_t>> places;
  for (int64_t dy = 0; dy < factor; ++dy) {
    for (int64_t dx = 0; dx < factor; ++dx) places.push_back({dy, dx});
  }
  if (shape.transposed) {
    const auto taps = [&](const std::pair<int64_t, int64_t>& place) {
      return std::make_pair(taps_of_phase(shape, place.first), taps_of_phase(shape, place.second));
    };
    std::stable_sort(places.begin(), places.end(),
                     [&](const auto& a, const auto& b) { return taps(a) < taps(b); });
  }
  const int64_t whole =
      shape.to_canvas ? channels : rounded_up(channels, channels_of_step(element_size));
  std::vector<ConvOutput> order;
  for (const auto& [dy, dx] : places) {
    for (int64_t c = 0; c < whole; ++c) {
      int64_t source = shape.transposed ? c : c * factor * factor + dy * factor + dx;
      if (shape.tf) source = (dy * factor + dx) * channels + c;
      order.push_back({c < channels ? source : -1, c, dy, dx});
    }
  }
  order.resize(rounded_up(static_cast<int64_t>(order.size()), kOutputSet), {-1, -1, 0, 0});
  return order;
}

PackedConv pack_conv(const ConvShape& shape, const std::vector<ConvOutput>& order,
                     const std::vector<int64_t>& counts, int64_t element_size) {
  PackedConv packed;
  for (size_t o = 0; o < order.size(); o += kOutputSet) {
    const ConvOutput* outputs = order.data() + o;
    const std::vector<Tap> taps = taps_of_set(shape, outputs);
    std::vector<int32_t> words;
    for (const Tap& tap : taps) words.push_back(word_of(tap));
    if (packed.taps.empty() || packed.taps.back() != words) packed.taps.push_back(words);
    const bool half = std::all_of(outputs + 8, outputs + kOutputSet,
                                  [](const ConvOutput& output) { return output.source < 0; });
    packed.sets.push_back({static_cast<int64_t>(packed.taps.size()) - 1,
                           static_cast<int64_t>(packed.elements.size()), half});
    for (const Tap& tap : taps) {
      int64_t before = 0;
      for (const int64_t count : counts) {
        const auto element = [&](int64_t output, int64_t channel) {
          if (channel >= count) return -1;
          return static_cast<int32_t>(element_of(shape, outputs[output], before + channel, tap));
        };
        for (int64_t c = 0; c < count; c += channels_of_step(element_size)) {
          pack_step(packed.elements, c, element_size, element);
        }
        before += count;
      }
    }
  }
  return packed;
}

uint32_t tiling_of(int64_t pixels, int64_t sets, int64_t most_tiles, bool same_taps) {
  const auto ceil_of = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  uint32_t tiling = 0;
  for (int64_t group = 1; group <= kMaxGroupPatches; ++group) {
    const int64_t rows = ceil_of(group * pixels, kProductRows);
    int64_t least = std::numeric_limits<int64_t>::max();
    uint32_t best = 0;
    for (int64_t t = most_tiles; t >= 1; --t) {
      for (int64_t s = same_taps && sets > 1 ? 2 : 1; s >= 1; --s) {
        const int64_t rounds = ceil_of(ceil_of(rows, t) * ceil_of(sets, s), kProgramWarps);
        const int64_t cost = rounds * (t * s + kTileOverhead);
        if (cost >= least) continue;
        least = cost;
        best = static_cast<uint32_t>((t - 1) | (s - 1) << 2);
      }
    }
    tiling |= best << 4 * (group - 1);
  }
  return tiling;
}

}  // namespace cuda
}  // namespace sparsesr
