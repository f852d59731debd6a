"""Which executor runs the networks of a contender: baselines are plain torch, ours are not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

Result = TypeVar("Result")
_VARIABLE = "SPARSESR_EXECUTOR"
EXECUTORS = ("auto", "layered", "fused", "off")


@contextlib.contextmanager
def executor(name: str) -> Iterator[None]:
    """Networks inside the ``with`` block run as one executor does it.

    Args:
        name: "off": every module as torch runs it. "layered": a Refine-Net as torch runs it, on the
            batch of gathered patches. "fused": as a program. "auto": what a user gets.

    Raises:
        ValueError: another name.
    """
    if name not in EXECUTORS:
        raise ValueError(f"executor: expected one of {', '.join(EXECUTORS)}, got {name!r}")
    before = os.environ.pop(_VARIABLE, None)
    if name != "auto":
        os.environ[_VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
        if before is not None:
            os.environ[_VARIABLE] = before


def run_by(name: str, call: Callable[[], Result]) -> Callable[[], Result]:
    """The same call by one executor."""

    def run() -> Result:
        with executor(name):
            return call()

    return run
