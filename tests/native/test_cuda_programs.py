"""Programs planned for the GPU kernel, and weights in its order: needs the CUDA part, no GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _cuda, _cuda_programs, _native

TEXT = """v1 = conv v0 weight=0 bias=1 pad=1 act=prelu:2
v2 = conv v1 weight=3 act=relu
v3 = deconv v2 weight=4 stride=2 pad=1
return v3"""
SHAPES = ((5, 3, 3, 3), (5,), (1,), (7, 5, 1, 1), (7, 2, 4, 4))
ROOM = 99 * 1024  # bytes of shared memory: sm_86


@pytest.fixture(autouse=True)
def _built() -> None:
    if not _native.available() or not _native.build_info()["cuda"]["compiled"]:
        pytest.skip("needs the CUDA part of the native module")


@pytest.mark.parametrize(
    ("text", "shape", "dtype", "room", "obstacle"),
    [
        (TEXT, (3, 6, 6), torch.float32, ROOM, None),
        (TEXT, (3, 6, 6), torch.bfloat16, ROOM, None),
        (TEXT, (3, 6, 6), torch.float64, ROOM, "values of float64"),
        (TEXT, (3, 6, 6), torch.float16, 2048, "shared memory for one patch, this GPU has 2048"),
        (TEXT, (3, 60, 60), torch.float16, ROOM, "shared memory for one patch"),
        ("v1 = mean v0\nreturn v1", (5000, 1, 1), torch.float16, ROOM, "5000 channels"),
        (
            "v1 = deconv v0 weight=4 stride=2 pad=1\nv2 = deconv v0 weight=4 stride=2 pad=1 add=v1"
            "\nreturn v2",
            (7, 4, 4),
            torch.float32,
            ROOM,
            "add= or mul= behind a deconv",
        ),
    ],
)
def test_what_the_kernel_does_not_run(
    text: str, shape: tuple[int, int, int], dtype: torch.dtype, room: int, obstacle: str | None
) -> None:
    got = _cuda.patch_program_obstacle(text, SHAPES, shape, dtype, room)
    assert got is None if obstacle is None else obstacle in str(got)


def _plan(text: str, weights: list[Tensor], shape: tuple[int, int, int], monkeypatch: Any) -> Any:
    planned = _cuda_programs._planned
    # A GPU's shared memory is not to be asked for.
    monkeypatch.setattr(_cuda_programs, "_planned", lambda *a: planned(*a[:-1], ROOM))
    _cuda_programs._plan.cache_clear()
    shapes = tuple(tuple(w.shape) for w in weights)
    return _cuda_programs._plan(text, shapes, shape, weights[0].dtype, torch.device("cpu"))


def test_weights_in_the_order_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32: [sets of 16 outputs][steps of 4 inputs][4][16], zeros where there are none."""
    weight, bias = torch.randn(18, 6, 1, 1), torch.randn(18)
    text = "v1 = conv v0 weight=0 bias=1\nreturn v1"
    plan = _plan(text, [weight, bias], (6, 2, 2), monkeypatch)
    packed = _cuda_programs._packed(plan, [weight, bias], "test", weight).view(torch.float32)
    whole = torch.zeros(32, 8)
    whole[:18, :6] = weight[:, :, 0, 0]
    wanted = whole.view(2, 16, 8).transpose(1, 2).reshape(-1)
    assert torch.equal(packed[: wanted.numel()], wanted)
    assert not packed[wanted.numel() : plan.num_weights].any()
    assert torch.equal(packed[plan.num_weights :], torch.cat([bias, torch.zeros(14)]))


def test_structural_zeros_of_a_deconv_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """9x9 of stride 4 has 2 or 3 taps a direction: 4, 6 or 9 of the 9 of its sub-pixel form."""
    weight = torch.randn(16, 1, 9, 9)
    text = "v1 = deconv v0 weight=0 stride=4 pad=4\nreturn v1"
    plan = _plan(text, [weight.half()], (16, 4, 4), monkeypatch)
    # One set of 16 outputs, all pixels of the shuffle: all 9 taps of 16 inputs.
    assert plan.orders[0].numel() == 9 * 16 * 16
    assert int((plan.orders[0] > 0).sum()) == weight.numel()


def test_equal_layers_share_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [torch.randn(8, 8, 3, 3) for _ in range(3)]
    lines = [f"v{i + 1} = conv v{i} weight={i} pad=1" for i in range(3)]
    plan = _plan("\n".join([*lines, "return v3"]), weights, (8, 6, 6), monkeypatch)
    assert [parameter for parameter, _ in plan.weights] == [0, 1, 2]
    assert len(plan.orders) <= 2  # the last one is written to the canvas
