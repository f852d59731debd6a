"""Comparisons: which panels a network has, where they differ, and what their labels say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sparsesr
from sparsesr.inference import Upscaler
from sparsesr.inference.comparison import (
    Panel,
    bicubic,
    compare,
    comparison_panels,
    most_different,
)
from sparsesr.inference.time_budget import Pick
from sparsesr.io import to_array
from sparsesr.metrics import imresize, psnr


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """An image [1, 3, height, width] with structure."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, height // 3 + 1, width // 3 + 1, generator=generator)
    return imresize(noise, size=(height, width)).clamp(0, 1)


def names(panels: list[Panel]) -> list[str]:
    return [panel.name for panel in panels]


def by_name(panels: list[Panel]) -> dict[str, Panel]:
    return {panel.name: panel for panel in panels}


def test_a_network_that_selects_patches(net: nn.Module) -> None:
    lr, hr = smooth(22, 34), smooth(44, 68, 1)
    upscaler = Upscaler(net, k=7)
    panels = comparison_panels(upscaler, lr, hr=hr)
    assert names(panels) == ["bicubic", "coarse", "sparse", "dense", "original"]
    expected = {
        "bicubic": imresize(lr, 2),
        "coarse": upscaler.run(lr, k=0),
        "sparse": upscaler.run(lr, k=7),
        "dense": upscaler.run(lr, k=54),
    }
    for name, image in expected.items():
        panel = by_name(panels)[name]
        np.testing.assert_array_equal(panel.image, to_array(image))
        assert panel.psnr == pytest.approx(psnr(image, hr, 2), abs=1e-5)
        assert f"{psnr(image, hr, 2):.2f} dB" in panel.label
    np.testing.assert_array_equal(panels[-1].image, to_array(hr))
    assert panels[-1].psnr is None
    labels = [panel.label.rpartition(",")[0] for panel in panels[:-1]]
    assert labels == ["bicubic", "coarse: k 0", "sparse: k 7 of 54 (13 %)", "dense: k all"]
    without = comparison_panels(upscaler, lr)
    assert names(without) == names(panels)[:-1]
    assert [panel.psnr for panel in without] == [None] * 4


class Counting(Upscaler):
    """Counts the calls of the network, and the progress that it tells."""

    def __init__(self, net: nn.Module, **options: Any) -> None:
        self.calls: list[dict[str, Any]] = []
        self.told: list[tuple[int, int]] = []
        super().__init__(net, progress=lambda done, all_: self.told.append((done, all_)), **options)

    def run(self, lr: Tensor, **options: Any) -> Any:
        self.calls.append(dict(options))
        return super().run(lr, **options)


@pytest.mark.parametrize(
    ("options", "calls"), [({"k": 0}, 1), ({"k": 99}, 1), ({"budget": 0.2}, 2)]
)
def test_nothing_is_computed_twice(net: nn.Module, options: dict[str, Any], calls: int) -> None:
    upscaler = Counting(net, **options)
    lr = smooth(16, 20)
    result = Upscaler(net, **options).run(lr)
    panels = by_name(comparison_panels(upscaler, lr, result))
    assert len(upscaler.calls) == calls
    assert upscaler.told == []
    assert upscaler.progress is not None
    np.testing.assert_array_equal(panels["sparse"].image, to_array(result))
    if "k" in options:
        same = panels["coarse" if options["k"] == 0 else "dense"]
        np.testing.assert_array_equal(panels["sparse"].image, same.image)


def test_labels_say_what_a_time_budget_chose(net: nn.Module) -> None:
    upscaler, lr = Upscaler(net), smooth(16, 20)
    upscaler.picked = Pick({"k": 6}, 0.3, 1.0, 1.0, 1.0)
    assert comparison_panels(upscaler, lr, upscaler.run(lr, k=6))[2].detail == "k 6 of 20 (30 %)"


def test_details_are_taken_too(net: nn.Module) -> None:
    upscaler, lr = Upscaler(net, budget=0.5), smooth(16, 20)
    plain = comparison_panels(upscaler, lr, upscaler.run(lr))
    details = comparison_panels(upscaler, lr, upscaler.run(lr, return_details=True))
    assert [p.label for p in details] == [p.label for p in plain]
    for one, other in zip(plain, details, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize("name", ["fsrcnn-dnet", "fsrcnn-allnet", "fsrcnn-base", "imdn"])
def test_dense_networks(name: str) -> None:
    torch.manual_seed(0)
    upscaler, lr = Upscaler(sparsesr.create_model(name, scale=2)), smooth(14, 40)
    panels = comparison_panels(upscaler, lr)
    assert names(panels) == ["bicubic", "dense"]
    np.testing.assert_array_equal(panels[1].image, to_array(upscaler.run(lr)))
    picture = compare(upscaler, lr)
    assert picture.shape[1] == 2 * 640 + 4


def test_a_network_that_routes_pixels() -> None:
    torch.manual_seed(0)
    upscaler = Upscaler(sparsesr.create_model("fsrcnn-pcsr", scale=4), budget=0.3, scale=2.7)
    lr = smooth(11, 12)
    panels = comparison_panels(upscaler, lr, hr=smooth(30, 32))
    assert names(panels) == ["bicubic", "light", "routed", "heavy", "original"]
    assert panels[2].detail == "30 % heavy"
    for panel, budget in zip(panels[1:4], (0.0, 0.3, 1.0), strict=True):
        np.testing.assert_array_equal(panel.image, to_array(upscaler.run(lr, budget=budget)))
    exact = psnr(upscaler.run(lr), smooth(30, 32), 3)  # the scale, rounded up
    assert panels[2].psnr == pytest.approx(exact, abs=1e-5)
    by_cost = Upscaler(upscaler.net, k=0.5)
    assert comparison_panels(by_cost, lr, by_cost.run(lr))[2].detail == "k 0.5"
    with_details = comparison_panels(by_cost, lr)[2].detail
    assert with_details.startswith("k 0.5, ")
    assert with_details.endswith(" % heavy")


def test_a_network_of_masked_modules() -> None:
    torch.manual_seed(0)
    net = sparsesr.create_model("smsr", scale=2)
    upscaler, lr = Upscaler(net), smooth(12, 10)
    panels = comparison_panels(upscaler, lr)
    assert names(panels) == ["bicubic", "sparse", "without masks"]
    computed = 1 - float(upscaler.run(lr, return_details=True).sparsity()[0])
    assert panels[1].detail == f"{100 * computed:.0f} % computed"
    np.testing.assert_array_equal(panels[2].image, to_array(upscaler.run(lr, masked=False)))
    assert comparison_panels(upscaler, lr, upscaler.run(lr))[1].detail == ""


def test_crops_lie_where_images_differ() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(40, 200, (240, 320, 3), dtype=np.uint8)
    other = one.copy()
    places = {(37, 200): 50, (150, 20): 30, (180, 250): 10}  # top, left: strength
    for (top, left), strength in places.items():
        other[top : top + 20, left : left + 30] += np.uint8(strength)
    crops = most_different(one, other, (48, 80), 3)
    assert len(crops) == 3
    for (top, left, rows, cols), place in zip(crops, places, strict=True):
        assert (rows, cols) == (48, 80)
        assert top <= place[0] <= place[0] + 20 <= top + rows
        assert left <= place[1] <= place[1] + 30 <= left + cols
    assert most_different(one, other, (48, 80), 3) == crops
    assert most_different(other, one, (48, 80), 1) == crops[:1]


def test_crops_follow_luma_not_colour() -> None:
    one = np.full((64, 96, 3), 100, np.uint8)
    other = one.copy()
    other[8:16, 8:16, 2] += 60  # blue: hardly any luma
    other[40:48, 72:80, 1] += 20
    ((top, left, _, _),) = most_different(one, other, (16, 24), 1)
    assert top > 24
    assert left > 48


def test_crops_do_not_overlap_nor_leave_the_image() -> None:
    rng = np.random.default_rng(1)
    for height, width, size in ((50, 70, (17, 23)), (17, 70, (17, 23)), (40, 24, (14, 24))):
        one, other = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
        crops = most_different(one, other, size, 3)
        assert len(crops) >= 2
        covered = np.zeros((height, width), int)
        for top, left, rows, cols in crops:
            assert top + rows <= height
            assert left + cols <= width
            covered[top : top + rows, left : left + cols] += 1
        assert covered.max() == 1


def test_crops_lie_apart_where_there_is_room() -> None:
    image = np.zeros((16, 112, 3), np.uint8)
    crops = most_different(image, image + np.uint8(1), (16, 32), 3)
    assert crops == [(0, 0, 16, 32), (0, 48, 16, 32), (0, 80, 16, 32)]


def test_crops_of_equal_images_and_of_one_place() -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    assert most_different(image, image, (16, 24), 3) == []
    assert most_different(image, image + np.uint8(9), (16, 24), 3) == [(0, 0, 16, 24)]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (3, 200)])
def test_tiny_images(net: nn.Module, size: tuple[int, int]) -> None:
    lr = smooth(*size)
    hr = smooth(2 * size[0], 2 * size[1], 1)
    picture = compare(Upscaler(net, k=1), lr, hr=hr)
    assert picture.dtype == np.uint8
    assert 5 * 320 <= picture.shape[1] <= 5 * 640 + 4 * 4
    first = comparison_panels(Upscaler(net, k=1), lr, hr=hr)[0]
    assert (first.psnr is None) == (min(size) <= 2)  # border 2 on either side of twice as many


def test_the_picture_shows_the_panels_in_order(net: nn.Module) -> None:
    lr = smooth(80, 80)
    upscaler = Upscaler(net, k=30)
    panels = comparison_panels(upscaler, lr)
    picture = compare(upscaler, lr)
    assert picture.shape[1] == 4 * 640 + 3 * 4
    framed = 0
    for i, panel in enumerate(panels):
        shown = picture[: 4 * 160 : 4, 644 * i : 644 * i + 640 : 4]
        same = (shown == panel.image).all(-1)
        framed = int((~same).sum())
        assert same.mean() > 0.9  # all but the frames
    assert framed > 100
    np.testing.assert_array_equal(picture, compare(upscaler, lr, upscaler.run(lr)))


def test_equal_to_coarse_is_compared_with_bicubic(net: nn.Module) -> None:
    lr = smooth(80, 80)
    some, none = compare(Upscaler(net, k=30), lr), compare(Upscaler(net, k=0), lr)
    assert len(none) == len(some)  # three crops of each


def test_hr_and_results_of_another_size(net: nn.Module) -> None:
    upscaler, lr = Counting(net), smooth(10, 12)
    text = r"expected hr \(1, 3, 20, 24\), got \(1, 3, 21, 24\); crop HR to scale \* LR"
    with pytest.raises(ValueError, match=text):
        compare(upscaler, lr, hr=smooth(21, 24))
    assert upscaler.calls == []
    with pytest.raises(ValueError, match=r"expected result \(1, 3, 20, 24\), got \(1, 3, 40, 48\)"):
        compare(upscaler, lr, smooth(40, 48))
    with pytest.raises(ValueError, match=r"expected lr \[1, 3, H, W\], got \(2, 3, 10, 12\)"):
        compare(upscaler, lr.repeat(2, 1, 1, 1))
    with pytest.raises(TypeError, match="expected hr as a floating tensor"):
        compare(upscaler, lr, hr=to_array(smooth(20, 24)))  # type: ignore[arg-type]


def test_bicubic_is_that_of_the_metrics() -> None:
    lr = smooth(9, 14)
    np.testing.assert_array_equal(bicubic(lr, (27, 42)), to_array(imresize(lr, 3)))


def test_labels() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    assert Panel("dense", "", image).label == "dense"
    assert Panel("dense", "", image, 30.126).label == "dense, 30.13 dB"
    assert Panel("sparse", "k 2 of 9 (22 %)", image, math.inf).label == (
        "sparse: k 2 of 9 (22 %), inf dB"
    )
