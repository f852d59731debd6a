"""Learning rate, temperature and loss ramp as pure functions of the step."""

from __future__ import annotations

import math

from sparsesr.train.recipe import MaskConfig, OptimizerConfig


def learning_rate(step: int, iterations: int, config: OptimizerConfig) -> float:
    """Learning rate of `step` in [0, iterations): warm-up, then cosine, restarted each period.

    warm-up: warmup_lr + (lr - warmup_lr) t / warmup;
    cosine: min_lr + (lr - min_lr) (1 + cos(pi (t - warmup) / (T - warmup))) / 2,
    with t the step within its period and T the period's length; with `decay_every`, in place of
    the cosine: lr decay^floor(t / decay_every).
    Source: MGA, training settings (ECCV 2022); SMSR, section 4.1, and DRSAN (decay).
    """
    if not 0 <= step < iterations:
        raise ValueError(f"step: expected 0 <= step < {iterations}, got {step}")
    period = step * config.periods // iterations
    start = -(-period * iterations // config.periods)
    end = -(-(period + 1) * iterations // config.periods)
    t, length = step - start, end - start
    if t < config.warmup:
        return config.warmup_lr + (config.lr - config.warmup_lr) * t / config.warmup
    if config.decay_every is not None:
        return config.lr * config.decay ** (t // config.decay_every)
    phase = math.pi * (t - config.warmup) / (length - config.warmup)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(phase))


def temperature(step: int, config: MaskConfig) -> float:
    """Temperature of the Gumbel-softmax at `step`: max(1 - step / cooling, temperature).

    Source: SMSR, section 4.1, where it falls epoch by epoch.
    """
    if config.cooling is None:
        return 1.0
    return max(1 - step / config.cooling, config.temperature)


def active_ramp(step: int, config: MaskConfig) -> float:
    """Factor in [0, 1] on the weight of the active share: min(step / ramp, 1).

    Source: SMSR, section 4.1, where it grows epoch by epoch.
    """
    return min(step / config.ramp, 1.0) if config.ramp else 1.0
