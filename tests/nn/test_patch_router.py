"""``PatchRouter``: overlapping patches, averaged; each through the network of its class."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsesr import create_model
from sparsesr.nn import PatchesOutput, PatchRouter


class Enlarge(nn.Module):
    """Nearest-neighbour enlargement times a number: no patch depends on its neighbours."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * F.interpolate(x, scale_factor=2)


class Brightness(nn.Module):
    """Class 1 for bright patches."""

    def forward(self, x: Tensor) -> Tensor:
        light = x.mean((1, 2, 3))
        return torch.stack([torch.full_like(light, 0.5), light], dim=1) * 9


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (20, 23), (1, 1), (14, 9)])
@pytest.mark.parametrize("stride", [8, 6, 3])
def test_one_network_puts_the_image_together_again(size: tuple[int, int], stride: int) -> None:
    lr = torch.rand(2, 3, *size)
    net = PatchRouter([Enlarge(1.0)], scale=2, patch_size=8, stride=stride).eval()
    # Means of equal numbers round once.
    torch.testing.assert_close(net(lr), F.interpolate(lr, scale_factor=2), rtol=1e-6, atol=1e-6)


def test_patches_go_through_the_network_of_their_class() -> None:
    lr = torch.full((1, 3, 8, 16), 0.25)
    lr[..., 8:] = 0.75
    net = PatchRouter([Enlarge(1.0), Enlarge(10.0)], Brightness(), scale=2, patch_size=8, stride=8)
    out = net.eval()(lr, return_details=True)
    assert isinstance(out, PatchesOutput)
    assert out.class_map.tolist() == [[[0, 1]]]
    assert out.logits is not None
    assert out.logits.shape == (1, 2, 1, 2)
    expected = F.interpolate(torch.where(lr > 0.5, 10 * lr, lr), scale_factor=2)
    torch.testing.assert_close(out.sr, expected)


def test_overlap_is_the_mean_of_what_the_patches_say() -> None:
    lr = torch.ones(1, 3, 8, 14)
    lr[..., 8:] = 4  # the second patch is the bright one
    nets = [Enlarge(1.0), Enlarge(3.0)]
    net = PatchRouter(nets, Brightness(), scale=2, patch_size=8, stride=6).eval()
    with torch.no_grad():
        net.classifier = nn.Sequential(_Shift(), Brightness())
        out = net(lr, return_details=True)
    assert out.class_map.tolist() == [[[0, 1]]]
    row = out.sr[0, 0, 0, ::2]
    assert row.tolist() == [1.0] * 6 + [2.0] * 2 + [12.0] * 6


class _Shift(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 1.5


def test_training_mixes_by_probability() -> None:
    lr = torch.rand(2, 3, 9, 9)
    nets = [Enlarge(1.0), Enlarge(2.0)]
    net = PatchRouter(nets, Brightness(), scale=2, patch_size=9, stride=9).train()
    shares = Brightness()(lr).softmax(1)
    factor = (shares[:, 0] + 2 * shares[:, 1]).view(-1, 1, 1, 1)
    torch.testing.assert_close(net(lr), factor * F.interpolate(lr, scale_factor=2))
    net(lr).sum().backward()
    assert all(isinstance(n, Enlarge) and n.factor.grad is not None for n in net.nets)


def test_the_papers_patches_of_a_network() -> None:
    """32x32 at stride 28: away from the cuts the image is the network's own."""
    torch.manual_seed(0)
    net, lr = create_model("carn", 2).eval(), torch.rand(1, 3, 60, 32)
    with torch.no_grad():
        whole, cut = net(lr), PatchRouter([net], scale=2).eval()(lr)
    assert cut.shape == whole.shape
    assert not torch.allclose(cut, whole, atol=1e-4)
    assert F.l1_loss(cut, whole) < 0.05 * whole.abs().mean()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nets": []}, "one network, or several and a classifier; got 0 and no"),
        ({"nets": [Enlarge(1.0)] * 2}, "got 2 and no classifier"),
        ({"stride": 9, "patch_size": 8}, "1 <= stride <= patch_size, got scale=2, stride=9"),
        ({"stride": 0}, "stride=0"),
        ({"scale": 0}, "scale >= 1"),
    ],
)
def test_bad_construction(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=f"^PatchRouter: .*{text}"):
        PatchRouter(**{"nets": [Enlarge(1.0)], "scale": 2, **options})
