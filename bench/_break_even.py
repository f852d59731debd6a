"""The coverage at which a sparse network takes as long as a dense one: time is a line in K."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def coverage(
    points: Sequence[tuple[int, float]], rival: float, patches: int
) -> tuple[float, float, float]:
    """Where the line through ``points`` meets ``rival``.

    Args:
        points: (K, seconds), two or more. rival: seconds. patches: of the image.

    Returns:
        Seconds of no patch, seconds of one more, and the coverage: below 0 where the sparse network
        is slower at any, infinite where more patches take no longer, which noise alone can do.
    """
    ks = torch.tensor([[1.0, float(k)] for k, _ in points], dtype=torch.float64)
    times = torch.tensor([[seconds] for _, seconds in points], dtype=torch.float64)
    fixed, slope = torch.linalg.lstsq(ks, times).solution[:, 0].tolist()
    if rival <= fixed:
        return fixed, slope, -1.0
    return fixed, slope, (rival - fixed) / slope / patches if slope > 0 else float("inf")


def break_even(
    name: str, points: Sequence[tuple[int, float]], rival: tuple[str, float], patches: int
) -> str:
    """One line that tells it.

    Args:
        name: of the sparse network. points: (K, seconds). rival: engine of the lean dense network,
            seconds. patches: of the image.
    """
    fixed, slope, share = coverage(points, rival[1], patches)
    head = f"break-even, {name}: {1e3 * fixed:.2f} ms + {1e6 * slope:.2f} us per patch; "
    dense = f"the lean dense network of {rival[0]}"
    if slope <= 0:
        return head + "a patch costs less than the noise of this run, no break-even"
    if share < 0:
        return head + f"slower than {dense} at any coverage"
    if share >= 1:
        return head + f"faster than {dense} at every coverage"
    return head + f"as slow as {dense} at {100 * share:.1f}% coverage"
