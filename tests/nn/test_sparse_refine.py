"""``SparseRefine`` around small networks of the user's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsesr import MaskPredictor, RefineOutput, SparseRefine
from sparsesr.nn import effective_k


class Base(nn.Module):
    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, 5, 3, padding=1)
        self.up = nn.Conv2d(5, 3 * scale**2, 1)

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.head(lr)
        return F.pixel_shuffle(self.up(feature), self.scale), feature


class Refine(nn.Module):
    def __init__(self, scale: int, halo: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(5, 3 * scale**2, 2 * halo + 1)

    def forward(self, patches: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(patches), self.scale)


def _layer(
    scale: int = 2, patch: int = 4, halo: int = 1, mask: bool = True, k: int = 3
) -> SparseRefine:
    torch.manual_seed(0)
    predictor = MaskPredictor(5, patch) if mask else None
    return SparseRefine(
        Base(scale), Refine(scale, halo), predictor, scale=scale, patch_size=patch, halo=halo, k=k
    )


SIZES = pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (9, 14)])


@SIZES
@pytest.mark.parametrize("patch", [1, 2, 4, 8])
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_pixels_come_from_where_they_should(size: tuple[int, int], patch: int, scale: int) -> None:
    layer, lr = _layer(scale, patch).eval(), torch.rand(2, 3, *size)
    with torch.no_grad():
        out = layer(lr, k=2, return_details=True)
        coarse, feature = layer.base(lr)
        # A valid convolution sees only the halo, so refining patches equals refining the map.
        dense = F.pixel_shuffle(
            F.conv2d(feature, layer.refine.conv.weight, layer.refine.conv.bias, padding=1), scale
        )
    chosen = torch.zeros(2, out.mask[0].numel(), dtype=torch.bool)
    chosen.scatter_(1, out.index.long(), True)
    chosen = chosen.reshape(2, 1, *out.mask.shape[2:])
    hr = chosen.repeat_interleave(patch * scale, 2).repeat_interleave(patch * scale, 3)
    hr = hr[:, :, : scale * size[0], : scale * size[1]]
    torch.testing.assert_close(out.sr, torch.where(hr, dense, coarse))
    assert torch.equal(out.coarse, coarse)
    best = out.mask.flatten(1).topk(out.index.shape[1]).indices.sort().values
    assert torch.equal(out.index.long(), best)


@SIZES
def test_k_zero_is_the_base_and_all_is_the_allnet(size: tuple[int, int]) -> None:
    layer, allnet = _layer().eval(), _layer(mask=False).eval()
    allnet.load_state_dict({k: v for k, v in layer.state_dict().items() if "mask" not in k})
    lr = torch.rand(2, 3, *size)
    with torch.no_grad():
        assert torch.equal(layer(lr, k=0), layer.base(lr)[0])
        assert torch.equal(layer(lr, k=10**6), allnet(lr))
        assert torch.equal(layer(lr, budget=1.0), allnet(lr))
        assert torch.equal(layer(lr, budget=0.0), layer.base(lr)[0])


def test_details_and_plain_agree() -> None:
    layer, lr = _layer().eval(), torch.rand(2, 3, 9, 10)
    with torch.no_grad():
        details = layer(lr, return_details=True)
        assert isinstance(details, RefineOutput)
        assert torch.equal(layer(lr), details.sr)
        assert torch.equal(details.coarse, layer.base(lr)[0])  # not written by the patches
    torch.testing.assert_close(layer(lr), details.sr)  # with gradients: module by module


def test_zero_k_details() -> None:
    out = _layer()(torch.rand(2, 3, 9, 10), k=0, return_details=True)
    assert torch.equal(out.sr, out.coarse)
    assert out.sr.data_ptr() != out.coarse.data_ptr()
    assert out.index.shape == (2, 0)
    assert out.mask.shape == (2, 1, 3, 3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_reach_base_and_refine(layout: torch.memory_format) -> None:
    layer = _layer().double().to(memory_format=layout)
    lr = torch.rand(1, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda lr: layer(lr, k=2), lr, fast_mode=True)
    layer(lr).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is None) == name.startswith("mask."), name


def test_orders() -> None:
    layer, lr = _layer().eval(), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        mask = layer(lr, return_details=True).mask.flatten()
        small = layer(lr, k=4, order="smallest", return_details=True).index[0].long()
        draws = [
            layer(
                lr,
                k=4,
                order="random",
                generator=torch.Generator().manual_seed(s),
                return_details=True,
            ).index
            for s in (1, 1, 2)
        ]
    assert mask[small].max() <= mask.sort().values[3]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_batch_equals_single_images() -> None:
    layer, lr = _layer().eval(), torch.rand(3, 3, 12, 9)
    with torch.no_grad():
        together = layer(lr)
        apart = torch.cat([layer(image[None]) for image in lr])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, None, 5, 4, 1000), 20),
        ((None, None, 5, 4, 7), 7),
        ((0, None, 5, 4, 7), 0),
        ((99, None, 5, 4, 7), 20),
        ((None, 0.15, 10, 10, 7), 15),
        ((None, 0.151, 10, 10, 7), 16),
        ((None, 0, 10, 10, 7), 0),
        ((None, 1, 10, 10, 7), 100),
        ((None, 1e-9, 10, 10, 7), 0),
    ],
)
def test_effective_k(arguments: tuple, expected: int) -> None:
    assert effective_k(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"k": 3, "budget": 0.5}, ValueError, "expected k or budget, got both"),
        ({"k": -1}, ValueError, "expected k >= 0, got -1"),
        ({"k": 2.0}, TypeError, "expected k as an int"),
        ({"k": True}, TypeError, "expected k as an int"),
        ({"budget": 1.5}, ValueError, r"budget in \[0, 1\]"),
        ({"budget": -0.1}, ValueError, r"budget in \[0, 1\]"),
        ({"budget": "all"}, TypeError, "budget as a number"),
        ({"order": "best"}, ValueError, "got 'best'"),
    ],
)
def test_bad_choices(arguments: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        _layer()(torch.rand(1, 3, 8, 8), **arguments)


@pytest.mark.parametrize(
    ("lr", "error", "text"),
    [
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            TypeError,
            "floating-point tensor in .0,1., got torch.uint8",
        ),
        (torch.rand(3, 8, 8), ValueError, r"\[B,3,H,W\] with H, W >= 1, got shape \(3, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), ValueError, r"got shape \(1, 1, 8, 8\)"),
        (torch.rand(1, 3, 0, 8), ValueError, "H, W >= 1"),
        ("image.png", TypeError, "got str"),
    ],
)
def test_bad_images(lr: object, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        _layer()(lr)


def test_allnet_takes_no_k() -> None:
    with pytest.raises(ValueError, match="refines every patch; drop k and budget"):
        _layer(mask=False)(torch.rand(1, 3, 8, 8), k=3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"scale": 0}, ValueError),
        ({"scale": 2, "patch_size": 0}, ValueError),
        ({"scale": 2, "halo": -1}, ValueError),
        ({"scale": 2, "k": -1}, ValueError),
        ({"scale": 2.0}, TypeError),
    ],
)
def test_bad_geometry(arguments: dict, error: type) -> None:
    with pytest.raises(error, match="SparseRefine: expected"):
        SparseRefine(Base(2), Refine(2, 1), None, **arguments)


def test_wrong_mask_size_is_named() -> None:
    layer = SparseRefine(Base(2), Refine(2, 1), MaskPredictor(5, 8), scale=2, patch_size=4)
    with pytest.raises(ValueError, match=r"expected mask \[1, 4, 4\].* got \[1, 2, 2\]"):
        layer(torch.rand(1, 3, 16, 16))
