#include "cpu/copy.h"
#include "cpu/parallel.h"
#include "cpu/scalar.h"
#include "cpu/windows.h"

SPARSESR_BEGIN_ISA
namespace {

const char* source_of(const GatherArgs& args, int64_t slot, const Window& w) {
  return args.map.data + slot / args.geometry.k * args.map.image +
         (w.top + w.rows.begin) * args.map.row + (w.left + w.cols.begin) * args.map.unit;
}

void gather_window(const GatherArgs& args, int64_t slot, const Window& w, Stores stores) {
  const PatchGeometry& g = args.geometry;
  char* to = args.patches.data + slot * args.patches.image;
  if (!w.inside) zero_box(args.walk, args.patches, to, g.window, g.window);
  if (w.empty) return;
  to += w.rows.begin * args.patches.row + w.cols.begin * args.patches.unit;
  copy_box(args.walk, args.patches, to, args.map, source_of(args, slot, w),
           w.rows.end - w.rows.begin, w.cols.end - w.cols.begin, stores);
}

// Whether the rows of windows are single runs of bytes, long enough to hide a fetch behind.
bool has_long_rows(const GatherArgs& args) {
  constexpr int64_t kLongRow = 256;
  const Walk& walk = args.walk;
  return walk.planes == 1 && args.map.unit == walk.unit_bytes &&
         args.patches.unit == walk.unit_bytes && args.geometry.window * walk.unit_bytes >= kLongRow;
}

// Windows follow each other in no pattern that the hardware could foresee, so each asks for the
// lines of the one after it. begin < end.
void gather_fetching_ahead(const GatherArgs& args, int64_t begin, int64_t end, Stores stores) {
  const PatchGeometry& g = args.geometry;
  const int64_t bytes = g.window * args.walk.unit_bytes;
  Window w = window_at(g, args.index[begin]);
  for (int64_t slot = begin; slot < end; ++slot) {
    const int64_t after = slot + 1 < end ? slot + 1 : slot;
    const Window next = window_at(g, args.index[after]);
    if (w.inside && next.inside) {
      char* to = args.patches.data + slot * args.patches.image;
      char* next_to = args.patches.data + after * args.patches.image;
      const char* from = source_of(args, slot, w);
      const char* next_from = source_of(args, after, next);
      for (int64_t r = 0; r < g.window; ++r) {
        const int64_t to_row = r * args.patches.row;
        const int64_t from_row = r * args.map.row;
        copy_row_ahead(to + to_row, from + from_row, bytes, stores, next_to + to_row,
                       next_from + from_row);
      }
    } else {
      gather_window(args, slot, w, stores);
    }
    w = next;
  }
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
  const bool fetch_ahead = args.fetch_ahead && has_long_rows(args);
  parallel_for(args.threads, slots, [&](int64_t begin, int64_t end, int) {
    if (fetch_ahead && begin < end) {
      gather_fetching_ahead(args, begin, end, stores);
    } else {
      for (int64_t slot = begin; slot < end; ++slot) {
        gather_window(args, slot, window_at(args.geometry, args.index[slot]), stores);
      }
    }
    if (args.streaming) end_streaming();
  });
}

void gather_patches_backward(const GatherBackwardArgs& args) {
  run_for_dtype<GatherBackward>(args.dtype, args);
}

SPARSESR_END_ISA
