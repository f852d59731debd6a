"""Upscale a picture with PIL, sparsely: a quarter of its patches is refined.

python examples/upscale_image.py [photo.jpg [photo_x4.png]]
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from PIL import Image

import sparsesr
from sparsesr.ops import patch_grid

net = sparsesr.from_pretrained("fsrcnn-mga-x4")  # or a weights file of your own training
upscale = sparsesr.Upscaler(net, budget=0.25)  # device="cuda", tile=256, precision="bf16", ...

if len(sys.argv) > 1:
    source = Path(sys.argv[1])
    picture = Image.open(source)
else:  # a piece of the photograph that ships with the package
    source = Path(str(files("sparsesr") / "assets" / "astronaut.jpg"))
    picture = Image.open(source).crop((160, 0, 320, 120))
name = f"{source.stem}_x4.png"
target = Path(sys.argv[2] if len(sys.argv) > 2 else Path(tempfile.mkdtemp()) / name)

larger = upscale(picture)  # the same mode: RGB, RGBA, L, P, ...; 16-bit files: `sparsesr upscale`
larger.save(target)

rows, columns = patch_grid(picture.height, picture.width, net.patch_size)
macs = sparsesr.complexity(net, (picture.height, picture.width), budget=0.25).macs
print(f"{picture.width}x{picture.height} -> {larger.width}x{larger.height}, {picture.mode}")
print(f"a quarter of {rows * columns} patches refined, {macs / 1e9:.2f} G multiply-adds: {target}")
