"""Sparse mask modules: hard masks through the op, soft ones by the formula, what they report."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sparsesr import use_backend
from sparsesr.nn import SparseMask, SparseMaskBlock, SparseMaskModule, has_sparse_masks
from sparsesr.nn.masked_module import SpatialMask, gumbel_softmax


def _module(**options: object) -> SparseMaskModule:
    torch.manual_seed(0)
    return SparseMaskModule(8, 3, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("channel_masks", ["static", "dynamic", "none"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (6, 8)])
def test_eval_is_the_soft_formula_on_hard_masks(channel_masks: str, size: tuple[int, int]) -> None:
    smm = _module(channel_masks=channel_masks).eval()
    x = torch.randn(2, 8, *size)
    y, mask = smm(x)
    assert mask.spatial.dtype == mask.dense.dtype == torch.bool
    assert mask.spatial.shape == (2, 1, *size)
    assert mask.dense.shape == (2, 3, 8)
    soft = smm.body(x, mask.spatial.float(), mask.dense.float())
    expected = x + smm.ca(soft)
    # Sums of 9 * 8 products, three layers deep.
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_spatial_only_has_no_dense_channel() -> None:
    _, mask = _module(channel_masks="none").eval()(torch.randn(1, 8, 4, 4))
    assert not mask.dense.any()


def test_static_channels_follow_the_larger_logit() -> None:
    smm = _module().eval()
    with torch.no_grad():
        smm.body.ch_mask.zero_()  # a tie is sparse
        smm.body.ch_mask[0, 5, 1, 0] = 1.0  # channel 5 of layer 1 is dense
    dense = smm.decide(torch.randn(2, 8, 4, 4)).dense
    assert dense[:, 1, 5].all()
    assert dense.sum() == 2


def test_dynamic_channels_differ_between_images() -> None:
    smm = _module(channel_masks="dynamic").eval()
    x = 5 * torch.randn(4, 8, 6, 6)
    y, mask = smm(x)
    assert (mask.dense != mask.dense[:1]).any()
    alone, own = smm(x[2:3])
    assert torch.equal(own.dense, mask.dense[2:3])
    torch.testing.assert_close(alone, y[2:3], rtol=1e-5, atol=1e-5)


def test_every_mask_on_is_the_unmasked_block() -> None:
    block = SparseMaskBlock(8, 3)
    x = torch.randn(1, 8, 5, 6)
    everywhere = torch.ones(1, 1, 5, 6, dtype=torch.bool)
    none_dense = torch.zeros(1, 3, 8, dtype=torch.bool)
    torch.testing.assert_close(block(x, everywhere, none_dense), block.unmasked(x))
    torch.testing.assert_close(block(x, ~everywhere, ~none_dense), block.unmasked(x))


def test_released_formula_splits_by_the_layer_itself() -> None:
    ours, theirs = SparseMaskBlock(4, 2), SparseMaskBlock(4, 2, released_formula=True)
    theirs.load_state_dict(ours.state_dict())
    x, spatial, dense = torch.randn(1, 4, 5, 5), torch.rand(1, 1, 5, 5), torch.rand(1, 2, 4)
    first = (ours.body[0](x) * (dense[0, 0, :, None, None] * (1 - spatial) + spatial)).relu()

    def second(split: torch.Tensor) -> torch.Tensor:
        d, split = dense[0, 1, :, None, None], split[:, None, None]
        conv = ours.body[1]
        return (conv(first * split) * (d + (1 - d) * spatial)
                + conv(first * (1 - split)) * spatial).relu()  # fmt: skip

    for block, split in ((ours, dense[0, 0]), (theirs, dense[0, 1])):
        expected = ours.collect(torch.cat([first, second(split)], 1))
        torch.testing.assert_close(block(x, spatial, dense), expected, rtol=1e-5, atol=1e-5)
    hard = spatial > 0.5, dense > 0.5
    torch.testing.assert_close(ours(x, *hard), theirs(x, *hard))  # one formula at inference


def test_training_draws_soft_masks_that_learn() -> None:
    smm = _module()
    x = torch.randn(2, 8, 6, 6)
    y, mask = smm(x, temperature=0.7)
    assert mask.spatial.requires_grad
    assert ((mask.spatial > 0) & (mask.spatial < 1)).all()
    assert not torch.equal(smm(x, temperature=0.7)[1].spatial, mask.spatial)
    (y.sum() + mask.active().sum()).backward()
    missing = [name for name, p in smm.named_parameters() if p.grad is None]
    assert not missing
    assert smm.body.ch_mask.grad.abs().sum() > 0
    assert smm.spa_mask[0].weight.grad.abs().sum() > 0


def test_samples_harden_as_the_temperature_falls() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 30, 30)

    def undecided(temperature: float) -> float:
        return float((gumbel_softmax(logits, temperature, 1) - 0.5).abs().sub(0.5).abs().mean())

    assert undecided(0.05) < undecided(0.4) < undecided(1.0)


def test_gumbel_softmax_picks_with_the_probabilities_of_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.3, -0.5, 1.1])
    picked = gumbel_softmax(logits.expand(20000, 3), 0.5, -1).argmax(-1)
    shares = picked.bincount(minlength=3) / 20000
    # Four standard deviations of a share of 20000 draws are at most 0.0142.
    torch.testing.assert_close(shares, logits.softmax(0), rtol=0, atol=0.0142)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="expected temperature > 0"):
        _module()(torch.randn(1, 8, 4, 4), temperature)


def test_spatial_mask_of_odd_sides() -> None:
    """The last row or column is averaged over itself, as if the image went on unchanged there."""
    torch.manual_seed(0)
    net = SpatialMask(4)
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight * torch.eye(3)[1] * torch.eye(3)[1][:, None])  # 1x1
    x = torch.randn(1, 4, 7, 9)
    extended = F.pad(x, (0, 1, 0, 1), mode="replicate")
    assert net(x).shape == (1, 2, 7, 9)
    torch.testing.assert_close(net(x), net(extended)[..., :7, :9])


def test_active_share_is_counted_over_values() -> None:
    spatial = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2) > 0
    dense = torch.tensor([[[True, False], [False, False]]])
    # Layer 0: one channel everywhere, one on 1 of 4 pixels; layer 1: both on 1 of 4.
    assert SparseMask(spatial, dense).active().tolist() == [(4 + 1 + 1 + 1) / 16]


def test_layouts_agree() -> None:
    smm = _module().eval()
    x = torch.randn(1, 8, 6, 7)
    y, _ = smm(x)
    again, _ = smm.to(memory_format=torch.channels_last)(
        x.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(y, again, rtol=1e-5, atol=1e-5)


def test_runs_under_autocast() -> None:
    smm = _module().eval()
    x = torch.randn(1, 8, 6, 7)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y, _ = smm(x)
    assert y.isfinite().all()


def test_runs_on_the_backend_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsesr.ops import reference

    called = []
    original = reference.masked_block
    monkeypatch.setattr(reference, "masked_block", lambda *a: called.append(True) or original(*a))
    with use_backend("reference"), torch.no_grad():
        _module().eval()(torch.randn(2, 8, 4, 4))
    assert called


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"channel_masks": "some"}, "channel_masks in static, dynamic, none; got 'some'"),
        ({"layers": 0}, "channels and layers >= 1"),
    ],
)
def test_bad_options(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SparseMaskBlock(**{"channels": 4, **options})


@pytest.mark.parametrize(
    ("spatial", "dense", "error", "text"),
    [
        (
            (2, 1, 5, 4),
            (2, 3, 8),
            ValueError,
            r"expected spatial \[2, 1, 5, 6\], got \[2, 1, 5, 4\]",
        ),
        ((1, 1, 1, 1), (2, 3, 8), ValueError, r"expected spatial .* got \[1, 1, 1, 1\]"),
        ((2, 1, 5, 6), (2, 4, 8), ValueError, r"expected dense \[2, 3, 8\], got \[2, 4, 8\]"),
        ((2, 1, 5, 6), (3, 8), ValueError, r"expected dense \[2, 3, 8\], got \[3, 8\]"),
    ],
)
@pytest.mark.parametrize("hard", [True, False])
def test_masks_that_do_not_fit(
    spatial: tuple, dense: tuple, error: type[Exception], text: str, hard: bool
) -> None:
    """Soft ones too, which plain torch would have broadcast."""
    masks = [torch.rand(shape) for shape in (spatial, dense)]
    masks = [mask > 0.5 for mask in masks] if hard else masks
    with pytest.raises(error, match=f"SparseMaskBlock: {text}"):
        SparseMaskBlock(8, 3)(torch.randn(2, 8, 5, 6), *masks)


def test_masks_of_another_kind() -> None:
    block, x = SparseMaskBlock(8, 3), torch.randn(1, 8, 5, 6)
    spatial, dense = torch.rand(1, 1, 5, 6), torch.rand(1, 3, 8)
    for masks in ((spatial > 0.5, dense), (spatial, dense > 0.5)):
        with pytest.raises(TypeError, match=r"both bool or both soft, got .*; threshold the soft"):
            block(x, *masks)
    with pytest.raises(TypeError, match=r"expected spatial .* got int64"):
        block(x, (spatial > 0.5).long(), dense)
    with pytest.raises(TypeError, match=r"expected dense .* got list"):
        block(x, spatial, dense.tolist())


def test_a_given_spatial_mask() -> None:
    smm, x = _module().eval(), torch.randn(2, 8, 5, 6)
    spatial = torch.rand(2, 1, 5, 6) > 0.5
    y, mask = smm(x, spatial=spatial)
    assert mask.spatial is spatial
    torch.testing.assert_close(y, smm.masked(x, mask))
    _, soft = smm.train()(x, 0.7, spatial)
    assert torch.equal(soft.spatial, spatial.float())
    assert ((soft.dense > 0) & (soft.dense < 1)).all()


@pytest.mark.parametrize("mode", [True, False])
def test_a_bad_spatial_mask(mode: bool) -> None:
    smm, x = _module().train(mode), torch.randn(2, 8, 5, 6)
    with pytest.raises(ValueError, match=r"SparseMaskModule: expected mask \[2, 1, 5, 6\]"):
        smm(x, spatial=torch.ones(2, 1, 6, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"got float32; threshold it: mask > 0\.5"):
        smm(x, spatial=torch.rand(2, 1, 5, 6))
    with pytest.raises(ValueError, match="predicts no mask of its own; got None"):
        SparseMaskModule(8, 3, predicts=False).train(mode)(x)


def test_which_networks_have_sparse_masks() -> None:
    assert has_sparse_masks(torch.nn.Sequential(_module()))
    assert not has_sparse_masks(torch.nn.Conv2d(3, 3, 1))
