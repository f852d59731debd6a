"""What a module's program depends on, remembered so that a change is seen at the next call."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from torch import Tensor, nn

# What every module has in its __dict__; of these only `training` may steer a forward.
_COMMON = frozenset(nn.Module().__dict__) - {"training"}
_PLAIN = (int, float, bool, str, bytes, type(None))


class Blueprint:
    """The structure of a module: its parts, their plain attributes, the shapes of parameters.

    Values of parameters are not part of it. Submodules are held, the module itself is not, so that
    a table from modules to their blueprints does not keep them alive.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> blueprint = Blueprint(net)
        >>> net[0].weight.data.zero_().shape, blueprint.fits(net)
        (torch.Size([8, 3, 3, 3]), True)
        >>> net[0].padding = (1, 1)
        >>> blueprint.fits(net)
        False
    """

    def __init__(self, module: nn.Module) -> None:
        modules = list(module.modules())
        self._below = modules[1:]
        self._parts = [_Part(m) for m in modules]

    def modules(self, module: nn.Module) -> list[nn.Module]:
        """``module`` and all below it, in the order of ``module.modules()``."""
        return [module, *self._below]

    def fits(self, module: nn.Module) -> bool:
        """Whether ``module`` is still what it was."""
        return all(
            part.fits(m) for part, m in zip(self._parts, self.modules(module), strict=True)
        )

    def has_hooks(self, module: nn.Module) -> bool:
        """Whether a forward hook, or a ``forward`` set on an instance, waits somewhere in it."""
        return any(
            m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__
            for m in self.modules(module)
        )


class _Part:
    """One module: attributes that are plain by value, others by identity."""

    def __init__(self, module: nn.Module) -> None:
        own = {k: v for k, v in module.__dict__.items() if k not in _COMMON}
        plain = [k for k, v in own.items() if _is_plain(v)]
        mutable = [k for k in plain if isinstance(own[k], (list, dict))]
        self._size = len(module.__dict__)
        # `training` twice: a getter of one key would not give a tuple.
        self._plain = itemgetter("training", "training", *(k for k in plain if k not in mutable))
        self._values = self._plain(module.__dict__)
        self._lists = {k: _copied(own[k]) for k in mutable}
        self._others = {k: id(v) for k, v in own.items() if k not in plain}
        self._children = list(module._modules.values())
        self._tensors = _shapes(module)

    def fits(self, module: nn.Module) -> bool:
        own = module.__dict__
        return (
            len(own) == self._size
            and all(k in own and own[k] == v for k, v in self._lists.items())
            and all(id(own.get(k)) == v for k, v in self._others.items())
            and self._same_values(own)
            and list(module._modules.values()) == self._children
            and _shapes(module) == self._tensors
        )

    def _same_values(self, own: dict[str, Any]) -> bool:
        try:
            return bool(self._plain(own) == self._values)
        except KeyError:
            return False


def _shapes(module: nn.Module) -> list[object]:
    tensors: list[Tensor | None] = [*module._parameters.values(), *module._buffers.values()]
    return [None if t is None else t.shape for t in tensors]


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
