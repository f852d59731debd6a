"""Gradients of ops whose formula is plain torch: run the formula again and differentiate that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from ._library import define_autograd


def define_recomputed_autograd(name: str, formula: Callable[..., Tensor]) -> None:
    """Register the gradient of an op as that of ``formula``, its reference.

    The backward keeps the inputs alone and runs ``formula`` once more under grad mode, so nothing
    between input and output is stored. It can be differentiated again.

    Args:
        name: the op.
        formula: the op's arguments (tensors, lists of tensors, None) -> its output.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        leaves, ctx.structure = tree_flatten(inputs)
        ctx.save_for_backward(*leaves)

    def backward(ctx: Any, grad: Tensor) -> Any:
        needed = tree_leaves(ctx.needs_input_grad)
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # Fresh tensors: the gradient must stop here even where one input depends on another.
            leaves = [
                _fresh(leaf, again) if wanted else leaf
                for leaf, wanted in zip(ctx.saved_tensors, needed, strict=True)
            ]
            output = formula(*tree_unflatten(leaves, ctx.structure))
        wanted = [leaf for leaf, is_wanted in zip(leaves, needed, strict=True) if is_wanted]
        grads = iter(torch.autograd.grad(output, wanted, grad, create_graph=again))
        return tree_unflatten([next(grads) if n else None for n in needed], ctx.structure)

    define_autograd(name, backward, setup)


def _fresh(leaf: Tensor, connected: bool) -> Tensor:
    return leaf.view_as(leaf) if connected else leaf.detach().requires_grad_()
