"""How functions, methods and modules are written as steps; more are added by ``lowers``.

A rule takes the ``Steps`` being written and what the call was given, tensors of the network as
``Value``; a module's rule takes the module in front of that. It returns what the call returns.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .steps import Steps, UnlowerableError, Value

Rule = Callable[..., Any]
Given = TypeVar("Given", bound=Callable[..., Any])

FUNCTIONS: dict[Any, Rule] = {}
METHODS: dict[str, Rule] = {}
MODULES: dict[type[nn.Module], Rule] = {}  # by the exact type: a subclass may compute another thing


def lowers(*targets: Any) -> Callable[[Given], Given]:
    """Let a function be the rule of ``targets``.

    Args:
        targets: functions marked by ``torch.fx.wrap``, or classes of modules (subclasses are not
            included). A rule is called as ``rule(steps, *arguments)``, that of a module as
            ``rule(steps, module, *arguments)``.

    Example:
        >>> class Twice(nn.Module):
        ...     def forward(self, x):
        ...         return x + x
        >>> @lowers(Twice)
        ... def _(steps, module, x):
        ...     return steps.add(x, x)
    """

    def enter(rule: Given) -> Given:
        for target in targets:
            is_module = isinstance(target, type) and issubclass(target, nn.Module)
            (MODULES if is_module else FUNCTIONS)[target] = rule
        return rule

    return enter


def _method(*names: str) -> Callable[[Given], Given]:
    def enter(rule: Given) -> Given:
        METHODS.update(dict.fromkeys(names, rule))
        return rule

    return enter


def _map(x: object) -> Value:
    if not isinstance(x, Value) or x.flat:
        raise UnlowerableError(
            f"expected a map, got {x!r}" if not isinstance(x, Value) else "a matrix"
        )
    return x


# Convolutions.


@lowers(F.conv2d, torch.conv2d)
def _conv(
    steps: Steps,
    x: Any,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    if _square(dilation) != 1:
        raise UnlowerableError("a dilated convolution")
    if padding == "same" and isinstance(weight, Tensor) and weight.shape[2] % 2 == 1:
        padding = weight.shape[2] // 2
    elif padding == "valid":
        padding = 0
    if not isinstance(weight, Tensor):
        raise UnlowerableError("a convolution whose weights are computed from the input")
    return steps.conv(_map(x), weight, bias, _square(stride), _square(padding), groups)


@lowers(nn.Conv2d)
def _conv_module(steps: Steps, m: nn.Conv2d, x: Any) -> Value:
    if m.padding_mode != "zeros":
        raise UnlowerableError(f"padding_mode={m.padding_mode!r}")
    return _conv(steps, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)


@lowers(nn.ConvTranspose2d)
def _deconv_module(steps: Steps, m: nn.ConvTranspose2d, x: Any) -> Value:
    return _deconv(
        steps, x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation
    )


@lowers(F.conv_transpose2d, torch.conv_transpose2d)
def _deconv(
    steps: Steps,
    x: Any,
    weight: Any,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    if not isinstance(weight, Tensor) or groups != 1 or _square(dilation) != 1:
        raise UnlowerableError("a transposed convolution with groups, dilation or computed weights")
    stride, padding = _square(stride), _square(padding)
    if weight.shape[2] - 2 * padding + _square(output_padding) != stride:
        raise UnlowerableError(
            "a transposed convolution whose result is not stride times its input"
        )
    return steps.deconv(_map(x), weight, bias, stride, padding)


def _square(value: Any) -> int:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(set(pair)) != 1 or isinstance(pair[0], bool) or not isinstance(pair[0], int):
        raise UnlowerableError(f"{value!r} where rows and columns have to be alike")
    return pair[0]


@lowers(nn.BatchNorm2d)
def _norm(steps: Steps, m: nn.BatchNorm2d, x: Any) -> Value:
    if m.training or m.running_mean is None:
        raise UnlowerableError("BatchNorm2d in training mode, or without running statistics")
    return steps.fold_norm(_map(x), m)


# Activations.


def _activation(kind: str) -> Rule:
    def rule(steps: Steps, x: Value, inplace: bool = False) -> Value:
        return _acted(steps, x, inplace, kind)

    return rule


def _acted(steps: Steps, x: Value, inplace: bool, kind: str, **options: Any) -> Value:
    made = steps.act(x, kind, **options)
    if inplace:
        steps.written(x)
    return made


for _kind, _function, _type in (
    ("relu", torch.relu, nn.ReLU),
    ("sigmoid", torch.sigmoid, nn.Sigmoid),
    ("tanh", torch.tanh, nn.Tanh),
):
    lowers(_function, getattr(F, _kind))(_activation(_kind))
    _method(_kind)(_activation(_kind))
    lowers(getattr(torch, f"{_kind}_"))(lambda s, x, k=_kind: _acted(s, x, True, k))
    _method(f"{_kind}_")(lambda s, x, k=_kind: _acted(s, x, True, k))
    lowers(_type)(lambda s, m, x, k=_kind: _acted(s, x, bool(getattr(m, "inplace", False)), k))


@lowers(F.leaky_relu)
def _leaky(steps: Steps, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return _acted(steps, x, inplace, "leaky", slope=float(negative_slope))


@lowers(nn.LeakyReLU)
def _leaky_module(steps: Steps, m: nn.LeakyReLU, x: Value) -> Value:
    return _leaky(steps, x, m.negative_slope, m.inplace)


@lowers(F.prelu, torch.prelu)
@_method("prelu")
def _prelu(steps: Steps, x: Value, weight: Tensor) -> Value:
    return steps.act(x, "prelu", parameter=weight)


@lowers(nn.PReLU)
def _prelu_module(steps: Steps, m: nn.PReLU, x: Value) -> Value:
    return _prelu(steps, x, m.weight)


# Arithmetic.


def _two(steps: Steps, x: Any, y: Any, kind: str, inplace: bool = False) -> Value:
    if not isinstance(x, Value) or not isinstance(y, Value):
        raise UnlowerableError(f"{kind} of a value and a constant")
    if inplace and x.shape[1] * x.shape[2] < y.shape[1] * y.shape[2]:
        raise UnlowerableError(f"{kind} in place of a larger map")
    made = steps.add(x, y) if kind == "add" else steps.mul(x, y)
    if inplace:
        steps.written(x)
    return made


for _kind, _in_place in (("add", operator.iadd), ("mul", operator.imul)):
    _plain: Rule = lambda s, x, y, k=_kind: _two(s, x, y, k)  # noqa: E731
    _over: Rule = lambda s, x, y, k=_kind: _two(s, x, y, k, True)  # noqa: E731
    lowers(getattr(operator, _kind), getattr(torch, _kind))(_plain)
    _method(_kind)(_plain)
    lowers(_in_place)(_over)
    _method(f"{_kind}_")(_over)


@lowers(torch.cat, torch.concat)
def _cat(steps: Steps, tensors: Any, dim: int = 0) -> Value:
    if dim not in (1, -3) or not all(isinstance(x, Value) and not x.flat for x in tensors):
        raise UnlowerableError("cat of something but channels of maps")
    return steps.concat(list(tensors))


class _Stack(list[Value]):
    """Values of a ``torch.stack``, until they are summed."""


@lowers(torch.stack)
def _stack(steps: Steps, tensors: Any, dim: int = 0) -> _Stack:
    if dim != 0:
        raise UnlowerableError(f"a stack along dimension {dim}")
    return _Stack(tensors)


@lowers(torch.sum)
@_method("sum")
def _sum(steps: Steps, x: Any, dim: Any = None) -> Value:
    if not isinstance(x, _Stack) or dim not in (0, (0,), [0]):
        raise UnlowerableError("a sum but that of a stack")
    total = x[0]
    for other in x[1:]:
        total = steps.add(total, other)
    return total


@lowers(torch.softmax, F.softmax)
@_method("softmax")
def _softmax(steps: Steps, x: Value, dim: int = -1) -> Value:
    if dim not in (1, -3) or x.flat:
        raise UnlowerableError("softmax of something but the channels of a map")
    return steps.softmax(x)


@lowers(nn.Softmax)
def _softmax_module(steps: Steps, m: nn.Softmax, x: Value) -> Value:
    return _softmax(steps, x, -1 if m.dim is None else m.dim)


@lowers(torch.mean)
@_method("mean")
def _mean(steps: Steps, x: Any, dim: Any = None, keepdim: bool = False) -> Value:
    dims = {
        d % 4 for d in (dim if isinstance(dim, (tuple, list)) else (-1 if dim is None else dim,))
    }
    if dims != {2, 3}:
        raise UnlowerableError(f"a mean over dimensions {dim}")
    made = steps.mean(_map(x))
    return made if keepdim else Value(made.number, made.shape, flat=True, memory=made.memory)


@lowers(F.adaptive_avg_pool2d)
def _adaptive(steps: Steps, x: Any, output_size: Any) -> Value:
    if output_size not in (1, (1, 1), [1, 1]):
        raise UnlowerableError(f"adaptive pooling to {output_size}")
    return steps.mean(_map(x))


@lowers(nn.AdaptiveAvgPool2d)
def _adaptive_module(steps: Steps, m: nn.AdaptiveAvgPool2d, x: Any) -> Value:
    return _adaptive(steps, x, m.output_size)
