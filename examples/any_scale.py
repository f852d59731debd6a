"""PCSR at x2.7: one network for every scale, a light or a heavy sampler for every pixel.

python examples/any_scale.py [weights [photo.png]]

Weights: the authors' checkpoint (carn_pcsr_x4.pth) or a file that `sparsesr convert` or `sparsesr
train` wrote. None ship; without any the network is untrained, which shows the calls and no quality.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import torch

import sparsesr
from sparsesr.io import read_image, to_array, to_tensor, write_image
from sparsesr.models.convert import convert

SCALE = 2.7
if len(sys.argv) > 1:
    released = sys.argv[1].endswith((".pt", ".pth"))
    net = convert(sys.argv[1])[0] if released else sparsesr.from_pretrained(sys.argv[1])
else:
    print("no weights given: the network is untrained")
    torch.manual_seed(0)
    net = sparsesr.create_model("carn-pcsr-x4").eval()

if len(sys.argv) > 2:
    lr = to_tensor(read_image(sys.argv[2]))
else:  # a piece of the photograph that ships with the package
    lr = to_tensor(read_image(str(files("sparsesr") / "assets" / "astronaut.jpg")))
    lr = lr[..., 40:100, 180:260]

with torch.inference_mode():
    out = net(lr, k=0.0, scale=SCALE, return_details=True)  # each pixel by its likeliest class
    tenth = net(lr, budget=0.1, scale=SCALE, return_details=True)  # a tenth of the pixels heavy
    exact = net(lr, size=(162, 216))  # or by the size that is wanted
print(f"{list(lr.shape[2:])} x {SCALE} = {list(out.sr.shape[2:])}, by size {list(exact.shape[2:])}")
for name, result in (("k = 0", out), ("budget = 0.1", tenth)):
    print(f"{name}: {float(result.heavy_fraction()):.1%} of the pixels heavy")
target = Path(tempfile.mkdtemp()) / "any_scale.png"
write_image(target, to_array(out.sr))
print(target)
