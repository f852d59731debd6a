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


_KEPT = 4  # forms of one module (training or not, full or not) that are remembered
_PATIENCE = 64  # structures after which a module is taken for one that changes at every call


class _Forms:
    """What became of a module for one kind of input, the form met last in front."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.lowered = 0


# Beside the modules: copies and pickles of them know nothing of it.
_entries: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], _Forms]] = WeakKeyDictionary()


def for_patches(module: nn.Module, shape: Shape) -> Entry:
    """The program of ``module.forward`` for windows [C, p+2h, p+2h]."""
    return _find(module, (shape,), lambda: lower(module, shape))


def for_maps(module: nn.Module, channels: int, method: str) -> Entry:
    """The program of a method for maps of any size."""
    return _find(module, (method, channels), lambda: lower_map(module, channels, method))


def _find(module: nn.Module, key: tuple[object, ...], make: Callable[[], Lowered]) -> Entry:
    table = _entries.get(module)
    if table is None:
        table = _entries.setdefault(module, {})
    forms = table.setdefault(key, _Forms())
    for i, entry in enumerate(forms.entries):
        if entry.blueprint.fits(module):
            if i > 0:
                forms.entries = [entry, *(e for e in forms.entries if e is not entry)]
            return entry
    forms.lowered += 1
    if forms.lowered > _PATIENCE:
        return _restless(module)
    entry = _enter(module, isinstance(key[0], str), make)
    forms.entries = [entry, *forms.entries[: _KEPT - 1]]
    return entry


def _enter(module: nn.Module, is_map: bool, make: Callable[[], Lowered]) -> Entry:
    blueprint = Blueprint(module)
    try:
        lowered = make()
    except UnlowerableError as error:
        return Entry(blueprint, None, None, str(error), None)
    # Of a map the facts are those of one pixel.
    pixels = lowered.shape[1] * lowered.shape[2] if is_map else 1
    facts = facts_of(lowered.program, lowered.weights, lowered.shape, pixels)
    return Entry(blueprint, lowered, Binding(lowered.sources, blueprint.modules(module)), "", facts)


def _restless(module: nn.Module) -> Entry:
    return Entry(Blueprint(module), None, None, "its structure changes from call to call", None)
