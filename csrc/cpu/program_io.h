// From images to rows of vectors and back.
#pragma once

#include "cpu/program_rows.h"
#include "cpu/scalar.h"

SPARSESR_BEGIN_ISA

inline int64_t bytes_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : 2; }

inline float read_element(const char* from, DType dtype) {
  float value;
  uint16_t half;
  switch (dtype) {
    case DType::kFloat16:
      std::memcpy(&half, from, sizeof(half));
      return Half::load({half});
    case DType::kBFloat16:
      std::memcpy(&half, from, sizeof(half));
      return BFloat16::load({half});
    default:
      std::memcpy(&value, from, sizeof(value));
      return value;
  }
}

// `count` values side by side become elements `step` bytes apart.
inline void write_elements(const float* from, int64_t count, char* to, DType dtype, int64_t step) {
  if (dtype == DType::kFloat32 && step == 4) {
    std::memcpy(to, from, count * 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t half;
    switch (dtype) {
      case DType::kFloat16:
        half = Half::store(from[i]).bits;
        std::memcpy(to + i * step, &half, sizeof(half));
        break;
      case DType::kBFloat16:
        half = BFloat16::store(from[i]).bits;
        std::memcpy(to + i * step, &half, sizeof(half));
        break;
      default:
        std::memcpy(to + i * step, from + i, sizeof(float));
    }
  }
}

// Channels [c, c + count) of a pixel, the others zero.
inline Wide read_some(const char* from, const ProgramImage& image, int64_t c, int64_t count) {
  float values[lanes<Wide>()] = {};
  for (int64_t i = 0; i < count; ++i) {
    values[i] = read_element(from + (c + i) * image.channel, image.dtype);
  }
  return load<Wide>(values);
}

// All channels of as many pixels as there are lanes; nullptr stands for a pixel of zeros. Where
// whole vectors can be loaded the last ones overlap.
inline void read_pixels(const char* const (&from)[lanes<Wide>()], const ProgramImage& image,
                        int64_t channels, float* to, int64_t to_channel) {
  constexpr int64_t kLanes = lanes<Wide>();
  const bool direct = image.dtype == DType::kFloat32 && image.channel == 4 && channels >= kLanes;
  for (int64_t next = 0; next < channels; next += kLanes) {
    const int64_t c = direct && next + kLanes > channels ? channels - kLanes : next;
    const int64_t count = channels - c < kLanes ? channels - c : kLanes;
    Wide rows[kLanes];
#pragma GCC unroll 16
    for (int64_t l = 0; l < kLanes; ++l) {
      if (from[l] == nullptr) {
        rows[l] = Wide{};
      } else if (direct) {
        std::memcpy(&rows[l], from[l] + c * 4, sizeof(Wide));
      } else {
        rows[l] = read_some(from[l], image, c, count);
      }
    }
    transpose(rows);
    for (int64_t i = 0; i < count; ++i) store(to + (c + i) * to_channel, rows[i]);
  }
}

// One vector of each of `count` channels becomes, for every lane, `count` values side by side at
// to(lane); up to a vector of zeros behind them. Later lanes may follow at once: what is written
// too much there is overwritten by what comes after it, the last channels go first.
template <class To>
inline void gather_lanes(const float* const* channels, int64_t count, To to) {
  constexpr int64_t kLanes = lanes<Wide>();
  for (int64_t j = (count - 1) / kLanes * kLanes; j >= 0; j -= kLanes) {
    Wide rows[kLanes];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      rows[i] = j + i < count ? load<Wide>(channels[j + i]) : Wide{};
    }
    transpose(rows);
#pragma GCC unroll 16
    for (int64_t l = 0; l < kLanes; ++l) store(to(l) + j, rows[l]);
  }
}

constexpr int64_t kMostColours = 256;  // values of a pixel of the result under one row: a plane's

// How the image's rows are put together: a pixel of the result's value becomes `factor` pixels
// side by side in each of `factor` rows. Where pixels of the image lie dense they are written whole
// (one plane), else channel by channel.
struct PixelPlanes {
  int64_t planes, count;  // values of one pixel in a plane
  int64_t step;           // bytes between them
};

inline PixelPlanes planes_of(const ProgramResult& result, const ProgramImage& image) {
  const int64_t element = bytes_of(image.dtype);
  const int64_t whole = result.channels * result.factor;
  const bool dense = image.channel == element && image.pixel == element * result.channels;
  if (dense && whole <= kMostColours) return {1, whole, element};
  return {result.channels, result.factor, image.pixel};
}

// The channels behind the values of one pixel in a plane, in the order in which they are written.
inline void list_channels(const Frame& frame, const PixelPlanes& planes, int64_t plane, int64_t y,
                          int64_t dy, const float** channels) {
  const ProgramResult& result = frame.program.result;
  const int64_t* order = frame.program.orders + result.order;
  const float* row = frame.row(result.value, y);
  for (int64_t j = 0; j < planes.count; ++j) {
    const int64_t c = planes.planes == 1 ? j % result.channels : plane;
    const int64_t dx = planes.planes == 1 ? j / result.channels : j;
    const int64_t from = order[(c * result.factor + dy) * result.factor + dx];
    channels[j] = row + from * frame.buffers[result.value].channel;
  }
}

SPARSESR_END_ISA
