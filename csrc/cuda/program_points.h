// The steps of a program that are not convolutions: a thread takes 16 bytes of a pixel's channels.
#pragma once

#include "cuda/program_block.h"

namespace sparsesr {
namespace cuda {

// Part of the result of a step: `pixel` counts those of all patches.
struct PointItem {
  int32_t patch, y, x, pixel;
  int32_t channel;  // the first of the vector
};

// visit(item) for this thread's vectors of the result.
template <class T, class Visit>
__device__ __forceinline__ void for_each_vector(const PatchBlock& block, const PatchStep& step,
                                                const Visit& visit) {
  const int32_t count = block.live * step.height * step.width * step.vectors;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < count; i += kProgramThreads) {
    auto vector = static_cast<uint32_t>(i);
    PointItem item;
    item.pixel = divide(vector, step.by_vectors);
    auto x = static_cast<uint32_t>(item.pixel);
    auto y = static_cast<uint32_t>(divide(x, step.by_width));
    item.patch = divide(y, step.by_height);
    item.y = static_cast<int32_t>(y);
    item.x = static_cast<int32_t>(x);
    item.channel = static_cast<int32_t>(vector) * kVectorChannels<T>;
    visit(item);
  }
}

template <class T>
__device__ __forceinline__ void store_vector(const PatchBlock& block, const PatchStep& step,
                                             const PointItem& item, const Channels<T>& made) {
  made.store(block.at(step.out) + item.pixel * step.out.pitch +
                 item.channel * static_cast<int32_t>(sizeof(T)),
             step.channels - item.channel);
}

template <class T>
__device__ __forceinline__ const char* channel_at(const PatchBlock& block, const PatchView& view,
                                                  int32_t pixel, int32_t channel) {
  return block.at(view) + pixel * view.pitch + channel * static_cast<int32_t>(sizeof(T));
}

template <class T>
__device__ __forceinline__ Channels<T> operand(const PatchBlock& block, const PatchView& view,
                                               const PointItem& item) {
  Channels<T> made;
  if (view.spread == PatchSpread::kOne) {
    const float value = load_value<T>(channel_at<T>(block, view, item.patch, 0));
#pragma unroll
    for (int i = 0; i < Channels<T>::kCount; ++i) made.values[i] = value;
    return made;
  }
  const int32_t pixel = view.spread == PatchSpread::kPixels ? item.pixel : item.patch;
  made.load(channel_at<T>(block, view, pixel, item.channel));
  return made;
}

template <class T>
__device__ __forceinline__ void activate(const PatchBlock& block, const PatchStep& step,
                                         int32_t channel, Channels<T>& made) {
  const auto each = [&](const auto& function) {
#pragma unroll
    for (int i = 0; i < Channels<T>::kCount; ++i) made.values[i] = function(made.values[i], i);
  };
  const float slope = step.slope;
  const float* const slopes = block.args.vectors + step.slopes + channel;  // whole vectors of them
  switch (step.act) {
    case PatchAct::kNone:
      return;
    case PatchAct::kRelu:
      return each([](float value, int) { return relu_of(value); });
    case PatchAct::kLeaky:
      return each([=](float value, int) { return leaky_of(value, slope); });
    case PatchAct::kPrelu:
      return each([=](float value, int i) { return leaky_of(value, __ldg(slopes + i)); });
    case PatchAct::kSigmoid:
      return each([](float value, int) { return sigmoid_of(value); });
    case PatchAct::kTanh:
      return each([](float value, int) { return tanhf(value); });
  }
}

template <class T>
__device__ __forceinline__ void run_point(const PatchBlock& block, const PatchStep& step) {
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    Channels<T> made = operand<T>(block, step.in, item);
    if (step.mul.offset >= 0) {
      const Channels<T> factor = operand<T>(block, step.mul, item);
#pragma unroll
      for (int i = 0; i < Channels<T>::kCount; ++i) made.values[i] *= factor.values[i];
    }
    if (step.add.offset >= 0) {
      const Channels<T> more = operand<T>(block, step.add, item);
#pragma unroll
      for (int i = 0; i < Channels<T>::kCount; ++i) made.values[i] += more.values[i];
    }
    activate(block, step, item.channel, made);
    store_vector(block, step, item, made);
  });
}

template <class T>
__device__ __forceinline__ void run_select(const PatchBlock& block, const PatchStep& step) {
  const auto* segments = reinterpret_cast<const PatchSegment*>(block.list(step.segments));
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    Channels<T> made;
    made.clear();
    int32_t before = 0;
    for (int32_t s = 0; s < step.num_segments; ++s) {
      const PatchSegment& segment = segments[s];
#pragma unroll
      for (int i = 0; i < Channels<T>::kCount; ++i) {
        const int32_t channel = item.channel + i - before;
        if (channel < 0 || channel >= segment.channels) continue;
        made.values[i] = load_value<T>(channel_at<T>(block, segment.view, item.pixel, channel));
      }
      before += segment.channels;
    }
    store_vector(block, step, item, made);
  });
}

template <class T>
__device__ __forceinline__ void run_softmax(const PatchBlock& block, const PatchStep& step) {
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    const char* const pixel = channel_at<T>(block, step.in, item.pixel, 0);
    const auto value = [&](int32_t channel) {
      return load_value<T>(pixel + channel * static_cast<int32_t>(sizeof(T)));
    };
    float most = value(0), total = 0.0f;
    for (int32_t c = 1; c < step.channels; ++c) most = fmaxf(most, value(c));
    for (int32_t c = 0; c < step.channels; ++c) total += expf(value(c) - most);
    Channels<T> made;
#pragma unroll
    for (int i = 0; i < Channels<T>::kCount; ++i) {
      const int32_t channel = min(item.channel + i, step.channels - 1);
      made.values[i] = expf(value(channel) - most) / total;
    }
    store_vector(block, step, item, made);
  });
}

template <class T>
__device__ __forceinline__ void add_pixel(const PatchBlock& block, const PatchStep& step,
                                          int32_t pixel, int32_t channel, float share,
                                          Channels<T>& sums) {
  Channels<T> own;
  own.load(channel_at<T>(block, step.in, pixel, channel));
#pragma unroll
  for (int i = 0; i < Channels<T>::kCount; ++i) sums.values[i] += own.values[i] * share;
}

template <class T>
__device__ __forceinline__ void run_mean(const PatchBlock& block, const PatchStep& step) {
  const int32_t pixels = step.in_height * step.in_width;
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    Channels<T> made;
    made.clear();
    for (int32_t i = 0; i < pixels; ++i) {
      add_pixel(block, step, item.patch * pixels + i, item.channel, 1.0f, made);
    }
#pragma unroll
    for (int i = 0; i < Channels<T>::kCount; ++i) made.values[i] /= static_cast<float>(pixels);
    store_vector(block, step, item, made);
  });
}

// Where a row, or column, lies between those of a smaller map, corners not aligned.
struct Between {
  int32_t low, high;
  float part;
};

__device__ __forceinline__ Between between(int32_t at, int32_t length, int32_t from) {
  const float scale = static_cast<float>(from) / static_cast<float>(length);
  const float place = fmaxf((static_cast<float>(at) + 0.5f) * scale - 0.5f, 0.0f);
  const int32_t low = min(static_cast<int32_t>(place), from - 1);
  return {low, min(low + 1, from - 1), place - static_cast<float>(low)};
}

template <class T>
__device__ __forceinline__ void run_resize(const PatchBlock& block, const PatchStep& step) {
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    const Between row = between(item.y, step.height, step.in_height);
    const Between col = between(item.x, step.width, step.in_width);
    const int32_t first = item.patch * step.in_height;
    const int32_t top = (first + row.low) * step.in_width;
    const int32_t bottom = (first + row.high) * step.in_width;
    Channels<T> made;
    made.clear();
    add_pixel(block, step, top + col.low, item.channel, (1 - row.part) * (1 - col.part), made);
    add_pixel(block, step, top + col.high, item.channel, (1 - row.part) * col.part, made);
    add_pixel(block, step, bottom + col.low, item.channel, row.part * (1 - col.part), made);
    add_pixel(block, step, bottom + col.high, item.channel, row.part * col.part, made);
    store_vector(block, step, item, made);
  });
}

// Each pixel from one other: enlarged, cropped, or continued by the last.
template <class T>
__device__ __forceinline__ void run_clamp(const PatchBlock& block, const PatchStep& step) {
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    const int32_t y = min(item.y / step.factor, step.in_height - 1);
    const int32_t x = min(item.x / step.factor, step.in_width - 1);
    Channels<T> made;
    made.load(channel_at<T>(block, step.in, (item.patch * step.in_height + y) * step.in_width + x,
                            item.channel));
    store_vector(block, step, item, made);
  });
}

template <class T>
__device__ __forceinline__ void run_shuffle(const PatchBlock& block, const PatchStep& step) {
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    const int32_t y = item.y / step.factor, x = item.x / step.factor;
    const int32_t own = (item.y - y * step.factor) * step.factor + item.x - x * step.factor;
    const int32_t pixel = (item.patch * step.in_height + y) * step.in_width + x;
    const int32_t square = step.factor * step.factor;
    Channels<T> made;
#pragma unroll
    for (int i = 0; i < Channels<T>::kCount; ++i) {
      const int32_t channel = min(item.channel + i, step.channels - 1);
      const int32_t source = step.tf != 0 ? own * step.channels + channel : channel * square + own;
      made.values[i] = load_value<T>(channel_at<T>(block, step.in, pixel, source));
    }
    store_vector(block, step, item, made);
  });
}

template <class T>
__device__ __forceinline__ void run_write(const PatchBlock& block, const PatchStep& step) {
  for_each_vector<T>(block, step, [&](const PointItem& item) {
    const CanvasPlace place = place_on_canvas(block, item.patch, item.y, item.x);
    if (place.rows <= 0 || place.cols <= 0) return;
    const PatchMap& map = block.args.canvas;
    const int32_t end = min(item.channel + kVectorChannels<T>, step.channels);
    for (int32_t c = item.channel; c < end; ++c) {
      static_cast<T*>(map.data)[place.offset + c * map.channel] =
          *reinterpret_cast<const T*>(channel_at<T>(block, step.in, item.pixel, c));
    }
  });
}

// --- windows of the feature map

__device__ __forceinline__ bool on_map(const RefinePatchesArgs& args, int32_t y, int32_t x) {
  return static_cast<uint32_t>(y) < static_cast<uint32_t>(args.height) &&
         static_cast<uint32_t>(x) < static_cast<uint32_t>(args.width);
}

// The windows of the block's patches, zero outside the map.
template <class T>
__device__ __forceinline__ void load_windows(const PatchBlock& block) {
  const RefinePatchesArgs& args = block.args;
  const PatchTableHead& head = args.head;
  const auto vectors = static_cast<int32_t>(head.by_input_vectors.divisor);
  const int32_t pixels = block.live * head.side * head.side;
  char* const to = block.at(head.input);
  // Lanes run along the dimension whose elements are adjacent.
  const bool by_channels = args.feature.channel == 1;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < pixels * vectors; i += kProgramThreads) {
    auto rest = static_cast<uint32_t>(i);
    const int32_t pixel = by_channels ? divide(rest, head.by_input_vectors) : i % pixels;
    const int32_t vector = by_channels ? static_cast<int32_t>(rest) : i / pixels;
    auto column = static_cast<uint32_t>(pixel);
    auto row = static_cast<uint32_t>(divide(column, head.by_side));
    const int32_t patch = divide(row, head.by_side);
    const PatchTarget target = block.targets[patch];
    const int32_t y = target.top + static_cast<int32_t>(row);
    const int32_t x = target.left + static_cast<int32_t>(column);
    const bool inside = target.named && on_map(args, y, x);
    const int32_t first = vector * kVectorChannels<T>;
    const T* from =
        static_cast<const T*>(args.feature.data) +
        (inside ? target.image * args.feature.image + y * args.feature.row + x * args.feature.pixel
                : 0);
    uint4 word = {0, 0, 0, 0};
    if (inside && args.whole_vectors && first < head.channels) {
      word = *reinterpret_cast<const uint4*>(from + first);
    } else if (inside) {
      T elements[kVectorChannels<T>];
#pragma unroll
      for (int c = 0; c < kVectorChannels<T>; ++c) {
        elements[c] = first + c < head.channels ? from[(first + c) * args.feature.channel] : T{};
      }
      memcpy(&word, elements, sizeof(word));
    }
    *reinterpret_cast<uint4*>(to + pixel * head.input.pitch + vector * 16) = word;
  }
}

}  // namespace cuda
}  // namespace sparsesr
