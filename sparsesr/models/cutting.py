"""Cutting the traced graph of a network at a named module, for ``decompose``."""

from __future__ import annotations

import copy
import difflib
import operator
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

_ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")


@dataclass(frozen=True)
class Cut:
    """A network's graph in three parts: before ``at``, from there on, from the upsampler on.

    Attributes:
        source: what enters ``at``. feature: what enters the upsampler. result: the image.
        middle: nodes that need ``at`` and not the upsampler, in order. last: the upsampler's.
        skips: nodes before ``at`` that an addition in the middle takes up again.
    """

    graph: fx.Graph
    source: fx.Node
    feature: fx.Node
    middle: tuple[fx.Node, ...]
    last: tuple[fx.Node, ...]
    result: fx.Node
    skips: frozenset[fx.Node]


def cut_graph(model: nn.Module, at: str, upsampler: str) -> Cut:
    """Trace ``model`` and cut it.

    Raises:
        ValueError: names that do not exist, a place inside a block's own forward, a forward that
            cannot be traced, or values that bypass the cut other than by addition.
    """
    for name in (at, upsampler):
        _check_name(model, name)
    for inner, outer in ((at, upsampler), (upsampler, at)):
        if f"{inner}.".startswith(f"{outer}."):
            raise ValueError(f"decompose: {inner!r} lies inside {outer!r}; name two separate parts")
    graph = _trace(model, {*_ancestors(at), *_ancestors(upsampler)})
    first, up = _call(graph, at), _call(graph, upsampler)
    after, end = _descendants(first), _descendants(up)
    if up not in after:
        raise ValueError(f"decompose: the upsampler {upsampler!r} does not come after {at!r}")
    middle = tuple(n for n in graph.nodes if n in after and n not in end)
    last = tuple(n for n in graph.nodes if n in end)
    for node in last[1:]:
        past = [n for n in _inputs(node) if n not in end]
        if past:
            raise ValueError(
                f"decompose: not sequential at the end: {node.name} takes {_names(past)} past the "
                f"upsampler {upsampler!r}, which a patch of the feature map does not hold"
            )
    if not isinstance(last[-1].args[0], fx.Node):
        raise ValueError("decompose: expected a network that returns one image and nothing else")
    return Cut(
        graph=graph,
        source=_only_input(first),
        feature=_only_input(up),
        middle=middle,
        last=last[:-1],
        result=last[-1].args[0],
        skips=_skips(middle, at) - {_only_input(first)},
    )


def base_trunk(model: nn.Module, cut: Cut, keep: Collection[str]) -> fx.GraphModule:
    """LR -> feature: the network without its middle, whose skips are still added."""
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    dropped = {*cut.middle, *cut.last}
    for node in cut.graph.nodes:
        if node not in dropped and node.op != "output":
            env[node] = graph.node_copy(node, env.__getitem__)
    for node in cut.middle:
        inputs = list(dict.fromkeys(env[n] for n in _inputs(node)))
        if node.op == "call_module" and node.target in keep:
            env[node] = graph.call_module(str(node.target), (inputs[0],))
        elif len(inputs) == 1:
            env[node] = inputs[0]
        else:
            env[node] = graph.call_function(operator.add, (inputs[0], inputs[1]))
    graph.output(env[cut.feature])
    return _module(model, graph)


def refine_trunk(model: nn.Module, cut: Cut) -> fx.GraphModule:
    """Patch -> feature: the middle alone; its skips start at the patch."""
    graph = fx.Graph()
    patch = graph.placeholder("patch")
    env = dict.fromkeys((cut.source, *cut.skips), patch)
    for node in cut.middle:
        _copy_constants(node, graph, env)
        if _is_addition(node):
            # Never in place: the patch may be one of the two.
            env[node] = graph.call_function(operator.add, tuple(env[n] for n in _inputs(node)))
        else:
            env[node] = graph.node_copy(node, env.__getitem__)
    graph.output(env[cut.feature])
    return _module(model, graph)


def upsampler_part(model: nn.Module, cut: Cut) -> fx.GraphModule:
    """Feature -> image."""
    graph = fx.Graph()
    env = {cut.feature: graph.placeholder("feature")}
    for node in cut.last:
        _copy_constants(node, graph, env)
        env[node] = graph.node_copy(node, env.__getitem__)
    graph.output(env[cut.result])
    return _module(model, graph)


def shapes(model: nn.Module, cut: Cut, example: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """Shape of every tensor of the network on an example image, as in eval mode."""
    found: dict[fx.Node, tuple[int, ...]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = tuple(value.shape)
            return value

    copied = copy.deepcopy(model).eval()
    with torch.no_grad():
        Recorder(fx.GraphModule(copied, cut.graph)).run(example)
    return found


def _check_name(model: nn.Module, name: str) -> None:
    modules = dict(model.named_modules())
    if not name or name not in modules:
        near = difflib.get_close_matches(name, modules, n=3, cutoff=0.3)
        raise ValueError(
            f"decompose: {type(model).__name__} has no module {name!r}"
            + (f"; nearest: {', '.join(near)}" if near else "")
        )
    for outer in _ancestors(name):
        module = modules[outer]
        plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
        if not plain and not isinstance(module, nn.ModuleList):
            raise ValueError(
                f"decompose: not sequential at {name!r}: {outer!r} is a "
                f"{type(module).__name__} with a forward of its own; cut before or after it"
            )


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


class _Call(nn.Module):
    """``model`` with its first argument alone, whatever others have a default."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, lr: Tensor) -> Tensor:
        return self.model(lr)


def _trace(model: nn.Module, opened: set[str]) -> fx.Graph:
    """The graph of the network's own forward; blocks stay whole."""

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return m is not model and module_qualified_name.removeprefix("model.") not in opened

    try:
        graph = Tracer().trace(_Call(model))
    except Exception as error:
        raise ValueError(
            f"decompose: not sequential: the forward of {type(model).__name__} cannot be traced "
            f"({error}); it must call its parts without looking at the data"
        ) from error
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix("model.")
    return graph


def _call(graph: fx.Graph, name: str) -> fx.Node:
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == name]
    if len(calls) != 1:
        raise ValueError(
            f"decompose: not sequential at {name!r}: the network calls it {len(calls)} times, "
            "expected once"
        )
    return calls[0]


def _inputs(node: fx.Node) -> list[fx.Node]:
    """Nodes that a node computes from; parameters that it reads are none."""
    return [n for n in node.all_input_nodes if n.op != "get_attr"]


def _only_input(node: fx.Node) -> fx.Node:
    inputs = _inputs(node)
    if len(inputs) != 1:
        raise ValueError(
            f"decompose: not sequential at {node.target!r}: it takes {len(inputs)} tensors, "
            "expected one"
        )
    return inputs[0]


def _descendants(node: fx.Node) -> set[fx.Node]:
    found, open_ends = {node}, [node]
    while open_ends:
        new = [user for user in open_ends.pop().users if user not in found]
        found.update(new)
        open_ends += new
    return found


def _skips(middle: tuple[fx.Node, ...], at: str) -> frozenset[fx.Node]:
    """Values from before the cut that the middle adds."""
    found = set[fx.Node]()
    for node in middle[1:]:
        inputs = _inputs(node)
        if len(inputs) > 1 and not _is_addition(node):
            raise ValueError(
                f"decompose: not sequential at {at!r}: {node.name} joins {_names(inputs)}; only "
                "additions can be cut, concatenations and products cannot"
            )
        found.update(n for n in inputs if n not in middle)
    return frozenset(found)


def _is_addition(node: fx.Node) -> bool:
    return node.target in _ADDITIONS and len(_inputs(node)) == 2 and not node.kwargs


def _copy_constants(node: fx.Node, graph: fx.Graph, env: dict[fx.Node, fx.Node]) -> None:
    for constant in node.all_input_nodes:
        if constant.op == "get_attr" and constant not in env:
            env[constant] = graph.node_copy(constant)


def _module(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.delete_all_unused_submodules()
    module.recompile()
    return module


def _names(nodes: Collection[fx.Node]) -> str:
    return " and ".join(sorted(n.name for n in nodes))
