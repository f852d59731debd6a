"""``TimeBudget``: how much of an image to refine, so that a call takes the time it may take."""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparsesr.nn import routes_pixels, selects_patches
from sparsesr.ops import patch_grid

from .machine import device_name
from .timings import TimingCurve, TimingStore, measure, timed

if TYPE_CHECKING:
    from sparsesr.inference.upscaler import Upscaler

log = logging.getLogger("sparsesr")

_CHECKS = 3  # timed calls that tell how fast the machine is today, more if they are short
_CHECKED = 0.1  # seconds of them that are enough
_REMEMBERED = 5  # calls
_SLACK = 0.9  # of the coarse image's time is accepted: from call to call it varies as much


@dataclass
class Pick:
    """What was chosen for one call.

    Attributes:
        options: ``k`` or ``budget``, as the network takes them.
        share: of the patches or pixels, in [0, 1].
        asked: seconds. expected: seconds that the call should take. took: seconds that it took.
        pace: seconds now for a second when the network was timed.
    """

    options: dict[str, Any]
    share: float
    asked: float
    expected: float
    pace: float
    took: float | None = None


class TimeBudget:
    """Picks how many patches or pixels to refine from the time that a call may take.

    Times are measured once for each network, machine and size of image (within 20 % of the pixels)
    and kept in the user's cache. As machines are not always equally fast, a few calls without
    refinement begin each size, and the last calls' own times correct what is expected of the next.

    Args:
        upscaler: makes the calls; its network selects patches or routes pixels.
        seconds: of each call of the network, reading and writing of files not included.

    Raises:
        TypeError: ``seconds`` is not a number.
        ValueError: ``seconds`` is not above 0 and finite, or the network has nothing to choose.
    """

    def __init__(self, upscaler: Upscaler, seconds: float) -> None:
        check_time_budget(upscaler.net, seconds)
        self.seconds = seconds
        self.announce: Callable[[str], None] = log.info
        self._upscaler = upscaler
        self._store: TimingStore | None = None
        self._ratios: dict[tuple[int, int, int], deque[float]] = {}

    def pick(self, lr: Tensor) -> Pick:
        """The choice for a batch of this size.

        Args:
            lr: [B, 3, H, W], the batch itself, which the times are measured on.

        Raises:
            ValueError: even without refinement the call takes longer; the text tells how long.
        """
        size = _size(lr)
        curve = self.curve(lr)
        pace = statistics.median(self._ratios[size])
        if self.seconds < _SLACK * pace * curve.seconds[0]:  # a busy moment, or always?
            pace = self._check_pace(lr, curve)
        least = pace * curve.seconds[0]
        if self.seconds < _SLACK * least:
            raise ValueError(
                f"expected a time budget of at least {in_words(least)} for an image of "
                f"{size[2]}x{size[1]}, got {in_words(self.seconds)}: so long takes the coarse "
                "image alone here"
            )
        share = curve.share_for(self.seconds / pace)
        options, share = self._options(share, size)
        return Pick(options, share, self.seconds, pace * curve.seconds_for(share), pace)

    def took(self, pick: Pick, lr: Tensor, seconds: float) -> None:
        """Note how long the call took that was made with ``pick``."""
        pick.took = seconds
        self._ratios[_size(lr)].append(seconds * pick.pace / pick.expected)

    def curve(self, lr: Tensor) -> TimingCurve:
        """Seconds by share for a batch of this size, from the cache or measured now."""
        size = _size(lr)
        if self._store is None:
            from sparsesr.data.cache import default_cache_dir

            self._store = TimingStore(_key(self._upscaler), default_cache_dir() / "timings")
        curve = self._store.find(size)
        if size in self._ratios and curve is not None:
            return curve
        run = self._runner(lr, size)
        shares = self._shares(size)
        if curve is None:
            self.announce(f"timing the network on {size[2]}x{size[1]} pixels, once for this size")
            curve = measure(run, size, shares, self._upscaler.device)
            self._store.add(curve)
            self._ratios[size] = deque([1.0], _REMEMBERED)
            return curve
        self._check_pace(lr, curve)
        return curve

    def _check_pace(self, lr: Tensor, curve: TimingCurve) -> float:
        """How much longer than on the curve calls take now; also what is remembered of calls."""
        run, share = self._runner(lr, curve.size), curve.shares[1]
        checks = [timed(run, share, self._upscaler.device) for _ in range(_CHECKS + 1)][1:]
        while len(checks) < 3 * _CHECKS and sum(checks) < _CHECKED:
            checks.append(timed(run, share, self._upscaler.device))
        pace = statistics.median(checks) / curve.seconds_for(share)
        self._ratios[curve.size] = deque([pace] * _CHECKS, _REMEMBERED)
        return pace

    def _runner(self, lr: Tensor, size: tuple[int, int, int]) -> Callable[[float], object]:
        """What makes a call that refines a share, without telling its progress."""

        def run(share: float) -> object:
            with self._upscaler.silent():
                return self._upscaler.run(lr, **self._options(share, size)[0])

        return run

    def _shares(self, size: tuple[int, int, int]) -> list[float]:
        """The shares to measure, ascending; the second is a single patch or pixel."""
        count = self._count(size)
        return [each / count for each in sorted({0, 1, count // 4, count // 2, count})]

    def _options(self, share: float, size: tuple[int, int, int]) -> tuple[dict[str, Any], float]:
        """A share as the network takes it, rounded down to whole patches or pixels."""
        count = self._count(size)
        number = math.floor(share * count + 1e-6)
        if selects_patches(self._upscaler.net):
            return {"k": number}, number / count
        return {"budget": number / count}, number / count

    def _count(self, size: tuple[int, int, int]) -> int:
        """Patches or pixels of an image."""
        net: Any = self._upscaler.net
        if selects_patches(net):
            rows, cols = patch_grid(size[1], size[2], net.patch_size)
            return rows * cols
        height, width = net.output_size((size[1], size[2]), self._upscaler.scale)
        return height * width


def _size(lr: Tensor) -> tuple[int, int, int]:
    return (lr.shape[0], lr.shape[2], lr.shape[3])


def check_time_budget(net: torch.nn.Module, seconds: float) -> None:
    """Refuse a time that is none, and a network that chooses neither patches nor pixels.

    Raises:
        TypeError, ValueError: as ``TimeBudget``.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"expected a time budget in seconds, got {seconds!r}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"expected a time budget above 0 seconds, got {seconds}")
    if not selects_patches(net) and not routes_pixels(net):
        name = getattr(net, "model_name", type(net).__name__)
        raise ValueError(
            f"{name} selects neither patches nor pixels, so that its time cannot be chosen; "
            "leave out the time budget"
        )


def in_words(seconds: float) -> str:
    """A time with its unit, to three digits.

    Example:
        >>> in_words(0.2), in_words(12.3456)
        ('200 ms', '12.3 s')
    """
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _key(upscaler: Upscaler) -> dict[str, Any]:
    """Everything that the times depend on but the size of the image."""
    import sparsesr

    net: Any = upscaler.net
    return {
        "machine": device_name(upscaler.device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sparsesr": sparsesr.__version__,
        "model": getattr(net, "model_name", type(net).__name__),
        "scale": upscaler.scale or net.scale,
        "parameters": sum(each.numel() for each in net.parameters()),
        "dtype": str(upscaler.dtype),
        "backend": upscaler.backend,
        "tile": upscaler.tile,
        "tta": upscaler.tta,
    }
