"""The dense network that a sparse one has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Rival:
    """A dense network beside a sparse one.

    Attributes:
        net: computes only what its output needs, in eval mode.
        name: with its scale.
        trained: whether its quality means anything; time and multiply-adds do without.
    """

    net: nn.Module
    name: str
    trained: bool


def lean_rival(net: nn.Module, scale: int) -> Rival | None:
    """The dense network of the same family and scale, None where no model is one.

    The D-Net for MGA's forms, the network that PCSR accelerates for its own. With shipped weights
    where there are any, else with random ones: those of a Refine-Net trained on patches do not fit
    the whole map.

    Example:
        >>> import sparsesr
        >>> [lean_rival(sparsesr.create_model(n), 4).name for n in ("pan-mga-x4", "carn-pcsr-x4")]
        ['pan-dnet-x4', 'carn-x4']
    """
    from sparsesr.models import create_model, from_pretrained, list_models, shipped_weights

    scales = {info.name: info.scales for info in list_models()}
    for name in _dense_names(str(getattr(net, "model_name", ""))):
        if scale not in scales.get(name, ()):
            continue
        full = f"{name}-x{scale}"
        trained = full in shipped_weights()
        made: Any = from_pretrained(full) if trained else create_model(full)
        return Rival(made.eval(), full, trained)
    return None


def _dense_names(name: str) -> list[str]:
    """Names that the dense form may have, the likeliest first."""
    stem = name.removesuffix("-light")
    for suffix in ("-mga", "-pcsr"):
        if stem.endswith(suffix):
            family = stem.removesuffix(suffix)
            return [f"{family}-dnet", family] if suffix == "-mga" else [family]
    return []
