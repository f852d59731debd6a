"""The cache of decoded images: whole or not there."""

from __future__ import annotations

import builtins
import errno
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsesr.data import CacheError, HRFolder, default_cache_dir
from sparsesr.data.cache import read_entry, write_entry

HR, LR = np.arange(48, dtype=np.uint8).reshape(4, 4, 3), np.zeros((2, 2, 3), np.uint8)
FORK = multiprocessing.get_context("fork")


def test_writes_and_reads(tmp_path: Path) -> None:
    write_entry(tmp_path / "new" / "entry", [(HR, LR), (HR[:2] + 1, LR[:1])])
    hr, lr = read_entry(tmp_path / "new" / "entry", 2)
    np.testing.assert_array_equal(hr[0], HR.transpose(2, 0, 1))
    np.testing.assert_array_equal(hr[1], HR[:2].transpose(2, 0, 1) + 1)
    assert [image.shape for image in lr] == [(3, 2, 2), (3, 1, 2)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["entry"]


def test_complete_entry_is_left_alone(tmp_path: Path) -> None:
    write_entry(tmp_path / "entry", [(HR, LR)])
    write_entry(tmp_path / "entry", iter(lambda: pytest.fail("decoded again"), None))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def images() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield HR, LR
        raise error

    with pytest.raises(error):
        write_entry(tmp_path / "entry", images())
    assert list(tmp_path.iterdir()) == []


def test_killed_build_is_no_entry_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    def images() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield HR, LR
        os.kill(os.getpid(), signal.SIGKILL)

    worker = FORK.Process(target=write_entry, args=(tmp_path / "entry", images()))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert not (tmp_path / "entry").exists()
    assert list(tmp_path.glob(".part-entry-*"))
    write_entry(tmp_path / "entry", [(HR, LR)])
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


def test_processes_build_an_entry_once(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def build() -> None:
        def images() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            with open(log, "a") as file:
                file.write("built\n")
            yield HR, LR

        write_entry(tmp_path / "cache" / "entry", images())

    workers = [FORK.Process(target=build) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "built\n"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["entry"]


class FullDisk:
    """A file that takes nothing."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_full(path: Path, *mode: str) -> Any:
        file = builtins.open(path, *mode)  # noqa: SIM115
        return FullDisk(file) if Path(path).suffix == ".bin" else file

    monkeypatch.setattr("sparsesr.data.cache.open", open_full, raising=False)
    text = (
        r"cannot write the image cache in .*cache \(No space left on device\): make room .*--cache"
    )
    with pytest.raises(CacheError, match=text):
        HRFolder(photos, 2, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_below_a_file(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot write the image cache in .*file"):
        HRFolder(photos, 2, tmp_path / "file")


def test_truncated_cache_is_named(photos: Path, tmp_path: Path) -> None:
    images = HRFolder(photos, 2, tmp_path / "cache")
    path = images.cache_path / "lr.bin"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(RuntimeError, match=r"asks for .*: remove"):
        HRFolder(photos, 2, tmp_path / "cache")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESR_CACHE", "/somewhere")
    assert default_cache_dir() == Path("/somewhere")
    monkeypatch.delenv("SPARSESR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert default_cache_dir() == Path("/caches/sparsesr")
