"""Gradients of ops whose formula is plain torch: run the formula again and differentiate that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from ._library import define_autograd


def define_recomputed_autograd(name: str, formula: Callable[..., Tensor]) -> None:
    """Register the gradient of an op as that of ``formula``, its reference.

    The backward keeps the inputs alone and runs ``formula`` once more under grad mode, so nothing
    between input and output is stored. It can be differentiated again.

    Args:
        name: the op.
        formula: the op's arguments (tensors, numbers, lists of either, None) -> its output.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        leaves, ctx.structure = tree_flatten(inputs)
        ctx.save_for_backward(*(leaf if isinstance(leaf, Tensor) else None for leaf in leaves))
        ctx.plain = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def backward(ctx: Any, grad: Tensor) -> Any:
        pairs = zip(ctx.saved_tensors, ctx.plain, strict=True)
        given = [plain if saved is None else saved for saved, plain in pairs]
        arguments = tree_unflatten(given, ctx.structure)
        needed = _for_every_leaf(ctx.needs_input_grad, arguments)
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # Fresh tensors: the gradient must stop here even where one input depends on another.
            leaves = [
                _fresh(leaf, again) if wanted else leaf
                for leaf, wanted in zip(given, needed, strict=True)
            ]
            output = formula(*tree_unflatten(leaves, ctx.structure))
        wanted = [leaf for leaf, is_wanted in zip(leaves, needed, strict=True) if is_wanted]
        # Zeros for a tensor that these inputs leave unused (a class without pixels).
        grads = iter(
            torch.autograd.grad(output, wanted, grad, create_graph=again, materialize_grads=True)
        )
        return tree_map(lambda is_wanted: next(grads) if is_wanted else None, ctx.needs_input_grad)

    define_autograd(name, backward, setup)


def _for_every_leaf(needs: tuple[Any, ...], arguments: tuple[Any, ...]) -> list[bool]:
    """Which leaves want a gradient; a list of numbers has one answer for all of it."""
    wanted: list[bool] = []
    for need, argument in zip(needs, arguments, strict=True):
        each = tree_leaves(need)
        wanted += each * len(tree_leaves(argument)) if isinstance(need, bool) else each
    return wanted


def _fresh(leaf: Tensor, connected: bool) -> Tensor:
    return leaf.view_as(leaf) if connected else leaf.detach().requires_grad_()
