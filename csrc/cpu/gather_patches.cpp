#include "cpu/copy.h"
#include "cpu/parallel.h"
#include "cpu/scalar.h"
#include "cpu/windows.h"

SPARSESR_BEGIN_ISA
namespace {

void gather_window(const GatherArgs& args, int64_t slot, Stores stores) {
  const PatchGeometry& g = args.geometry;
  const Window w = window_at(g, args.index[slot]);
  char* to = args.patches.data + slot * args.patches.image;
  if (!w.inside) zero_box(args.walk, args.patches, to, g.window, g.window);
  if (w.empty) return;
  to += w.rows.begin * args.patches.row + w.cols.begin * args.patches.unit;
  const char* from = args.map.data + slot / g.k * args.map.image +
                     (w.top + w.rows.begin) * args.map.row +
                     (w.left + w.cols.begin) * args.map.unit;
  copy_box(args.walk, args.patches, to, args.map, from, w.rows.end - w.rows.begin,
           w.cols.end - w.cols.begin, stores);
}

template <class T>
struct GatherBackward {
  using Acc = typename Arithmetic<T>::Acc;

  // One row of one plane: the sum, in slot order, of the window rows that lie on it.
  static void sum_row(const GatherBackwardArgs& args, const RowBand& band, int64_t y, int64_t plane,
                      int64_t elements, Acc* sum) {
    const PatchGeometry& g = args.geometry;
    std::memset(sum, 0, g.width * elements * sizeof(Acc));
    for (int64_t j = 0; j < band.count; ++j) {
      const PlacedPatch& patch = band.patches[j];
      const Span cols = clip(patch.left, g.window, g.width);
      if (cols.end <= cols.begin) continue;
      const char* from = args.grad.data + patch.slot * args.grad.image + plane * args.grad.plane +
                         (y - patch.top) * args.grad.row;
      Acc* to = sum + (patch.left + cols.begin) * elements;
      if (args.grad.unit == args.walk.unit_bytes) {
        add(to, from + cols.begin * args.grad.unit, (cols.end - cols.begin) * elements);
        continue;
      }
      for (int64_t x = cols.begin; x < cols.end; ++x, to += elements) {
        add(to, from + x * args.grad.unit, elements);
      }
    }
  }

  static void add(Acc* to, const char* from, int64_t count) {
    const T* values = reinterpret_cast<const T*>(from);
    for (int64_t i = 0; i < count; ++i) to[i] += Arithmetic<T>::load(values[i]);
  }

  static void store_row(const GatherBackwardArgs& args, const Acc* sum, char* to,
                        int64_t elements) {
    for (int64_t x = 0; x < args.geometry.width; ++x, sum += elements, to += args.grad_x.unit) {
      T* values = reinterpret_cast<T*>(to);
      for (int64_t i = 0; i < elements; ++i) values[i] = Arithmetic<T>::store(sum[i]);
    }
  }

  static void run_band(const GatherBackwardArgs& args, const RowBand& band, Acc* workspace) {
    const PatchGeometry& g = args.geometry;
    const Lines& out = args.grad_x;
    char* first = out.data + band.image * out.image + band.begin * out.row;
    if (band.count == 0) {
      zero_box(args.walk, out, first, band.end - band.begin, g.width);
      return;
    }
    const int64_t elements = args.walk.unit_bytes / static_cast<int64_t>(sizeof(T));
    // Types that are their own accumulator are summed where they stay.
    const bool direct = sizeof(T) == sizeof(Acc) && out.unit == args.walk.unit_bytes;
    for (int64_t plane = 0; plane < args.walk.planes; ++plane) {
      for (int64_t y = band.begin; y < band.end; ++y) {
        char* row = first + plane * out.plane + (y - band.begin) * out.row;
        Acc* sum = direct ? reinterpret_cast<Acc*>(row) : workspace;
        sum_row(args, band, y, plane, elements, sum);
        if (!direct) store_row(args, sum, row, elements);
      }
    }
  }

  static void run(const GatherBackwardArgs& args) {
    parallel_for(args.threads, args.num_bands, [&](int64_t begin, int64_t end, int thread) {
      auto* workspace = reinterpret_cast<Acc*>(args.workspace + thread * args.workspace_bytes);
      for (int64_t b = begin; b < end; ++b) run_band(args, args.bands[b], workspace);
    });
  }
};

}  // namespace

void gather_patches(const GatherArgs& args) {
  const Stores stores = args.streaming ? Stores::kStreaming : Stores::kCached;
  const int64_t slots = args.geometry.batch * args.geometry.k;
  parallel_for(args.threads, slots, [&](int64_t begin, int64_t end, int) {
    for (int64_t slot = begin; slot < end; ++slot) gather_window(args, slot, stores);
    if (args.streaming) end_streaming();
  });
}

void gather_patches_backward(const GatherBackwardArgs& args) {
  run_for_dtype<GatherBackward>(args.dtype, args);
}

SPARSESR_END_ISA
