"""Models by name."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


class UnknownModelError(ValueError):
    """No model of that name; the text names the nearest ones."""


@dataclass(frozen=True)
class ModelInfo:
    """One row of ``list_models``."""

    name: str
    scales: tuple[int, ...]
    summary: str


@dataclass(frozen=True)
class _Entry:
    info: ModelInfo
    build: Callable[..., nn.Module]
    options: tuple[str, ...]


_MODELS: dict[str, _Entry] = {}


def register(
    name: str,
    scales: tuple[int, ...],
    summary: str,
    build: Callable[..., nn.Module],
    options: Sequence[str] | None = None,
) -> None:
    """Add a model: ``build(scale=..., **options)`` makes it.

    Args:
        options: names of the options; by default the parameters of ``build`` but the scale.
    """
    if options is None:
        known = inspect.signature(build).parameters
        options = [name for name in known if name not in ("family", "scale")]
    _MODELS[name] = _Entry(ModelInfo(name, scales, summary), build, tuple(options))


def list_models() -> list[ModelInfo]:
    """All models, by name.

    Example:
        >>> [m.name for m in list_models() if m.name.startswith("pan-") and "light" not in m.name]
        ['pan-allnet', 'pan-base', 'pan-dnet', 'pan-mga']
    """
    return [_MODELS[name].info for name in sorted(_MODELS)]


def is_model(name: str) -> bool:
    """Whether there is a model of that name (without its scale)."""
    return name in _MODELS


def parse_name(name: str) -> tuple[str, int | None]:
    """``"fsrcnn-mga-x4"`` -> ``("fsrcnn-mga", 4)``; the scale is None where the name has none."""
    found = re.fullmatch(r"(.+)-x(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)


def resolve(name: str, scale: int | None = None) -> tuple[str, int]:
    """Model name without scale, and the scale, from a name with or without ``-xN``.

    Raises:
        UnknownModelError: no such model.
        ValueError: no scale, two different ones, or one the model does not have.
    """
    stem, named_scale = parse_name(name)
    if stem not in _MODELS:
        raise UnknownModelError(_unknown(name, stem))
    if scale is not None and named_scale is not None and scale != named_scale:
        raise ValueError(f"model {name!r} is for scale {named_scale}, got scale={scale}")
    scale = named_scale if scale is None else scale
    scales = _MODELS[stem].info.scales
    choices = ", ".join(f"{stem}-x{s}" for s in scales)
    if scale is None:
        raise ValueError(f"model {name!r} needs a scale: one of {choices}")
    if scale not in scales:
        raise ValueError(f"model {stem!r} has no scale {scale}; choose {choices}")
    return stem, scale


def create_model(name: str, scale: int | None = None, **options: Any) -> nn.Module:
    """A freshly initialised model.

    Args:
        name: as in ``list_models``, with or without its scale: ``"fsrcnn-mga"``,
            ``"fsrcnn-mga-x4"``.
        scale: 2, 3 or 4; must not contradict the name.
        options: of the model, e.g. ``patch_size=8`` for -mga and -allnet, ``mask_channels=1``,
            ``base_blocks=10, refine_blocks=6`` for another depth.

    Returns:
        The network in training mode; ``net.model_name``, ``net.scale`` and ``net.arguments`` say
        how it was made.

    Raises:
        UnknownModelError: no such model; the nearest names are given.
        ValueError: a missing or contradicting scale.
        TypeError: an option the model does not have.

    Example:
        >>> net = create_model("fsrcnn-mga-x4")
        >>> net.model_name, net.scale, sum(p.numel() for p in net.parameters())
        ('fsrcnn-mga', 4, 43270)
    """
    stem, scale = resolve(name, scale)
    build, known = _MODELS[stem].build, _MODELS[stem].options
    for option in options:
        if option not in known:
            raise TypeError(
                f"model {stem!r} has no option {option!r}; it has: {', '.join(known) or 'none'}"
            )
    net: Any = build(scale=scale, **options)
    net.model_name = stem
    net.arguments = dict(options)
    return net


def _unknown(name: str, stem: str) -> str:
    near = difflib.get_close_matches(stem, _MODELS, n=3, cutoff=0.4)
    hint = f"; did you mean {', '.join(near)}?" if near else "; see list_models()"
    return f"unknown model {name!r}{hint}"
