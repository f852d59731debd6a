"""Every kernel at small awkward sizes against the CPU: what `tools/gpu_check` runs under
compute-sanitizer, and so few cases and no large buffers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsesr import ops, use_backend

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
# batch, channels, height, width, patch, halo, stride
MAPS = [
    (2, 3, 7, 9, 4, 1, 4),
    (1, 8, 12, 21, 4, 1, 4),
    (1, 64, 13, 10, 4, 1, 4),
    (2, 5, 11, 10, 4, 1, 2),
    (1, 2, 3, 2, 8, 2, 8),
]
# batch, channels, height, width, outputs, dense channels of each layer
BLOCKS = [
    (2, 5, 9, 7, 3, (2, 0)),
    (1, 16, 17, 20, 16, (6, 2, 1, 0)),
    (1, 64, 9, 33, 64, (24, 9, 3, 0)),
    (1, 72, 3, 18, 66, (70, 3)),
]
MASKS = {"empty": 1.0, "full": -1.0, "some": 0.7, "few": 0.98}  # active above


def _map(size: tuple[int, ...], dtype: torch.dtype, layout: str = "") -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).to(dtype)
    return x.contiguous(memory_format=LAYOUTS.get(layout, torch.contiguous_format))


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", MAPS, ids=str)
def test_ops_agree_with_the_cpu(case, dtype: torch.dtype, layout: str, gpu_backend: str) -> None:
    batch, channels, height, width, p, halo, stride = case
    x = _map((batch, channels, height, width), dtype, layout)
    gh, gw = ops.patch_grid(height, width, p, stride)
    mask = (torch.rand(batch, gh, gw, generator=torch.Generator().manual_seed(1)) * 5).floor()
    k = (gh * gw + 1) // 2

    def results(device: str) -> list[Tensor]:
        m, y = mask.to(device), x.to(device).detach().requires_grad_()
        patches, index = ops.select_gather_patches(m, y, k, p, halo, stride)
        core = patches[:, :, halo : halo + p, halo : halo + p]
        outs = [
            ops.scatter_patches(y, core * 2, index, p, stride, reduce)
            for reduce in ("replace", "mean")
        ]
        loss = sum((o.float() ** 2).sum() for o in (*outs, patches))
        (gradient,) = torch.autograd.grad(loss, y)
        return [index, patches, *outs, gradient]

    got = results("cuda")
    with use_backend("auto"):
        want = results("cpu")
    # Sums of up to nine values in another order, rounded to the dtype.
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.cpu(), w, rtol=tolerance, atol=tolerance)


def _assert_as_good(got: Tensor, exact: Tensor, plain: Tensor) -> None:
    """At most twice the error of the reference in the same dtype, and one rounding.

    In float32 four times: products are added one after another, torch adds up blocks of them.
    """
    own = (plain.double() - exact).abs().max()
    rounding = torch.finfo(got.dtype).eps * exact.abs().max()
    times = 4 if got.dtype == torch.float32 else 2
    assert (got.cpu().double() - exact).abs().max() <= times * own + rounding


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", BLOCKS, ids=str)
def test_masked_ops_agree_with_the_reference(
    case, dtype: torch.dtype, layout: str, gpu_backend: str
) -> None:
    batch, channels, height, width, outputs, counts = case
    x = _map((batch, channels, height, width), dtype, layout)
    weights = [_map((channels, channels, 3, 3), dtype, layout) / (5 * channels**0.5)] * len(counts)
    collect = _map((outputs, len(counts) * channels, 1, 1), dtype, layout) / channels**0.5
    bias = _map((outputs,), dtype)
    generator = torch.Generator().manual_seed(2)
    dense = torch.stack([torch.randperm(channels, generator=generator) < n for n in counts])
    drawn = torch.rand(batch, 1, height, width, generator=generator)

    def results(device: str, to: torch.dtype) -> list[Tensor]:
        moved = [t.to(device, to) for t in (x, *weights, collect, bias)]
        pixels, own, layers, shares, offset = moved[0], moved[1], moved[1:-2], moved[-2], moved[-1]
        masks = [(drawn > threshold).to(device) for threshold in MASKS.values()]
        convolved = [ops.masked_conv2d(pixels, own, None, mask) for mask in masks]
        channel_mask = dense.to(device)
        return convolved + [
            ops.masked_block(pixels, layers, shares, offset, channel_mask, mask) for mask in masks
        ]

    got = results("cuda", dtype)
    with use_backend("reference"):
        exact, plain = results("cpu", torch.float64), results("cpu", dtype)
    for g, e, p in zip(got, exact, plain, strict=True):
        _assert_as_good(g, e, p)


def test_gradients_of_masked_ops(gpu_backend: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 8, 9, 17, generator=generator)
    weight = torch.randn(8, 8, 3, 3, generator=generator) / 8
    collect = torch.randn(8, 16, 1, 1, generator=generator) / 4
    dense = torch.rand(2, 8, generator=generator) > 0.7
    mask = torch.rand(1, 1, 9, 17, generator=generator) > 0.5

    def gradients(device: str) -> tuple[Tensor, ...]:
        leaves = [t.to(device).detach().requires_grad_() for t in (x, weight, collect)]
        pixels, own, shares = leaves
        masks = dense.to(device), mask.to(device)
        y = ops.masked_block(pixels, [own, own], shares, None, *masks)
        z = ops.masked_conv2d(y, own, None, masks[1])
        return torch.autograd.grad(z.square().sum() + y.square().sum(), leaves)

    got = gradients("cuda")
    with use_backend("auto"):
        want = gradients("cpu")
    for g, w in zip(got, want, strict=True):
        # Sums of some thousand products in another order.
        torch.testing.assert_close(g.cpu(), w, rtol=1e-3, atol=1e-3 * float(w.abs().max()))
