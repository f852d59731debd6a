"""Programs in the native module: every instruction set, threads, tiles, layouts, bad tables."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparsesr.ops import _cpu_programs, _native, patch_grid, reference

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
from program_cases import NETS, Net, fsrcnn

each_net = pytest.mark.parametrize("net", NETS, ids=str)
FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture
def nan_memory() -> object:
    """Memory that torch hands out holds NaN: what nobody wrote must not be read."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def deep(layers: int, channels: int) -> Net:
    """Layers of 3x3 on a skip that is read again at the end: rings that hold many rows."""
    net, x = Net(f"deep-{layers}x{channels}", channels), "v0"
    for _ in range(layers):
        x = net.conv(x, channels, channels, 3, "act=relu")
    net.step(f"add {x} v1")
    return net


def patches_of(net: Net, batch: int, size: tuple[int, int], count: int) -> tuple[Tensor, Tensor]:
    """A feature map, and ``count`` patches of 4 px in each image."""
    rng = torch.Generator().manual_seed(1)
    feature = torch.randn(batch, net.channels, *size, generator=rng)
    cells = -(-size[0] // 4) * -(-size[1] // 4)
    index = [torch.randperm(cells, generator=rng)[:count].sort()[0] for _ in range(batch)]
    return feature, torch.stack(index).int()


def open_pixels(index: Tensor, made: Tensor, size: tuple[int, int], patch_size: int) -> Tensor:
    """Which elements of ``made`` no patch of ``index`` [B, k] covers; ``size``: of the map."""
    grid = patch_grid(*size, patch_size)
    hidden = torch.zeros(index.shape[0], math.prod(grid)).scatter_(1, index, 1)
    side = patch_size * (made.shape[2] // size[0])
    hidden = hidden.view(-1, 1, *grid).repeat_interleave(side, 2).repeat_interleave(side, 3)
    return (hidden[:, :, : made.shape[2], : made.shape[3]] == 0).expand_as(made)


def close(got: Tensor, want: Tensor) -> None:
    """Within what float32 sums in another order may differ."""
    torch.testing.assert_close(
        got.double(), want.double(), rtol=0, atol=1e-5 * float(want.abs().max() + 1)
    )


@each_net
def test_patches_on_every_instruction_set(isa: str, net: Net, nan_memory: None) -> None:
    feature, index = patches_of(net, 2, (10, 15), 7)
    made = reference.run_program(torch.zeros(1, net.channels, 6, 6), net.weights, net.text)
    if made.shape[2] % 4 != 0:
        pytest.skip("its result is no patch of whole pixels")
    scale = made.shape[2] // 4
    canvas = torch.zeros(2, made.shape[1], 10 * scale, 15 * scale)
    want = canvas.clone()
    reference.refine_patches_(want, feature, index, net.weights, net.text, 4, 1)
    for memory_format in FORMATS:
        got = canvas.clone(memory_format=memory_format)
        arguments = (index, net.weights, net.text, 4, 1)
        _native.refine_patches_(got, feature.contiguous(memory_format=memory_format), *arguments)
        close(got, want)


@pytest.mark.parametrize("width", [1, 7, 16, 61])
def test_maps_on_every_instruction_set(isa: str, width: int, nan_memory: None) -> None:
    net = deep(3, 5)
    x = torch.randn(2, 5, 6, width, generator=torch.Generator().manual_seed(2))
    want = reference.run_program(x, net.weights, net.text)
    for memory_format in FORMATS:
        close(
            _native.run_program(x.contiguous(memory_format=memory_format), net.weights, net.text),
            want,
        )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("patch_size", [1, 3, 4, 8])
def test_what_is_not_covered_keeps_its_bits(
    isa: str, share: float, patch_size: int, nan_memory: None
) -> None:
    """A few pixels of a row, scattered, are computed in vectors that begin anywhere."""
    rng = torch.Generator().manual_seed(4)
    for net in (deep(2, 5), fsrcnn(12, 4, whole=True)):
        for batch, height, width in ((1, 9, 230), (2, 5, 21), (3, 1, 1), (1, 6, 1500)):
            x = torch.randn(batch, net.channels, height, width, generator=rng)
            cells = math.prod(patch_grid(height, width, patch_size))
            index = torch.stack(
                [
                    torch.randperm(cells, generator=rng)[: math.ceil(share * cells)]
                    for _ in range(batch)
                ]
            )
            for memory_format in FORMATS:
                x = x.contiguous(memory_format=memory_format)
                want = _native.run_program(x, net.weights, net.text)
                got = _native.run_program(x, net.weights, net.text, index.int(), patch_size)
                seen = open_pixels(index, want, (height, width), patch_size)
                assert torch.equal(got[seen], want[seen])


@pytest.mark.parametrize("memory_format", FORMATS, ids=["NCHW", "NHWC"])
def test_strips_and_bands_change_no_bit(threads: None, memory_format: torch.memory_format) -> None:
    """Rings of a map this wide are cut in strips; several threads cut bands as well."""
    net = deep(24, 16)
    x = torch.randn(1, 16, 60, 1500, generator=torch.Generator().manual_seed(3))
    x = x.contiguous(memory_format=memory_format)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append(_native.run_program(x, net.weights, net.text))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    close(found[0], reference.run_program(x, net.weights, net.text))
    part = _native.run_program(x[:, :, :, :700].contiguous(), net.weights, net.text)
    assert torch.equal(part[:, :, :, :600], found[0][:, :, :, :600])


@pytest.mark.parametrize("table", range(6))
def test_a_broken_table_is_refused(table: int) -> None:
    """Numbers far outside are found before a kernel follows them."""
    native, net = importlib.import_module("sparsesr._native"), deep(2, 3)
    x, out = torch.zeros(1, 3, 4, 5), torch.zeros(1, 3, 4, 5)  # held: a view is but an address
    whole = _cpu_programs._assembled(net.weights, net.text, x.dtype, (3, 1, 1), is_map=True)
    tables = list(whole.tables_of_map(4, 5))
    arguments = (
        _native._view("test", "weights", whole.constants),
        None,
        1,
        _native._view("test", "out", out),
        1,
    )
    view = _native._view("test", "x", x)
    native.cpu.run_program(view, tuple(tables), *arguments)
    for broken in (b"\x7f" * len(tables[table]), tables[table][:-3]):
        with pytest.raises(ValueError, match="run_program: "):
            native.cpu.run_program(
                view, (*tables[:table], broken, *tables[table + 1 :]), *arguments
            )
