#include "cpu/copy.h"
#include "cpu/parallel.h"
#include "cpu/scalar.h"
#include "cpu/windows.h"

SPARSESR_BEGIN_ISA
namespace {

char* at(const Lines& lines, int64_t image, int64_t plane, int64_t row, int64_t column) {
  return lines.data + image * lines.image + plane * lines.plane + row * lines.row +
         column * lines.unit;
}

// Patches that cannot overlap, in place: each is written where it lies.
void paste(const ScatterArgs& args, int64_t slot) {
  const PatchGeometry& g = args.geometry;
  const Window w = window_at(g, args.index[slot]);
  if (w.empty) return;
  copy_box(args.walk, args.out,
           at(args.out, slot / g.k, 0, w.top + w.rows.begin, w.left + w.cols.begin), args.patches,
           at(args.patches, slot, 0, w.rows.begin, w.cols.begin), w.rows.end - w.rows.begin,
           w.cols.end - w.cols.begin);
}

// Rows [y, y + rows) of one plane of a run that a patch wins.
void copy_patch_run(const ScatterArgs& args, const RowBand& band, const Run& run, int64_t plane,
                    int64_t y, int64_t rows, Stores stores) {
  const PlacedPatch& patch = band.patches[run.value];
  copy_plane_box(args.walk, args.out, at(args.out, band.image, plane, y, run.begin), args.patches,
                 at(args.patches, patch.slot, plane, y - patch.top, run.begin - patch.left), rows,
                 run.end - run.begin, stores);
}

void copy_canvas(const ScatterArgs& args, int64_t image, int64_t plane, int64_t y, int64_t rows,
                 int64_t begin, int64_t end, Stores stores) {
  copy_plane_box(args.walk, args.out, at(args.out, image, plane, y, begin), args.canvas,
                 at(args.canvas, image, plane, y, begin), rows, end - begin, stores);
}

// Every run of columns is written once, from the patch that wins it or from the canvas.
void replace_runs(const ScatterArgs& args, const RowBand& band, const BandColumns& columns) {
  const int64_t rows = band.end - band.begin;
  const Stores stores = args.streaming ? Stores::kStreaming : Stores::kCached;
  for_each_box(args.walk, columns, [&](int64_t plane, const Run& run) {
    if (run.value >= 0) {
      copy_patch_run(args, band, run, plane, band.begin, rows, stores);
    } else if (!args.in_place) {
      copy_canvas(args, band.image, plane, band.begin, rows, run.begin, run.end, stores);
    }
  });
}

// Whole rows of the canvas, a strip at a time that stays in the L1 cache until the patches' short
// pieces are laid over it: splitting the copies around them would cost more than the bytes it saves
// (1.5 to 2x the time at 16-px patches of 3 channels).
void replace_strips(const ScatterArgs& args, const RowBand& band, const BandColumns& columns) {
  constexpr int64_t kStripBytes = 16384;
  const int64_t width = args.geometry.width;
  const int64_t fitting = kStripBytes / (width * args.walk.unit_bytes);
  const int64_t step = fitting < 1 ? 1 : fitting;
  for (int64_t plane = 0; plane < args.walk.planes; ++plane) {
    for (int64_t y = band.begin; y < band.end; y += step) {
      const int64_t rows = band.end - y < step ? band.end - y : step;
      copy_canvas(args, band.image, plane, y, rows, 0, width, Stores::kCached);
      for (int64_t i = 0; i < columns.num_runs; ++i) {
        const Run& run = columns.runs[i];
        if (run.value >= 0) copy_patch_run(args, band, run, plane, y, rows, Stores::kCached);
      }
    }
  }
}

void replace_band(const ScatterArgs& args, const RowBand& band, BandColumns& columns) {
  constexpr int64_t kShortBytes = 512;
  const bool short_pieces = args.geometry.window * args.walk.unit_bytes < kShortBytes;
  columns.find_winners(band, args.geometry);
  if (short_pieces && !args.in_place) {
    replace_strips(args, band, columns);
  } else {
    replace_runs(args, band, columns);
  }
}

template <class T>
struct ScatterMean {
  using Acc = typename Arithmetic<T>::Acc;

  static void add_patch(const ScatterArgs& args, const PlacedPatch& patch, int64_t y, int64_t plane,
                        int64_t elements, Acc* sum) {
    const PatchGeometry& g = args.geometry;
    const Span cols = clip(patch.left, g.window, g.width);
    const char* from = at(args.patches, patch.slot, plane, y - patch.top, 0);
    for (int64_t x = cols.begin; x < cols.end; ++x) {
      const T* values = reinterpret_cast<const T*>(from + x * args.patches.unit);
      Acc* to = sum + (patch.left + x) * elements;
      for (int64_t i = 0; i < elements; ++i) to[i] += Arithmetic<T>::load(values[i]);
    }
  }

  static void store_run(const ScatterArgs& args, const Run& run, const Acc* sum, char* row,
                        int64_t elements) {
    const Acc count = static_cast<Acc>(run.value);
    for (int64_t x = run.begin; x < run.end; ++x) {
      T* to = reinterpret_cast<T*>(row + x * args.out.unit);
      for (int64_t i = 0; i < elements; ++i) {
        to[i] = Arithmetic<T>::store(sum[x * elements + i] / count);
      }
    }
  }

  static void copy_untouched(const ScatterArgs& args, const RowBand& band,
                             const BandColumns& columns) {
    for_each_box(args.walk, columns, [&](int64_t plane, const Run& run) {
      if (run.value != 0) return;
      copy_plane_box(args.walk, args.out, at(args.out, band.image, plane, band.begin, run.begin),
                     args.canvas, at(args.canvas, band.image, plane, band.begin, run.begin),
                     band.end - band.begin, run.end - run.begin);
    });
  }

  static void run_band(const ScatterArgs& args, const RowBand& band, BandColumns& columns,
                       Acc* sum) {
    const PatchGeometry& g = args.geometry;
    const int64_t elements = args.walk.unit_bytes / static_cast<int64_t>(sizeof(T));
    columns.count_covering(band, g);
    if (!args.in_place) copy_untouched(args, band, columns);
    if (band.count == 0) return;
    for (int64_t plane = 0; plane < args.walk.planes; ++plane) {
      for (int64_t y = band.begin; y < band.end; ++y) {
        std::memset(sum, 0, g.width * elements * sizeof(Acc));
        for (int64_t j = 0; j < band.count; ++j) {
          add_patch(args, band.patches[j], y, plane, elements, sum);
        }
        char* row = at(args.out, band.image, plane, y, 0);
        for (int64_t i = 0; i < columns.num_runs; ++i) {
          if (columns.runs[i].value > 0) store_run(args, columns.runs[i], sum, row, elements);
        }
      }
    }
  }

  static void run(const ScatterArgs& args) {
    parallel_for(args.threads, args.num_bands, [&](int64_t begin, int64_t end, int thread) {
      char* workspace = args.workspace + thread * args.workspace_bytes;
      BandColumns columns(workspace, args.geometry.width);
      auto* sum = reinterpret_cast<Acc*>(workspace + args.geometry.width * kColumnBytes);
      for (int64_t b = begin; b < end; ++b) run_band(args, args.bands[b], columns, sum);
    });
  }
};

// What lies outside the map belongs to no band: its gradient is zero. Where windows overlap, so is
// that of what lost.
void zero_unowned(const ScatterBackwardArgs& args) {
  const PatchGeometry& g = args.geometry;
  const bool overlap = g.stride < g.window;
  parallel_for(args.threads, g.batch * g.k, [&](int64_t begin, int64_t end, int) {
    for (int64_t slot = begin; slot < end; ++slot) {
      if (!overlap && window_at(g, args.index[slot]).inside) continue;
      zero_box(args.walk, args.grad_patches, at(args.grad_patches, slot, 0, 0, 0), g.window,
               g.window);
    }
  });
}

// The gradient of the canvas: zero in runs that a patch covers, else the gradient itself.
void canvas_box(const ScatterBackwardArgs& args, const RowBand& band, int64_t plane, const Run& run,
                bool covered) {
  char* to = at(args.grad_canvas, band.image, plane, band.begin, run.begin);
  const int64_t rows = band.end - band.begin;
  const int64_t units = run.end - run.begin;
  if (covered) {
    zero_plane_box(args.walk, args.grad_canvas, to, rows, units);
  } else {
    copy_plane_box(args.walk, args.grad_canvas, to, args.grad,
                   at(args.grad, band.image, plane, band.begin, run.begin), rows, units);
  }
}

void replace_backward_band(const ScatterBackwardArgs& args, const RowBand& band,
                           BandColumns& columns) {
  const int64_t y = band.begin;
  columns.find_winners(band, args.geometry);
  for_each_box(args.walk, columns, [&](int64_t plane, const Run& run) {
    canvas_box(args, band, plane, run, run.value >= 0);
    if (run.value < 0) return;
    const PlacedPatch& patch = band.patches[run.value];
    copy_plane_box(args.walk, args.grad_patches,
                   at(args.grad_patches, patch.slot, plane, y - patch.top, run.begin - patch.left),
                   args.grad, at(args.grad, band.image, plane, y, run.begin), band.end - y,
                   run.end - run.begin);
  });
}

template <class T>
struct ScatterMeanBackward {
  using Acc = typename Arithmetic<T>::Acc;

  // `units` of one row of one plane of a patch: the gradient, divided among all patches that cover
  // the pixel.
  static void share_row(const ScatterBackwardArgs& args, const char* from, char* to,
                        const int32_t* counts, int64_t units) {
    const int64_t elements = args.walk.unit_bytes / static_cast<int64_t>(sizeof(T));
    for (int64_t x = 0; x < units; ++x) {
      const T* grad = reinterpret_cast<const T*>(from + x * args.grad.unit);
      T* share = reinterpret_cast<T*>(to + x * args.grad_patches.unit);
      const Acc count = static_cast<Acc>(counts[x]);
      for (int64_t i = 0; i < elements; ++i) {
        share[i] = Arithmetic<T>::store(Arithmetic<T>::load(grad[i]) / count);
      }
    }
  }

  static void share_patch(const ScatterBackwardArgs& args, const RowBand& band,
                          const PlacedPatch& patch, const int32_t* counts) {
    const Span cols = clip(patch.left, args.geometry.window, args.geometry.width);
    if (cols.end <= cols.begin) return;
    const int64_t x = patch.left + cols.begin;
    for (int64_t plane = 0; plane < args.walk.planes; ++plane) {
      for (int64_t y = band.begin; y < band.end; ++y) {
        share_row(args, at(args.grad, band.image, plane, y, x),
                  at(args.grad_patches, patch.slot, plane, y - patch.top, cols.begin), counts + x,
                  cols.end - cols.begin);
      }
    }
  }

  static void run_band(const ScatterBackwardArgs& args, const RowBand& band, BandColumns& columns) {
    columns.count_covering(band, args.geometry);
    for_each_box(args.walk, columns, [&](int64_t plane, const Run& run) {
      canvas_box(args, band, plane, run, run.value > 0);
    });
    for (int64_t j = 0; j < band.count; ++j) {
      share_patch(args, band, band.patches[j], columns.values);
    }
  }

  static void run(const ScatterBackwardArgs& args) {
    parallel_for(args.threads, args.num_bands, [&](int64_t begin, int64_t end, int thread) {
      BandColumns columns(args.workspace + thread * args.workspace_bytes, args.geometry.width);
      for (int64_t b = begin; b < end; ++b) run_band(args, args.bands[b], columns);
    });
  }
};

}  // namespace

void scatter_patches(const ScatterArgs& args) {
  if (args.mean) return run_for_dtype<ScatterMean>(args.dtype, args);
  if (args.bands == nullptr) {
    const int64_t slots = args.geometry.batch * args.geometry.k;
    parallel_for(args.threads, slots, [&](int64_t begin, int64_t end, int) {
      for (int64_t slot = begin; slot < end; ++slot) paste(args, slot);
    });
    return;
  }
  parallel_for(args.threads, args.num_bands, [&](int64_t begin, int64_t end, int thread) {
    BandColumns columns(args.workspace + thread * args.workspace_bytes, args.geometry.width);
    for (int64_t b = begin; b < end; ++b) replace_band(args, args.bands[b], columns);
    if (args.streaming) end_streaming();
  });
}

void scatter_patches_backward(const ScatterBackwardArgs& args) {
  zero_unowned(args);
  if (args.mean) return run_for_dtype<ScatterMeanBackward>(args.dtype, args);
  parallel_for(args.threads, args.num_bands, [&](int64_t begin, int64_t end, int thread) {
    BandColumns columns(args.workspace + thread * args.workspace_bytes, args.geometry.width);
    for (int64_t b = begin; b < end; ++b) replace_backward_band(args, args.bands[b], columns);
  });
}

SPARSESR_END_ISA
