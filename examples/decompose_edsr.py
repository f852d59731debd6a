"""Cut an EDSR-like network of your own into Base-Net and Refine-Net, and run it sparsely.

python examples/decompose_edsr.py
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import sparsesr


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x).relu())


class EDSR(nn.Module):
    def __init__(self, blocks: int = 8, channels: int = 16, scale: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(Block(channels) for _ in range(blocks)), conv)
        up = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        self.tail = nn.Sequential(up, nn.PixelShuffle(scale))

    def forward(self, lr: Tensor) -> Tensor:
        x = self.head(lr)
        return self.tail(x + self.body(x))


torch.manual_seed(0)
model = EDSR().eval()
# Blocks 0-5 restore the whole image, 6 and 7 the patches; both halves end in the trunk's last conv.
net = sparsesr.decompose(model, at="body.6", upsampler="tail", keep=["body.8"], k=20)
lr = torch.rand(1, 3, 32, 40)

short = copy.deepcopy(model)
del short.body[6:8]
with torch.no_grad():
    assert torch.equal(net(lr, k=0), short(lr))  # no patches: the network with six blocks
    sparse = net(lr)  # the 20 of 80 patches that the mask predictor, untrained as yet, likes best
changed = (sparse != short(lr)).any(1).float().mean()
print(f"k = 20 of 80 patches changed {changed:.0%} of the image")
for k in (0, 20, 80):
    print(f"k = {k:2}: {sparsesr.complexity(net, (32, 40), k=k).macs / 1e6:.1f} M multiply-adds")
