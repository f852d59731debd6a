"""Recipes: strict reading, overrides, round trip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sparsesr.models import list_models
from sparsesr.train import Recipe, RecipeError, learning_rate, load_recipe, parse_recipe
from sparsesr.train.initial import check_models
from sparsesr.train.recipe_file import differences

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))


def test_round_trip_and_defaults(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_yaml()) == recipe
    assert recipe.stages[0].optimizer.betas == (0.9, 0.999)
    assert recipe.stages[0].optimizer.lr == 1e-3  # YAML 1.1 alone would read the text "1e-3"
    assert recipe.family == "fsrcnn"
    names = [recipe.stage_model(stage.name) for stage in recipe.stages]
    assert names == ["fsrcnn-dnet", "fsrcnn-allnet", "fsrcnn-mga"]
    assert [recipe.first_step(stage.name) for stage in recipe.stages] == [0, 6, 12]


@pytest.mark.parametrize("profile", [None, "short"])
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path, profile: str | None) -> None:
    recipe = load_recipe(path, profile=profile)
    assert f"{recipe.stage_model(recipe.stages[-1].name)}-x{recipe.scale}" == path.stem
    assert recipe.name == path.stem
    assert recipe.data.terms
    assert {stage.step for stage in recipe.stages} <= set(recipe.steps)
    assert all(stage.val_every for stage in recipe.stages)
    if path.stem != "rcan-mga-x4":  # 16 million weights, made three times
        check_models(recipe)


def test_every_family_has_a_recipe() -> None:
    trained = {path.stem.rpartition("-x")[0] for path in RECIPES}
    forms = {"base", "dnet", "allnet"}  # on the way to -mga
    names = {info.name for info in list_models() if info.name.rpartition("-")[2] not in forms}
    others = {f"drsan-{size}-mga" for size in ("32m", "32l", "48s", "48m")}  # as drsan-32s-mga
    light = {name for name in names if name.endswith("-light")} - {"fsrcnn-mga-light"}
    assert names - trained == others | light
    assert trained <= names | {"fsrcnn-dnet"}


def test_the_papers_schedule_of_mga() -> None:
    recipe = load_recipe(REPOSITORY / "recipes" / "pan-mga-x4.yaml")
    dnet, allnet, mask = recipe.stages
    assert (recipe.data.lr_crop, recipe.data.batch) == (64, 64)
    assert (dnet.iterations, allnet.iterations, mask.iterations) == (600_000, 600_000, 100_000)
    rates = [learning_rate(n, dnet.iterations, dnet.optimizer) for n in (0, 2000, 199_999, 200_000)]
    assert rates == pytest.approx([4e-5, 4e-4, 1e-7, 4e-5], rel=1e-3)


BASE = """
extends: base.yaml
name: pan
model: pan-mga
data: {batch: 3}
stages:
  - name: allnet
    optimizer: {lr: 2e-3}
  - name: mask
    iterations: 4
profiles:
  quick:
    stages:
      - {name: mask, ema: 0}
"""


@pytest.fixture
def extended(recipe_text: str, tmp_path: Path) -> Path:
    """A recipe that changes the tiny one, which has a profile of its own."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    profile = "profiles:\n  quick:\n    seed: 7\n    stages:\n      - {name: mask, log_every: 1}\n"
    (folder / "base.yaml").write_text(recipe_text + profile)
    (folder / "pan.yaml").write_text(BASE)
    return folder / "pan.yaml"


def test_a_recipe_says_what_differs(extended: Path, recipe: Recipe) -> None:
    changed = load_recipe(extended)
    assert (changed.name, changed.model, changed.scale) == ("pan", "pan-mga", recipe.scale)
    assert changed.data == dataclasses.replace(recipe.data, batch=3)
    assert [stage.name for stage in changed.stages] == ["allnet", "mask"]
    allnet, mask = changed.stages
    assert allnet.optimizer == dataclasses.replace(recipe.stages[1].optimizer, lr=2e-3)
    assert mask == dataclasses.replace(recipe.stages[2], iterations=4)
    assert changed.seed == 0


def test_a_profile_changes_it_again(extended: Path) -> None:
    quick = load_recipe(extended, ["stages.mask.val_every=2"], "quick")
    assert quick.seed == 7
    (mask,) = quick.stages
    assert (mask.iterations, mask.log_every, mask.ema, mask.val_every) == (4, 1, 0, 2)
    assert parse_recipe(quick.to_yaml()) == quick


@pytest.mark.parametrize(
    ("text", "profile", "message"),
    [
        ("extends: none.yaml", None, "recipe not found: .*none.yaml"),
        ("extends: pan.yaml", None, "pan.yaml: extends itself"),
        ("extends: [a]", None, "extends: expected the name of a file, got a list"),
        ("extends: base.yaml", "long", "no profile 'long', there are: quick"),
        ("extends: base.yaml\nprofiles: 3", None, "profiles: expected sections by name, got int"),
        ("extends: base.yaml\nsede: 1", None, "unknown key 'sede' at top level; did you mean 's"),
    ],
)
def test_bad_bases(extended: Path, text: str, profile: str | None, message: str) -> None:
    extended.write_text(text)
    with pytest.raises((RecipeError, FileNotFoundError), match=message):
        load_recipe(extended, profile=profile)


def test_a_text_has_no_folder(recipe_text: str) -> None:
    with pytest.raises(RecipeError, match="use load_recipe"):
        parse_recipe(recipe_text + "\nextends: base.yaml")


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
            "expected one of dnet, head, allnet, e2e, mask, heavy, light, whole, or one",
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
