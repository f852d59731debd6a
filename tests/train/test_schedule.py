"""Learning rate values."""

from __future__ import annotations

import pytest

from sparsesr.train import learning_rate
from sparsesr.train.recipe import OptimizerConfig


def test_paper_schedule() -> None:
    """MGA: three periods of 200K, 2K warm-up from 4e-5 to 4e-4, cosine to 1e-7."""
    config = OptimizerConfig(lr=4e-4, min_lr=1e-7, warmup=2000, warmup_lr=4e-5, periods=3)

    def rate(step: int) -> float:
        return learning_rate(step, 600_000, config)

    for start in (0, 200_000, 400_000):
        assert rate(start) == pytest.approx(4e-5)
        assert rate(start + 1000) == pytest.approx((4e-5 + 4e-4) / 2)
        assert rate(start + 2000) == pytest.approx(4e-4)
        assert rate(start + 2000 + 99_000) == pytest.approx((4e-4 + 1e-7) / 2)
        assert rate(start + 199_999) == pytest.approx(1e-7, rel=1e-3)


def test_uneven_periods_restart_and_end_low() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.0, warmup=0, periods=3)
    rates = [learning_rate(step, 10, config) for step in range(10)]
    assert rates.count(1.0) == 3
    assert [step for step, rate in enumerate(rates) if rate == 1.0] == [0, 4, 7]
    assert all(0 <= rate <= 1 for rate in rates)


def test_step_out_of_range() -> None:
    with pytest.raises(ValueError, match="expected 0 <= step < 10, got 10"):
        learning_rate(10, 10, OptimizerConfig())
