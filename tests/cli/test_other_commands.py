"""``demo``, ``models``, ``evaluate``, ``profile``, ``env``, and the program itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sparsesr
from sparsesr.cli import COMMANDS
from sparsesr.cli._common import print_json
from sparsesr.cli.demo import OUTPUTS, photo
from sparsesr.io import read_image, write_image
from sparsesr.metrics import imresize


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder called Set14 with one HR photograph."""
    root = tmp_path / "Set14"
    root.mkdir()
    write_image(root / "face.png", photo()[60:124, 170:250])
    return root


def program(*words: object, cwd: Path) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "sparsesr", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_program_helps(tmp_path: Path) -> None:
    result = program("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert all(name in result.stdout for name in COMMANDS)
    assert "0 done, 1 some files failed, 2 usage, 3 backend or model missing" in result.stdout


def test_the_program_keeps_stdout_for_json(
    tmp_path: Path, weights: dict[str, Path], photos: Path
) -> None:
    words = ("upscale", photos, "-o", tmp_path / "out", "-m", weights["fsrcnn-mga-x2"], "--json")
    result = program(*words, cwd=tmp_path)
    assert result.returncode == 1
    assert json.loads(result.stdout)["failed"] == 1
    assert "warning:" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Callable, name: str) -> None:
    result = run(name, "--help")
    assert result.code == 0
    assert "Usage: sparsesr" in result.out or "Usage:" in result.out


def test_unknown_commands_and_none(run: Callable) -> None:
    assert run("upscall").code == 2
    assert run().code in (0, 2)  # typer's help without arguments


def test_models(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [info for info in sparsesr.list_models() if info.name.startswith("fsrcnn")]
    monkeypatch.setattr("sparsesr.models.list_models", lambda: infos)  # all of them take long
    rows = run("models", "--json").json()
    assert all(list(row) == ["name", "scale", "params", "weights"] for row in rows)
    params = {(row["name"], row["scale"]): row["params"] for row in rows}
    assert params["fsrcnn-base", 4] == 23363
    assert params["fsrcnn-dnet", 2] == params["fsrcnn-allnet", 3] == 41694
    assert params["fsrcnn-mga", 4] == 43270
    shipped = {row["name"] for row in rows if row["weights"] and row["scale"] == 4}
    assert {"fsrcnn-mga", "fsrcnn-allnet"} <= shipped
    assert "fsrcnn-base" not in shipped
    (line,) = (line for line in run("models").out.splitlines() if "│ fsrcnn-mga " in line)
    cells = [cell.strip() for cell in line.split("│")[1:5]]
    assert cells == ["fsrcnn-mga", "2, 3, 4", "43,270", "2, 3, 4"]


def test_evaluate(run: Callable, weights: dict, dataset: Path) -> None:
    words = ("evaluate", "-m", weights["fsrcnn-mga-x2"], "--data", dataset)
    result = run(*words, "--scale", 2, "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert list(document) == ["model", "scale", "convention", "dataset", "k", "mean", "images"]
    assert (document["dataset"], document["k"], document["convention"]) == ("Set14", 240, "y")
    assert document["images"][0]["k_used"] == 80
    table = run(*words, "--k", 7, "--order", "random", "--mask", "oracle")
    assert "Convention: Y of MATLAB rgb2ycbcr" in " ".join(table.out.split())
    assert "order random, mask oracle" in " ".join(table.out.split())
    assert run(*words, "--budget", 0.1, "--json").json()["budget"] == 0.1
    dense = run("evaluate", "-m", weights["fsrcnn-dnet-x2"], "--data", dataset, "--json").json()
    assert dense["k"] is None


def test_evaluate_called_wrongly(run: Callable, weights: dict, dataset: Path) -> None:
    model = weights["fsrcnn-mga-x2"]
    for words, code, text in (
        (["--data", dataset / "no"], 2, "no"),
        (["--data", dataset, "--scale", 3], 2, "is for scale 2, got scale=3"),
        (["--data", dataset, "--k", 3, "--budget", 0.5], 2, "exclude each other"),
        (["--data", dataset, "--k", "-1"], 2, "expected 0 or more patches"),
        (["--data", dataset, "--convention", "lab"], 2, "expected convention in y, rgb, pcsr"),
    ):
        result = run("evaluate", "-m", model, *words, "--json")
        assert result.code == code
        assert text in result.err
        assert result.out == ""
    (dataset / "face.png").write_bytes(b"broken")
    result = run("evaluate", "-m", model, "--data", dataset)
    assert result.code == 1
    assert "face.png: cannot be read as an image" in result.err


def test_profile(run: Callable, weights: dict) -> None:
    pytest.importorskip("thop")
    words = ("profile", "-m", weights["fsrcnn-mga-x2"], "--lr-size", "24x20", "--repeats", 1)
    document = run(*words, "--k", 4, "--json").json()
    keys = {"model", "lr_size", "k", "params", "macs", "paper_flops", "stages"}
    assert keys <= set(document)
    assert (document["lr_size"], document["k"]) == ([20, 24], 4)
    # Where one op gathers, refines and scatters, it is one stage.
    stages = set(document["stages"]) | {"gather", "scatter"}
    assert stages == {"base", "mask", "select", "gather", "refine", "scatter"}
    assert "one call" in run(*words).out
    untrained = run("profile", "-m", "fsrcnn-base-x3", "--lr-size", "9x8", "--repeats", 1)
    assert untrained.code == 0
    assert "no weights ship for fsrcnn-base-x3; timing it untrained" in untrained.err


def test_profile_names_what_a_fused_stage_holds(run: Callable, weights: dict) -> None:
    words = ("profile", "-m", weights["fsrcnn-mga-x2"], "--lr-size", "24x20", "--repeats", 1)
    plain = run(*words, "--backend", "reference")
    stages = [line.split("│")[1].strip() for line in plain.out.splitlines() if "│" in line]
    assert stages == ["base", "mask", "select", "gather", "refine", "scatter", "one call"]
    document, table = run(*words, "--json").json(), run(*words).out
    fused = "gather" not in document["stages"]
    assert "refine" in document["stages"]
    assert ("refine (gather + refine + scatter)" in table) == fused


def test_profile_draws_its_stages(run: Callable, weights: dict, tmp_path: Path) -> None:
    words = ("profile", "-m", weights["fsrcnn-mga-x2"], "--lr-size", "24x20", "--repeats", 1)
    file = tmp_path / "stages.png"
    document = run(*words, "--figure", file, "--json").json()
    assert document["figure"] == str(file)
    drawn = read_image(file)
    assert np.ptp(drawn) > 200
    refused = run(*words, "--figure", file, "--json")
    assert (refused.code, refused.out) == (2, "")
    assert "stages.png already exists; pass --overwrite to replace it" in refused.err
    np.testing.assert_array_equal(read_image(file), drawn)
    again = run(*words, "--figure", file, "--overwrite")
    assert again.code == 0
    assert f"Figure: {file}" in again.out
    assert [path.name for path in tmp_path.iterdir()] == ["stages.png"]
    for name, text in (("stages.gif", "ends in .png, .svg, .pdf"), ("no/s.png", "does not exist")):
        wrong = run(*words, "--figure", tmp_path / name)
        assert wrong.code == 2
        assert text in wrong.err
    assert "figure" not in run(*words, "--json").json()


def test_profile_called_wrongly(run: Callable, weights: dict) -> None:
    for words, code, text in (
        (["--lr-size", "big"], 2, "--lr-size big: expected WIDTHxHEIGHT"),
        (["--lr-size", "0x8"], 2, "sides of at least 1"),
        (["-m", "nonsense"], 3, "unknown model 'nonsense-x4'"),
        (["-m", "no/such.safetensors"], 3, "no weights file"),
        (["-m", weights["fsrcnn-dnet-x2"], "--k", 4], 2, "does not select patches"),
    ):
        result = run("profile", *words)
        assert result.code == code
        assert text in result.err


def test_env(run: Callable) -> None:
    document = run("env", "--json").json()
    assert [b["name"] for b in document["backends"]] == ["reference", "cpu", "cuda", "triton"]
    assert all(b["available"] or b["reason"] for b in document["backends"])
    assert document["packages"]["core"]["torch"]
    assert {"sparsesr", "python", "torch", "cpu", "native", "weights"} <= set(document)
    text = run("env").out
    assert "reference" in text
    assert "[train]" in text


def test_demo(run: Callable, weights: dict, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ("demo", "-m", weights["fsrcnn-mga-x4"], "-o", out, "--repeats", 1)
    result = run(*words, "--json")
    assert result.code == 0, result.err
    assert sorted(path.name for path in out.iterdir()) == sorted(OUTPUTS)
    document = result.json()
    assert document["k_used"] == 256
    assert document["patches"] == 1024
    methods = {row["method"]: row for row in document["rows"]}
    assert list(methods) == ["bicubic", "dense", "every patch", "sparse", "coarse"]
    assert methods["dense"]["speedup"] == 1
    trained = "fsrcnn-dnet-x4" in sparsesr.models.shipped_weights()
    assert (methods["dense"]["psnr"] is not None) == trained
    assert 25 < methods["bicubic"]["psnr"] < 30
    assert read_image(out / "lr.png").shape == (128, 128, 3)
    assert read_image(out / "sparse.png").shape == (512, 512, 3)
    bicubic = imresize(read_image(out / "lr.png"), 4).astype(int)
    assert np.abs(read_image(out / "bicubic.png") - bicubic).max() <= 1
    refused = run(*words)
    assert refused.code == 2
    assert "pass --overwrite or another -o" in refused.err
    table = run(*words, "--overwrite", "--budget", 0.1)
    assert table.code == 0
    assert "speed-up" in table.out
    assert "PSNR on Y" in table.out


def test_demo_called_wrongly(run: Callable, weights: dict, tmp_path: Path) -> None:
    for words, text in (
        (["--budget", 2], "--budget 2.0: expected a fraction from 0 to 1"),
        (["-m", weights["fsrcnn-mga-x2"]], "needs an x4 model that selects patches"),
    ):
        result = run("demo", "-o", tmp_path / "demo", *words)
        assert result.code == 2
        assert text in result.err
    assert not (tmp_path / "demo").exists()


def test_the_photograph_ships() -> None:
    assert photo().shape == (512, 512, 3)
    asset = Path(__file__).resolve().parents[2] / "sparsesr" / "assets" / "astronaut.jpg"
    assert asset.stat().st_size < 300_000


def test_json_has_no_infinities(capsys: pytest.CaptureFixture) -> None:
    print_json({"psnr": float("inf"), "more": [float("nan"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"psnr": None, "more": [None, 1.5]}


def test_ctrl_c_anywhere(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sparsesr.cli.evaluate.load_for_scale", stopped)
    monkeypatch.setattr("sparsesr.cli.upscale.load_for_scale", stopped)
    for words in (("upscale", "a.png"), ("evaluate", "--data", ".")):
        result = run(*words)
        assert (result.code, result.err) == (130, "error: interrupted")
