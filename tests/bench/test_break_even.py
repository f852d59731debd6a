"""Where a line in K meets a dense network."""

from __future__ import annotations

import math

import pytest
from _break_even import break_even, coverage


def test_where_the_lines_meet() -> None:
    points = [(100, 1.5), (200, 2.0), (400, 3.0)]  # 1 s and 5 ms per patch
    fixed, slope, share = coverage(points, 2.5, 1000)
    assert fixed == pytest.approx(1.0)
    assert slope == pytest.approx(0.005)
    assert share == pytest.approx(0.3)
    assert coverage(points, 0.9, 1000)[2] < 0
    assert math.isinf(coverage([(1, 2.0), (2, 2.0)], 3.0, 10)[2])


@pytest.mark.parametrize(
    ("rival", "told"),
    [
        (0.9, "slower than the lean dense network of torch at any coverage"),
        (2.5, "as slow as the lean dense network of torch at 30.0% coverage"),
        (9.0, "faster than the lean dense network of torch at every coverage"),
    ],
)
def test_what_is_told(rival: float, told: str) -> None:
    line = break_even("mga", [(100, 1.5), (400, 3.0)], ("torch", rival), 1000)
    assert line == f"break-even, mga: 1000.00 ms + 5000.00 us per patch; {told}"


def test_noise_is_called_noise() -> None:
    line = break_even("mga", [(0, 1.5), (100, 1.4)], ("torch", 2.0), 1000)
    assert line.endswith("a patch costs less than the noise of this run, no break-even")
