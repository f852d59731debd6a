"""Modules written as programs: traced by torch.fx, then step by step with sizes known."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..ops._program import Program, Shape, map_obstacle, value_shapes
from . import shape_rules as _shape_rules
from .parameters import Binding, Source, places
from .rules import FUNCTIONS, METHODS, MODULES
from .simplify import simplified
from .steps import Steps, UnlowerableError, Value

assert _shape_rules  # imported for the rules it enters

_PROBES = ((24, 40), (37, 29))  # rows and columns of maps that must give one program
_lock = threading.Lock()


@dataclass(frozen=True)
class Lowered:
    """A module as a program.

    Attributes:
        program: its steps. text: the same as ``sparsesr.ops.run_program`` takes it.
        sources: where its parameters are in the module.
        weights: their shapes.
        shape: of the input it was lowered for, [C, H, W]; of maps an example.
        made: of the result.
    """

    program: Program
    text: str
    sources: tuple[Source, ...]
    weights: tuple[tuple[int, ...], ...]
    shape: Shape
    made: Shape

    def parameters(self, module: nn.Module) -> list[Tensor]:
        """The parameters of ``module`` as they are now, in the order of the program."""
        return Binding(self.sources, list(module.modules())).parameters()


def lower(module: nn.Module, shape: Shape, method: str = "forward") -> Lowered:
    """The program of a module for inputs [N, C, H, W] of one size.

    Args:
        module: it is not changed.
        shape: C, H and W.
        method: what to lower, one of its methods that take one tensor.

    Raises:
        UnlowerableError: it does something that programs do not hold; the message says what.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        >>> print(lower(net, (3, 6, 6)).text)
        v1 = conv v0 weight=0 bias=1 pad=1 act=relu
        return v1
    """
    return _write(_traced(module, method), module, shape, any_size=False)


def lower_map(module: nn.Module, channels: int, method: str = "forward") -> Lowered:
    """The program of a module for maps [N, C, H, W] of any size.

    Raises:
        UnlowerableError: as ``lower``; a program that depends on the size, or that cannot be
            streamed over a map row by row.

    Example:
        >>> lower_map(nn.Conv2d(3, 8, 3, padding=1), 3).text
        'v1 = conv v0 weight=0 bias=1 pad=1\\nreturn v1'
    """
    graph = _traced(module, method)
    one, two = (_write(graph, module, (channels, *size), any_size=True) for size in _PROBES)
    if one.text != two.text:
        raise UnlowerableError("what it does depends on the size of the map")
    obstacle = map_obstacle(one.program, one.weights)
    if obstacle is not None:
        raise UnlowerableError(f"not to be streamed over a map: {obstacle}")
    return one


class _Call(nn.Module):
    """One method of a module, as a forward of one argument."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, x: Tensor) -> Any:
        return self.module(x) if self.method == "forward" else getattr(self.module, self.method)(x)


class _Tracer(fx.Tracer):
    """Stops at modules that have a rule.

    torch.fx replaces ``nn.Module.__call__`` for all threads while it traces; calls from others go
    on as they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in MODULES

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _traced(module: nn.Module, method: str) -> tuple[nn.Module, fx.Graph]:
    call = _Call(module, method)
    call.training = module.training
    try:
        with _lock:
            return call, _Tracer().trace(call)
    except UnlowerableError:
        raise
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise UnlowerableError(f"torch.fx cannot trace it: {first}") from error


@torch.no_grad()
def _write(
    traced: tuple[nn.Module, fx.Graph], module: nn.Module, shape: Shape, any_size: bool
) -> Lowered:
    root, graph = traced
    steps = Steps(places(module), shape, any_size)
    result = _Writer(root, steps).run(graph)
    if not isinstance(result, Value) or result.flat:
        raise UnlowerableError("it returns something else than one map")
    if result.memory.gone:
        raise UnlowerableError(f"its result {result.memory.gone}")
    program, kept = simplified(steps.steps, result.number, steps.shapes, steps.weights)
    if not program.steps:
        raise UnlowerableError("it does nothing")
    weights = tuple(tuple(steps.weights[i]) for i in kept)
    value_shapes(program, weights, shape)  # a check on the lowering itself
    sources = tuple(steps.sources[i] for i in kept)
    return Lowered(program, program.text(), sources, weights, shape, steps.shapes[result.number])


class _Writer:
    """Follows a graph, each call by its rule."""

    def __init__(self, root: nn.Module, steps: Steps) -> None:
        self._root = root
        self._steps = steps

    def run(self, graph: fx.Graph) -> Any:
        """What the graph returns."""
        made: dict[fx.Node, Any] = {}
        for node in graph.nodes:
            if node.op == "placeholder":
                made[node] = self._steps.input
            elif node.op == "get_attr":
                made[node] = _attribute(self._root, str(node.target))
            else:
                args = fx.node.map_arg(node.args, made.__getitem__)
                kwargs = fx.node.map_arg(node.kwargs, made.__getitem__)
                if node.op == "output":
                    return args[0]
                made[node] = self._call(node, tuple(args), dict(kwargs))
        raise AssertionError("a graph has an output")

    def _call(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target: Any = node.target
        try:
            if node.op == "call_module":
                part = self._root.get_submodule(target)
                return MODULES[type(part)](self._steps, part, *args, **kwargs)
            if not _holds_value((args, tuple(kwargs.values()))):
                own = target if node.op == "call_function" else getattr(args[0], target)
                return own(*(args if node.op == "call_function" else args[1:]), **kwargs)
            rule = (FUNCTIONS if node.op == "call_function" else METHODS).get(target)
            if rule is None:
                name = target if isinstance(target, str) else getattr(target, "__name__", target)
                raise UnlowerableError(f"{name} is not in the language of programs")
            return rule(self._steps, *args, **kwargs)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            where = target.removeprefix("module.") if node.op == "call_module" else node.name
            raise UnlowerableError(f"{where}: {error}") from error


def _holds_value(argument: Any) -> bool:
    if isinstance(argument, (list, tuple)):
        return any(map(_holds_value, argument))
    return isinstance(argument, Value)


def _attribute(root: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(root.get_submodule(owner), name)
