"""How long a network takes on this machine at several shares of its work, measured and kept."""

from __future__ import annotations

import bisect
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .machine import synchronise

log = logging.getLogger("sparsesr")

_NEAR = 1.2  # a curve serves images of up to so many times more or fewer pixels
_FEWEST, _MOST = 3, 9  # timed rounds
_ENOUGH = 2.0  # seconds of timing after which the fewest rounds will do


@dataclass(frozen=True)
class TimingCurve:
    """Seconds of a call on images of one size, on straight lines between measured points.

    Attributes:
        size: (B, H, W) of the LR batch.
        shares: of the patches or pixels that are refined, ascending from 0 to 1.
        seconds: of a call, ascending.

    Example:
        >>> curve = TimingCurve((1, 100, 100), (0.0, 0.01, 1.0), (1.0, 1.2, 3.2))
        >>> round(curve.share_for(2.2), 3), curve.share_for(1.1), round(curve.seconds_for(1.0), 3)
        (0.505, 0.0, 3.2)
    """

    size: tuple[int, int, int]
    shares: tuple[float, ...]
    seconds: tuple[float, ...]

    def share_for(self, seconds: float) -> float:
        """The largest share that takes no longer; 0 if even that does."""
        if seconds >= self.seconds[-1]:
            return 1.0
        i = bisect.bisect_right(self.seconds, seconds)
        if i < 2:  # between nothing and the first patch there is no share
            return 0.0
        low, high = self.seconds[i - 1], self.seconds[i]
        part = (seconds - low) / (high - low)
        return self.shares[i - 1] + part * (self.shares[i] - self.shares[i - 1])

    def seconds_for(self, share: float) -> float:
        """Seconds of a call that refines this share."""
        if share <= 0:
            return self.seconds[0]
        i = max(bisect.bisect_left(self.shares, share), 2)
        if i >= len(self.shares):
            return self.seconds[-1]
        part = (share - self.shares[i - 1]) / (self.shares[i] - self.shares[i - 1])
        return self.seconds[i - 1] + max(part, 0.0) * (self.seconds[i] - self.seconds[i - 1])

    def resized(self, size: tuple[int, int, int]) -> TimingCurve:
        """The same for images of another size: time goes with the pixels."""
        factor = _pixels(size) / _pixels(self.size)
        return TimingCurve(size, self.shares, tuple(factor * each for each in self.seconds))


def measure(
    run: Callable[[float], object],
    size: tuple[int, int, int],
    shares: Sequence[float],
    device: torch.device,
) -> TimingCurve:
    """Time ``run(share)`` at every share, in turns; medians, after a round that warms up.

    Args:
        run: does the work of a call that refines this share.
        size: (B, H, W) of the LR batch.
        shares: ascending from 0 to 1.
        device: synchronised around every call where it is a GPU.
    """
    times: list[list[float]] = [[] for _ in shares]
    begun = time.perf_counter()
    for turn in range(_MOST + 1):
        if turn == 1:
            begun = time.perf_counter()
        if turn > _FEWEST and time.perf_counter() - begun > _ENOUGH:
            break
        for taken, share in zip(times, shares, strict=True):
            seconds = timed(run, share, device)
            if turn > 0:
                taken.append(seconds)
    seconds_at = [statistics.median(taken) for taken in times]
    rising = [max(seconds_at[: i + 1]) for i in range(len(seconds_at))]
    return TimingCurve(size, tuple(shares), tuple(rising))


def timed(run: Callable[[float], object], share: float, device: torch.device) -> float:
    """Seconds of one ``run(share)``."""
    synchronise(device)
    start = time.perf_counter()
    run(share)
    synchronise(device)
    return time.perf_counter() - start


class TimingStore:
    """The curves of one machine, network and way to run it, in a file of the user's cache.

    Args:
        key: everything that the times depend on but the size of the image.
        folder: of the files; None keeps the curves in memory alone.
    """

    def __init__(self, key: Mapping[str, Any], folder: Path | None) -> None:
        self.key = dict(key)
        text = json.dumps(self.key, sort_keys=True)
        name = (
            f"{self.key.get('model', 'network')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        )
        self.path = None if folder is None else folder / f"{name}.json"
        self._curves = self._read()

    def find(self, size: tuple[int, int, int]) -> TimingCurve | None:
        """The curve of the nearest size, resized; None if no size is near."""
        wanted = _pixels(size)

        def distance(curve: TimingCurve) -> float:
            ratio = wanted / _pixels(curve.size)
            return max(ratio, 1 / ratio)

        nearest = min(self._curves, key=distance, default=None)
        if nearest is None or distance(nearest) > _NEAR:
            return None
        return nearest.resized(size)

    def add(self, curve: TimingCurve) -> None:
        """Keep a curve, also for later processes; a warning if the file cannot be written."""
        # Other processes may have added some since.
        known = {each.size: each for each in (*self._read(), *self._curves, curve)}
        self._curves = list(known.values())
        if self.path is None:
            return
        from sparsesr.io import atomic_output

        document = {"key": self.key, "curves": [asdict(each) for each in self._curves]}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_output(self.path, overwrite=True) as part:
                part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            log.warning("the timings cannot be kept in %s: %s", self.path, error)

    def _read(self) -> list[TimingCurve]:
        if self.path is None or not self.path.is_file():
            return []
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            return [_curve(**each) for each in document["curves"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s); the timings are measured again", self.path, error)
            return []


def _curve(size: Sequence[int], shares: Sequence[float], seconds: Sequence[float]) -> TimingCurve:
    batch, height, width = (int(each) for each in size)
    curve = TimingCurve((batch, height, width), tuple(shares), tuple(map(float, seconds)))
    rising = all(a <= b for a, b in zip(curve.seconds, curve.seconds[1:], strict=False))
    if min(size) < 1 or len(shares) != len(seconds) or len(shares) < 2 or not rising:
        raise ValueError(f"no curve: {shares} {seconds}")
    return curve


def _pixels(size: tuple[int, int, int]) -> int:
    return size[0] * size[1] * size[2]
