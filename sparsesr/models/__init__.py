"""Model families, one architecture per file, and the registry that makes them by name."""

from __future__ import annotations

from . import bsrn as _bsrn  # noqa: F401  (registers its models)
from . import carn as _carn  # noqa: F401  (registers its models)
from . import drsan as _drsan  # noqa: F401  (registers its models)
from . import fsrcnn_original as _fsrcnn_original  # noqa: F401  (registers its models)
from . import imdn as _imdn  # noqa: F401  (registers its models)
from . import imdn_smsr as _imdn_smsr  # noqa: F401  (registers its models)
from . import mga as _mga  # noqa: F401  (registers its models)
from . import msrresnet as _msrresnet  # noqa: F401  (registers its models)
from . import pcsr as _pcsr  # noqa: F401  (registers its models)
from . import smsr as _smsr  # noqa: F401  (registers its models)
from . import srresnet_smsr as _srresnet_smsr  # noqa: F401  (registers its models)
from .identity import identity_init_
from .masked import MaskedNet, MaskedOutput
from .registry import (
    ModelInfo,
    UnknownModelError,
    create_model,
    is_model,
    list_models,
    parse_name,
    resolve,
)
from .weights import (
    WeightsNotFoundError,
    from_pretrained,
    has_weights,
    load_weights,
    save_weights,
    shipped_weights,
    weights_dir,
)

__all__ = [
    "MaskedNet",
    "MaskedOutput",
    "ModelInfo",
    "UnknownModelError",
    "WeightsNotFoundError",
    "create_model",
    "from_pretrained",
    "has_weights",
    "identity_init_",
    "is_model",
    "list_models",
    "load_weights",
    "parse_name",
    "resolve",
    "save_weights",
    "shipped_weights",
    "weights_dir",
]
