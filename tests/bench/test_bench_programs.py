"""What the benches of programs are made of: the programs, the counts, the peak, the torch path."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import _executor
import _macs
import _peak
import _programs
import bench_run_program
import gather_once
import pytest
import torch
import torch.nn.functional as F
from _networks import forms

from sparsesr import create_model, ops
from sparsesr.engine import cache, choice
from sparsesr.ops import _native

PROGRAMS = {
    "features": (_programs.fsrcnn_features, (3, 9, 11)),
    "base": (_programs.fsrcnn_base, (3, 9, 11)),
    "refine": (_programs.fsrcnn_refine, (12, 6, 6)),
    "dnet": (_programs.fsrcnn_dnet, (3, 7, 8)),
    "conv chain": (_programs.conv_chain, (64, 6, 6)),
    "residual chain": (_programs.residual_chain, (64, 6, 6)),
    "mask": (lambda: _programs.mask_convs(12), (12, 8, 9)),
    "carn": (_programs.carn_encoder, (3, 9, 8)),
}


@pytest.mark.parametrize("name", PROGRAMS)
@torch.no_grad()
def test_a_program_computes_its_module(name: str) -> None:
    torch.manual_seed(0)
    build, shape = PROGRAMS[name]
    program, x = build(), torch.randn(2, *shape)
    got = ops.run_program(x, program.weights, program.text)
    torch.testing.assert_close(got, program.module(x), atol=1e-5, rtol=1e-5)
    if isinstance(program.module, torch.nn.Module):
        assert _macs.call_macs(program.module, x) == 2 * program.macs(shape)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "size"), [(3, 1, 1, 6), (3, 1, 0, 6), (5, 1, 2, 3), (3, 2, 1, 7)]
)
def test_useful_taps_of_a_convolution(kernel: int, stride: int, pad: int, size: int) -> None:
    """Convolving ones with ones adds up the taps that read a pixel."""
    ones = F.conv2d(
        torch.ones(1, 1, size, size), torch.ones(1, 1, kernel, kernel), None, stride, pad
    )
    assert _macs.conv_hits(size, kernel, stride, pad) ** 2 == ones.sum()


@pytest.mark.parametrize(("kernel", "stride", "size"), [(9, 4, 4), (9, 4, 1), (9, 2, 5), (3, 1, 4)])
def test_useful_taps_of_a_transposed_convolution(kernel: int, stride: int, size: int) -> None:
    """Far from the border 9x9 at stride 4 is 81 multiply-adds for 16 pixels, not 9 * 16."""
    pad = (kernel - 1) // 2
    ones = torch.ones(1, 1, size, size), torch.ones(1, 1, kernel, kernel)
    image = F.conv_transpose2d(*ones, None, stride, pad, stride - kernel + 2 * pad)
    assert image.shape[-1] == stride * size
    assert _macs.deconv_hits(size, kernel, stride, pad) ** 2 == image.sum()


def test_useful_macs_of_a_network() -> None:
    """Patches have padding inside; without any, the count is that of `complexity`."""
    net, lr = create_model("fsrcnn-mga-x4").eval(), torch.rand(1, 3, 12, 16)
    patch = _programs.fsrcnn_refine().macs((12, 6, 6))
    counts = [_macs.call_macs(net, lr, k=k) for k in (1, 2, 5)]
    assert counts[1] - counts[0] == patch
    assert counts[2] - counts[1] == 3 * patch
    conv = torch.nn.Conv2d(3, 5, 3)
    assert _macs.call_macs(conv, torch.rand(2, 3, 6, 7)) == 2 * 3 * 5 * 9 * 4 * 5


@pytest.mark.parametrize("pairs", [False, True])
def test_the_peak_loop(pairs: bool) -> None:
    """It counts what it did; where pairs of bfloat16 have no instruction there is nothing."""
    if not _native.available():
        pytest.skip(f"native module: {_native.load_error()}")
    native = _native._loaded()
    before = native.cpu_isa()
    try:
        for isa in native.cpu_isas():
            native.set_cpu_isa(isa)
            once, twice = (native.cpu.fma_peak(n, pairs) for n in (1, 2))
            assert twice == 2 * once
            assert (once > 0) == (not pairs or isa == "avx512bf16")
    finally:
        native.set_cpu_isa(before)
    with pytest.raises(ValueError, match="fma_peak: expected iterations >= 0, got -1"):
        native.cpu.fma_peak(-1, pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_a_number(dtype: torch.dtype) -> None:
    if not _native.available():
        pytest.skip(f"native module: {_native.load_error()}")
    from _protocol import interleave

    loop = _peak.peak_loop(dtype)
    assert loop is not None
    timings = interleave({_peak.NAME: loop[0]}, rounds=2, block=1e-4, clock="wall")
    gflops = _peak.peak_gflops(timings, loop[1], threads=1)
    assert math.isfinite(gflops)
    assert gflops > 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 12), (9, 14), (4, 4)])
@pytest.mark.parametrize("chunk", [None, 2])
@torch.no_grad()
def test_gather_once(size: tuple[int, int], layout: torch.memory_format, chunk: int | None) -> None:
    """The path of plain torch is that of our ops, on borders and on maps that p does not divide."""
    torch.manual_seed(0)
    x = torch.randn(1, 12, *size).contiguous(memory_format=layout)
    rows, cols = ops.patch_grid(*size, 4)
    index = torch.arange(rows * cols, dtype=torch.int32)[None]
    where = index.flatten().long()
    windows = gather_once.gather(x, where, 4, 1)
    assert torch.equal(windows, ops.gather_patches(x, index, 4, 1))
    program = _programs.fsrcnn_refine()
    canvas, room = gather_once.roomy_canvas(3, 4 * size[0], 4 * size[1], 16, layout)
    gather_once.refine(room, x, where, program.module, 4, 1, chunk)
    want = torch.zeros_like(canvas)
    ops.refine_patches_(want, x, index, program.weights, program.text, 4, 1)
    torch.testing.assert_close(canvas, want, atol=1e-5, rtol=1e-5)


def test_the_executor_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_EXECUTOR", "fused")
    for name in ("off", "layered", "auto"):
        wanted = None if name == "auto" else name
        assert _executor.run_by(name, lambda: os.environ.get("SPARSESR_EXECUTOR"))() == wanted
        assert os.environ["SPARSESR_EXECUTOR"] == "fused"
    with pytest.raises(ValueError, match="expected one of auto, layered, fused, off, got 'fast'"):
        _executor.run_by("fast", int)()


def test_forms_of_a_family() -> None:
    """The -light form differs in its coarse head alone."""
    nets = forms("fsrcnn", 4)
    with torch.no_grad():
        assert nets.light(torch.rand(1, 3, 9, 10), k=2).shape == (1, 3, 36, 40)
    assert set(nets.light.state_dict()) != set(nets.mga.state_dict())


def _rows(file: str, table: str) -> list[dict[str, str]]:
    results = Path(__file__).parents[2] / "bench" / "results" / file
    rows: list[dict[str, str]] = json.loads(results.read_text(encoding="utf-8"))["tables"][table][
        "rows"
    ]
    return rows


def test_the_choice_of_programs_is_what_was_measured() -> None:
    """Every program that was faster than torch is chosen, and none that was slower."""
    for row in _rows(choice.EVIDENCE[0], "run_program"):
        work = (bench_run_program.NETS | bench_run_program.STEPS)[row["what"]]
        program = work.build(0)
        shapes = tuple(tuple(w.shape) for w in program.weights)
        parsed = ops.parse_program(program.text)
        facts = choice.facts_of(parsed, shapes, (work.channels, 8, 8), pixels=64)
        assert choice.stream_map(facts, "cpu") == (float(row["x torch"][:-1]) >= 1), row
    patches = _rows(choice.EVIDENCE[0], "refine_patches")
    assert len(patches) == 15
    for rival in ("x chunked", "x layered"):
        assert all(float(row[rival][:-1]) > 1 for row in patches)


@pytest.mark.parametrize("family", ["fsrcnn", "pan", "srresnet"])
def test_the_choice_for_features_is_what_was_measured(family: str) -> None:
    """Of these D-Nets the features ran as programs in that run; of two, the rest cannot."""
    row = next(r for r in _rows(choice.EVIDENCE[1], "mga_families") if r["family"] == family)
    facts = cache.for_maps(create_model(f"{family}-dnet", scale=4).base, 3, "features").facts
    assert facts is not None
    faster = float(row["own ms"]) < float(row["lean ms"])
    assert choice.stream_map(facts, "cpu") == faster
