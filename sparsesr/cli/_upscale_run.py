"""Running the jobs of ``sparsesr upscale``: one by one, or in a process for each device."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from sparsesr.cli._upscale_jobs import Job
from sparsesr.cli._upscale_work import Row, Settings, attempt, line_of, speed_of, upscaler_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from rich.console import Console
    from rich.progress import Progress

    from sparsesr.inference import Upscaler

# tell("tiles", job, done, of), tell("says", text), tell("row", job, row)
Tell = Callable[..., None]

_LOOK = 0.2  # seconds between looks at Ctrl-C and at whether the workers live
_ONCE = 2.0  # seconds in which Ctrl-C is taken for the same one
_GRACE = 20.0  # seconds that an interrupted worker has to tidy up


class StoppedError(Exception):
    """Ctrl-C; ``rows`` are those of the files that were done before."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(f"interrupted after {len(rows)} files")
        self.rows = rows


def run_jobs(
    jobs: list[Job],
    settings: Settings,
    devices: list[str],
    upscaler: Upscaler | None,
    out: Console,
    err: Console,
) -> list[Row]:
    """Do the jobs and tell of it; the rows of the JSON document, in the order of the jobs.

    Args:
        devices: a process for each; with none, ``upscaler`` does it all in this process.
        out: what is done. err: warnings, which a quiet run shows too.

    Raises:
        StoppedError: by Ctrl-C. Finished files stay, no temporary one does.
        RuntimeError: a process ended by itself.
    """
    with _progress(out) as bar:
        board = _Board(jobs, bar, err if out.quiet else bar.console)
        try:
            if upscaler is not None:
                with _one_interrupt():
                    _do_all(upscaler, enumerate(jobs), settings, board.tell)
            else:
                _share_out(jobs, settings, devices, board.tell)
        except KeyboardInterrupt:
            raise StoppedError(board.in_order()) from None
    return board.in_order()


class _Board:
    """The progress bar and the lines above it."""

    def __init__(self, jobs: list[Job], bar: Progress, warn: Console) -> None:
        self._jobs = jobs
        self._bar = bar
        self._warn = warn  # the bar's console, or its next refresh would overwrite the line
        self._rows: dict[int, Row] = {}
        self._begun: dict[int, float] = {}
        self._task = bar.add_task("upscale", total=len(jobs), tiles="", speed="")

    def in_order(self) -> list[Row]:
        """The rows so far."""
        return [self._rows[i] for i in sorted(self._rows)]

    def tell(self, kind: str, *told: Any) -> None:
        """Show what happened (``Tell``)."""
        shown: dict[str, Any] = {}
        if kind == "says":
            self._bar.console.print(told[0], markup=False, soft_wrap=True)
        elif kind == "tiles":
            i, done, of = told
            self._begun[i] = done / of
            tiles = f"tile {done}/{of}" if of > 1 else ""
            shown = {"description": self._jobs[i].source.name, "tiles": tiles}
        else:
            i, row = told
            self._rows[i] = row
            self._begun.pop(i, None)
            self._lines(row)
            shown = {"speed": speed_of(row)} if "sr_size" in row else {}
        completed = len(self._rows) + sum(self._begun.values())
        self._bar.update(self._task, completed=completed, **shown)

    def _lines(self, row: Row) -> None:
        if row["ok"]:
            self._bar.console.print(line_of(row), markup=False, soft_wrap=True)
        for text in [*row.get("warnings", ()), *([] if row["ok"] else [row["error"]])]:
            self._warn.print(f"warning: {text}", markup=False, soft_wrap=True)


def _do_all(
    upscaler: Upscaler, jobs: Iterator[tuple[int, Job]], settings: Settings, tell: Tell
) -> None:
    if upscaler.clock is not None:
        upscaler.clock.announce = lambda text: tell("says", text)
    for i, job in jobs:
        tell("tiles", i, 0, 1)
        upscaler.progress = lambda done, of, i=i: tell("tiles", i, done, of)
        tell("row", i, attempt(upscaler, job, settings))


def _share_out(jobs: list[Job], settings: Settings, devices: list[str], tell: Tell) -> None:
    """Every device takes the next job when it is done with one."""
    context = multiprocessing.get_context("spawn")
    todo, told, stop = context.Queue(), context.Queue(), context.Event()
    for each in [*enumerate(jobs), *(None for _ in devices)]:
        todo.put(each)
    threads = max((os.cpu_count() or 1) // len(devices), 1)
    workers: list[BaseProcess] = [
        context.Process(
            target=_work,
            args=(replace(settings, device=device), threads, todo, told, stop),
            daemon=True,
        )
        for device in devices
    ]
    with _noted_interrupts() as interrupted:
        try:
            with _deaf():  # what they inherit until they are at work
                for worker in workers:
                    worker.start()
            _listen(workers, told, tell, interrupted)
        finally:
            stop.set()
            _end(workers)
            with contextlib.suppress(queue.Empty):
                while True:  # what they did since
                    kind, *rest = told.get(timeout=0.1)
                    if kind == "row":
                        tell(kind, *rest)


def _listen(
    workers: list[BaseProcess], told: Any, tell: Tell, interrupted: Callable[[], bool]
) -> None:
    """Pass on what the workers tell until each has said that it is done."""
    busy = len(workers)
    while busy:
        if interrupted():
            raise KeyboardInterrupt
        try:
            kind, *rest = told.get(timeout=_LOOK)
        except queue.Empty:
            codes = [worker.exitcode for worker in workers]
            if any(codes) or None not in codes:
                raise RuntimeError(
                    f"the processes of the devices ended with exit codes {codes}; "
                    "run again with --skip-existing to go on"
                ) from None
            continue
        if kind == "done":
            busy -= 1
        elif kind == "failed":
            raise RuntimeError(rest[0])
        else:
            tell(kind, *rest)


def _end(workers: list[BaseProcess]) -> None:
    """Interrupt who is still at work, and wait until all have tidied up."""
    workers = [worker for worker in workers if worker.pid is not None]
    for worker in workers:
        if worker.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid or 0, signal.SIGINT)
    until = time.monotonic() + _GRACE
    for worker in workers:
        worker.join(max(until - time.monotonic(), 0))
        if worker.is_alive():
            worker.kill()
            worker.join()


def _work(settings: Settings, threads: int, todo: Any, told: Any, stop: Any) -> None:
    """What a worker's process does."""
    with contextlib.suppress(KeyboardInterrupt), _one_interrupt() as interrupts:
        if stop.is_set():  # before it listened to Ctrl-C
            return
        import torch

        def tell(*event: Any) -> None:
            with interrupts.held():
                told.put(event)

        try:
            torch.set_num_threads(threads)
            _do_all(upscaler_of(settings), _taken(todo, stop, interrupts), settings, tell)
            tell("done")
        except Exception as error:
            tell("failed", f"{settings.device}: {error}")


def _taken(todo: Any, stop: Any, interrupts: _Interrupts) -> Iterator[tuple[int, Job]]:
    """Jobs as long as there are any, and somebody to tell of them."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        with interrupts.held():
            job = None if stop.is_set() else todo.get()
        if job is None:
            return
        yield job


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C does nothing inside, nor to processes that start there."""
    with _on_interrupt(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C does nothing inside but that the function given answers yes from then on.

    An exception could end the reading of a message in the middle, and what is read next would begin
    there.
    """
    noted: list[int] = []
    with _on_interrupt(lambda number, frame: noted.append(number)):
        yield lambda: bool(noted)


class _Interrupts:
    """A handler of Ctrl-C that raises, though once: a second must not stop the tidying up."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._held = self._waiting = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._last, since = time.monotonic(), time.monotonic() - self._last
        if since <= _ONCE:
            return
        if self._held:
            self._waiting = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Ctrl-C raises at the end of this, not inside: a queue would be left half done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def _one_interrupt() -> Iterator[_Interrupts]:
    """A Ctrl-C soon after another does not count."""
    interrupts = _Interrupts()
    with _on_interrupt(interrupts):
        yield interrupts


@contextlib.contextmanager
def _on_interrupt(handler: Any) -> Iterator[None]:
    """What Ctrl-C does inside."""
    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not in the main thread, which gets no signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _progress(out: Console) -> Progress:
    """Files, tiles of the present one, time left, megapixels a second and coverage."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[tiles]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
        console=out,
        transient=True,
    )
