"""Model families, one architecture per file, and the registry that makes them by name."""

from __future__ import annotations

from . import drsan as _drsan  # noqa: F401  (registers its models)
from . import imdn as _imdn  # noqa: F401  (registers its models)
from . import mga as _mga  # noqa: F401  (registers its models)
from . import smsr as _smsr  # noqa: F401  (registers its models)
from .identity import identity_init_
from .registry import (
    ModelInfo,
    UnknownModelError,
    create_model,
    list_models,
    parse_name,
    resolve,
)
from .weights import (
    WeightsNotFoundError,
    from_pretrained,
    load_weights,
    save_weights,
    shipped_weights,
    weights_dir,
)

__all__ = [
    "ModelInfo",
    "UnknownModelError",
    "WeightsNotFoundError",
    "create_model",
    "from_pretrained",
    "identity_init_",
    "list_models",
    "load_weights",
    "parse_name",
    "resolve",
    "save_weights",
    "shipped_weights",
    "weights_dir",
]
