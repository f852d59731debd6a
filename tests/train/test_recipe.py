"""Recipes: strict reading, overrides, round trip."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsesr.train import Recipe, RecipeError, load_recipe, parse_recipe
from sparsesr.train.recipe_file import differences

REPOSITORY = Path(__file__).resolve().parents[2]


def test_round_trip_and_defaults(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_yaml()) == recipe
    assert recipe.stages[0].optimizer.betas == (0.9, 0.999)
    assert recipe.stages[0].optimizer.lr == 1e-3  # YAML 1.1 alone would read the text "1e-3"
    assert recipe.family == "fsrcnn"
    names = [recipe.stage_model(stage.name) for stage in recipe.stages]
    assert names == ["fsrcnn-dnet", "fsrcnn-allnet", "fsrcnn-mga"]
    assert [recipe.first_step(stage.name) for stage in recipe.stages] == [0, 6, 12]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shipped_recipes_are_valid(scale: int) -> None:
    recipe = load_recipe(REPOSITORY / "recipes" / f"fsrcnn-mga-x{scale}.yaml")
    assert recipe.name == f"fsrcnn-mga-x{scale}"
    assert recipe.scale == scale
    assert list(dict.fromkeys(s.step for s in recipe.stages)) == ["dnet", "allnet", "mask"]
    assert recipe.data.terms


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sclae=2", "unknown key 'sclae' at top level; did you mean 'scale'?"),
        ("data.lrcrop=8", "unknown key 'lrcrop' at data; did you mean 'lr_crop'?"),
        (
            "stages.mask.optimizer.warmpu=1",
            "unknown key 'warmpu' at stages.mask.optimizer; did you mean 'warmup'?",
        ),
        ("data.batch=many", "data.batch: expected int, got the text 'many'"),
        ("data.batch=2.5", "data.batch: expected int, got float 2.5"),
        ("data.batch=true", "data.batch: expected int, got bool True"),
        ("data.batch=0", "data.batch: expected >= 1, got 0"),
        ("data=3", "data: expected a section with keys, got int"),
        ("stages.dnet.optimizer.betas=[0.9]", "betas: expected 2 values, got 1"),
        ("stages.dnet.optimizer.betas=0.9", "betas: expected a list, got float"),
        ("stages.dnet.freeze=[tail]", "freeze: expected names among base, refine, mask"),
        ("stages.dnet.ema=1", "stages.dnet.ema: expected a decay in [0, 1), got 1.0"),
        ("stages.dnet.optimizer.warmup=6", "warmup: expected less than a period (6 steps), got 6"),
        (
            "stages.dnet.name=dent",
            "expected one of dnet, allnet, e2e, mask, heavy, light, whole, or one",
        ),
        (
            "stages.dnet.name=allnet-",
            "or one of them with a suffix",
        ),
        ("stages.dnet.name=mask", "expected each name once, in the order"),
        ("stages.dnet.name=mask-2", "expected each name once, in the order"),
        ("stages.all.ema=0", "no entry named 'all', there are: dnet, allnet, mask"),
        ("stages.dnet=0", "expected a key after"),
        ("data.batch.size=1", "data.batch is int, not a section"),
        ("stages=[]", "stages: expected at least one stage"),
        ("model=fsrcnn", "stages: fsrcnn is trained in whole; got dnet, allnet, mask (an MGA form"),
        ("device=tpu", "device: expected one of cpu, cuda, auto, got 'tpu'"),
        ("init.conv=zeros", "init.conv: expected 'torch', 'kaiming' or 'identity'"),
        ("threads", "expected KEY=VALUE"),
        ("name={a", "not valid YAML"),
    ],
)
def test_mistakes_are_named_and_placed(recipe_text: str, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(recipe_text, [override])
    assert message in str(caught.value)


def test_mistakes_in_the_file(tmp_path: Path, recipe_text: str) -> None:
    with pytest.raises(RecipeError, match="key 'model' is missing"):
        parse_recipe(recipe_text.replace("model:", "#"))
    with pytest.raises(RecipeError, match=r"line \d+: key 'scale' is given twice"):
        parse_recipe(recipe_text + "scale: 3\n")
    with pytest.raises(RecipeError, match="expected a mapping of keys, got a list"):
        parse_recipe("- 1")
    with pytest.raises(FileNotFoundError, match="recipe not found"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(RecipeError, match=r"bad\.yaml: not valid YAML"):
        load_recipe(path)


def test_overrides(recipe_text: str) -> None:
    overrides = ["stages.mask.iterations=9", "threads=2", "init.conv=kaiming", "data.val=null"]
    recipe = parse_recipe(recipe_text, overrides)
    assert [stage.iterations for stage in recipe.stages] == [6, 6, 9]
    assert (recipe.threads, recipe.init.conv, recipe.data.val) == (2, "kaiming", None)


def test_differences_name_stages(recipe_text: str) -> None:
    old = parse_recipe(recipe_text)
    new = parse_recipe(recipe_text, ["stages.mask.loss.mask=1", "seed=3"])
    assert differences(old.to_dict(), new.to_dict()) == ["stages.mask.loss.mask", "seed"]
    assert differences(old.to_dict(), old.to_dict()) == []
