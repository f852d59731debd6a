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


def _map(size: tuple[int, ...], dtype: torch.dtype, layout: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).to(dtype)
    return x.contiguous(memory_format=LAYOUTS[layout])


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
