"""Reference of ``run_program``: the steps one after another in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._program import Activation, Step, parse_program


def run_program(
    x: Tensor,  # [N, C, H, W]
    weights: Sequence[Tensor],
    program: str,
    covered: Tensor | None = None,
    patch_size: int = 1,
) -> Tensor:
    """The result of the program for ``x``, what is covered too."""
    parsed = parse_program(program)
    last = parsed.last_uses()
    values = {0: x}
    for i, step in enumerate(parsed.steps):
        made = compute(step, [values[v] for v in step.inputs], weights)
        if step.add is not None:
            made = made + values[step.add]
        if step.act is not None:
            made = activate(made, step.act, weights)
        if step.mul is not None:
            made = made * values[step.mul]
        values[i + 1] = made
        for v in set(step.reads):
            if last[v] == i:
                del values[v]  # memory: a long program holds what is still read
    return values[parsed.result]


def activate(x: Tensor, act: Activation, weights: Sequence[Tensor]) -> Tensor:
    """``x`` after an activation."""
    match act.kind:
        case "relu":
            return F.relu(x)
        case "leaky":
            return F.leaky_relu(x, act.slope)
        case "prelu":
            return F.prelu(x, weights[act.parameter])
        case "sigmoid":
            return torch.sigmoid(x)
    return torch.tanh(x)


def compute(step: Step, inputs: list[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """What a step makes of its inputs, without what may follow it: ``add``, ``act``, ``mul``."""
    x = inputs[0]
    bias = weights[step["bias"]] if "bias" in step.numbers else None
    match step.kind:
        case "conv":
            own = (step["stride"], step["pad"], 1, step["groups"])
            return F.conv2d(x, weights[step["weight"]], bias, *own)
        case "deconv":
            weight, stride, pad = weights[step["weight"]], step["stride"], step["pad"]
            extra = stride - weight.shape[2] + 2 * pad
            return F.conv_transpose2d(x, weight, bias, stride, pad, extra)
        case "add":
            return x + inputs[1]
        case "mul":
            return x * inputs[1]
        case "concat":
            return torch.cat(inputs, 1)
        case "slice":
            return x[:, step["first"] : step["first"] + step["count"]]
        case "mean":
            return x.mean((2, 3), keepdim=True)
        case "softmax":
            return x.softmax(1)
        case "nearest":
            return F.interpolate(x, scale_factor=float(step["factor"]), mode="nearest")
        case "resize":
            size = (step["height"], step["width"])
            return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        case "pad":
            return F.pad(x, (0, step["cols"], 0, step["rows"]), mode="replicate")
        case "crop":
            return x[:, :, : step["height"], : step["width"]]
        case "shuffle":
            return _shuffle(x, step)
    return x  # act


def _shuffle(x: Tensor, step: Step) -> Tensor:
    factor = step["factor"]
    if step.order == "torch":
        return F.pixel_shuffle(x, factor)
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, factor, factor, channels // factor**2, height, width)
    pixels = cells.permute(0, 3, 4, 1, 5, 2)  # [B, c, H, dy, W, dx]
    return pixels.reshape(batch, channels // factor**2, height * factor, width * factor)
