"""Outputs that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputExistsError(FileExistsError):
    """An output is already there and overwriting was not asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} already exists; pass --overwrite (overwrite=True) to replace it")
        self.path = path


@contextmanager
def atomic_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary ``name.part`` to write to and rename it to ``path`` when the block ends.

    On any exception, Ctrl-C included, the temporary is removed and ``path`` stays as it was.

    Args:
        path: the final file; its folder must exist.
        overwrite: replace an existing file.

    Yields:
        The path to write to, in the same folder.

    Raises:
        OutputExistsError: ``path`` exists and ``overwrite`` is False (checked before the block
            and again before the rename).
        FileNotFoundError: the folder does not exist.
        IsADirectoryError: ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise OutputExistsError(path)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        if path.exists() and not overwrite:
            raise OutputExistsError(path)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
