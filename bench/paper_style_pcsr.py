"""PCSR's forward pass as the released code goes about it, in plain PyTorch: the baseline to beat.

Written from the description of that code. Every pixel is a row of a matrix [pixels, C + 4], made by
sampling the feature map and a map of coordinates at the pixel and joining them; it is made for the
classifier, and again for each sampler. Pixels go through in batches, light ones beside heavy ones
are averaged by unfolding the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsesr.nn import PixelRouter

PIXELS = 300_000  # in a batch


def coordinates(height: int, width: int) -> Tensor:
    """Centres of all pixels of an image that spans [-1, 1]: [H*W, 2], rows first."""
    sides = []
    for n in (height, width):
        half = 1 / n
        sides.append(-1 + half + 2 * half * torch.arange(n).float())
    return torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).view(-1, 2)


def inputs(feature: Tensor, where: Tensor, cell: Tensor) -> Tensor:
    """Rows [pixels, C + 4] for the places [pixels, 2] of one image's feature [1, C, h, w]."""
    h, w = feature.shape[-2:]
    centres = coordinates(h, w).t().view(1, 2, h, w).to(feature)
    grid = where.flip(-1).view(1, 1, -1, 2)
    near = F.grid_sample(feature, grid, mode="nearest", align_corners=False)[0, :, 0].t()
    centre = F.grid_sample(centres, grid, mode="nearest", align_corners=False)[0, :, 0].t()
    size = where.new_tensor([h, w])
    return torch.cat([near, (where - centre) * size, cell.expand_as(where) * size], dim=-1)


def forward(
    net: PixelRouter,
    lr: Tensor,  # [1, 3, h, w]
    size: tuple[int, int],
    k: float = 0.0,
    refine: bool = True,
) -> Tensor:
    """``net(lr, size=size, k=k, refine=refine)`` on that path: [1, 3, H, W]."""
    feature = net.encoder(lr - net.mean)
    where = coordinates(*size)
    cell = torch.tensor([2 / size[0], 2 / size[1]])
    cost = torch.tensor(net.costs(lr.shape[-2:], size))
    flags, colours = [], []
    for part in where.split(PIXELS):
        share = net.classifier(inputs(feature, part, cell)).softmax(-1) / cost**k
        flag = share.argmax(-1)
        colour = torch.empty(len(part), 3)
        for j, sampler in enumerate(net.all_samplers):
            chosen = flag == j
            if chosen.any():
                colour[chosen] = sampler(inputs(feature, part[chosen], cell))
        grid = part.flip(-1).view(1, 1, -1, 2)
        colour += F.grid_sample(
            lr, grid, mode="bilinear", padding_mode="border", align_corners=False
        )[0, :, 0].t()
        flags.append(flag)
        colours.append(colour)
    image = torch.cat(colours).t().reshape(1, 3, *size)
    flag = torch.cat(flags).view(1, 1, *size)
    return average(image, flag) if refine else image


def average(image: Tensor, flag: Tensor) -> Tensor:
    """Light pixels beside heavy ones (flag 1) take the mean of their 3x3, but for the frame."""
    height, width = image.shape[-2:]
    around = F.unfold(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3).view(3, 9, height, width)
    heavy = F.unfold(F.pad(flag.float(), (1, 1, 1, 1), mode="replicate"), 3)
    chosen = (heavy.sum(1).view(height, width) > 0) & (flag[0, 0] == 0)
    chosen[[0, -1]] = False
    chosen[:, [0, -1]] = False
    return torch.where(chosen, around.mean(1), image[0])[None]
