"""Runs the first steps of every recipe, and a picture through what comes out.

    python tools/check_recipes.py                     # 200 steps of the short profile of each
    python tools/check_recipes.py pan-mga-x4 --steps 50 --set data.train=photographs

A recipe passes if the loss of its first stage falls, every stage leaves sample images and logs and
`sparsesr upscale` takes the weights. The steps are shared out evenly over the stages, warm-ups are
a tenth of a stage. Needs the extra `train`; paths are relative to the folder it runs in.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sparsesr.data import paired_images
from sparsesr.io import list_images, read_image, write_image
from sparsesr.train import Recipe, load_recipe, train

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def main() -> int:
    """Check the recipes named, or all; the number of those that fail."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="file stems in recipes/; all by default")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--profile", default="short")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    failed = 0
    for name in given.names or sorted(path.stem for path in RECIPES.glob("*.yaml")):
        since = time.perf_counter()
        recipe = few_steps(name, given.profile, given.overrides, given.steps)
        with tempfile.TemporaryDirectory() as folder:
            faults = check(recipe, Path(folder) / name)
        failed += bool(faults)
        told = "; ".join(faults) or "passed"
        print(f"{name:24} {time.perf_counter() - since:6.0f} s  {told}", flush=True)
    return failed


def few_steps(name: str, profile: str, overrides: list[str], steps: int) -> Recipe:
    """The recipe with `steps` steps in all."""
    path = RECIPES / f"{name}.yaml"
    stages = load_recipe(path, overrides, profile).stages
    each = max(2, steps // len(stages))
    changes = {
        "iterations": each,
        "optimizer.periods": 1,
        "optimizer.warmup": each // 10,
        "log_every": max(1, each // 10),
        "val_every": (each + 1) // 2,
    }
    short = [f"stages.{s.name}.{key}={value}" for s in stages for key, value in changes.items()]
    return load_recipe(path, [*overrides, *short], profile)


def check(recipe: Recipe, folder: Path) -> list[str]:
    """What is wrong with the training, one text a fault; prints how the loss went."""
    train(recipe, folder, progress=False)
    faults = []
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == recipe.stages[0].name]
    losses = [float(row["loss"]) for row in rows]
    third = max(1, len(losses) // 3)
    first, last = (sum(part) / third for part in (losses[:third], losses[-third:]))
    print(f"  {recipe.stages[0].name}: loss {first:.4g} -> {last:.4g}", end="; ")
    print(", ".join(f"{row['val_psnr']} dB" for row in rows if row["val_psnr"]))
    if not last < first:
        faults.append(f"the loss does not fall ({first:.4g} to {last:.4g})")
    for stage in recipe.stages:
        if not list((folder / "samples").glob(f"{stage.name}-*.png")):
            faults.append(f"{stage.name}: no sample image")
        if not list((folder / "logs" / stage.name).glob("events*")):
            faults.append(f"{stage.name}: no log")
    return faults + check_weights(recipe, folder)


def check_weights(recipe: Recipe, folder: Path) -> list[str]:
    """What is wrong with the weights of the last stage, as a user would take them."""
    lr = folder / "lr.png"
    pair = paired_images(str(recipe.data.val), recipe.scale)[0]
    picture = read_image(pair.lr or list_images(pair.hr)[0])[:48, :64]
    write_image(lr, picture)
    weights = folder / f"{recipe.stage_model(recipe.stages[-1].name)}-x{recipe.scale}.safetensors"
    command = ["upscale", str(lr), "-o", str(folder / "sr.png"), "-m", str(weights), "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "sparsesr", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return [f"upscale: {done.stderr.strip()}"]
    want = (picture.shape[0] * recipe.scale, picture.shape[1] * recipe.scale, 3)
    got = read_image(folder / "sr.png").shape
    return [] if got == want else [f"upscale: expected an image {want}, got {got}"]


if __name__ == "__main__":
    sys.exit(main())
