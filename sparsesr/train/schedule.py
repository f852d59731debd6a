"""Learning rate as a pure function of the step."""

from __future__ import annotations

import math

from sparsesr.train.recipe import OptimizerConfig


def learning_rate(step: int, iterations: int, config: OptimizerConfig) -> float:
    """Learning rate of `step` in [0, iterations): warm-up, then cosine, restarted each period.

    warm-up: warmup_lr + (lr - warmup_lr) t / warmup;
    cosine: min_lr + (lr - min_lr) (1 + cos(pi (t - warmup) / (T - warmup))) / 2,
    with t the step within its period and T the period's length.
    Source: MGA, training settings (ECCV 2022).
    """
    if not 0 <= step < iterations:
        raise ValueError(f"step: expected 0 <= step < {iterations}, got {step}")
    period = step * config.periods // iterations
    start = -(-period * iterations // config.periods)
    end = -(-(period + 1) * iterations // config.periods)
    t, length = step - start, end - start
    if t < config.warmup:
        return config.warmup_lr + (config.lr - config.warmup_lr) * t / config.warmup
    phase = math.pi * (t - config.warmup) / (length - config.warmup)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(phase))
