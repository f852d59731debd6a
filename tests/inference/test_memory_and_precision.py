"""Short memory, half precision and the mean over symmetries."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sparsesr
from sparsesr.inference import Upscaler, tiled
from sparsesr.inference.memory import available_memory, bytes_per_pixel, is_out_of_memory

CPU_TEXT = "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB"


class Limited(nn.Module):
    """A network that has memory for so many LR pixels at a time."""

    scale = 2
    receptive_field = 3

    def __init__(self, pixels: int, error: Exception) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.pixels, self.error = pixels, error
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        if lr.shape[0] * lr.shape[2] * lr.shape[3] > self.pixels:
            raise self.error
        self.sizes.append(tuple(lr.shape))
        return self.conv(lr).repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError(CPU_TEXT), torch.cuda.OutOfMemoryError("CUDA out of memory.")],
)
@pytest.mark.parametrize("tile", ["auto", 0, 48])
def test_tiles_are_halved(error: Exception, tile: Any, caplog: pytest.LogCaptureFixture) -> None:
    net, lr = Limited(800, error), torch.rand(1, 3, 64, 70)
    up = Upscaler(net, tile=tile)
    sr = up.run(lr)
    assert "out of memory" in caplog.text
    assert "trying tiles of" in caplog.text
    net.pixels = 10**6
    torch.testing.assert_close(sr, Upscaler(net, tile=0).run(lr), atol=1e-6, rtol=0)
    caplog.clear()
    up.run(lr)  # it has learnt what fits
    assert not caplog.text


def test_a_batch_is_divided_first(caplog: pytest.LogCaptureFixture) -> None:
    net = Limited(400, MemoryError())
    assert Upscaler(net).run(torch.rand(3, 3, 20, 20)).shape == (3, 3, 40, 40)
    assert net.sizes == [(1, 3, 20, 20)] * 3
    assert "trying tiles of 20" in caplog.text


def test_the_smallest_tile() -> None:
    net = Limited(10, RuntimeError(CPU_TEXT))
    with pytest.raises(RuntimeError, match=r"out of memory even in tiles of 17 LR pixels, .*70x64"):
        Upscaler(net).run(torch.rand(1, 3, 64, 70))


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes do not match"):
        Upscaler(Limited(10, RuntimeError("shapes do not match"))).run(torch.rand(1, 3, 64, 70))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_auto_chooses_by_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    net, lr, done = sparsesr.create_model("fsrcnn-mga-x2").eval(), torch.rand(1, 3, 80, 90), []
    x = lr.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        each = bytes_per_pixel(net, x, {"budget": 0.1})
        assert each > 4 * 3 * (1 + 4)  # the image at the least
    want = Upscaler(net, tile=0).run(lr, budget=0.1)
    # Twice as much as it needs: whole; less: tiles, and all of them a second time.
    for pixels, tiles in ((80 * 90 * 3, 1), (64 * 64 * 2, 2 * 6), (1, 2 * 30)):
        monkeypatch.setattr(tiled, "available_memory", lambda _, n=pixels: int(n * each))
        done.clear()
        sr = Upscaler(net, progress=lambda *now: done.append(now)).run(lr, budget=0.1)
        assert done[-1] == (tiles, tiles)
        torch.testing.assert_close(sr, want, atol=1e-5, rtol=0)
    assert available_memory(torch.device("cpu")) > 0


def test_a_limit_of_the_process_is_known() -> None:
    code = (
        "import resource, torch; from sparsesr.inference.memory import available_memory as get\n"
        "pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages + 2**26,) * 2)\n"
        "print(get(torch.device('cpu')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**25 < int(done.stdout) <= 2**26


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(precision: str, caplog: pytest.LogCaptureFixture) -> None:
    net = sparsesr.create_model("fsrcnn-mga-x2").eval()
    lr = torch.rand(1, 3, 20, 24)
    up = Upscaler(net, budget=1.0, precision=precision, tile=16)
    sr = up.run(lr)
    assert sr.dtype == up.dtype != torch.float32
    assert next(net.parameters()).dtype == torch.float32  # the user's is as it was
    torch.testing.assert_close(sr.float(), Upscaler(net, budget=1.0).run(lr), atol=0.1, rtol=0.1)
    assert not caplog.text


@pytest.mark.parametrize("given", ["float", "half"])
def test_what_overflows_is_computed_in_float32(
    given: str, caplog: pytest.LogCaptureFixture
) -> None:
    net = nn.Conv2d(3, 3, 1)
    nn.init.constant_(net.weight, 6e4)  # three of them are more than float16 can hold
    net = net.half() if given == "half" else net
    lr = torch.ones(1, 3, 20, 24)
    up = Upscaler(net, precision="fp16")
    sr = up.run(lr)
    assert sr.dtype == torch.float32
    assert bool(torch.isfinite(sr).all())
    assert "NaN or infinite values in torch.float16; computed again in float32" in caplog.text
    assert np.isfinite(up(lr[0].permute(1, 2, 0).numpy())).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [("fsrcnn-mga-x2", {"k": 9}), ("fsrcnn-dnet-x2", {}), ("fsrcnn-pcsr-x2", {"scale": 2.5})],
)
def test_the_mean_over_symmetries(name: str, options: dict[str, Any]) -> None:
    net, lr = sparsesr.create_model(name).eval(), torch.rand(1, 3, 18, 25)
    plain, up = Upscaler(net, **options), Upscaler(net, **options, tta=True)
    sr = up.run(lr)
    views = []
    for turns in range(4):
        for mirror in (False, True):
            view = torch.rot90(lr, turns, (2, 3))
            out = plain.run(view.flip(3) if mirror else view)
            views.append(torch.rot90(out.flip(3) if mirror else out, -turns, (2, 3)))
    torch.testing.assert_close(sr, torch.stack(views).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(up.run(lr.flip(2)).flip(2), sr, atol=1e-5, rtol=0)
    if name == "fsrcnn-mga-x2":
        out = up.run(lr, return_details=True)
        torch.testing.assert_close(out.sr, sr, atol=1e-5, rtol=0)
        assert out.index.shape == (1, 9)
    if name == "fsrcnn-pcsr-x2":
        assert up.run(lr, size=(40, 61)).shape == (1, 3, 40, 61)
