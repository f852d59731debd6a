"""`sparsesr ablate`: exit codes, JSON, the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sparsesr.io import write_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A test set of one image."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    write_image(folder / "a.png", pixels)
    return folder


def test_list(run: Callable) -> None:
    assert run("ablate", "--list").code == 0
    listed = {row["name"]: row for row in run("ablate", "--list", "--json").json()}
    assert listed["table6"]["paper"] == "MGA"
    assert listed["pcsr-patch"]["weights"] == ["*-pcsr"]
    assert len(listed) == 13


def test_selection_order(
    run: Callable, images: Path, weights: dict[str, Path], tmp_path: Path
) -> None:
    command = ["ablate", "table7", "-d", images, "-m", weights["fsrcnn-mga-x4"]]
    output = tmp_path / "out"
    done = run(*command, "-o", output, "--json")
    assert done.code == 0, done.err
    document = done.json()
    assert [row["variant"] for row in document["rows"]][-1] == "FSRCNN-M K=all"
    assert {row["from"] for row in document["rows"]} == {"fsrcnn-mga-x4.safetensors"}
    assert document["rows"][0]["sets"]["tiny"]["k"] == 0
    assert document["command"].startswith("sparsesr ablate table7 --profile short --data ")
    assert "table7: FSRCNN-M K=0" in done.err
    shown = run(*command, "-o", output, "-q")
    assert (shown.code, shown.out, shown.err) == (0, "", "")
    assert all(Path(file).is_file() for file in document["files"])


def test_refinement(run: Callable, images: Path, tmp_path: Path) -> None:
    """More heavy neighbours asked for, fewer pixels averaged; nine are never there."""
    import sparsesr

    net = sparsesr.create_model("fsrcnn-pcsr-x4")
    path = tmp_path / "net.safetensors"
    sparsesr.models.save_weights(net, path, {})
    command = ["ablate", "pcsr-refinement", "-d", images, "--weights", path]
    rows = run(*command, "-o", tmp_path / "out", "--json").json()["rows"]
    assert [row["variant"] for row in rows] == [f"FSRCNN-PCSR #h={h}" for h in (0, 2, 4, 6, 8, 9)]
    assert all(0 <= row["sets"]["tiny"]["heavy_fraction"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--list shows them"),
        (["table9"], 2, "unknown ablation 'table9'"),
        (["table7", "--profile", "long"], 2, "expected one of short, paper"),
        (["table7", "-d", "nowhere"], 2, "nowhere"),
        (["table7", "-m", "none.safetensors"], 2, "no weights file none.safetensors"),
        (["pcsr-patch", "-d", "."], 3, "give --weights FILE"),
        (["table7", "--device", "cuda:99"], 3, "cuda:99"),
    ],
)
def test_mistakes(
    run: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("ablate", *words)
    assert done.code == code, done.err
    assert message in done.err
    assert "Traceback" not in done.err
