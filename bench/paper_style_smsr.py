"""SMSR's sparse path as the released code goes about it, in plain PyTorch: the baseline to beat.

Written from the description of that code. Dense channels are maps, convolved everywhere by unfold
and mm; sparse channels are matrices [channels, active pixels], whose 3x3 neighbourhoods are built
by indexing with a table of the active pixels around each active pixel; dense inputs of sparse
outputs are indexed pixel by pixel, too. One image at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = [(dy, dx) for dy in range(3) for dx in range(3)]


class ActivePixels(NamedTuple):
    """Active pixels of one mask.

    Attributes:
        rows, columns: where they are, [N].
        around: for every tap and active pixel, the number of the active pixel there, or N, [9, N].
    """

    rows: Tensor
    columns: Tensor
    around: Tensor


def active_pixels(mask: Tensor) -> ActivePixels:
    """The pixels of mask [1,1,H,W] and their active neighbours."""
    rows, columns = mask[0, 0].nonzero(as_tuple=True)
    count = rows.numel()
    numbers = torch.full(mask.shape[2:], count, device=mask.device)
    numbers[rows, columns] = torch.arange(count, device=mask.device)
    numbers = F.pad(numbers, (1, 1, 1, 1), value=count)
    return ActivePixels(
        rows, columns, torch.stack([numbers[rows + y, columns + x] for y, x in TAPS])
    )


def block(
    x: Tensor,  # [1, C, H, W]
    weights: list[Tensor],  # L of [C, C, 3, 3]
    collect_weight: Tensor,  # [C', L*C, 1, 1]
    collect_bias: Tensor,  # [C']
    dense: Tensor,  # [L, C] bool
    mask: Tensor,  # [1, 1, H, W] bool
) -> Tensor:
    """``sparsesr.ops.masked_block`` on that path: [1, C', H, W]."""
    height, width = x.shape[2:]
    pixels = active_pixels(mask)
    collect = collect_weight[:, :, 0, 0].split(x.shape[1], dim=1)
    everywhere, sparse = x, x.new_zeros(0, pixels.rows.numel())
    before = torch.ones_like(dense[0])
    maps, matrices, map_weights, matrix_weights = [], [], [], []
    for weight, own, share in zip(weights, dense, collect, strict=True):
        columns = torch.cat([_at_pixels(everywhere, pixels), _around(sparse, pixels)])
        order = torch.cat([weight[:, before].flatten(1), weight[:, ~before].flatten(1)], dim=1)
        on_mask = order @ columns
        everywhere = _convolve(everywhere, weight[own][:, before])
        everywhere[0][:, pixels.rows, pixels.columns] = on_mask[own]
        everywhere, sparse = everywhere.relu(), on_mask[~own].relu()
        maps.append(everywhere[0].flatten(1))
        matrices.append(sparse)
        map_weights.append(share[:, own])
        matrix_weights.append(share[:, ~own])
        before = own
    out = torch.cat(map_weights, dim=1) @ torch.cat(maps) + collect_bias[:, None]
    out = out.view(1, -1, height, width)
    out[0][:, pixels.rows, pixels.columns] += torch.cat(matrix_weights, 1) @ torch.cat(matrices)
    return out


def _at_pixels(x: Tensor, pixels: ActivePixels) -> Tensor:
    """Neighbourhoods of map x [1,C,H,W] at the active pixels: [C*9, N]."""
    padded = F.pad(x[0], (1, 1, 1, 1))
    taps = [padded[:, pixels.rows + dy, pixels.columns + dx] for dy, dx in TAPS]
    return torch.stack(taps, dim=1).flatten(0, 1)


def _around(matrix: Tensor, pixels: ActivePixels) -> Tensor:
    """Neighbourhoods of matrix [C, N], zero where a neighbour is not active: [C*9, N]."""
    return F.pad(matrix, (0, 1))[:, pixels.around].flatten(0, 1)


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    height, width = x.shape[2:]
    columns = F.unfold(x, 3, padding=1)[0] if x.shape[1] else x.new_zeros(0, height * width)
    return (weight.flatten(1) @ columns).view(1, -1, height, width)


def forward(net: nn.Module, lr: Tensor) -> Tensor:
    """SR image of an SMSR network ``net`` for one image lr [1,3,H,W] in [0,1]."""
    image = net.sub_mean(lr * 255)
    head = x = net.head(image)
    features = []
    for module in net.body:
        spatial, dense = module.decide(x)
        weights = [conv.weight for conv in module.body.body]
        collect = module.body.collect
        y = block(x, weights, collect.weight, collect.bias, dense[0], spatial)
        x = module.ca(y) + x
        features.append(x)
    x = net.tail(net.collect(torch.cat(features, dim=1)) + head)
    x = x + F.interpolate(image, scale_factor=net.scale, mode="bicubic", align_corners=False)
    return net.add_mean(x) / 255
