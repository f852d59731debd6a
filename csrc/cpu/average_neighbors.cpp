#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/scalar.h"

SPARSESR_BEGIN_ISA
namespace {

// How many of the three pixels above, at and below (y, x) are heavy, for every x.
void count_columns(const AverageNeighborsArgs& args, const uint8_t* row, uint8_t* heavy) {
  const auto least = static_cast<uint8_t>(args.first_heavy);
  for (int64_t x = 0; x < args.width; ++x) {
    heavy[x] = static_cast<uint8_t>((row[x - args.width] >= least) + (row[x] >= least) +
                                    (row[x + args.width] >= least));
  }
}

template <class T>
void average(const AverageNeighborsArgs& args, const char* from, char* to) {
  using Math = Arithmetic<T>;
  constexpr int kPixels = 9;
  for (int64_t c = 0; c < args.channels; ++c) {
    typename Math::Acc sum = 0;
    for (int64_t dy = -1; dy <= 1; ++dy) {
      for (int64_t dx = -1; dx <= 1; ++dx) {
        const char* at = from + dy * args.image_strides[2] + dx * args.image_strides[3];
        sum += Math::load(*reinterpret_cast<const T*>(at));
      }
    }
    *reinterpret_cast<T*>(to) = Math::store(sum / kPixels);
    from += args.image_strides[1];
    to += args.out_strides[1];
  }
}

template <class T>
struct Kernel {
  static void run_row(const AverageNeighborsArgs& args, int64_t b, int64_t y, uint8_t* heavy) {
    const uint8_t* classes = args.class_map + (b * args.height + y) * args.width;
    count_columns(args, classes, heavy);
    const char* from = args.image + b * args.image_strides[0] + y * args.image_strides[2];
    char* to = args.out + b * args.out_strides[0] + y * args.out_strides[2];
    for (int64_t x = 1; x + 1 < args.width; ++x) {
      const bool light = classes[x] < args.first_heavy;
      if (!light || heavy[x - 1] + heavy[x] + heavy[x + 1] < args.min_heavy) continue;
      average<T>(args, from + x * args.image_strides[3], to + x * args.out_strides[3]);
    }
  }

  static void run(const AverageNeighborsArgs& args) {
    const int64_t rows = args.height - 2;  // the frame stays
    const int64_t count = rows > 0 ? args.batch * rows : 0;
    parallel_for(args.threads, count, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        run_row(args, i / rows, i % rows + 1, args.heavy + thread * args.width);
      }
    });
  }
};

}  // namespace

void average_neighbors(const AverageNeighborsArgs& args) {
  run_for_dtype<Kernel>(args.dtype, args);
}

SPARSESR_END_ISA
