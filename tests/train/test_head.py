"""The light coarse head: trained alone, beside a trunk, a Refine-Net and a mask that stay."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import sparsesr
from sparsesr.models import load_weights, save_weights
from sparsesr.train import Recipe, RecipeError, load_recipe, parse_recipe, train
from sparsesr.train.initial import load_parts, make_net, model_of, same_head, start_light_head

pytest.importorskip("lightning", reason="needs the extra train")

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "fsrcnn-mga-light-x4.yaml"
HEAD = "base.upsampler."


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """A weights file of fsrcnn-mga x2."""
    torch.manual_seed(5)
    path = tmp_path / "heavy.safetensors"
    save_weights(sparsesr.create_model("fsrcnn-mga", 2), path, {})
    return path


@pytest.fixture
def light_text(recipe_text: str, heavy: Path) -> str:
    """The tiny recipe for a light head and the mask, from the heavy weights."""
    start, _, stages = recipe_text.partition("stages:")
    text = start.replace("fsrcnn-mga", "fsrcnn-mga-light") + f"init: {{weights: {heavy}}}\nstages:"
    return text + stages.replace("dnet", "head").replace("  - {<<: *stage, name: allnet}\n", "")


def trained(folder: Path, stage: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{stage}.pt", weights_only=True)


def test_only_the_head_moves_and_then_only_the_mask(
    light_text: str, heavy: Path, tmp_path: Path
) -> None:
    folder = train(parse_recipe(light_text), tmp_path / "out", progress=False)
    start, head, mask = load_weights(heavy)[1], trained(folder, "head"), trained(folder, "mask")
    kept = [key for key in head if not key.startswith(HEAD)]
    assert kept
    assert all(torch.equal(head[key], start[key]) for key in kept)
    assert {key for key in head if key.startswith(HEAD)} == {f"{HEAD}0.weight", f"{HEAD}0.bias"}
    assert all(bool(value.any()) for key, value in head.items() if key.startswith(HEAD))
    moved = {key.split(".")[0] for key in mask if not torch.equal(mask[key], head[key])}
    assert moved == {"mask"}
    card = json.loads((folder / "fsrcnn-mga-light-x2.json").read_text())
    assert (card["model"], card["steps"]) == ("fsrcnn-mga-light", {"head": 6, "mask": 6})


def test_every_patch_refined_equals_the_heavy_network(
    light_text: str, heavy: Path, tmp_path: Path
) -> None:
    folder = train(parse_recipe(light_text), tmp_path / "out", progress=False)
    light = sparsesr.from_pretrained(folder / "fsrcnn-mga-light-x2.safetensors")
    lr = torch.rand(1, 3, 13, 18)
    with torch.no_grad():
        want, got = (net(lr, budget=1.0) for net in (sparsesr.from_pretrained(heavy), light))
        assert torch.equal(want, got)
        assert not torch.equal(light(lr, k=0), got)


def test_the_coarse_image_starts_bilinear_and_improves(light_text: str, tmp_path: Path) -> None:
    longer = ["stages.head.iterations=60", "stages.head.optimizer.lr=1e-2"]
    recipe = parse_recipe(light_text, longer)
    net = make_net(recipe, "head")
    start_light_head(net)
    lr = torch.rand(1, 3, 9, 7)
    bilinear = F.interpolate(lr, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert torch.equal(net(lr, k=0), bilinear)
    folder = train(recipe, tmp_path / "out", stage="head", progress=False)
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss_coarse"]) for row in rows]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert not rows[-1]["loss_sr"]
    coarse = [float(row["val_psnr_coarse"]) for row in rows if row["val_psnr_coarse"]]
    whole = {row["val_psnr"] for row in rows if row["val_psnr"]}
    assert coarse[-1] > coarse[0]
    assert len(whole) == 1  # every patch is refined: the head does not show
    best = torch.load(folder / "checkpoints" / "head-best.pt", weights_only=True)
    assert best["val_psnr_coarse"] == pytest.approx(max(coarse), rel=1e-4)


def test_a_head_of_another_kind_is_not_frozen(light_text: str, tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"stages.mask: it leaves the coarse head of fsrcnn-mga-l"
    ):
        train(parse_recipe(light_text), tmp_path / "out", stage="mask", progress=False)


def test_the_head_of_a_light_file_is_taken(light_text: str, tmp_path: Path) -> None:
    torch.manual_seed(6)
    given = tmp_path / "light.safetensors"
    save_weights(sparsesr.create_model("fsrcnn-mga-light", 2), given, {})
    recipe = parse_recipe(light_text, [f"init.weights={given}"])
    folder = train(recipe, tmp_path / "out", stage="mask", progress=False)
    start, mask = load_weights(given)[1], trained(folder, "mask")
    assert all(torch.equal(mask[key], start[key]) for key in mask if key.startswith("base."))


def test_three_steps_from_scratch(recipe_text: str, tmp_path: Path) -> None:
    """dnet has the family's head; the All-Net's light one starts afresh and goes on to the mask."""
    text = recipe_text.replace("fsrcnn-mga", "fsrcnn-mga-light")
    folder = train(parse_recipe(text), tmp_path / "out", progress=False)
    dnet, allnet, mask = (trained(folder, stage) for stage in ("dnet", "allnet", "mask"))
    assert dnet.keys() != allnet.keys()
    assert all(torch.equal(mask[key], value) for key, value in allnet.items())
    assert sparsesr.from_pretrained(folder / "fsrcnn-mga-light-x2.safetensors").scale == 2


def test_weights_of_another_head_of_the_same_shape() -> None:
    """RFDN's own head is light already, but adds nothing to a bilinear image."""
    torch.manual_seed(0)
    heavy: Any = sparsesr.create_model("rfdn-allnet", 2)
    light: Any = sparsesr.create_model("rfdn-allnet-light", 2)
    assert not same_head(light, "rfdn-mga")
    assert same_head(light, "rfdn-mga-light")
    assert same_head(heavy, "rfdn-dnet")
    assert same_head(light, None)
    before = {key: value.clone() for key, value in light.state_dict().items()}
    load_parts(light, heavy.state_dict(), "heavy", head=False)
    for key, value in light.state_dict().items():
        source = before if key.startswith(HEAD) else heavy.state_dict()
        assert torch.equal(value, source[key])
    with pytest.raises(RecipeError, match="heavy"):
        load_parts(sparsesr.create_model("fsrcnn-allnet-light", 2), heavy.state_dict(), "heavy")


def test_what_a_file_says_it_is(heavy: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "state.pt")
    assert (model_of(heavy), model_of(tmp_path / "state.pt")) == ("fsrcnn-mga", None)


def test_names_of_the_steps(recipe: Recipe) -> None:
    light = load_recipe(RECIPE)
    assert light.family == "fsrcnn"
    names = {stage.name: light.stage_model(stage.name) for stage in light.stages}
    assert names == {
        "dnet": "fsrcnn-dnet",
        "allnet": "fsrcnn-allnet-light",
        "mask": "fsrcnn-mga-light",
    }
    short = load_recipe(RECIPE, profile="short")
    assert {stage.name: short.stage_model(stage.name) for stage in short.stages} == {
        "head": "fsrcnn-mga-light",
        "allnet": "fsrcnn-allnet-light",
        "mask": "fsrcnn-mga-light",
    }
    with pytest.raises(
        RecipeError, match="fsrcnn-mga is trained in dnet, allnet, e2e, mask; got h"
    ):
        load_recipe(RECIPE, ["model=fsrcnn-mga"], "short")
