"""``evaluate``: several sets, CSV, sweeps and mask errors, and what it refuses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsesr.cli.demo import photo
from sparsesr.io import read_image, write_image
from sparsesr.models import create_model, save_weights

Run = Callable[..., Any]
SWEEP = ("--repeats", 1, "--time-images", 1)


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Set5 of two photographs and Set14 of one; the current folder is an empty one."""
    for root, name, crop in (
        ("Set5", "a", (60, 124, 170, 250)),
        ("Set5", "b", (100, 164, 200, 280)),
        ("Set14", "c", (0, 64, 0, 80)),
    ):
        (tmp_path / root).mkdir(exist_ok=True)
        top, bottom, left, right = crop
        write_image(tmp_path / root / f"{name}.png", photo()[top:bottom, left:right])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return [tmp_path / "Set5", tmp_path / "Set14"]


@pytest.fixture
def words(weights: dict[str, Path], sets: list[Path]) -> tuple:
    """The command on Set5 with an untrained network for x2."""
    return ("evaluate", "-m", weights["fsrcnn-mga-x2"], "--data", sets[0])


def test_several_sets(run: Run, words: tuple, sets: list[Path]) -> None:
    one = run(*words, "-k", 9, "--json").json()
    two = run(*words, "--data", sets[1], "-k", 9, "--json").json()
    assert [document["dataset"] for document in two] == ["Set5", "Set14"]
    assert two[0] == one
    table = run(*words, "-d", sets[1]).out
    assert "on Set5" in table
    assert "on Set14" in table


def test_csv(run: Run, words: tuple, sets: list[Path]) -> None:
    result = run(*words, "-d", sets[1], "--csv", "out.csv", "--json")
    means = [document["mean"]["psnr"] for document in result.json()]
    with Path("out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a", "b", "mean", "c", "mean"]
    assert [float(row["psnr"]) for row in rows if row["image"] == "mean"] == means
    before = Path("out.csv").read_bytes()
    again = run(*words, "--csv", "out.csv")
    assert (again.code, again.out) == (2, "")
    assert "out.csv already exists; pass --overwrite" in again.err
    assert Path("out.csv").read_bytes() == before
    assert run(*words, "--csv", "out.csv", "--overwrite").code == 0
    assert Path("out.csv").read_bytes() != before
    assert "the folder nowhere does not exist" in run(*words, "--csv", "nowhere/o.csv").err


def test_sweep(run: Run, words: tuple) -> None:
    result = run(*words, "--sweep", "0, 5%,all", *SWEEP, "--csv", "s.csv", "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert [point["value"] for point in document["points"]] == ["0", "5%", "all"]
    assert document["dense"]["model"] == "fsrcnn-dnet-x2"
    assert document["figure"] == "fsrcnn-mga-x2_Set5_sweep.png"
    assert read_image(Path(document["figure"])).shape[1] > 1000
    assert Path("s.csv").read_text().count("\n") == 1 + 3 * 4
    again = run(*words, "--sweep", "0,all", *SWEEP)
    assert (again.code, "sweep.png already exists; pass --overwrite" in again.err) == (2, True)
    table = run(*words, "--sweep", "0,25%", *SWEEP, "--overwrite").out
    for text in ("25%", "GMACs", "fsrcnn-dnet-x2", "Break-even in multiply-adds", "Convention: Y"):
        assert text in table
    assert "mean over 1 image of the median of 1 runs" in " ".join(table.split())


def test_sweep_of_several_sets_into_one_figure_name(
    run: Run, words: tuple, sets: list[Path]
) -> None:
    options = ("-d", sets[1], "--sweep", "0,all", *SWEEP, "--figure", "f.svg", "--json")
    documents = run(*words, *options).json()
    assert [document["figure"] for document in documents] == ["f_Set5.svg", "f_Set14.svg"]
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["f_Set14.svg", "f_Set5.svg"]


def test_another_dense_network(run: Run, words: tuple, weights: dict[str, Path]) -> None:
    sweep = ("--sweep", "0,all", *SWEEP, "--overwrite")
    named = run(*words, *sweep, "--dense", weights["fsrcnn-dnet-x2"], "--json").json()
    assert named["dense"]["trained"]
    untrained = run(*words, *sweep, "--dense", "imdn")
    assert "imdn-x2 has no trained weights" in " ".join(untrained.out.split())
    for name in ("fsrcnn-mga", "fsrcnn-dnet-x4"):
        assert run(*words, *sweep, "--dense", name).code == 2
    assert run(*words, *sweep, "--dense", "no-such-net").code == 3


def test_mask_error(run: Run, words: tuple) -> None:
    result = run(*words, "--mask-error", "-o", "m", "--pictures", 1, "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert document["paper_mask_l1"] == 0.0346
    assert list(document["images"][0]) == ["name", "mask_l1", "zero_mask_l1", "unchanged"]
    assert document["files"] == ["m/Set5_a_mask.png", "m/Set5_change.png"]
    assert read_image(Path("m/Set5_a_mask.png")).shape == (2 * (64 + 24) + 4, 2 * 80 + 4, 3)
    again = run(*words, "--mask-error", "-o", "m", "--pictures", 1)
    assert (again.code, "Set5_a_mask.png already exists" in again.err) == (2, True)
    table = run(*words, "--mask-error", "-o", "m", "--overwrite").out
    assert "0.0346" in table
    assert len(list(Path("m").iterdir())) == 3


def test_seams(run: Run, words: tuple) -> None:
    result = run(*words, "--seams", "-k", 9, "--csv", "s.csv", "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert (document["k"], document["smooth"]) == (9, False)
    assert all(image["seam_psnr"] > 0 for image in document["images"])
    assert Path("s.csv").read_text().count("\n") == 1 + 3
    smooth = run(*words, "--seams", "--smooth", "-k", 9, "--json").json()
    assert smooth["mean"]["seam_psnr"] != document["mean"]["seam_psnr"]
    table = run(*words, "--seams", "-k", 0)
    assert "band dB" in table.out
    smoothed = run(*words, "--seams", "--smooth", "--budget", 0.1).out
    assert "borders smoothed" in smoothed


def test_networks_without_k_or_mask(run: Run, weights: dict[str, Path], sets: list[Path]) -> None:
    dense = ("evaluate", "-m", weights["fsrcnn-dnet-x2"], "-d", sets[0])
    swept = run(*dense, "--sweep", "default")
    assert (swept.code, "fsrcnn-dnet has no k to sweep" in swept.err) == (2, True)
    masked = run(*dense, "--mask-error")
    assert (masked.code, "fsrcnn-dnet has no mask" in masked.err) == (2, True)
    seams = run(*dense, "--seams")
    assert (seams.code, "fsrcnn-dnet has no patches" in seams.err) == (2, True)
    assert not list(Path.cwd().iterdir())


def test_sweep_of_exponents(run: Run, sets: list[Path], tmp_path: Path) -> None:
    save_weights(create_model("fsrcnn-pcsr", 4), tmp_path / "p.safetensors", {})
    words = ("evaluate", "-m", tmp_path / "p.safetensors", "-d", sets[1], "--json", *SWEEP)
    result = run(*words, "--sweep", "-50,0%,0.5", "--convention", "pcsr")
    assert result.code == 0, result.err
    document = result.json()
    assert document["points"][-1]["value"] == "-50"
    assert document["points"][-1]["mean"]["coverage"] == 1
    assert (document["dense"]["model"], document["dense"]["trained"]) == ("fsrcnn-x4", False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--sweep", "0,some"), "expected values such as 240, 10% or all, got 'some'"),
        (("--sweep", "0", "--figure", "f.gif"), "ends in .png, .svg, .pdf, got .gif"),
        (("--sweep", "0", "-k", 3), "choose k themselves"),
        (("--sweep", "0", "--mask", "oracle"), "drop --mask"),
        (("--sweep", "0", "--mask-error"), "exclude each other"),
        (("--figure", "f.png"), "--figure: only with --sweep"),
        (("-o", "x"), "--output: only with --mask-error"),
        (("--smooth",), "--smooth: only with --seams"),
        (("--sweep", "0", "--seams"), "--sweep and --seams exclude each other"),
        (("--seams", "--mask", "oracle"), "--seams measures the mask that the network predicts"),
        (("--seams", "--convention", "pcsr"), "expected convention y or rgb"),
        (("-d", "nowhere"), "nowhere"),
    ],
)
def test_what_it_refuses(run: Run, words: tuple, options: tuple, text: str) -> None:
    result = run(*words, *options)
    assert (result.code, result.out) == (2, "")
    assert text in result.err
    assert not list(Path.cwd().iterdir())


def test_folders_that_cannot_be_told_apart(run: Run, words: tuple, sets: list[Path]) -> None:
    (sets[1] / "Set5").mkdir()
    write_image(sets[1] / "Set5" / "d.png", photo()[:40, :40])
    result = run(*words, "-d", sets[1] / "Set5", "--mask-error")
    assert (result.code, "two data folders are called Set5" in result.err) == (2, True)
    (sets[1] / "empty").mkdir()
    empty = run(*words, "-d", sets[1] / "empty")
    assert (empty.code, "no images in" in empty.err) == (2, True)
