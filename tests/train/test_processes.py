"""Several processes, and batches in several parts, train what one process does."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sparsesr.train import Recipe, RecipeError, parse_recipe, train

pytest.importorskip("lightning", reason="needs the extra train")

ROUTED = """
stages:
  - &stage
    name: heavy
    iterations: 4
    loss: {sr: 1000}
    optimizer: {lr: 1e-3, warmup: 0}
    ema: 0
    log_every: 1
  - {<<: *stage, name: light, loss: {sr: 1000, balance: 3}}
"""
SCRIPT = """
import sys
from pathlib import Path
from sparsesr.train import load_recipe, train
for recipe in map(Path, sys.argv[1:]):
    train(load_recipe(recipe), recipe.with_suffix(""), progress=False)
"""


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def same_curves(a: Path, b: Path) -> None:
    """The losses of two trainings agree to rounding, step by step."""
    one, other = rows(a), rows(b)
    keys = ("stage", "step")
    assert [[row[k] for k in keys] for row in one] == [[row[k] for k in keys] for row in other]
    for mine, theirs in zip(one, other, strict=True):
        for key in ("loss", "loss_sr", "loss_coarse", "loss_mask", "loss_balance", "val_psnr"):
            if mine[key] or theirs[key]:
                # Seven digits are written; sums in another order differ in the last of them.
                assert float(mine[key]) == pytest.approx(float(theirs[key]), rel=2e-5), (mine, key)


def test_two_processes_train_what_one_does(
    recipe_text: str, routed_head: str, tmp_path: Path
) -> None:
    texts = {"mga": recipe_text, "pcsr": routed_head + ROUTED}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        train(parse_recipe(text), tmp_path / f"{name}-alone", progress=False)
    script = tmp_path / "train_all.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [sys.executable, *launcher, *(str(tmp_path / f"{name}.yaml") for name in texts)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in texts:
        same_curves(tmp_path / name, tmp_path / f"{name}-alone")
    saved = torch.load(tmp_path / "mga" / "checkpoints" / "mask-last.pt", weights_only=True)
    assert len(saved["generators"]) == 2
    assert not torch.equal(*(generator["cpu"] for generator in saved["generators"]))


def test_accumulated_parts_train_what_one_batch_does(recipe_text: str, tmp_path: Path) -> None:
    whole = parse_recipe(recipe_text, ["data.batch=4"])
    parts = parse_recipe(
        recipe_text,
        ["data.batch=4", "stages.dnet.accumulate=2", "stages.allnet.accumulate=4"],
    )
    for recipe, name in ((whole, "whole"), (parts, "parts")):
        train(recipe, tmp_path / name, progress=False)
    same_curves(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.dnet.accumulate=3", r"batch of 2 does not divide into 3 parts \(1 processes"),
        ("stages.mask.accumulate=2", "the loss of mask is one of the whole batch"),
        ("stages.dnet.accumulate=0", "accumulate: expected >= 1"),
    ],
)
def test_impossible_parts(recipe_text: str, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        train(parse_recipe(recipe_text, [override]), tmp_path / "out", progress=False)


def test_workers_change_nothing(recipe_text: str, tmp_path: Path) -> None:
    overrides = ["data.workers=1"]
    for name, given in (("none", []), ("one", overrides)):
        recipe = parse_recipe(recipe_text, given)
        train(recipe, tmp_path / name, stage="dnet", progress=False)
    weights = [torch.load(tmp_path / n / "checkpoints" / "dnet.pt") for n in ("none", "one")]
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


def test_devices_start_processes(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from sparsesr.cli.train import register

    path = tmp_path / "tiny.yaml"
    path.write_text(recipe.to_yaml())
    called: list[Any] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    arguments = ["train", str(path), "--devices", "3", "--set", "seed=4", "--stage", "dnet"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2  # the stand-in failed
    assert "--nproc-per-node=3" in called[0]
    assert called[0][-8:] == [
        *["train", str(path), "--set", "seed=4", "-o", str(tmp_path / "out")],
        *["--stage", "dnet"],
    ]
