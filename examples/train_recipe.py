"""Train from a recipe: FSRCNN-MGA x2 for a few steps, on your photographs or on pieces of one.

python examples/train_recipe.py [folder of photographs]        (needs the extra: [train])

The same as `sparsesr train recipes/fsrcnn-mga-x2.yaml --profile short --set ...`. A few steps are
enough to see every stage run; the shipped weights took 91,000 (their card says so).
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from PIL import Image

import sparsesr
from sparsesr.inference import evaluate
from sparsesr.train import load_recipe, train

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "fsrcnn-mga-x2.yaml"
STEPS = 4

work = Path(tempfile.mkdtemp())
if len(sys.argv) > 1:
    photos = Path(sys.argv[1])
else:  # four pieces of the photograph that ships with the package
    photos = work / "photos"
    photos.mkdir()
    whole = Image.open(str(files("sparsesr") / "assets" / "astronaut.jpg"))
    for i, left in enumerate((0, 96, 192, 288)):
        whole.crop((left, 0, left + 96, 96)).save(photos / f"{i}.png")

changes = [
    f"data.train={photos}",
    f"data.val={photos}",  # a test set of its own, for a training that means something
    f"data.cache={work / 'cache'}",
    "data.batch=4",
]
for stage in load_recipe(RECIPE, profile="short").stages:
    changes += [f"stages.{stage.name}.{key}" for key in (f"iterations={STEPS}", "val_every=0")]
    changes += [f"stages.{stage.name}.optimizer.{key}" for key in ("warmup=0", "periods=1")]
recipe = load_recipe(RECIPE, changes, profile="short")
folder = train(recipe, work / "experiment", progress=False)  # the same call again resumes

weights = next(folder.glob("fsrcnn-mga-*.safetensors"))
net = sparsesr.from_pretrained(weights)
print(f"stages {', '.join(stage.name for stage in recipe.stages)}, {STEPS} steps each: {weights}")
report = evaluate(net, photos, 2)
print(f"PSNR-Y {report['mean']['psnr']:.2f} dB after so few steps")
