"""The papers' ablations, each a command: what is trained, what is measured, the table."""

from __future__ import annotations

from .plan import Ablation, Given, Training, Variant
from .run import ABLATIONS, Options, WeightsMissingError, run_ablation

__all__ = [
    "ABLATIONS",
    "Ablation",
    "Given",
    "Options",
    "Training",
    "Variant",
    "WeightsMissingError",
    "run_ablation",
]
