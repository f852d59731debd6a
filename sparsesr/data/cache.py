"""Decoded images on disk: written once, whole or not at all, then memory-mapped."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_INDEX = "index.json"
_PART = ".part-"  # an entry being written; whoever builds the same entry next removes what is left


class CacheError(OSError):
    """The cache of decoded images cannot be written; the message names the folder."""


def default_cache_dir() -> Path:
    """`$SPARSESR_CACHE`, else `sparsesr` under the user's cache folder."""
    if os.environ.get("SPARSESR_CACHE"):
        return Path(os.environ["SPARSESR_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sparsesr"


def is_complete(entry: Path) -> bool:
    """Whether the cache folder `entry` has been written."""
    return (entry / _INDEX).is_file()


def write_entry(entry: Path, images: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write HR [s*h,s*w,3] and LR [h,w,3] of each image, uint8, into the folder `entry`.

    The folder appears when everything is in it. Processes that want the same entry wait for the
    first of them and find it done.

    Raises:
        CacheError: no space, no permission. Errors of `images` pass through; either way nothing
            is left behind.
    """
    folder = entry.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".lock-{entry.name}") as alone:
            if is_complete(entry):
                return
            for left in folder.glob(f"{_PART}{entry.name}-*") if alone else ():
                shutil.rmtree(left, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f"{_PART}{entry.name}-", dir=folder))
            try:
                _write(part, images)
                _move(part, entry)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise CacheError(
            f"cannot write the image cache in {folder} ({error.strerror or error}): make room "
            "there or choose another folder by --cache, a recipe's data.cache or SPARSESR_CACHE"
        ) from error


def _write(part: Path, images: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    shapes = []
    with open(part / "hr.bin", "wb") as hr_file, open(part / "lr.bin", "wb") as lr_file:
        for hr, lr in images:
            hr_file.write(np.ascontiguousarray(hr.transpose(2, 0, 1)).data)
            lr_file.write(np.ascontiguousarray(lr.transpose(2, 0, 1)).data)
            shapes.append(lr.shape[:2])
    (part / _INDEX).write_text(json.dumps(shapes))


def _move(part: Path, entry: Path) -> None:
    try:
        os.rename(part, entry)
    except OSError:
        # Where files cannot be locked another process may have been faster.
        if not is_complete(entry):
            raise


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path`, which a killed process releases too.

    Yields False where the system or the file system has no locks.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    while True:
        file = open(path, "wb")  # noqa: SIM115 (closed below, or by the retry)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            yield False
            return
        # The process before us removed the name we had opened: that lock guards nothing.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        file.close()


def read_entry(entry: Path, scale: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """HR [3,s*h,s*w] and LR [3,h,w] of each image, mapped from the folder `entry`."""
    shapes = json.loads((entry / _INDEX).read_text())
    lists = []
    for name, factor in (("hr.bin", scale), ("lr.bin", 1)):
        flat = np.memmap(entry / name, dtype=np.uint8, mode="r")
        total = sum(3 * height * width * factor**2 for height, width in shapes)
        if total != flat.size:
            raise RuntimeError(
                f"{entry / name} has {flat.size} bytes, its index asks for {total}: "
                f"remove {entry} and start again"
            )
        images, start = [], 0
        for height, width in shapes:
            shape = (3, height * factor, width * factor)
            size = shape[0] * shape[1] * shape[2]
            # A plain ndarray view: slicing np.memmap objects costs microseconds each.
            images.append(np.asarray(flat[start : start + size]).reshape(shape))
            start += size
        lists.append(images)
    return lists[0], lists[1]
