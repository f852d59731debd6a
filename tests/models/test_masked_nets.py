"""SRResNet and IMDN under sparse masks: sizes, what they compute, and the call all share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sparsesr
from sparsesr.inference import Upscaler, evaluate
from sparsesr.io import write_image
from sparsesr.models import MaskedNet, MaskedOutput, save_weights
from sparsesr.models.imdn_smsr import MaskedIMDB
from sparsesr.models.srresnet_smsr import MaskedResidualGroup
from sparsesr.nn import gradient_mask, has_sparse_masks

NAMES = ("srresnet-smsr", "imdn-smsr")
MODULES = {"srresnet-smsr": 4, "imdn-smsr": 5}
CHANNELS = {"srresnet-smsr": 8 * 64, "imdn-smsr": 3 * 64 + 16}
# A handful of layers of 576 products each in float32.
CLOSE: dict[str, float] = {"rtol": 1e-3, "atol": 1e-4}


def _net(name: str, scale: int = 2, **options: Any) -> Any:
    torch.manual_seed(0)
    net = sparsesr.create_model(name, scale, **options)
    for module in net.modules():  # statistics as if it had been trained
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def _parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in net.named_parameters() if "ch_mask" not in name)


def _soft(module: Any, x: Tensor, spatial: Tensor, dense: Tensor) -> Tensor:
    mask = sparsesr.nn.SparseMask(spatial.float(), dense.float())
    return module.masked(x, mask)


def test_parameters_of_table_2() -> None:
    """1.54M and 0.72M without masks; 1.58M and 0.77M with SMSR's predictors, 11,842 each."""
    assert _parameters(_net("srresnet-smsr", 4, masked_groups=0)) == 1_535_622
    assert _parameters(_net("srresnet-smsr", 4)) == 1_535_622 + 4 * 11_842
    assert _parameters(_net("imdn-smsr", 4)) == 715_176 + 5 * 11_842
    logits = sum(p.numel() for n, p in _net("imdn-smsr").named_parameters() if "ch_mask" in n)
    assert logits == 5 * 2 * 208
    spatial_only = _net("imdn-smsr", 4, channel_masks="none")
    assert sum(p.numel() for p in spatial_only.parameters()) == 715_176 + 5 * 11_842


@pytest.mark.parametrize(("name", "dense"), [("srresnet-smsr", None), ("imdn-smsr", "imdn")])
def test_multiply_adds(name: str, dense: str | None) -> None:
    """The dense network's and those of the predictors, which run at every pixel."""
    options = {"masked_groups": 0} if dense is None else {}
    base = sparsesr.complexity(sparsesr.create_model(dense or name, 4, **options), (18, 32))
    cost = sparsesr.complexity(sparsesr.create_model(name, 4), (18, 32))
    # 64 -> 16 at full size, 16 -> 16 and 16 -> 2 at a quarter of the pixels.
    predictor = 18 * 32 * 9 * (64 * 16 + (16 * 16 + 16 * 2) // 4)
    assert cost.macs == cost.paper_flops == base.macs + MODULES[name] * predictor


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_any_size_and_batch(name: str, scale: int) -> None:
    net = _net(name, scale)
    assert isinstance(net, MaskedNet)
    for size in ((1, 1), (5, 6)):
        lr = torch.rand(2, 3, *size)
        with torch.no_grad():
            out = net(lr, return_details=True)
            assert isinstance(out, MaskedOutput)
            assert torch.equal(net(lr), out.sr)
            torch.testing.assert_close(net(lr[1:]), out.sr[1:], **CLOSE)
        assert out.sr.shape == (2, 3, scale * size[0], scale * size[1])
        assert [m.spatial.shape for m in out.masks] == [(2, 1, *size)] * MODULES[name]
        assert {m.dense.shape for m in out.masks} == {(2, 1, CHANNELS[name])}
        assert all(m.spatial.dtype == m.dense.dtype == torch.bool for m in out.masks)
        assert ((out.sparsity() >= 0) & (out.sparsity() < 1)).all()


@pytest.mark.parametrize("channel_masks", ["static", "none"])
@pytest.mark.parametrize("kind", [MaskedResidualGroup, MaskedIMDB])
def test_a_module_is_the_soft_formula_on_hard_masks(kind: type, channel_masks: str) -> None:
    torch.manual_seed(0)
    module = kind(channel_masks).eval()
    x, spatial = torch.randn(2, 64, 5, 6), torch.rand(2, 1, 5, 6) > 0.5
    with torch.no_grad():
        y, mask = module(x, spatial=spatial)
        torch.testing.assert_close(y, _soft(module, x, *mask), **CLOSE)
    assert mask.dense.any() == (channel_masks == "static")


def _conv(layer: Any, x: Tensor, spatial: Tensor, dense: Tensor, inputs: Tensor | None) -> Tensor:
    """SMSR's formula with bias and normalisation: sparse inputs count on the mask alone."""
    d, m = dense.float()[:, None, None], spatial.float()
    i = torch.ones(()) if inputs is None else inputs.float()[:, None, None]
    y = F.conv2d(x * i, layer.weight, layer.bias, padding=1)
    y = y + F.conv2d(x * (1 - i), layer.weight, padding=1) * m
    return (y if layer.norm is None else layer.norm(y)) * (d + (1 - d) * m)


def test_a_masked_block_of_imdn_written_out() -> None:
    torch.manual_seed(0)
    block = MaskedIMDB().eval()
    x, m = torch.randn(1, 64, 5, 6), torch.rand(1, 1, 5, 6) > 0.5
    with torch.no_grad():
        y, (_, dense) = block(x, spatial=m)
        d = dense[0, 0].split([64, 64, 64, 16])
        act = lambda y: F.leaky_relu(y, 0.05)  # noqa: E731
        first = act(_conv(block.convs[0], x, m, d[0], None))
        second = act(_conv(block.convs[1], first[:, 16:], m, d[1], d[0][16:]))
        third = act(_conv(block.convs[2], second[:, 16:], m, d[2], d[1][16:]))
        last = _conv(block.last, third[:, 16:], m, d[3], d[2][16:])
        kept = torch.cat([first[:, :16], second[:, :16], third[:, :16], last], 1)
        expected = x + block.fuse(block.attention(kept))
    torch.testing.assert_close(y, expected, **CLOSE)


def test_a_masked_group_of_srresnet_written_out() -> None:
    group: Any = _net("srresnet-smsr").body[0]
    x = expected = torch.randn(1, 64, 5, 6)
    m = torch.rand(1, 1, 5, 6) > 0.5
    with torch.no_grad():
        y, (_, dense) = group(x, spatial=m)
        d = dense[0, 0].split(64)
        for n, block in enumerate(group.blocks):
            inner = _conv(block[0], expected, m, d[2 * n], None).relu()
            expected = expected + _conv(block[2], inner, m, d[2 * n + 1], d[2 * n])
    torch.testing.assert_close(y, expected, **CLOSE)


@pytest.mark.parametrize("kind", [MaskedResidualGroup, MaskedIMDB])
def test_every_mask_on_is_the_dense_module(kind: type) -> None:
    torch.manual_seed(0)
    module = kind().eval()
    x = torch.randn(1, 64, 4, 5)
    everywhere = torch.ones(1, 1, 4, 5, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(module(x, spatial=everywhere)[0], module.unmasked(x), **CLOSE)


def test_a_group_without_dense_channels_keeps_x_outside_the_mask() -> None:
    module = MaskedResidualGroup("none").eval()
    x, spatial = torch.randn(1, 64, 4, 5), torch.rand(1, 1, 4, 5) > 0.5
    with torch.no_grad():
        y, _ = module(x, spatial=spatial)
    assert y.where(spatial, 0).equal(y.where(y != x, 0))


def test_unmasked_it_is_imdn() -> None:
    """Also with its weights: the names of the tensors are IMDN's."""
    imdn = sparsesr.create_model("imdn", 3).eval()
    net = _net("imdn-smsr", 3)
    missing, unexpected = net.load_state_dict(imdn.state_dict(), strict=False)
    assert not unexpected
    assert all("spa_mask" in name or "ch_mask" in name for name in missing)
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(net(lr, masked=False), imdn(lr))
        assert not torch.allclose(net(lr), imdn(lr), **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_trains_with_soft_masks(name: str) -> None:
    net = _net(name).train()
    net.temperature = 0.7
    lr = torch.rand(2, 3, 8, 6)
    out = net(lr, return_details=True)
    assert all(((m.spatial > 0) & (m.spatial < 1)).all() for m in out.masks)
    assert not torch.equal(net(lr), out.sr)  # masks are drawn anew
    (out.sr.sum() + out.active().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(p.grad.any() for n, p in net.named_parameters() if "ch_mask" in n)


@pytest.mark.parametrize(
    ("name", "options"),
    [("srresnet-smsr", {"masked_groups": 1}), ("imdn-smsr", {"masked_blocks": 1})],
)
def test_compiles_whole(name: str, options: dict[str, int]) -> None:
    net = _net(name, **options)
    lr = torch.rand(1, 3, 6, 5)
    with sparsesr.use_backend("reference"), torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(lr), net(lr), **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_evaluation(name: str, tmp_path: Path) -> None:
    """What ``evaluate`` and ``Upscaler`` say of them, through a weights file."""
    save_weights(_net(name, channel_masks="none"), tmp_path / "a.safetensors", {})
    net = sparsesr.from_pretrained(tmp_path / "a.safetensors")
    assert json.loads((tmp_path / "a.json").read_text())["arguments"] == {"channel_masks": "none"}
    assert has_sparse_masks(net)
    (tmp_path / "photos").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    write_image(tmp_path / "photos" / "a.png", image)
    (row,) = evaluate(net, tmp_path / "photos", 2)["images"]
    assert len(row["sparsity_of_modules"]) == MODULES[name]
    assert row["sparsity"] == pytest.approx(np.mean(row["sparsity_of_modules"]))
    assert Upscaler(net)(image).shape == (48, 40, 3)


# The call


@pytest.mark.parametrize("name", ["smsr", *NAMES])
def test_one_gradient_mask_for_all_modules(name: str) -> None:
    net = _net(name)
    lr = torch.rand(2, 3, 7, 6)
    with torch.no_grad():
        out = net(lr, return_details=True, active=0.25)
        assert torch.equal(net(lr, active=0.25), out.sr)
        assert not torch.equal(net(lr), out.sr)
    assert all(torch.equal(m.spatial, gradient_mask(lr, 0.25)) for m in out.masks)
    assert out.masks[0].spatial.sum() == 2 * 11


@pytest.mark.parametrize("name", ["smsr", *NAMES])
def test_options_that_need_masks(name: str) -> None:
    net = _net(name)
    lr = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="masked=False uses no masks; drop active"):
        net(lr, masked=False, active=0.5)
    with pytest.raises(ValueError, match=r"active in \[0, 1\], got 2"):
        net(lr, active=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [("srresnet-smsr", {"masked_groups": 0}), ("imdn-smsr", {"masked_blocks": 0})],
)
def test_built_without_masks(name: str, options: dict[str, int]) -> None:
    net = _net(name, **options)
    lr = torch.rand(1, 3, 4, 4)
    assert not has_sparse_masks(net)
    assert net(lr).shape == (1, 3, 8, 8)
    for wanted in ({"return_details": True}, {"active": 0.5}):
        with pytest.raises(ValueError, match=f"built without masks; drop {next(iter(wanted))}"):
            net(lr, **wanted)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("srresnet-smsr", {"masked_groups": 5}, r"masked_groups in \[0, 4\], got 5"),
        ("imdn-smsr", {"masked_blocks": -1}, r"masked_blocks in \[0, 6\], got -1"),
        ("imdn-smsr", {"channel_masks": "dynamic"}, "in static, none; got 'dynamic'"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sparsesr.create_model(name, 2, **options)


@pytest.mark.parametrize("kind", [MaskedResidualGroup, MaskedIMDB])
def test_masks_that_do_not_fit_a_module(kind: type) -> None:
    module = kind().eval()
    x = torch.rand(1, 64, 5, 4)
    name = kind.__name__
    with pytest.raises(
        ValueError, match=rf"{name}: expected mask \[1, 1, 5, 4\] .* \[1, 1, 4, 5\]"
    ):
        module(x, spatial=torch.ones(1, 1, 4, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"got float32; threshold it: mask > 0\.5"):
        module(x, spatial=torch.ones(1, 1, 5, 4))
    _, mask = module(x)
    with pytest.raises(ValueError, match=rf"{name}: expected dense \[1, 1, \d+\], got \[1, 1, 3\]"):
        module.masked(x, mask._replace(dense=mask.dense[..., :3]))


def test_weights_of_another_scale_are_named() -> None:
    net = _net("imdn-smsr", 2)
    with pytest.raises(RuntimeError, match=r"size mismatch for upsampler\.0\.weight"):
        net.load_state_dict(_net("imdn-smsr", 3).state_dict())
