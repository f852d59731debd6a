"""``sparsesr upscale`` stopped by Ctrl-C or killed, and what goes on from there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsesr.io import read_image, write_image

FILES = 20


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i in range(FILES):
        write_image(folder / f"{i:02}.png", rng.integers(0, 256, (48, 40, 3), dtype=np.uint8))
    return folder


@pytest.mark.parametrize(
    ("name", "options"),
    [("SIGINT", ()), ("SIGKILL", ()), ("SIGINT", ("--save-mask",))],
    ids=["SIGINT", "SIGKILL", "SIGINT-masks"],
)
def test_stopped_at_any_moment(
    model: tuple, photographs: Path, tmp_path: Path, name: str, options: tuple
) -> None:
    """Finished files are whole; Ctrl-C leaves no temporary ones; ``--skip-existing`` goes on."""
    trials = int(os.environ.get("SPARSESR_INTERRUPTIONS", "3"))
    script = Path(__file__).with_name("interrupted_runs.py")
    command = ["upscale", photographs, *model, *options, "--skip-existing"]
    words = [sys.executable, script, name, trials, 0, tmp_path, *command]
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=600, check=True
    )
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert len(whole) == FILES * (1 + len(options))
    codes = json.loads(done.stdout)
    assert codes[0] == 0
    assert set(codes[1:]) <= ({0, 130} if name == "SIGINT" else {0, -9})
    for trial in range(trials):
        folder = tmp_path / str(trial)
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in found:
            if name == "SIGKILL" and path.suffix == ".part":
                continue
            assert path.read_bytes() == whole[path.name], path.name
    stopped = [i for i, code in enumerate(codes[1:]) if code != 0]
    assert stopped, "every run was over before the signal"


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "kill"])
def test_several_processes_stop_together(
    model: tuple, photographs: Path, tmp_path: Path, whole_group: bool
) -> None:
    """By Ctrl-C in a terminal, which signals all of them, and by a signal to the first alone."""
    out = tmp_path / "out"
    words = ["-m", "sparsesr", "upscale", photographs, "-o", out, *model, "--devices", "cpu,cpu"]
    process = subprocess.Popen(
        [sys.executable, *(str(word) for word in words)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = time.monotonic()
    while not (out.is_dir() and list(out.glob("*.png"))):
        assert time.monotonic() - begun < 120, "nothing was done"
        time.sleep(0.001)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    found = sorted(out.iterdir())
    assert {path.suffix for path in found} == {".png"}
    assert all(read_image(path).shape == (96, 80, 3) for path in found)
    assert process.returncode == (130 if "interrupted" in err else 0), err
    told = re.search(rf"interrupted: (\d+) of {FILES} files are done", err)
    # A file may have got its name just before the process that made it was stopped.
    assert len(found) == FILES if told is None else int(told[1]) <= len(found)


def test_ctrl_c_in_the_middle_of_a_message(
    run: Callable,
    model: tuple,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive, stopped = Connection._recv, []  # type: ignore[attr-defined]

    def interrupted(self: Connection, size: int, *rest: Any) -> Any:
        part = receive(self, size, *rest)
        if size == 4 and not stopped:  # the length of a message: its text comes next
            stopped.append(size)
            signal.raise_signal(signal.SIGINT)
        return part

    monkeypatch.setattr(Connection, "_recv", interrupted)
    result = run("upscale", photographs, "-o", tmp_path / "out", *model, "--devices", "cpu,cpu")
    assert stopped
    assert result.code == 130, result.err
    assert re.search(rf"interrupted: \d+ of {FILES} files are done", result.err)


def test_going_on_after_a_stop(
    run: Callable, model: tuple, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("upscale", photographs, "-o", out, *model, "--skip-existing", "--json")
    assert run(*words).json()["done"] == FILES
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for i in (3, 11):
        (out / f"{i:02}_x2.png").unlink()
    (out / "03_x2.png.part").write_bytes(b"half")  # as a killed process leaves it
    document = run(*words).json()
    assert (document["done"], document["skipped"]) == (2, FILES - 2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_ctrl_c_tells_how_far_it_came(
    run: Callable,
    model: tuple,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sparsesr.cli import _upscale_work

    write, seen = _upscale_work.line_of, []

    def stop(row: dict) -> str:
        seen.append(row)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return write(row)

    monkeypatch.setattr("sparsesr.cli._upscale_run.line_of", stop)
    out = tmp_path / "out"
    result = run("upscale", photographs, "-o", out, *model, "--json")
    assert result.code == 130
    assert f"interrupted: 3 of {FILES} files are done; --skip-existing goes on" in result.err
    document = result.json()
    assert document["interrupted"] is True
    assert (document["done"], len(document["files"])) == (3, 3)
    assert len(list(out.iterdir())) == 3
    assert read_image(out / "00_x2.png").shape == (96, 80, 3)
