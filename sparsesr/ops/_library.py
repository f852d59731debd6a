"""The torch library ``sparsesr`` and the three lines every op is registered by.

``Library.define`` + ``impl`` costs 3 us a call, the ``custom_op`` decorator 10 (spec/KERNELS).
An op's kernel is one function that looks up the implementation of the active backend for the
device of its first tensor, so a backend switch needs no recompilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .._backend import implementation, requested_backend, use_backend

LIBRARY = torch.library.Library("sparsesr", "DEF")


def define(schema: str, fake: Callable[..., Any]) -> None:
    """Register an op: its schema, its kernel on every device, its shape function.

    Args:
        schema: ``name(Tensor x, ...) -> Tensor``; the first argument is a tensor.
        fake: the same arguments -> outputs of the right shape, dtype, device and strides.
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))

    def kernel(first: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return implementation(name, first)(first, *args, **kwargs)

    for key in ("CPU", "CUDA"):
        LIBRARY.impl(name, kernel, key)
    torch.library.register_fake(f"sparsesr::{name}", fake, lib=LIBRARY)


def define_autograd(
    name: str,
    backward: Callable[..., Any],
    setup_context: Callable[..., None],
) -> None:
    """Register the gradient of an op; the backward runs on the backend the forward asked for.

    Autograd may run the backward in another thread, where ``use_backend`` of the caller is not
    visible; the name travels in the context instead.
    """

    def setup(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.backend = requested_backend()
        setup_context(ctx, inputs, output)

    def run(ctx: Any, *grads: Any) -> Any:
        with use_backend(ctx.backend):
            return backward(ctx, *grads)

    torch.library.register_autograd(f"sparsesr::{name}", run, setup_context=setup, lib=LIBRARY)
