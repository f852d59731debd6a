"""Parameters and multiply-adds of a network: the true count, and the count as its paper prints it.

Papers do not agree on what a FLOP is, so the rules live in tables. `TRUE_MACS` counts every
multiply-add of the weights once; `MGA`, `PCSR` and `DRSAN` count as those papers' tables do.
Another paper's count is one more `Convention` entered in `PAPER_CONVENTIONS`.
"""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from sparsesr._backend import use_backend
from sparsesr._routed_complexity import class_counts, routed_operations
from sparsesr.nn import MaskPredictor, PixelRouter, SparseMaskBlock, check_routing
from sparsesr.nn.pixel_cost import COUNTED, operations

# What one call of a module costs: (module, its first input, its output) -> operations.
Rule = Callable[[nn.Module, Tensor, Tensor], int]


@dataclass(frozen=True)
class Complexity:
    """Size and cost of a network on one LR image.

    Attributes:
        params: number of parameters, shared ones once.
        macs: true multiply-adds of one forward pass; taps that read zero padding count, biases,
            activations, pooling, interpolation and elementwise work do not.
        paper_flops: the same forward pass counted by the rules of the network's own paper.
        paper_omits: what those rules would add for the parts that the paper's tables leave out
            (MGA: all of the mask predictor but its first convolution and ReLU).
    """

    params: int
    macs: int
    paper_flops: int
    paper_omits: int = 0

    def __str__(self) -> str:
        return (
            f"{self.params:,} parameters, {self.macs / 1e9:.3f} GMACs, "
            f"{self.paper_flops / 1e9:.3f} GFLOPs as its paper counts"
        )


@dataclass(frozen=True)
class Convention:
    """How one paper counts.

    Attributes:
        name: for messages.
        rules: module type -> cost of one call. A type without a rule takes its nearest base
            class's; with none at all it is free.
        omitted: module type -> the parts of such a module that the paper leaves out; they are
            counted apart.
        details: run the network with `return_details=True` where it knows that argument, so that
            images which the output does not need are counted too.
    """

    name: str
    rules: Mapping[type[nn.Module], Rule]
    omitted: Mapping[type[nn.Module], Callable[[Any], Iterable[nn.Module]]] = field(
        default_factory=dict
    )
    details: bool = False

    def rule(self, kind: type[nn.Module]) -> Rule | None:
        """The rule for a module type, or None if such a module is free."""
        return next((self.rules[base] for base in kind.__mro__ if base in self.rules), None)


def _free(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return 0


def _weights_per_output(module: nn.Module, x: Tensor, y: Tensor) -> int:
    # The weight of a convolution holds k*k*Cin*Cout/groups numbers, transposed or not.
    return _weight(module).numel() * (y.numel() // y.shape[-_spatial(module) - 1])


def _weights_per_input(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return _weight(module).numel() * (x.numel() // x.shape[-_spatial(module) - 1])


def _weights_and_bias_per_output(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return _weights_per_output(module, x, y) + (0 if module.bias is None else y.numel())


def _linear(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return y.numel() * _weight(module).shape[1]


def _dynamic_filter(module: nn.Module, x: Tensor, y: Tensor) -> int:
    # Each score is a window of the pooled mask, weighted by the filter predicted for it.
    return MaskPredictor.window**2 * y.numel()


def _every_value(module: nn.Module, x: Tensor, y: Tensor) -> int:
    # What the masks let through depends on the image; this is the block with every value computed.
    assert isinstance(module, SparseMaskBlock)
    convolutions = [*module.body, module.collect]
    return sum(_weight(conv).numel() for conv in convolutions) * (y.numel() // y.shape[1])


def _one_per_element(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return y.numel()


def _two_per_element(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return 2 * y.numel()


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _spatial(module: nn.Module) -> int:
    return _weight(module).dim() - 2


def _unpublished_parts(mask: MaskPredictor) -> Iterable[nn.Module]:
    """All but the first convolution and its ReLU: what MGA's tables show of the mask predictor."""
    return mask.conv2, mask.pool_act, mask.filters


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

TRUE_MACS = Convention(
    name="multiply-adds",
    rules={
        **dict.fromkeys(_CONVOLUTIONS, _weights_per_output),
        **dict.fromkeys(_TRANSPOSED, _weights_per_input),
        nn.Linear: _linear,
        nn.Embedding: _free,
        MaskPredictor: _dynamic_filter,
        SparseMaskBlock: _every_value,
    },
)

# SMSR: multiply-adds. Its tables need the masks of an image; this is the count without any saving.
SMSR = Convention(name="SMSR", rules=TRUE_MACS.rules)

# MGA, Tables 1-6: multiply-adds, but a transposed convolution as if it were computed at every
# output pixel (scale**2 times too many), and one operation per element of an activation module.
MGA = Convention(
    name="MGA",
    rules={
        nn.Conv2d: _weights_per_output,
        nn.ConvTranspose2d: _weights_per_output,
        nn.Linear: _linear,
        nn.BatchNorm2d: _two_per_element,
        nn.ReLU: _one_per_element,
        nn.PReLU: _one_per_element,
        nn.LeakyReLU: _one_per_element,
        nn.Embedding: _free,
        MaskPredictor: _free,
    },
    omitted={MaskPredictor: _unpublished_parts},
    details=True,
)

# DRSAN, Table II: multiply-adds, the additions of biases, one operation per element of a PReLU.
DRSAN = Convention(
    name="DRSAN",
    rules={nn.Conv2d: _weights_and_bias_per_output, nn.PReLU: _one_per_element},
)

# PCSR, Tables 1-5: two per multiply-add, a transposed convolution as if at every output pixel.
PCSR = Convention(name="PCSR", rules=dict.fromkeys(COUNTED, operations))

# The paper of a model is told by its name; what has no paper is counted as MGA.
PAPER_CONVENTIONS: dict[str, Convention] = {
    "drsan-*": DRSAN,
    "*smsr": SMSR,
    "*-pcsr": PCSR,
    **dict.fromkeys(("fsrcnn", "carn", "msrresnet", "bsrn"), PCSR),
    "*": MGA,
}


def paper_convention(net: nn.Module) -> Convention:
    """The convention that the paper of ``net`` counts by, found by its ``model_name``."""
    name = str(getattr(net, "model_name", ""))
    return next(c for pattern, c in PAPER_CONVENTIONS.items() if fnmatchcase(name, pattern))


def complexity(
    net: nn.Module,
    lr_size: tuple[int, int],  # (H, W)
    k: int | None = None,
    budget: float | None = None,
) -> Complexity:
    """Parameters, multiply-adds and the paper's FLOPs of one image through ``net``.

    The network itself is not touched: a copy without data runs on the meta device, or, where a
    layer needs real numbers, a copy on the CPU. Every count is a multiple of a call of a module, so
    work done by functions (interpolation, pixel shuffle, pooling, attention products) is free.

    Args:
        net: a network from LR [1, 3, H, W] to SR.
        lr_size: height and width of the LR image in pixels, each >= 1.
        k: patches to refine, for networks whose forward takes it; the network's own by default.
        budget: the same as a fraction of all patches; k or budget, not both. Of a network that
            routes pixels, the fraction that is heavy: 1.0 by default, the most it can cost.

    Returns:
        Complexity(params, macs, paper_flops, paper_omits).

    Raises:
        TypeError: ``net`` is no module, ``lr_size`` no pair of ints, or the network takes no k.
        ValueError: a size below 1; k and budget as the network checks them; k for a network that
            routes pixels.
        ImportError: thop is missing.

    Warns:
        UserWarning: a module holds weights that no rule counts.

    Source: MGA, ECCV 2022, Tables 1 and 3-6, and DRSAN, Table II, for the papers' FLOPs.

    Example:
        >>> net = nn.Conv2d(3, 8, 3, padding=1)
        >>> complexity(net, (10, 20))
        Complexity(params=224, macs=43200, paper_flops=43200, paper_omits=0)
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"complexity: expected net as nn.Module, got {type(net).__name__}")
    net = getattr(net, "_orig_mod", net)  # what torch.compile wraps
    size = _check_size(lr_size)
    if isinstance(net, PixelRouter):
        return _routed(net, size, k, budget)
    known = inspect.signature(net.forward).parameters
    options: dict[str, Any] = {}
    for name, value in (("k", k), ("budget", budget)):
        if value is None:
            continue
        if name not in known:
            raise TypeError(
                f"complexity: {type(net).__name__} takes no {name}; leave it out, "
                "or pass a network that refines patches"
            )
        options[name] = value
    params = sum(p.numel() for p in net.parameters())
    paper = paper_convention(net)
    details = {"return_details": True} if paper.details and "return_details" in known else {}
    passes = ((TRUE_MACS, options), (paper, {**options, **details}))
    (macs, _), (flops, omitted) = _count(net, size, passes)
    return Complexity(params, macs, flops, omitted)


def _routed(
    net: PixelRouter, size: tuple[int, int], k: float | None, budget: float | None
) -> Complexity:
    check_routing(k, False, budget)
    if k is not None:
        raise ValueError(
            f"complexity: how many pixels k={k} makes heavy depends on the image; give their "
            "fraction as budget"
        )
    pixels = math.prod(net.output_size(size))
    return routed_complexity(net, size, class_counts(net, pixels, budget))


def routed_complexity(
    net: PixelRouter, lr_size: tuple[int, int], counts: Sequence[int]
) -> Complexity:
    """Parameters, multiply-adds and the paper's FLOPs of an image whose classes are known.

    Args:
        net: a network that routes pixels. lr_size: (H, W).
        counts: HR pixels of each class, as ``RoutedOutput.class_counts`` gives them.
    """
    (macs, _), (flops, _) = _count(net.encoder, lr_size, ((TRUE_MACS, {}), (PCSR, {})))
    params = sum(p.numel() for p in net.parameters())
    found = routed_operations(net, math.prod(lr_size), counts, (macs, flops))
    return Complexity(params, *found)


def _check_size(lr_size: object) -> tuple[int, int]:
    pair = tuple(lr_size) if isinstance(lr_size, (tuple, list)) else ()
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in pair):
        raise TypeError(f"complexity: expected lr_size (H, W) as two ints, got {lr_size!r}")
    if min(pair) < 1:
        raise ValueError(f"complexity: expected lr_size (H, W) >= 1 px, got {pair}")
    return pair


def _count(
    net: nn.Module,
    size: tuple[int, int],
    passes: Sequence[tuple[Convention, dict[str, Any]]],
) -> list[tuple[int, int]]:
    """What each pass counts and omits, on one copy of ``net``."""
    for module in net.modules():
        if TRUE_MACS.rule(type(module)) is None:
            _warn_uncounted(module)
    try:
        counted = _meta_copy(net)
        return [_run(counted, "meta", size, *each) for each in passes]
    except (NotImplementedError, RuntimeError):
        # Some layer looks at its data. If the CPU cannot run it either, that error is the user's.
        counted = copy.deepcopy(net).cpu()
        return [_run(counted, "cpu", size, *each) for each in passes]


def _meta_copy(net: nn.Module) -> nn.Module:
    """A copy of ``net`` whose parameters and buffers have shapes but no data."""
    memo: dict[int, Any] = {}
    for p in net.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
    for b in net.buffers():
        memo[id(b)] = torch.empty_like(b, device="meta")
    return copy.deepcopy(net, memo)


def _run(
    net: nn.Module,
    device: str,
    size: tuple[int, int],
    convention: Convention,
    options: dict[str, Any],
) -> tuple[int, int]:
    """Sums of ``convention``, counted and omitted, over a forward pass of ``net``, a copy."""
    thop = _thop()
    for module in net.modules():
        module._forward_hooks.clear()  # the caller's own instruments, which the copy inherited
    omitted = {
        id(part)
        for kind, parts in convention.omitted.items()
        for module in net.modules()
        if isinstance(module, kind)
        for part in parts(module)
    }
    counted = left_out = 0
    rules: dict[type[nn.Module], Callable[..., None]] = {}

    def hook_for(rule: Rule) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal counted, left_out
            cost = rule(module, inputs[0] if inputs else output, output)
            if id(module) in omitted:
                left_out += cost
            else:
                counted += cost

        return hook

    for module in net.modules():
        kind = type(module)
        rule = convention.rule(kind)
        # thop looks types up exactly and has rules of its own: name every type there is.
        rules[kind] = hook_for(rule) if rule is not None and rule is not _free else _silent
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    lr = torch.zeros(1, 3, *size, dtype=dtype, device=device)
    with use_backend("reference"):  # the plain modules, not what stands in for them
        thop.profile(_Counted(net, options), (lr,), custom_ops=rules, verbose=False)
    return counted, left_out


class _Counted(nn.Module):
    """``net`` with its call's options, as thop wants it.

    thop hooks modules by ``apply``, which visits a module once for every parent it has and would
    count a shared one several times; here each is visited once. thop's own sums are not used: they
    repeat shared modules and stop at the first module that has a rule.
    """

    def __init__(self, net: nn.Module, options: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.options = options

    def apply(self, fn: Callable[[nn.Module], None]) -> _Counted:
        for module in self.modules():
            fn(module)
        return self

    def forward(self, lr: Tensor) -> Any:
        return self.net(lr, **self.options)


def _silent(module: nn.Module, inputs: object, output: object) -> None:
    """The hook of a free module."""


def _warn_uncounted(module: nn.Module) -> None:
    own = [n for n, p in module.named_parameters(recurse=False) if p.dim() > 1]
    if own:
        warnings.warn(
            f"complexity: no rule counts {type(module).__name__}.{own[0]}; its multiply-adds are "
            "left out. Build it from torch.nn layers, or give its type a rule in TRUE_MACS",
            stacklevel=4,
        )


def _thop() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it compares versions by distutils
            import thop
    except ImportError as error:
        raise ImportError(
            f"complexity: cannot import thop ({error}); pip install thop setuptools"
        ) from error
    return thop
