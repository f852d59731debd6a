"""Programs found before, by module: lowered again only after its structure has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import nn

from ..ops._program import Shape
from .blueprint import Blueprint
from .choice import Facts, facts_of
from .lowering import Lowered, lower, lower_map
from .parameters import Binding
from .steps import UnlowerableError


@dataclass(frozen=True)
class Entry:
    """What became of a module.

    Attributes:
        blueprint: the module when it was lowered.
        lowered: its program, or None. binding: where it has its parameters.
        obstacle: why there is none.
        facts: of the program.
    """

    blueprint: Blueprint
    lowered: Lowered | None
    binding: Binding | None
    obstacle: str
    facts: Facts | None


# Beside the modules: copies and pickles of them know nothing of it.
_entries: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Entry]] = WeakKeyDictionary()


def for_patches(module: nn.Module, shape: Shape) -> Entry:
    """The program of ``module.forward`` for windows [C, p+2h, p+2h]."""
    return _find(module, (shape,)) or _enter(module, (shape,), lambda: lower(module, shape))


def for_maps(module: nn.Module, channels: int, method: str) -> Entry:
    """The program of a method for maps of any size."""
    key = (method, channels)
    return _find(module, key) or _enter(module, key, lambda: lower_map(module, channels, method))


def _find(module: nn.Module, key: tuple[object, ...]) -> Entry | None:
    entry = _entries.get(module, {}).get(key)
    return entry if entry is not None and entry.blueprint.fits(module) else None


def _enter(module: nn.Module, key: tuple[object, ...], make: Callable[[], Lowered]) -> Entry:
    blueprint = Blueprint(module)
    try:
        lowered = make()
    except UnlowerableError as error:
        entry = Entry(blueprint, None, None, str(error), None)
    else:
        # Of a map the facts are those of one pixel.
        pixels = lowered.shape[1] * lowered.shape[2] if isinstance(key[0], str) else 1
        facts = facts_of(lowered.program, lowered.weights, lowered.shape, pixels)
        binding = Binding(lowered.sources, blueprint.modules(module))
        entry = Entry(blueprint, lowered, binding, "", facts)
    _entries.setdefault(module, {})[key] = entry
    return entry
