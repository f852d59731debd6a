"""Every op passes ``opcheck``: schema, fake tensors, autograd registration, AOT dispatch."""

from __future__ import annotations

import pytest
import routing_cases
import torch
from torch.library import opcheck

from sparsesr import ops
from sparsesr._backend import _find

MASK = torch.rand(2, 3, 4)
INDEX = torch.tensor([[0, 5, 11], [2, 3, 7]], dtype=torch.int32)


def _x(layout: torch.memory_format, grad: bool) -> torch.Tensor:
    return torch.randn(2, 3, 9, 14).contiguous(memory_format=layout).requires_grad_(grad)


def _samples(layout: torch.memory_format, grad: bool) -> dict[str, tuple]:
    x = _x(layout, grad)
    patches = torch.randn(6, 3, 4, 4).contiguous(memory_format=layout).requires_grad_(grad)
    halo = torch.randn(6, 3, 6, 6).contiguous(memory_format=layout).requires_grad_(grad)
    kernels = [torch.randn(3, 3, 3, 3).requires_grad_(grad) for _ in range(2)]
    collect = torch.randn(4, 6, 1, 1).requires_grad_(grad)
    case = routing_cases.Case(2, 3, (9, 14), (18, 28), 2, ((4,), (5, 2)))
    routed = routing_cases.inputs(case)
    routed.feature, routed.image = x, _x(layout, grad)
    routed = routed.tracked() if grad else routed
    dense, pixels = torch.rand(2, 3) > 0.5, torch.rand(2, 1, 9, 14) > 0.5
    program = "v1 = conv v0 weight=0 pad=1 act=relu\nv2 = conv v1 weight=1 pad=1 add=v0\nreturn v2"
    valid = program.replace("weight=1 pad=1 add=v0", "weight=1")
    fixed = [kernel.detach() for kernel in kernels]
    return {
        "select_patches": (MASK, 3, True),
        "gather_patches": (x, INDEX, 4, 1, 4),
        "gather_patches_backward": (halo, INDEX, 9, 14, 4, 1, 4),
        "select_gather_patches": (MASK, x, 3, 4, 1, 4, True),
        "scatter_patches": (x, patches, INDEX, 4, 4, "replace"),
        "scatter_patches_": (x.detach().clone(), patches.detach(), INDEX, 4, 4, "mean"),
        "scatter_patches_backward": (x, INDEX, 4, 4, "mean"),
        "masked_conv2d": (x, kernels[0], torch.randn(3).requires_grad_(grad), pixels),
        "masked_block": (x, kernels, collect, None, dense, pixels),
        "average_neighbors": (x, routed.class_map[:, :9, :14].contiguous(), 1, 1),
        "route_mlp": routed.flat(),
        "run_program": (x, kernels, program, None, 1),
        "refine_patches_": (x.detach().clone(), x.detach(), INDEX, fixed, valid, 4, 1),
    }


@pytest.mark.parametrize("grad", [False, True], ids=["plain", "grad"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", list(_samples(torch.contiguous_format, False)))
def test_opcheck(backend: str, name: str, layout: torch.memory_format, grad: bool) -> None:
    if backend not in ("reference", "cpu"):
        pytest.skip("samples are CPU tensors")
    if _find(backend, name) is None:
        pytest.skip(f"backend {backend} does not implement {name}")
    opcheck(getattr(torch.ops.sparsesr, name).default, _samples(layout, grad)[name])


def test_every_registered_op_is_checked() -> None:
    registered = {
        str(s.name).split("::")[1]
        for s in torch._C._jit_get_all_schemas()
        if str(s.name).startswith("sparsesr::")
    }
    assert registered == set(_samples(torch.contiguous_format, False))


def test_public_names() -> None:
    registered = {n for n in _samples(torch.contiguous_format, False) if "backward" not in n}
    others = {"patch_grid", "PixelMLP", "PROGRAMS", "Program", "parse_program"}
    assert registered | others == set(ops.__all__)
