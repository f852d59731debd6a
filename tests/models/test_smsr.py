"""SMSR: names and sizes of the published network, what it computes, and the released weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sparsesr
from sparsesr.inference import Upscaler
from sparsesr.models.convert import convert
from sparsesr.models.smsr import SMSR
from sparsesr.nn import gradient_mask

# Without channel masks and mean shifts, as the paper counts (985K at x2).
PARAMETERS = {2: 984_746, 3: 993_401, 4: 1_005_518}
DENSE_CHANNELS = [[24, 9, 3, 0], [16, 4, 1, 0], [16, 7, 1, 0], [3, 0, 0, 0], [14, 5, 0, 0]]


def _small(scale: int = 2, **options: Any) -> SMSR:
    torch.manual_seed(0)
    return SMSR(scale, channels=8, modules=2, layers=2, **options)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_parameters(scale: int) -> None:
    net = sparsesr.create_model("smsr", scale)
    counted = [
        p for name, p in net.named_parameters() if "mean" not in name and "ch_mask" not in name
    ]
    assert sum(p.numel() for p in counted) == PARAMETERS[scale]
    assert len(net.state_dict()) == 99


@pytest.mark.parametrize(
    ("channel_masks", "printed", "ours"),
    [("none", "985K", 984_746), ("dynamic", "1012K", 1_011_706), ("static", "985K", 984_746)],
)
def test_variants_have_the_parameters_of_table_1(
    channel_masks: str, printed: str, ours: int
) -> None:
    """The paper counts neither the mean shifts nor the logits of static channel masks."""
    net = sparsesr.create_model("smsr", 2, channel_masks=channel_masks)
    counted = [
        p for name, p in net.named_parameters() if "mean" not in name and "ch_mask" not in name
    ]
    assert sum(p.numel() for p in counted) == ours
    assert f"{ours / 1000:.0f}K" == printed
    left_out = sum(p.numel() for p in net.parameters()) - ours
    assert left_out == 24 + (2560 if channel_masks == "static" else 0)


def test_masks_from_the_gradient() -> None:
    net = sparsesr.create_model("smsr", 2, spatial_masks="gradient", active=0.3)
    # Five predictors of 11,842 parameters less than with learnt masks.
    assert sum(p.numel() for p in net.parameters()) == 987_330 - 5 * 11_842
    net = _small(spatial_masks="gradient", active=0.3).eval()
    lr = torch.rand(2, 3, 7, 5)
    with torch.no_grad():
        out = net(lr, return_details=True)
        assert all(torch.equal(m.spatial, gradient_mask(lr, 0.3)) for m in out.masks)
        net.active = 0.6  # may be chosen later, and for a call alone
        assert net(lr, return_details=True).masks[1].spatial.sum() == 2 * 21
        assert torch.equal(net(lr, active=0.3), out.sr)
        everything, dense = net(lr, active=1), net(lr, masked=False)
    torch.testing.assert_close(everything, dense, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="spatial_masks in learnt, gradient; got 'sobel'"):
        _small(spatial_masks="sobel")


def test_masks_from_the_gradient_train_all_else() -> None:
    net = _small(spatial_masks="gradient", active=0.3)
    out = net(torch.rand(2, 3, 6, 6), return_details=True)
    assert out.masks[0].spatial.sum() == 2 * 11
    assert ((out.masks[0].dense > 0) & (out.masks[0].dense < 1)).all()
    (out.sr.sum() + out.active().sum()).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_the_masks_of_learnt_nets_can_come_from_the_gradient() -> None:
    """With the same parameters: what figure VII compares."""
    learnt, other = _small().eval(), _small(spatial_masks="gradient", active=0.4).eval()
    other.load_state_dict({k: v for k, v in learnt.state_dict().items() if "spa_mask" not in k})
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(learnt(lr, active=0.4), other(lr))


def test_multiply_adds_with_every_value_computed() -> None:
    cost = sparsesr.complexity(sparsesr.create_model("smsr", 2), (40, 30))
    shifts, attention = 1200 * 3 * 3 * (1 + 4), 5 * 2 * 64 * 4
    assert cost.macs == cost.paper_flops == 1200 * 971_368 + shifts + attention


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (7, 3)])
def test_any_size_and_batch(scale: int, size: tuple[int, int]) -> None:
    net = _small(scale).eval()
    lr = torch.rand(2, 3, *size)
    with torch.no_grad():
        out = net(lr, return_details=True)
        assert torch.equal(net(lr), out.sr)
        alone = net(lr[1:])
    assert out.sr.shape == (2, 3, scale * size[0], scale * size[1])
    assert [m.spatial.shape for m in out.masks] == [(2, 1, *size)] * 2
    assert out.active().shape == (2, 2)
    torch.testing.assert_close(out.sparsity(), 1 - out.active().mean(1))
    torch.testing.assert_close(alone, out.sr[1:], rtol=1e-4, atol=1e-5)


def test_an_untrained_tail_of_zero_is_bicubic() -> None:
    net = _small(3).eval()
    torch.nn.init.zeros_(net.tail[0].weight)
    torch.nn.init.zeros_(net.tail[0].bias)
    lr = torch.rand(1, 3, 6, 5)
    expected = F.interpolate(lr, scale_factor=3, mode="bicubic", align_corners=False)
    # Computed on the 0..255 scale in float32.
    torch.testing.assert_close(net(lr), expected, rtol=1e-5, atol=1e-5)


def test_without_masks_every_module_is_dense() -> None:
    net = _small().eval()
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        for module in net.body:
            module.spa_mask[-1].weight.zero_()
            module.spa_mask[-1].bias.copy_(torch.tensor([0.0, 1.0]))  # every pixel
        torch.testing.assert_close(net(lr, masked=False), net(lr), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="drop return_details"):
        net(lr, return_details=True, masked=False)


def test_mean_shifts_are_frozen() -> None:
    net = _small()
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {
        f"{part}_mean.{kind}" for part in ("sub", "add") for kind in ("weight", "bias")
    }


def test_temperature_reaches_the_masks() -> None:
    net = _small()
    lr = torch.rand(1, 3, 16, 16)

    def undecided(temperature: float) -> float:
        net.temperature = temperature
        torch.manual_seed(0)
        mask = net(lr, return_details=True).masks[0].spatial
        return float((mask * (1 - mask)).detach().mean())

    assert undecided(0.1) < undecided(1.0)


def test_compiles_whole() -> None:
    net = _small().eval()
    lr = torch.rand(1, 3, 6, 5)
    with sparsesr.use_backend("reference"), torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(lr), net(lr))


@pytest.mark.parametrize("lr", [torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4)])
def test_bad_input(lr: torch.Tensor) -> None:
    with pytest.raises((TypeError, ValueError), match=r"expected lr \[B,3,H,W\]"):
        _small()(lr)


def test_k_is_refused() -> None:
    with pytest.raises(ValueError, match="does not select patches"):
        Upscaler(_small(), k=3)


@pytest.fixture(scope="module")
def published(request: pytest.FixtureRequest) -> torch.nn.Module:
    shared: Path = request.getfixturevalue("shared")
    return convert(shared / "weights" / "smsr_x2.pt")[0]


def test_published_channel_masks(published: torch.nn.Module) -> None:
    mask = [m.body.hard_channels(torch.zeros(1, 64, 1, 1))[0] for m in published.body]
    assert [m.sum(1).tolist() for m in mask] == DENSE_CHANNELS


def test_published_weights_compute_the_golden_image(
    published: torch.nn.Module, shared: Path
) -> None:
    golden = np.load(shared / "golden" / "smsr-x2_butterfly_x2_128x128.npz")
    with torch.no_grad():
        out = published(torch.from_numpy(golden["lr"]) / 255, return_details=True)
    masks = torch.stack([m.spatial[0, 0] for m in out.masks])
    flipped = masks != torch.from_numpy(golden["spa_mask"]).bool()
    # A logit within rounding of a tie may fall either way: 10 of 3.84 million have been seen.
    assert flipped.sum() <= 2
    dense = torch.stack([m.dense[0] for m in out.masks])
    assert torch.equal(dense, torch.from_numpy(golden["ch_dense"]).bool())
    error = (255 * out.sr - torch.from_numpy(golden["sr"])).abs().amax(1)
    # A flipped pixel reaches the image over the rest of the network: 2 px a convolution.
    near = F.max_pool2d(flipped.any(0)[None, None].float(), 129, 1, 64)
    untouched = F.interpolate(near, scale_factor=2)[:, 0] == 0
    assert error[untouched].max() < 5e-3
    assert untouched.any()


def test_published_quality_on_butterfly(
    published: torch.nn.Module, shared: Path, tmp_path: Path
) -> None:
    """One image of Set5."""
    for part in ("HR", "LRx2"):
        (tmp_path / "Set5" / part).mkdir(parents=True)
        source = shared / "data" / "Set5" / part / "butterfly.png"
        (tmp_path / "Set5" / part / source.name).write_bytes(source.read_bytes())
    from sparsesr.inference import evaluate

    mean = evaluate(published, tmp_path / "Set5", 2)["mean"]
    assert mean["psnr"] == pytest.approx(35.370, abs=0.002)
    assert mean["ssim"] == pytest.approx(0.9781, abs=1e-4)
    assert mean["sparsity"] == pytest.approx(0.343, abs=0.001)
    assert len(mean["sparsity_of_modules"]) == 5
