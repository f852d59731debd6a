"""``refine_patches_`` in Triton: what the tests of the ops do not reach."""

from __future__ import annotations

import importlib
from collections import Counter
from types import ModuleType

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _gpu_packing, _triton, reference

# Two convolutions, the first from the map, the shuffle of the second into the image.
SMALL = """v1 = conv v0 weight=0 bias=1 pad=1 act=relu
v2 = conv v1 weight=2 pad=0 act=leaky:0.5
v3 = shuffle v2 factor=2
return v3"""


def _whole(*shape: int, share: float = 1.0, seed: int = 0) -> Tensor:
    """Small whole numbers, of which float32 sums are exact; most are zero where ``share`` says."""
    rng = torch.Generator().manual_seed(seed)
    kept = torch.rand(shape, generator=rng) < share
    return torch.randint(-2, 3, shape, generator=rng).float() * kept


def _arguments(channels: int = 3, middle: int = 5, outputs: int = 12) -> list:
    """Canvas, feature, index, weights, program, patch size, halo: 9x14 px, five of 12 patches."""
    index = torch.tensor([[0, 3, 5, 10, 11], [1, 2, 6, 8, 9]], dtype=torch.int32)
    weights = [
        _whole(middle, channels, 3, 3, share=0.3),
        _whole(middle, seed=1),
        _whole(outputs, middle, 3, 3, share=0.3, seed=2),
    ]
    canvas = torch.full((2, outputs // 4, 18, 28), 7.0)
    return [canvas, _whole(2, channels, 9, 14), index, weights, SMALL, 4, 1]


def _run(arguments: list, device: torch.device) -> Tensor:
    there = [_moved(a, device) for a in arguments]
    there[0] = there[0].clone()
    _triton.refine_patches_(*there)
    return there[0].cpu()


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, list):
        return [v.to(device) for v in value]
    return value.to(device) if isinstance(value, Tensor) else value


def _expected(arguments: list) -> Tensor:
    canvas = arguments[0].clone()
    reference.refine_patches_(canvas, *arguments[1:])
    return canvas


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many convolutions, gathers and scatters were launched."""
    count: Counter[str] = Counter()

    def spy(module: str, name: str) -> None:
        kernel = importlib.import_module(f"sparsesr.kernels.{module}")
        function = getattr(kernel, name)
        monkeypatch.setattr(kernel, name, lambda *a: count.update([name]) or function(*a))

    spy("refine_patches", "refine_patches_conv")
    spy("gather_patches", "gather_patches")
    spy("scatter_patches", "scatter_patches")
    return count


@pytest.mark.parametrize("sizes", [(3, 5, 12), (17, 20, 4), (4, 70, 8)], ids=str)
def test_several_programs(
    device: torch.device, sizes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a program end within a patch; channels fill no block, or several."""
    kernel = importlib.import_module("sparsesr.kernels.refine_patches")
    monkeypatch.setattr(kernel, "INTERPRETED_ROWS", 128)
    given = _arguments(*sizes)
    assert torch.equal(_run(given, device), _expected(given))


def test_a_shuffle_costs_nothing(device: torch.device, launched: Counter[str]) -> None:
    """The first convolution gathers, the last one scatters."""
    given = _arguments()
    assert torch.equal(_run(given, device), _expected(given))
    assert launched == {"refine_patches_conv": 2}


@pytest.mark.parametrize(
    ("program", "launches"),
    [
        # Who reads the windows beside a convolution needs them in memory.
        ("v1 = conv v0 weight=0 pad=1 add=v0\nv2 = crop v1 height=4 width=4\nreturn v2",
         {"gather_patches": 1, "refine_patches_conv": 1, "scatter_patches": 1}),
        # Two convolutions gather; the sum is one's epilogue, and it stores into the image.
        ("v1 = conv v0 weight=0 pad=0\nv2 = conv v0 weight=0 pad=0 add=v1 mul=v1\nreturn v2",
         {"refine_patches_conv": 2}),
        # A shuffle of what something else reads, too, is a step of its own.
        ("v1 = conv v0 weight=1 pad=0\nv2 = shuffle v1 factor=2\nv3 = mean v1\n"
         "v4 = slice v3 first=0 count=1\nv5 = mul v2 v4\nreturn v5",
         {"refine_patches_conv": 1, "scatter_patches": 1}),
        # What is enlarged within the program is a convolution's store as well.
        ("v1 = conv v0 weight=1 pad=1\nv2 = shuffle v1 factor=2 order=tf\n"
         "v3 = conv v2 weight=2 stride=3 pad=1\nreturn v3", {"refine_patches_conv": 2}),
    ],
)  # fmt: skip
def test_launches(
    device: torch.device, launched: Counter[str], program: str, launches: dict[str, int]
) -> None:
    given = _arguments()
    given[3] = [_whole(3, 3, 3, 3), _whole(12, 3, 3, 3, seed=1), _whole(3, 3, 3, 3, seed=2)]
    given[4] = program
    scale = 2 if "v5" in program else 1
    given[0] = given[0][:, :, : scale * 9, : scale * 14]
    assert torch.allclose(_run(given, device), _expected(given), rtol=1e-6, atol=1e-5)
    assert launched == launches


def test_indices_outside_the_grid(device: torch.device, kernels: dict[str, ModuleType]) -> None:
    """They are read as zeros and written nowhere; twice the same patch is written twice."""
    given = _arguments()
    launch, weights = kernels["refine_patches"], given[3]
    index = torch.tensor([[-1, 12, 5], [2**31 - 1, -(2**31), 11]], dtype=torch.int32)
    twice = torch.tensor([[5, 5, 5], [11, 11, 11]], dtype=torch.int32)
    middle = launch.Geometry((6, 6), (6, 6), 3, 1, 1, 1)
    last = launch.Geometry((6, 6), (4, 4), 3, 1, 0, 1, 2)
    made = []
    for stray in (index, twice):
        canvas = given[0].to(device, copy=True)
        places = launch.Places(stray.to(device), (3, 4), 4, 1)
        values = torch.empty(6, 5, 6, 6, device=device, memory_format=torch.channels_last)
        relu = launch.Epilogue(weights[1].to(device), act="relu")
        leaky = launch.Epilogue(act="leaky", slope=0.5)
        filters = [launch.pack(weights[i].to(device)) for i in (0, 2)]
        feature = given[1].to(device)
        launch.refine_patches_conv(
            feature, filters[0], values, middle, relu, places, gathers=True, scatters=False
        )
        launch.refine_patches_conv(
            values, filters[1], canvas, last, leaky, places, gathers=False, scatters=True
        )
        made.append(canvas.cpu())
    given[2] = torch.tensor([[5], [11]], dtype=torch.int32)
    assert torch.equal(made[0], _expected(given))
    assert torch.equal(made[1], _expected(given))


def test_packed_weights_are_kept(
    device: torch.device, kernels: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """... until one changes, in place or by another tensor."""
    given = [_moved(a, device) for a in _arguments()]
    packed: list[int] = []
    pack = kernels["refine_patches"].pack
    monkeypatch.setattr(kernels["refine_patches"], "pack", lambda w: packed.append(0) or pack(w))
    monkeypatch.setattr(_gpu_packing, "_cache", _gpu_packing.Cache())

    def calls() -> int:
        _triton.refine_patches_(*given)
        return len(packed)

    assert [calls(), calls()] == [2, 2]
    given[3][2].add_(1)
    assert [calls(), calls()] == [4, 4]
    given[3][0] = given[3][0].clone()
    assert [calls(), calls()] == [6, 6]


def test_tanh_of_small_numbers(device: torch.device) -> None:
    """Not one minus almost one: the relative error is that of float32."""
    x = torch.logspace(-6, 1, 64).reshape(1, 1, 8, 8)
    x = torch.cat([x, -x], 1)
    weights = [torch.eye(2)[:, :, None, None]]
    index = torch.tensor([[0]], dtype=torch.int32)
    given = [
        torch.zeros(1, 2, 8, 8),
        x,
        index,
        weights,
        "v1 = conv v0 weight=0 act=tanh\nreturn v1",
    ]
    got = _run([*given, 8, 0], device)
    torch.testing.assert_close(got.double(), x.double().tanh(), rtol=1e-6, atol=0)


def test_not_a_number(device: torch.device) -> None:
    given = _arguments()
    given[1][0, 1, 4, 5] = float("nan")
    got, expected = _run(given, device), _expected(given)
    assert torch.equal(got.isnan(), expected.isnan())
    assert got.isnan().any()
