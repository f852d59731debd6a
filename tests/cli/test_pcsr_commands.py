"""What the commands say of a network that routes pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparsesr
from sparsesr.io import read_image, write_image
from sparsesr.models import save_weights

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up FSRCNN-PCSR x4 that calls some pixels heavy."""
    torch.manual_seed(0)
    net = sparsesr.create_model("fsrcnn-pcsr", 4).eval()
    last = net.classifier.linears[-1]  # type: ignore[union-attr, operator]
    with torch.no_grad():
        last.weight.mul_(20)
        logits = net(torch.rand(1, 3, 32, 32), return_details=True).logits
        last.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
    path = tmp_path_factory.mktemp("weights") / "pcsr.safetensors"
    save_weights(net, path, {})
    return path


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("photo")
    write_image(folder / "a.png", rng.integers(0, 256, (140, 151, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    write_image(tmp_path / "s.png", rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    return tmp_path / "s.png"


def test_evaluate_by_the_papers_protocol(run: Run, weights_file: Path, photo: Path) -> None:
    words = ("evaluate", "-m", weights_file, "-d", photo, "--convention", "pcsr", "--json")
    result = run(*words).json()
    image = result["images"][0]
    assert list(image) == [
        "name", "psnr", "ssim", "k_used", "heavy_fraction", "paper_flops", "macs",
    ]  # fmt: skip
    assert (result["k"], image["k_used"]) == (0.0, None)
    assert result["mean"] == {key: image[key] for key in result["mean"]}
    # HR 140x148 (mod 4) has LR 35x37, of which 32x32 are used.
    heavy = image["heavy_fraction"]
    assert image["paper_flops"] == pytest.approx(
        1024 * (19_992 + 3_328 + 16 * (heavy * 26_564 + (1 - heavy) * 1_500))
    )
    cost = sparsesr.complexity(sparsesr.create_model("fsrcnn-pcsr", 4), (32, 32), budget=heavy)
    assert image["macs"] == cost.macs
    table = run(*words[:-1]).out
    assert "heavy" in table
    assert f"{heavy:.3f}" in table


def test_evaluate_with_every_choice(run: Run, weights_file: Path, photo: Path) -> None:
    def heavy(*options: str) -> float:
        result = run("evaluate", "-m", weights_file, "-d", photo, *options, "--json")
        assert result.code == 0, result.err
        return result.json()["mean"]["heavy_fraction"]

    assert heavy("--k", "all") == 1
    assert heavy("--k", "-50") == 1
    assert heavy("--k", "0") > heavy("--k", "0.3") > heavy("--k", "50") == 0
    assert 0 < heavy("--k", "adaptive") < 1
    assert heavy("--budget", "0.25") == 0.25
    plain = run("evaluate", "-m", weights_file, "-d", photo, "--no-refine", "--json").json()
    smooth = run("evaluate", "-m", weights_file, "-d", photo, "--json").json()
    assert (plain["refine"], "refine" in smooth) == (False, False)
    assert plain["mean"]["psnr"] != smooth["mean"]["psnr"]
    assert plain["mean"]["heavy_fraction"] == smooth["mean"]["heavy_fraction"]


def test_evaluate_at_another_scale(run: Run, weights_file: Path, photo: Path) -> None:
    words = ("evaluate", "-m", weights_file, "-d", photo, "--json", "-s")
    result = run(*words, "2").json()
    assert (result["model"], result["scale"]) == ("fsrcnn-pcsr-x2", 2)
    heavy = result["mean"]["heavy_fraction"]
    samplers = 208 + heavy * 26_564 + (1 - heavy) * 1_500  # for each of 140x150 HR pixels
    assert result["mean"]["paper_flops"] == pytest.approx(5250 * (19_992 + 4 * samplers))


def test_evaluate_an_original(run: Run, photo: Path, tmp_path: Path) -> None:
    save_weights(sparsesr.create_model("fsrcnn", 4), tmp_path / "o.safetensors", {})
    words = ("evaluate", "-m", tmp_path / "o.safetensors", "-d", photo, "--json")
    assert run(*words, "--convention", "pcsr").json()["mean"]["paper_flops"] == 1024 * 457_048
    assert "paper_flops" not in run(*words).json()["mean"]
    for option in (("--no-refine",), ("--k", "1"), ("--k", "adaptive"), ("--budget", "0.5")):
        assert run(*words, *option).code == 2


@pytest.mark.parametrize("scale", ["2.7", "2", "4"])
def test_upscale_to_any_scale(run: Run, weights_file: Path, small: Path, scale: str) -> None:
    words = ("upscale", small, "-m", weights_file, "-s", scale, "--budget", "0.3", "--json")
    row = run(*words).json()["files"][0]
    size = [round(12 * float(scale)), round(10 * float(scale))]
    assert row["sr_size"] == size
    assert row["output"] == str(small.with_name(f"s_x{scale}.png"))
    assert row["heavy_fraction"] == pytest.approx(0.3, abs=1 / (size[0] * size[1]))
    assert read_image(Path(row["output"])).shape == (*size, 3)


def test_upscale_shows_the_classes(run: Run, weights_file: Path, tmp_path: Path) -> None:
    photo = tmp_path / "wide.png"  # wider than its label
    write_image(photo, np.random.default_rng(0).integers(0, 256, (12, 40, 3), dtype=np.uint8))
    result = run("upscale", photo, "-m", weights_file, "-k", "0.1", "--save-mask", "--json").json()
    assert (result["k"], result["budget"], result["scale"]) == (0.1, None, 4)
    picture = read_image(Path(result["files"][0]["mask"]))
    assert picture.shape == (48 + 24, 3 * 160 + 2 * 4, 3)  # room for three panels


def test_what_cannot_be_is_named(run: Run, weights_file: Path, small: Path) -> None:
    words = ("upscale", small, "--overwrite")
    result = run(*words, "-m", weights_file, "-k", "many")
    assert (result.code, "the exponent of the cost, or 'all'" in result.err) == (2, True)
    result = run(*words, "-m", weights_file, "-s", "0.5")
    assert (result.code, "--scale 0.5: expected a number >= 1" in result.err) == (2, True)
    result = run(*words, "-s", "2.7")
    assert (result.code, "is for scale 4, got scale=2.7" in result.err) == (2, True)
    result = run(*words, "-k", "1.5")
    assert (result.code, "a number of patches or 'all'" in result.err) == (2, True)
