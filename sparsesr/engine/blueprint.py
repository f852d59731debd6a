"""What a module's program depends on, remembered so that a change is seen at the next call."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from torch import nn

# What every module has in its __dict__; of these only `training` may steer a forward.
_COMMON = frozenset(nn.Module().__dict__) - {"training"}
_PLAIN = (int, float, bool, str, bytes, type(None))


class _Part(NamedTuple):
    """One module: its __dict__, how many entries it has, those that are plain, its children."""

    own: dict[str, Any]
    size: int
    plain: Callable[[dict[str, Any]], Any]
    values: Any
    children: dict[str, nn.Module | None]
    modules: list[nn.Module | None]


class Blueprint:
    """The structure of a module: its parts, their plain attributes, which parameters there are.

    Values of parameters are not part of it. Submodules are held, the module itself is not, so that
    a table from modules to their blueprints does not keep them alive.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> blueprint = Blueprint(net)
        >>> blueprint.fits(net)
        True
        >>> net[0].padding = (1, 1)
        >>> blueprint.fits(net)
        False
    """

    def __init__(self, module: nn.Module) -> None:
        modules = list(module.modules())
        self._below = modules[1:]
        self._root = module.__dict__
        self._parts: list[_Part] = []
        self._lists: list[tuple[dict[str, Any], str, Any]] = []
        self._others: list[tuple[dict[str, Any], str, int]] = []
        self._tensors: list[tuple[dict[str, Any], str, bool]] = []
        self._hooks: list[dict[int, Any]] = []
        self._patched = any("forward" in m.__dict__ for m in modules)
        for m in modules:
            self._enter(m)

    def modules(self, module: nn.Module) -> list[nn.Module]:
        """``module`` and all below it, in the order of ``module.modules()``."""
        return [module, *self._below]

    def fits(self, module: nn.Module) -> bool:
        """Whether ``module`` is still what it was."""
        if module.__dict__ is not self._root:
            return False
        try:
            for own, size, plain, values, children, modules in self._parts:
                if len(own) != size or plain(own) != values or list(children.values()) != modules:
                    return False
            for own, name, value in self._lists:
                if own[name] != value:
                    return False
            for own, name, identity in self._others:
                if id(own[name]) != identity:
                    return False
            for tensors, name, absent in self._tensors:
                if (tensors[name] is None) is not absent:
                    return False
        except KeyError:
            return False
        return True

    def has_hooks(self) -> bool:
        """Whether a forward hook, or a ``forward`` set on an instance, waits somewhere in it."""
        return self._patched or any(self._hooks)

    def _enter(self, m: nn.Module) -> None:
        own = {k: v for k, v in m.__dict__.items() if k not in _COMMON}
        plain = [k for k, v in own.items() if _is_plain(v)]
        mutable = [k for k in plain if isinstance(own[k], (list, dict))]
        # `training` twice: a getter of one key would not give a tuple.
        get = itemgetter("training", "training", *(k for k in plain if k not in mutable))
        children = m._modules
        self._parts.append(
            _Part(m.__dict__, len(m.__dict__), get, get(own), children, list(children.values()))
        )
        self._lists += [(m.__dict__, k, _copied(own[k])) for k in mutable]
        self._others += [(m.__dict__, k, id(v)) for k, v in own.items() if k not in plain]
        for tensors in (m._parameters, m._buffers):
            self._tensors += [(tensors, k, t is None) for k, t in tensors.items()]
        self._hooks += [m._forward_hooks, m._forward_pre_hooks]


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, (list, tuple)) else value
