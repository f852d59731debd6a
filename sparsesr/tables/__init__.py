"""The papers' tables of parameters and FLOPs, computed again."""

from __future__ import annotations

from .compare import compare_tables
from .published import PAPERS

__all__ = ["PAPERS", "compare_tables"]
