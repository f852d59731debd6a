"""The masked convolution layer: its formula, its three ways of computing it, bad masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparsesr import use_backend
from sparsesr.nn import MaskedConv2d

# Sums of 9 * 6 products in float32, ordered differently.
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}


def _layer(**options: Any) -> MaskedConv2d:
    """6 -> 8 channels with a normalisation that does something."""
    torch.manual_seed(0)
    layer = MaskedConv2d(6, 8, **options)
    if layer.norm is not None:
        with torch.no_grad():
            for tensor in (layer.norm.weight, layer.norm.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (layer.norm.bias, layer.norm.running_mean):
                tensor.normal_()
    return layer.eval()


def _case(density: float = 0.4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x whose sparse channels are zero outside the mask; spatial, dense, inputs."""
    generator = torch.Generator().manual_seed(1)
    spatial = torch.rand(2, 1, 7, 5, generator=generator) < density
    inputs = torch.tensor([True, False, True, True, False, False])
    dense = torch.tensor([False, True, True, False, False, False, True, False])
    x = torch.randn(2, 6, 7, 5, generator=generator)
    return x.where(inputs[:, None, None] | spatial, 0), spatial, dense, inputs


def _formula(layer: MaskedConv2d, x: Tensor, m: Tensor, d: Tensor, i: Tensor) -> Tensor:
    """The docstring's, in float64."""
    layer, x, m = layer.double(), x.double(), m.double()
    d, i = d.double()[:, None, None], i.double()[:, None, None]
    y = F.conv2d(x * i, layer.weight, layer.bias, padding=1)
    y = y + F.conv2d(x * (1 - i), layer.weight, padding=1) * m
    if layer.norm is not None:
        y = layer.norm(y)
    return y * (d + (1 - d) * m)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.1])
def test_hard_masks_compute_the_formula(norm: bool, density: float) -> None:
    layer = _layer(norm=norm)
    x, *masks = _case(density)
    with torch.no_grad():
        y = layer(x, *masks)
        expected = _formula(_layer(norm=norm), x, *masks)
    torch.testing.assert_close(y.double(), expected, **CLOSE)
    assert y.where(masks[0] | masks[1][:, None, None], 0).equal(y)  # nothing beyond the masks


@pytest.mark.parametrize("dense", [0, 8])
@pytest.mark.parametrize("inputs", [0, 6])
def test_no_and_all_dense_channels(dense: int, inputs: int) -> None:
    layer = _layer(norm=True)
    x, spatial, _, _ = _case()
    d, i = torch.arange(8) < dense, torch.arange(6) < inputs
    x = x.where(i[:, None, None] | spatial, 0)
    expected = _formula(_layer(norm=True), x, spatial, d, i)
    torch.testing.assert_close(layer(x, spatial, d, i).double(), expected, **CLOSE)


def test_inputs_hold_values_everywhere_by_default() -> None:
    layer = _layer()
    x, spatial, dense, _ = _case()
    everything = torch.ones(6, dtype=torch.bool)
    torch.testing.assert_close(
        layer(x, spatial, dense), layer(x, spatial, dense, everything), **CLOSE
    )


@pytest.mark.parametrize("norm", [False, True])
def test_soft_masks_that_are_hard_agree(norm: bool) -> None:
    layer = _layer(norm=norm)
    x, *masks = _case()
    soft = layer(x, *(mask.float() for mask in masks))
    torch.testing.assert_close(layer(x, *masks), soft, **CLOSE)


def test_a_graph_computes_the_same() -> None:
    """Compiled, it cannot pick channels by value and computes all of them."""
    layer = _layer(norm=True)
    x, *masks = _case()
    with use_backend("reference"), torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, *masks), layer(x, *masks), **CLOSE)


def test_without_masks_it_is_a_convolution() -> None:
    layer = _layer(norm=True)
    x = _case()[0]
    expected = layer.norm(F.conv2d(x, layer.weight, layer.bias, padding=1))
    torch.testing.assert_close(layer(x), expected)


def test_without_channel_masks_every_channel_is_sparse() -> None:
    layer = _layer(channel_masks="none")
    x, spatial, _, _ = _case()
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1).where(spatial, 0)
    torch.testing.assert_close(layer(x, spatial), expected, **CLOSE)
    soft = layer.train()(x, spatial.float() * 0.5)
    torch.testing.assert_close(soft, 0.5 * expected, **CLOSE)
    assert not layer.hard_channels().any()
    assert not layer.soft_channels(1.0).any()
    assert layer.ch_mask is None


def test_channels_follow_the_larger_logit() -> None:
    layer = _layer()
    with torch.no_grad():
        layer.ch_mask.zero_()  # a tie is sparse
        layer.ch_mask[3, 0] = 1
    assert layer.hard_channels().tolist() == [n == 3 for n in range(8)]


def test_training_reaches_every_parameter() -> None:
    layer = _layer(norm=True).train()
    x, spatial, _, _ = _case()
    dense = layer.soft_channels(0.7)
    layer(x, spatial.float() * 0.3 + 0.1, dense, torch.rand(6)).square().sum().backward()
    missing = [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
    assert layer.norm.num_batches_tracked == 1


def test_eval_with_gradients() -> None:
    """Gradients through the op are those of the formula."""
    layer, other = _layer(norm=True), _layer(norm=True)
    x, *masks = _case()
    probe = torch.randn(2, 8, 7, 5)
    (layer(x, *masks) * probe).sum().backward()
    (_formula(other, x, *masks) * probe.double()).sum().backward()
    for mine, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        if mine is layer.ch_mask:
            assert mine.grad is None  # hard masks have none
        else:
            # Sums over 2 * 7 * 5 positions of products of sums.
            torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


def test_runs_under_autocast() -> None:
    layer = _layer(norm=True)
    x, *masks = _case()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y = layer(x.bfloat16(), *masks)
    assert y.dtype == torch.bfloat16
    # Two bfloat16 roundings of inputs and weights, 8 bits each, of values up to about 8.
    torch.testing.assert_close(y.float(), layer(x, *masks), rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("masks", "error", "text"),
    [
        (
            {"spatial": torch.ones(2, 1, 7, 4, dtype=torch.bool)},
            ValueError,
            r"MaskedConv2d: expected spatial \[2, 1, 7, 5\], got \[2, 1, 7, 4\]",
        ),
        (
            {"spatial": torch.ones(2, 1, 7, 5, dtype=torch.int64)},
            TypeError,
            r"expected spatial .* bool \(hard\) or floating \(soft\), got int64",
        ),
        ({"dense": None}, TypeError, r"expected dense \[8\] .* got NoneType"),
        (
            {"dense": torch.ones(7, dtype=torch.bool)},
            ValueError,
            r"expected dense \[8\], got \[7\]",
        ),
        ({"dense": torch.rand(8)}, TypeError, "bool beside a bool spatial mask, got float32"),
        ({"inputs": torch.rand(6)}, TypeError, "threshold them: dense > 0.5"),
        (
            {"inputs": torch.ones(8, dtype=torch.bool)},
            ValueError,
            r"expected inputs \[6\], got \[8\]",
        ),
    ],
)
def test_bad_masks(masks: dict[str, Any], error: type[Exception], text: str) -> None:
    x, spatial, dense, inputs = _case()
    with pytest.raises(error, match=text):
        _layer()(x, **{"spatial": spatial, "dense": dense, "inputs": inputs, **masks})


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="channel_masks in static, none; got 'dynamic'"):
        MaskedConv2d(4, 4, channel_masks="dynamic")
    with pytest.raises(ValueError, match="expected an odd kernel_size, got 2"):
        MaskedConv2d(4, 4, kernel_size=2)
