"""The table of an evaluation: a row for each image, the mean, every option beside it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from sparsesr.inference import evaluate, lean_rival, sweep
from sparsesr.inference.csv_rows import csv_rows, write_csv
from sparsesr.io import OutputExistsError


def test_rows_of_an_evaluation(net: torch.nn.Module, dataset: Path, tmp_path: Path) -> None:
    documents = [evaluate(net, dataset, 2, k=3), evaluate(net, dataset / "HR", 2, k=0.5)]
    file = tmp_path / "out.csv"
    write_csv(file, documents)
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == [
        "model", "scale", "convention", "dataset", "k", "budget", "image", "psnr", "ssim", "k_used",
    ]  # fmt: skip
    assert [row["image"] for row in rows] == ["one", "two", "mean"] * 2
    assert [row["dataset"] for row in rows] == ["Set5"] * 3 + ["HR"] * 3
    assert float(rows[2]["psnr"]) == documents[0]["mean"]["psnr"]
    assert (rows[0]["k"], rows[0]["budget"], rows[0]["k_used"]) == ("3", "", "3")
    assert (rows[3]["k"], rows[3]["budget"], rows[5]["k_used"]) == ("", "0.5", "")


def test_rows_of_a_sweep(net: torch.nn.Module, dataset: Path) -> None:
    document = sweep(
        net, dataset, 2, ["0", "all"], rival=lean_rival(net, 2), repeats=1, time_images=1
    )
    rows = list(csv_rows(document))
    assert [row.get("value") for row in rows] == ["0"] * 3 + ["all"] * 3 + [None] * 3
    assert [row["model"] for row in rows] == ["fsrcnn-mga-x2"] * 6 + ["fsrcnn-dnet-x2"] * 3
    assert rows[5]["seconds"] == document["points"][1]["seconds"]
    assert "seconds" not in rows[4]


def test_lists_become_columns() -> None:
    mean = {"psnr": 30.0, "sparsity_of_modules": [0.25, 0.5]}
    document = {"model": "smsr-x2", "scale": 2, "k": None, "mean": mean, "images": []}
    assert list(csv_rows(document)) == [
        {
            "model": "smsr-x2",
            "scale": 2,
            "image": "mean",
            "psnr": 30.0,
            "sparsity_of_modules_1": 0.25,
            "sparsity_of_modules_2": 0.5,
        }
    ]


def test_an_existing_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("mine")
    document = {"model": "m", "mean": {"psnr": 1.0}, "images": []}
    with pytest.raises(OutputExistsError):
        write_csv(file, [document])
    assert file.read_text() == "mine"
    write_csv(file, [document], overwrite=True)
    assert file.read_text() == "model,image,psnr\nm,mean,1.0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
