"""Modules as programs: ``nn`` layers run their networks through here."""

from __future__ import annotations

from .execution import (
    EXECUTORS,
    Covered,
    PatchPlan,
    executor,
    plan_patches,
    refine_,
    run,
    why_not_fused,
    why_not_run,
)
from .lowering import Lowered, lower, lower_map
from .rules import lowers
from .steps import Steps, UnlowerableError, Value

__all__ = [
    "EXECUTORS",
    "Covered",
    "Lowered",
    "PatchPlan",
    "Steps",
    "UnlowerableError",
    "Value",
    "executor",
    "lower",
    "lower_map",
    "lowers",
    "plan_patches",
    "refine_",
    "run",
    "why_not_fused",
    "why_not_run",
]
