"""A Base-Net and a Refine-Net of your own under `SparseRefine`: trained a little, run sparsely.

python examples/own_networks.py
"""

from __future__ import annotations

from importlib.resources import files

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sparsesr
from sparsesr.io import read_image, to_tensor
from sparsesr.metrics import imresize, psnr
from sparsesr.train import mask_target


class Base(nn.Module):  # lr [B,3,H,W] -> (coarse [B,3,2H,2W], feature [B,19,H,W])
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.PReLU())
        self.head = nn.Sequential(nn.Conv2d(19, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        feature = torch.cat([lr, self.body(lr)], 1)
        return self.head(feature), feature


class Refine(nn.Module):  # [N,19,6,6], 4x4 pixels and a halo of one -> [N,3,8,8]
    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Conv2d(19, 32, 3, padding=1), nn.PReLU(), nn.Conv2d(32, 12, 3))
        self.skip = nn.Conv2d(19, 12, 3)  # no padding: it trims the halo, as deep does
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.skip(x) + self.deep(x))


torch.manual_seed(0)
net = sparsesr.SparseRefine(Base(), Refine(), sparsesr.MaskPredictor(19), scale=2, k=64)
photo = to_tensor(read_image(str(files("sparsesr") / "assets/astronaut.jpg")))
hr = photo[..., 32:160, 160:288]  # one piece of one photograph: enough to see it work, no more
lr = imresize(hr, 0.5)
adam = torch.optim.Adam(net.parameters(), lr=3e-3)
for _ in range(100):
    out = net(lr, budget=1.0, return_details=True)  # every patch, so that all parts learn
    target = mask_target(out.sr.detach(), out.coarse.detach(), cell=2 * 4)
    loss = F.l1_loss(out.sr, hr) + F.l1_loss(out.coarse, hr) + F.l1_loss(out.mask, target)
    adam.zero_grad()
    loss.backward()
    adam.step()
print(f"100 steps of training; bicubic: {psnr(imresize(lr, 2), hr, 2):.2f} dB")
with torch.inference_mode():
    for k in (0, 32, 64, 256):
        print(f"{k:3} of 256 patches refined: {psnr(net(lr, k=k), hr, 2):.2f} dB")
print(net.eval().explain((64, 64)).splitlines()[-1])
