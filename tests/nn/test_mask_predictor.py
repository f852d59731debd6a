"""The mask predictor of MGA against its formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparsesr.nn import MaskPredictor


def _by_hand(net: MaskPredictor, feature: Tensor) -> Tensor:
    hidden = net.conv2(net.conv1(feature).relu())
    probability = hidden.softmax(1)[:, 1] if hidden.shape[1] == 2 else hidden.sigmoid()[:, 0]
    p = net.patch_size
    gh, gw = -(-feature.shape[2] // p), -(-feature.shape[3] // p)
    pooled = torch.stack(
        [
            probability[:, p * i : p * i + p, p * j : p * j + p].mean((1, 2))
            for i in range(gh)
            for j in range(gw)
        ],
        dim=1,
    ).reshape(-1, gh, gw)
    m = torch.where(pooled > 0, pooled, 0.1 * pooled)
    out = torch.zeros_like(m)
    weight, bias = net.filters.weight.reshape(25), net.filters.bias
    for i in range(gh):
        for j in range(gw):
            for tap in range(25):
                y, x = i + tap // 5 - 2, j + tap % 5 - 2
                if 0 <= y < gh and 0 <= x < gw:
                    out[:, i, j] += (weight[tap] * m[:, i, j] + bias[tap]) * m[:, y, x]
    return out[:, None]


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("channels_out", [1, 2])
@pytest.mark.parametrize("size", [(8, 16), (9, 13), (1, 1), (3, 30)])
def test_formula(patch: int, channels_out: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = MaskPredictor(6, patch, channels_out).double()
    for parameter in net.filters.parameters():  # away from the identity they start as
        nn.init.normal_(parameter)
    feature = torch.randn(2, 6, *size, dtype=torch.float64)
    mask = net(feature)
    assert mask.shape == (2, 1, -(-size[0] // patch), -(-size[1] // patch))
    torch.testing.assert_close(mask, _by_hand(net, feature))


def test_starts_as_the_pooled_probability() -> None:
    net, feature = MaskPredictor(6), torch.randn(1, 6, 12, 16)
    pooled = nn.functional.avg_pool2d(net.conv2(net.conv1(feature).relu()).softmax(1)[:, 1:], 4)
    torch.testing.assert_close(net(feature), pooled)


@pytest.mark.parametrize(("channels", "count"), [(12, 1576), (40, 15212), (50, 23502), (64, 38132)])
def test_parameter_counts_of_the_paper(channels: int, count: int) -> None:
    assert sum(p.numel() for p in MaskPredictor(channels).parameters()) == count


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="channels_out 1 or 2, got 3"):
        MaskPredictor(12, channels_out=3)
    with pytest.raises(ValueError, match="patch_size >= 1, got 0"):
        MaskPredictor(12, patch_size=0)
