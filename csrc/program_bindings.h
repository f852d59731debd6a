// What Python calls to run programs on the CPU: in the module, and in that of a check of its own.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string_view>

#include "cpu/ops.h"
#include "tensor_caster.h"

namespace sparsesr {

// Bytes of the caller's, who keeps them until the call returns.
using Tables = std::array<std::string_view, 6>;

inline cpu::ProgramTables tables_of(const Tables& tables) {
  return {tables[0], tables[1], tables[2], tables[3], tables[4], tables[5]};
}

inline void bind_programs(pybind11::module_& m) {
  using ReleaseGil = pybind11::call_guard<pybind11::gil_scoped_release>;
  m.def("program_rule", [] {
    const ProgramRule rule = cpu::program_rule();
    return pybind11::make_tuple(rule.lanes, rule.outputs, rule.depth);
  });
  m.def(
      "refine_patches",
      [](const TensorView& canvas, const TensorView& feature, const TensorView& index,
         const Tables& tables, const TensorView& constants, int64_t patch_size, int64_t halo,
         int threads) {
        cpu::refine_patches(canvas, feature, index, tables_of(tables), constants, patch_size, halo,
                            threads);
      },
      ReleaseGil());
  m.def(
      "run_program",
      [](const TensorView& x, const Tables& tables, const TensorView& constants,
         const std::optional<TensorView>& cover, int64_t patch_size, const TensorView& out,
         int threads) {
        cpu::run_program(x, tables_of(tables), constants, cover, patch_size, out, threads);
      },
      ReleaseGil());
}

}  // namespace sparsesr
