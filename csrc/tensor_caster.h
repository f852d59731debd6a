// Tensors from Python: tuples (pointer, dtype, device, sizes, strides) that sparsesr/ops/_module.py
// builds become views.
#pragma once

#include <pybind11/pybind11.h>

#include "common/tensor_view.h"

namespace sparsesr {

inline bool read_extents(PyObject* tuple, int64_t* out, int rank) {
  for (int d = 0; d < rank; ++d) {
    out[d] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, d));
    if (out[d] == -1 && PyErr_Occurred()) return false;
  }
  return true;
}

inline bool read_view(PyObject* source, TensorView& view) {
  if (!PyTuple_Check(source) || PyTuple_GET_SIZE(source) != 5) return false;
  PyObject* sizes = PyTuple_GET_ITEM(source, 3);
  PyObject* strides = PyTuple_GET_ITEM(source, 4);
  if (!PyTuple_Check(sizes) || !PyTuple_Check(strides)) return false;
  const Py_ssize_t rank = PyTuple_GET_SIZE(sizes);
  if (rank > TensorView::kMaxRank || PyTuple_GET_SIZE(strides) != rank) return false;
  view.data = PyLong_AsVoidPtr(PyTuple_GET_ITEM(source, 0));
  const long dtype = PyLong_AsLong(PyTuple_GET_ITEM(source, 1));
  view.device = static_cast<int>(PyLong_AsLong(PyTuple_GET_ITEM(source, 2)));
  if (PyErr_Occurred() || dtype < 0 || dtype >= kNumDTypes) return false;
  view.dtype = static_cast<DType>(dtype);
  view.rank = static_cast<int>(rank);
  return read_extents(sizes, view.sizes, view.rank) &&
         read_extents(strides, view.strides, view.rank);
}

}  // namespace sparsesr

namespace pybind11::detail {

template <>
struct type_caster<sparsesr::TensorView> {
  PYBIND11_TYPE_CASTER(sparsesr::TensorView, const_name("tuple[int, int, int, tuple, tuple]"));

  bool load(handle source, bool) {
    const bool read = sparsesr::read_view(source.ptr(), value);
    if (!read) PyErr_Clear();
    return read;
  }
};

}  // namespace pybind11::detail
