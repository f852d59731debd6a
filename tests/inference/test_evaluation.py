"""The JSON of evaluate, its choice of patches, and the masks it compares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sparsesr
from sparsesr.inference import evaluate, profile
from sparsesr.inference.choices import PAPER_K
from sparsesr.inference.evaluation import _pcsr_side
from sparsesr.inference.masks import composite, error_mask, patch_pixels
from sparsesr.io import ImageError, to_array
from sparsesr.metrics import psnr


def test_shape_of_the_result(net: torch.nn.Module, dataset: Path) -> None:
    seen: list[tuple] = []
    result = evaluate(net, dataset, 2, progress=lambda *step: seen.append(step))
    assert list(result) == ["model", "scale", "convention", "dataset", "k", "mean", "images"]
    assert result["model"] == "fsrcnn-mga-x2"
    assert (result["scale"], result["convention"], result["dataset"]) == (2, "y", "Set5")
    assert result["k"] == 240
    assert [list(image) for image in result["images"]] == [["name", "psnr", "ssim", "k_used"]] * 2
    assert [image["name"] for image in result["images"]] == ["one", "two"]
    assert [image["k_used"] for image in result["images"]] == [25, 63]
    for key in ("psnr", "ssim"):
        mean = np.mean([image[key] for image in result["images"]])
        assert result["mean"][key] == pytest.approx(mean)
    assert seen == [(1, 2, "one"), (2, 2, "two")]
    json.dumps(result, allow_nan=False)


def test_paper_k() -> None:
    assert {PAPER_K[name] for name in ("set5", "set14", "b100")} == {240}


@pytest.mark.parametrize(
    ("k", "shown", "used"),
    [(3, 3, [3, 3]), (0, 0, [0, 0]), ("all", "all", [25, 63]), (0.25, None, [7, 16])],
)
def test_choices_of_k(
    net: torch.nn.Module, dataset: Path, k: object, shown: object, used: list
) -> None:
    result = evaluate(net, dataset, 2, k=k)  # type: ignore[arg-type]
    assert result["k"] == shown
    assert [image["k_used"] for image in result["images"]] == used
    assert result.get("budget") == (0.25 if shown is None else None)


def test_paper_k_elsewhere_is_1000(net: torch.nn.Module, dataset: Path) -> None:
    elsewhere = dataset.rename(dataset.with_name("holiday"))
    assert evaluate(net, elsewhere, 2)["k"] == 1000


def test_networks_without_masks_have_no_k(dataset: Path) -> None:
    dense = sparsesr.create_model("fsrcnn-dnet", scale=2)
    result = evaluate(dense, dataset, 2)
    assert result["k"] is None
    assert [image["k_used"] for image in result["images"]] == [None, None]
    with pytest.raises(ValueError, match="fsrcnn-dnet does not select patches"):
        evaluate(dense, dataset, 2, k=7)
    with pytest.raises(ValueError, match="need a network that selects patches"):
        evaluate(dense, dataset, 2, mask="oracle")


def test_numbers_are_those_of_the_metrics(net: torch.nn.Module, dataset: Path) -> None:
    from sparsesr.data import load_pair, paired_images

    lr, hr = load_pair(paired_images(dataset, 2)[0], 2)
    with torch.inference_mode():
        expected = psnr(net(lr, k=5), hr, 2)
    result = evaluate(net, dataset, 2, k=5)
    assert result["images"][0]["psnr"] == pytest.approx(expected, abs=1e-3)
    rgb = evaluate(net, dataset, 2, k=5, convention="rgb")
    assert rgb["images"][0]["psnr"] != pytest.approx(expected, abs=1e-3)


def test_all_patches_are_the_same_whatever_picks_them(net: torch.nn.Module, dataset: Path) -> None:
    means = [
        evaluate(net, dataset, 2, k="all", order=order, mask=mask)["mean"]["psnr"]  # type: ignore[arg-type]
        for order in ("largest", "random", "smallest")
        for mask in ("predicted", "oracle")
    ]
    assert means == pytest.approx([means[0]] * 6, abs=1e-3)


def test_the_oracle_changes_most_and_smallest_least(net: torch.nn.Module, dataset: Path) -> None:
    def distance(order: str) -> float:
        changed = evaluate(net, dataset, 2, k=9, order=order, mask="oracle")  # type: ignore[arg-type]
        coarse = evaluate(net, dataset, 2, k=0)
        assert (changed["order"] if order != "largest" else "largest") == order
        assert changed["mask"] == "oracle"
        return abs(changed["mean"]["psnr"] - coarse["mean"]["psnr"])

    assert distance("largest") > distance("smallest")


def test_random_order_repeats_with_its_seed(net: torch.nn.Module, dataset: Path) -> None:
    runs = [evaluate(net, dataset, 2, k=5, order="random", seed=s)["mean"] for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_hr_mod_and_plain_folders(net: torch.nn.Module, dataset: Path) -> None:
    result = evaluate(net, dataset, 2, k="all", hr_mod=12)
    assert result["hr_mod"] == 12
    # 41x36 -> 36x36, 18x18 LR, 5x5 patches; 52x70 -> 48x60, 24x30 LR, 6x8 patches
    assert [image["k_used"] for image in result["images"]] == [25, 48]
    plain = evaluate(net, dataset / "HR", 2, k="all")
    assert plain["dataset"] == "HR"
    assert plain["mean"] == pytest.approx(evaluate(net, dataset, 2, k="all")["mean"])


def test_pcsr_protocol(net: torch.nn.Module, dataset: Path) -> None:
    assert [_pcsr_side(side) for side in (31, 32, 59, 60, 120)] == [31, 32, 32, 60, 116]
    result = evaluate(net, dataset, 2, k="all", convention="pcsr")
    assert result["convention"] == "pcsr"
    assert [image["k_used"] for image in result["images"]] == [25, 56]  # 20x18 and 26x32 LR


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": "some"}, "expected k 'paper', 'all', an int or a fraction, got 'some'"),
        ({"k": -4}, "expected k >= 0, got -4"),
        ({"k": 1.5}, r"expected budget in \[0, 1\], got 1.5"),
        ({"convention": "lab"}, "expected convention in y, rgb, pcsr; got 'lab'"),
        ({"order": "best"}, "expected order in largest, random, smallest; got 'best'"),
        ({"mask": "none"}, "expected mask in predicted, oracle; got 'none'"),
        ({"hr_mod": 3}, "expected hr_mod to be a multiple of 2, got 3"),
        ({"scale": 4}, "the network is for x2, got scale=4"),
    ],
)
def test_bad_options(net: torch.nn.Module, dataset: Path, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        evaluate(net, dataset, **{"scale": 2, **options})


def test_bad_data(net: torch.nn.Module, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate(net, tmp_path / "nowhere", 2)
    (dataset / "HR" / "one.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"one\.png: cannot be read"):
        evaluate(net, dataset, 2)


def test_patch_pixels_and_composite() -> None:
    index = torch.tensor([[0, 5]], dtype=torch.int32)
    pixels = patch_pixels(index, (2, 3), 4, (7, 11))
    assert pixels.shape == (1, 1, 7, 11)
    assert pixels.sum() == 4 * 4 + 3 * 3
    assert pixels[0, 0, :4, :4].all()
    assert pixels[0, 0, 4:, 8:].all()
    coarse, refined = torch.zeros(1, 3, 7, 11), torch.ones(1, 3, 7, 11)
    result = composite(coarse, refined, index, (2, 3), 4)
    torch.testing.assert_close(result, pixels.float().expand(-1, 3, -1, -1))


def test_composite_equals_the_network(net: torch.nn.Module) -> None:
    lr = torch.rand(1, 3, 14, 19, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        out = net(lr, k=6, return_details=True)
        refined = net(lr, k=1000)
    result = composite(out.coarse, refined, out.index, (4, 5), 8)
    torch.testing.assert_close(result, out.sr, atol=1e-6, rtol=1e-5)


def test_error_mask_is_the_mean_change_of_luma() -> None:
    coarse = torch.zeros(1, 3, 6, 8)
    refined = coarse.clone()
    refined[..., 4:, 4:] = 1
    mask = error_mask(refined, coarse, 4)
    assert mask.shape == (1, 1, 2, 2)
    # The lower patches have two rows inside the image; the rest counts as unchanged.
    torch.testing.assert_close(mask[0, 0], torch.tensor([[0.0, 0.0], [0.0, 219.0 / 2]]))


def test_profile_of_a_sparse_network(net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("thop")
    monkeypatch.setenv("SPARSESR_EXECUTOR", "layered")
    result = profile(net, (20, 24), k=7, repeats=1)
    assert list(result)[:7] == [
        "model", "lr_size", "k", "params", "macs", "paper_flops", "stages"
    ]  # fmt: skip
    assert (result["model"], result["lr_size"], result["k"]) == ("fsrcnn-mga-x2", [20, 24], 7)
    assert result["params"] == 43270
    assert list(result["stages"]) == ["base", "mask", "select", "gather", "refine", "scatter"]
    assert all(seconds > 0 for seconds in [*result["stages"].values(), result["total"]])


def test_profile_of_routed_pixels() -> None:
    routed = sparsesr.create_model("fsrcnn-pcsr", 2).eval()
    result = profile(routed, (9, 8), budget=0.25, repeats=1)
    stages = ["encoder", "classifier", "choice", "samplers", "average"]
    assert (list(result["stages"]), result["k"]) == (stages, None)
    assert result["heavy_fraction"] == 0.25
    assert result["macs"] == sparsesr.complexity(routed, (9, 8), budget=0.25).macs
    assert profile(routed, (9, 8), k=-50.0, repeats=1)["heavy_fraction"] == 1


def test_profile_of_a_dense_network_and_of_k_0(net: torch.nn.Module) -> None:
    pytest.importorskip("thop")
    dense = profile(sparsesr.create_model("fsrcnn-dnet", scale=2), (9, 8), repeats=1)
    assert dense["k"] is None
    assert list(dense["stages"]) == ["forward"]
    assert profile(net, (9, 8), k=0, repeats=1)["k"] == 0
    with pytest.raises(ValueError, match="repeats and sides of at least 1, got repeats=0"):
        profile(net, (9, 8), repeats=0)


class _PublishedFSRCNN(torch.nn.Module):
    """The x4 FSRCNN whose weights PCSR's authors released, under their names."""

    scale = 4
    model_name = "fsrcnn"

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.head_conv = nn.Sequential(nn.Conv2d(3, 56, 5, padding=2), nn.PReLU())
        self.body_conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(56, 12, 1), nn.PReLU()),
            *(nn.Conv2d(12, 12, 3, padding=1) for _ in range(4)),
            nn.PReLU(),
            nn.Sequential(nn.Conv2d(12, 56, 1), nn.PReLU()),
        )
        self.tail_conv = nn.ConvTranspose2d(56, 3, 9, 4, 3, output_padding=1)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return self.tail_conv(self.body_conv(self.head_conv(lr)))


def test_pcsr_protocol_gives_the_measured_figure(shared: Path) -> None:
    file = torch.load(shared / "weights" / "fsrcnn_x4.pth", weights_only=True, map_location="cpu")
    published = _PublishedFSRCNN()
    published.load_state_dict(file["model"]["sd"])
    result = evaluate(published, shared / "data" / "Set14", 4, convention="pcsr", hr_mod=12)
    assert result["mean"]["psnr"] == pytest.approx(25.785, abs=1e-3)


@pytest.mark.parametrize("name", ["Set14", "B100"])
def test_psnr_is_that_of_scikit_image(shared: Path, tmp_path: Path, name: str) -> None:
    """Luma written out here, of the 8-bit images; MATLAB's weights, not rounded."""
    metrics = pytest.importorskip("skimage.metrics")
    from sparsesr.data import load_pair, paired_images

    every = paired_images(shared / "data" / name, 4)
    pairs = [every[0], every[len(every) // 2], every[-1]]
    root = tmp_path / name
    for part in ("HR", "LRx4"):
        (root / part).mkdir(parents=True)
    for pair in pairs:
        assert pair.lr is not None
        (root / "HR" / pair.hr.name).symlink_to(pair.hr.resolve())
        (root / "LRx4" / pair.lr.name).symlink_to(pair.lr.resolve())
    net = sparsesr.from_pretrained("fsrcnn-mga-x4")
    images = evaluate(net, root, 4, k=240)["images"]
    assert len(images) == 3
    weights = np.array([65.481, 128.553, 24.966]) / 255
    for pair, image in zip(pairs, images, strict=True):
        lr, hr = load_pair(pair, 4)
        sr = sparsesr.Upscaler(net, k=240)(lr)
        lumas = [(to_array(x) @ weights + 16)[4:-4, 4:-4] for x in (hr, sr)]
        expected = metrics.peak_signal_noise_ratio(*lumas, data_range=255)
        assert image["psnr"] == pytest.approx(expected, abs=1e-3)
