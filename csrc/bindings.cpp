// The Python module sparsesr._native: tensors arrive as tuples (pointer, dtype, device, sizes,
// strides) that sparsesr/ops/_native.py builds, are turned into views here, and every call runs
// without the GIL.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <map>
#include <string_view>

#include "common/checks.h"
#include "cpu/dispatch.h"
#include "cpu/ops.h"
#include "program_bindings.h"
#ifdef SPARSESR_CUDA
#include "cuda/ops.h"
#include "cuda/program_ops.h"
#include "cuda/route_ops.h"
#include "cuda/runtime.h"
#endif

namespace py = pybind11;

namespace {

// Raised whenever a signature below changes; sparsesr/ops/_native.py holds the number it was
// written for.
constexpr int kAbi = 9;

using sparsesr::TensorView;
namespace cpu = sparsesr::cpu;
using ReleaseGil = py::call_guard<py::gil_scoped_release>;

cpu::Reduce reduce_of(bool mean) { return mean ? cpu::Reduce::kMean : cpu::Reduce::kReplace; }

void bind_cpu_ops(py::module_& m) {
  m.def("select_patches", &cpu::select_patches, ReleaseGil());
  m.def(
      "gather_patches",
      [](const TensorView& x, const TensorView& index, const TensorView& patches,
         int64_t patch_size, int64_t halo, int64_t stride, int threads) {
        cpu::gather_patches(x, index, patches, {patch_size, halo, stride}, threads);
      },
      ReleaseGil());
  m.def(
      "gather_patches_backward",
      [](const TensorView& grad, const TensorView& index, const TensorView& grad_x,
         int64_t patch_size, int64_t halo, int64_t stride, int threads) {
        cpu::gather_patches_backward(grad, index, grad_x, {patch_size, halo, stride}, threads);
      },
      ReleaseGil());
  m.def(
      "select_gather_patches",
      [](const TensorView& mask, const TensorView& x, const TensorView& index,
         const TensorView& patches, int64_t patch_size, int64_t halo, int64_t stride, bool largest,
         int threads) {
        cpu::select_gather_patches(mask, x, index, patches, {patch_size, halo, stride}, largest,
                                   threads);
      },
      ReleaseGil());
  m.def(
      "scatter_patches",
      [](const TensorView& canvas, const TensorView& patches, const TensorView& index,
         const TensorView& out, int64_t patch_size, int64_t stride, bool mean, int threads) {
        cpu::scatter_patches(canvas, patches, index, out, {patch_size, /*halo=*/0, stride},
                             reduce_of(mean), threads);
      },
      ReleaseGil());
  m.def(
      "scatter_patches_backward",
      [](const TensorView& grad, const TensorView& index, const TensorView& grad_canvas,
         const TensorView& grad_patches, int64_t patch_size, int64_t stride, bool mean,
         int threads) {
        cpu::scatter_patches_backward(grad, index, grad_canvas, grad_patches,
                                      {patch_size, /*halo=*/0, stride}, reduce_of(mean), threads);
      },
      ReleaseGil());
  m.def("masked_conv2d", &cpu::masked_conv2d, ReleaseGil());
  m.def("masked_block", &cpu::masked_block, ReleaseGil());
  m.def(
      "route_mlp",
      [](const TensorView& feature, const std::optional<TensorView>& class_map,
         const std::vector<std::tuple<TensorView, TensorView, TensorView, TensorView,
                                      std::vector<int64_t>>>& classes,
         const TensorView& rows, const TensorView& cols, const std::optional<TensorView>& image,
         const TensorView& out, int threads) {
        std::vector<cpu::RouteClassView> views;
        for (const auto& [first, row_bias, col_bias, later, widths] : classes) {
          views.push_back({first, row_bias, col_bias, later, widths});
        }
        cpu::route_mlp(feature, class_map, views, rows, cols, image, out, threads);
      },
      ReleaseGil());
  m.def("average_neighbors", &cpu::average_neighbors, ReleaseGil());
  sparsesr::bind_programs(m);
  m.def("packing_rule", [](bool pairs) {
    const sparsesr::PackingRule rule = cpu::packing_rule(pairs);
    return py::make_tuple(rule.lanes, rule.narrow, rule.vectors, rule.depth);
  });
  m.def("fma_peak", &cpu::fma_peak, ReleaseGil());
}

#ifdef SPARSESR_CUDA

namespace cuda = sparsesr::cuda;

void* stream_of(uintptr_t handle) { return reinterpret_cast<void*>(handle); }

// As on the CPU, with a stream handle for the thread count and workspaces where ops need them.
void bind_cuda_ops(py::module_& m) {
  m.def(
      "select_patches",
      [](const TensorView& mask, const TensorView& index, bool largest, uintptr_t stream) {
        cuda::select_patches(mask, index, largest, stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "gather_patches",
      [](const TensorView& x, const TensorView& index, const TensorView& patches,
         int64_t patch_size, int64_t halo, int64_t stride, uintptr_t stream) {
        cuda::gather_patches(x, index, patches, {patch_size, halo, stride}, stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "gather_patches_backward",
      [](const TensorView& grad, const TensorView& index, const TensorView& grad_x,
         const TensorView& workspace, int64_t patch_size, int64_t halo, int64_t stride,
         uintptr_t stream) {
        cuda::gather_patches_backward(grad, index, grad_x, workspace, {patch_size, halo, stride},
                                      stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "select_gather_patches",
      [](const TensorView& mask, const TensorView& x, const TensorView& index,
         const TensorView& patches, int64_t patch_size, int64_t halo, int64_t stride, bool largest,
         uintptr_t stream) {
        cuda::select_gather_patches(mask, x, index, patches, {patch_size, halo, stride}, largest,
                                    stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "scatter_patches",
      [](const TensorView& canvas, const TensorView& patches, const TensorView& index,
         const TensorView& out, const TensorView& workspace, int64_t patch_size, int64_t stride,
         bool mean, uintptr_t stream) {
        cuda::scatter_patches(canvas, patches, index, out, workspace,
                              {patch_size, /*halo=*/0, stride}, reduce_of(mean), stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "scatter_patches_backward",
      [](const TensorView& grad, const TensorView& index, const TensorView& grad_canvas,
         const TensorView& grad_patches, const TensorView& workspace, int64_t patch_size,
         int64_t stride, bool mean, uintptr_t stream) {
        cuda::scatter_patches_backward(grad, index, grad_canvas, grad_patches, workspace,
                                       {patch_size, /*halo=*/0, stride}, reduce_of(mean),
                                       stream_of(stream));
      },
      ReleaseGil());
}

void bind_cuda_masked_ops(py::module_& m) {
  m.attr("channel_step") = cuda::channel_step();
  m.def(
      "masked_conv2d",
      [](const TensorView& x, const TensorView& weights, const TensorView& bias,
         const TensorView& mask, const TensorView& out, int64_t side, uintptr_t stream) {
        cuda::masked_conv2d(x, weights, bias, mask, out, side, stream_of(stream));
      },
      ReleaseGil());
  m.def("masked_block_packed", [](const TensorView& weights, int64_t outputs) {
    return cuda::masked_block_packed(weights.sizes[0], weights.sizes[1], outputs, weights.dtype);
  });
  m.def(
      "masked_block_pack",
      [](const TensorView& weights, const TensorView& collect_weight, const TensorView& dense,
         const TensorView& packed, uintptr_t stream) {
        cuda::masked_block_pack(weights, collect_weight, dense, packed, stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "masked_block",
      [](const TensorView& x, const TensorView& packed, const TensorView& bias,
         const TensorView& mask, const TensorView& features, const TensorView& out,
         uintptr_t stream) {
        cuda::masked_block(x, packed, bias, mask, features, out, stream_of(stream));
      },
      ReleaseGil());
}

void bind_cuda_routing(py::module_& m) {
  m.def("route_mlp_workspace", [](const TensorView& feature, int64_t lr_pixels, int64_t hr_pixels,
                                  int64_t classes, int64_t first_width, bool has_class_map) {
    return cuda::route_mlp_workspace(feature.dtype, lr_pixels, hr_pixels, classes, first_width,
                                     has_class_map);
  });
  m.def(
      "route_mlp",
      [](const TensorView& feature, const std::optional<TensorView>& class_map,
         const std::vector<std::tuple<TensorView, TensorView, TensorView, TensorView,
                                      std::vector<int64_t>>>& classes,
         const TensorView& rows, const TensorView& cols, const std::optional<TensorView>& image,
         const TensorView& out, const TensorView& workspace, uintptr_t stream) {
        std::vector<cuda::RouteClassView> views;
        for (const auto& [row_bias, col_bias, weights, bias, widths] : classes) {
          views.push_back({row_bias, col_bias, weights, bias, widths});
        }
        cuda::route_mlp(feature, class_map, views, rows, cols, image, out, workspace,
                        stream_of(stream));
      },
      ReleaseGil());
  m.def(
      "average_neighbors",
      [](const TensorView& image, const TensorView& class_map, int64_t min_heavy,
         int64_t first_heavy, const TensorView& out, uintptr_t stream) {
        cuda::average_neighbors(image, class_map, min_heavy, first_heavy, out, stream_of(stream));
      },
      ReleaseGil());
}

// (kind, inputs, numbers, (activation, slope, parameter of its slopes), order is tf, add, mul)
using StepTuple = std::tuple<std::string, std::vector<int64_t>, std::map<std::string, int64_t>,
                             std::tuple<std::string, double, int64_t>, bool, int64_t, int64_t>;

cuda::PatchProgram program_of(const std::vector<StepTuple>& steps, int64_t result,
                              std::vector<cuda::Sizes> parameters,
                              std::vector<cuda::Sizes> shapes) {
  cuda::PatchProgram program = {{}, result, std::move(parameters), std::move(shapes)};
  for (const auto& [kind, inputs, numbers, act, tf, add, mul] : steps) {
    const auto& [name, slope, slopes] = act;
    program.steps.push_back({kind, inputs, numbers, name, slope, slopes, tf, add, mul});
  }
  return program;
}

py::bytes bytes_of(const std::vector<int32_t>& words) {
  return py::bytes(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(int32_t));
}

void bind_cuda_programs(py::module_& m) {
  // A dict: obstacle, or None and what of PatchPlan its names say; lists of int32 as bytes.
  m.def(
      "plan_patch_program",
      [](const std::vector<StepTuple>& steps, int64_t result, std::vector<cuda::Sizes> parameters,
         std::vector<cuda::Sizes> shapes, int dtype, std::optional<int64_t> shared_bytes) {
        const cuda::PatchProgram program =
            program_of(steps, result, std::move(parameters), std::move(shapes));
        const auto type = static_cast<sparsesr::DType>(dtype);
        const cuda::PatchPlan plan = shared_bytes ? cuda::plan_program(program, type, *shared_bytes)
                                                  : cuda::plan_patch_program(program, type);
        py::dict made;
        made["obstacle"] = plan.obstacle.empty() ? py::object(py::none()) : py::cast(plan.obstacle);
        made["table"] = bytes_of(plan.table);
        py::list orders, vectors;
        for (const auto& order : plan.orders) orders.append(bytes_of(order));
        for (const auto& part : plan.vectors) {
          vectors.append(py::make_tuple(part.parameter, bytes_of(part.elements)));
        }
        made["orders"] = orders;
        made["weights"] = plan.weights;
        made["vectors"] = vectors;
        made["num_weights"] = plan.num_weights;
        return made;
      });
  m.def(
      "refine_patches",
      [](const TensorView& canvas, const TensorView& feature, const TensorView& index,
         const TensorView& plan, const TensorView& table, const TensorView& weights,
         const TensorView& vectors, int64_t patch_size, int64_t halo, int64_t group,
         uintptr_t stream) {
        cuda::refine_patches(canvas, feature, index, plan, table, weights, vectors, patch_size,
                             halo, group, stream_of(stream));
      },
      ReleaseGil());
}

// Elements of the int32 workspaces.
void bind_cuda_workspaces(py::module_& m) {
  m.def("gather_patches_backward_workspace", [](int64_t batch, int64_t height, int64_t width,
                                                int64_t patch_size, int64_t halo, int64_t stride) {
    return cuda::gather_patches_backward_workspace(batch, height, width,
                                                   {patch_size, halo, stride});
  });
  m.def("scatter_patches_workspace", [](int64_t batch, int64_t height, int64_t width,
                                        int64_t patch_size, int64_t stride, bool in_place) {
    return cuda::scatter_patches_workspace(batch, height, width, {patch_size, /*halo=*/0, stride},
                                           in_place);
  });
  m.def("scatter_patches_backward_workspace",
        [](int64_t batch, int64_t height, int64_t width, int64_t patch_size, int64_t stride) {
          return cuda::scatter_patches_backward_workspace(batch, height, width,
                                                          {patch_size, /*halo=*/0, stride});
        });
}

#endif

// What `sparsesr env` prints of the CUDA part; every entry is there whether or not it was compiled.
py::dict cuda_info() {
  py::dict info;
#ifdef SPARSESR_CUDA
  const sparsesr::CudaInfo cuda = sparsesr::cuda_info();
  info["compiled"] = true;
  info["architectures"] = SPARSESR_CUDA_ARCHS;
  info["runtime_version"] = cuda.runtime_version;
  info["driver_version"] = cuda.driver_version;
  info["device_count"] = cuda.device_count;
  info["error"] = cuda.error.empty() ? py::object(py::none()) : py::cast(cuda.error);
#else
  info["compiled"] = false;
  info["architectures"] = "";
  info["runtime_version"] = 0;
  info["driver_version"] = 0;
  info["device_count"] = 0;
  info["error"] = "built without nvcc or with SPARSESR_CUDA=0";
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native core of sparsesr; call it through sparsesr.ops.";
  m.attr("abi") = kAbi;
  m.attr("version") = SPARSESR_VERSION;
  m.attr("compiler") = SPARSESR_COMPILER;
#ifdef _OPENMP
  m.attr("openmp") = true;
#else
  m.attr("openmp") = false;
#endif

  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const sparsesr::TypeMismatch& mismatch) {
      PyErr_SetString(PyExc_TypeError, mismatch.what());
    }
  });

  m.def("cpu_isa", [] { return std::string(sparsesr::cpu_kernels().isa); });
  m.def("cpu_isas", &sparsesr::cpu_isas);
  m.def("set_cpu_isa", &sparsesr::set_cpu_isa);
  m.def("cuda_info", &cuda_info);
  py::module_ cpu_ops = m.def_submodule("cpu", "The ops on host memory.");
  bind_cpu_ops(cpu_ops);
#ifdef SPARSESR_CUDA
  py::module_ cuda_ops = m.def_submodule("cuda", "The ops on a GPU: queued, not waited for.");
  bind_cuda_ops(cuda_ops);
  bind_cuda_routing(cuda_ops);
  bind_cuda_programs(cuda_ops);
  bind_cuda_masked_ops(cuda_ops);
  bind_cuda_workspaces(cuda_ops);
#endif
}
