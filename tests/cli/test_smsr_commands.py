"""``convert``, and what the other commands say of a network with sparse masks."""

from __future__ import annotations

import json
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
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up checkpoint of SMSR x2 as it is released."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("released") / "smsr_x2.pt"
    torch.save(sparsesr.create_model("smsr", 2).state_dict(), path)
    return path


@pytest.fixture
def weights_file(run: Run, checkpoint: Path, tmp_path: Path) -> Path:
    path = tmp_path / "smsr.safetensors"
    assert run("convert", checkpoint, "-o", path).code == 0
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photo"
    folder.mkdir()
    write_image(folder / "a.png", rng.integers(0, 256, (32, 28, 3), dtype=np.uint8))
    return folder


def test_convert_says_what_it_found(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    result = run("convert", checkpoint, "-o", out, "--json")
    assert result.code == 0
    assert result.json() == {
        "input": str(checkpoint),
        "output": str(out),
        "card": str(tmp_path / "new.json"),
        "model": "smsr",
        "scale": 2,
        "params": 987_330,
    }
    card = json.loads((tmp_path / "new.json").read_text())
    assert (card["model"], card["converted_from"]["file"]) == ("smsr", "smsr_x2.pt")


def test_convert_never_overwrites_unasked(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.json"):
        (tmp_path / name).write_text("mine")
        result = run("convert", checkpoint, "-o", tmp_path / "a.safetensors")
        assert result.code == 2
        assert f"{name} already exists; pass --overwrite" in result.err
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "a.json").write_text("mine")
    assert run("convert", checkpoint, "-o", tmp_path / "a.safetensors", "--overwrite").code == 0
    assert sparsesr.from_pretrained(tmp_path / "a.safetensors").scale == 2


def test_convert_refuses_what_it_does_not_know(run: Run, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "a.pt")
    result = run("convert", tmp_path / "a.pt", "-o", tmp_path / "b.safetensors")
    assert (result.code, "no network known here" in result.err) == (2, True)
    result = run("convert", tmp_path / "none.pt", "-o", tmp_path / "b.safetensors")
    assert (result.code, "no checkpoint" in result.err) == (2, True)
    result = run("convert", tmp_path / "a.pt", "-o", tmp_path / "b.bin")
    assert (result.code, "ends in .safetensors" in result.err) == (2, True)
    assert not (tmp_path / "b.safetensors").exists()


def test_evaluate_reports_sparsity(run: Run, weights_file: Path, photo: Path) -> None:
    result = run("evaluate", "-m", weights_file, "-d", photo, "--json").json()
    image, mean = result["images"][0], result["mean"]
    assert list(image) == ["name", "psnr", "ssim", "k_used", "sparsity", "sparsity_of_modules"]
    assert image["k_used"] is None
    assert len(image["sparsity_of_modules"]) == 5
    assert image["sparsity"] == pytest.approx(np.mean(image["sparsity_of_modules"]), abs=1e-6)
    assert mean == {key: image[key] for key in mean}
    table = run("evaluate", "-m", weights_file, "-d", photo).out
    assert "sparsity" in table
    assert "SMM5" in table
    assert f"{image['sparsity']:.3f}" in table


def test_evaluate_refuses_a_number_of_patches(run: Run, weights_file: Path, photo: Path) -> None:
    result = run("evaluate", "-m", weights_file, "-d", photo, "--k", "5")
    assert (result.code, "does not select patches" in result.err) == (2, True)


def test_upscale_shows_the_masks(run: Run, weights_file: Path, photo: Path, tmp_path: Path) -> None:
    words = ("upscale", photo, "-o", tmp_path / "out", "-m", weights_file, "--save-mask", "--json")
    row = run(*words).json()["files"][0]
    assert row["sr_size"] == [64, 56]
    assert 0 <= row["sparsity"] <= 1
    picture = read_image(tmp_path / "out" / "a_x2_mask.png")
    # Two rows of three panels of 56x64 px with a line of text and gaps of 4 px.
    assert picture.shape == (2 * (64 + 24) + 4, 3 * 56 + 2 * 4, 3)
    upscaled = read_image(tmp_path / "out" / "a_x2.png")
    np.testing.assert_array_equal(picture[:64, :56], upscaled)


@pytest.mark.parametrize(("model", "modules"), [("srresnet-smsr", 4), ("imdn-smsr", 5)])
def test_other_backbones(run: Run, photo: Path, tmp_path: Path, model: str, modules: int) -> None:
    """Sparsity of every module, and its mask in a panel."""
    torch.manual_seed(0)
    weights = tmp_path / "a.safetensors"
    save_weights(sparsesr.create_model(model, 2), weights, {})
    image = run("evaluate", "-m", weights, "-d", photo, "--json").json()["images"][0]
    assert len(image["sparsity_of_modules"]) == modules
    words = ("upscale", photo, "-o", tmp_path / "out", "-m", weights, "--save-mask", "--json")
    assert 0 <= run(*words).json()["files"][0]["sparsity"] <= 1
    picture = read_image(tmp_path / "out" / "a_x2_mask.png")
    # Result and masks in two rows of three panels, as SMSR's.
    assert picture.shape == (2 * (64 + 24) + 4, 3 * 56 + 2 * 4, 3)


def test_evaluate_names_another_scale(run: Run, weights_file: Path, photo: Path) -> None:
    result = run("evaluate", "-m", weights_file, "-d", photo, "--scale", "3")
    assert (result.code, "is for scale 2, got scale=3" in result.err) == (2, True)


def test_another_scale_is_named(run: Run, weights_file: Path, photo: Path) -> None:
    result = run("upscale", photo / "a.png", "-m", weights_file, "--scale", "4")
    assert result.code == 2
    assert "is for scale 2, got scale=4" in result.err
