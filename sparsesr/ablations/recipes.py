"""Trainings of an ablation as recipes, and the weights they start from."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from sparsesr.models import save_weights
from sparsesr.train import Recipe, RecipeError, load_recipe, parse_recipe
from sparsesr.train.initial import check_models, make_net, read_weights
from sparsesr.train.recipe import StageConfig

from .plan import Training

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


def recipes_folder() -> Path:
    """recipes/ of the working folder, or of the checkout.

    Raises:
        FileNotFoundError: neither is there.
    """
    for root in (Path(), _CHECKOUT):
        if (root / "recipes").is_dir():
            return root / "recipes"
    raise FileNotFoundError("recipes not found: run this in a checkout of the project")


def make_recipe(
    training: Training,
    profile: str,
    folder: Path,
    *,
    train: Sequence[str] = (),
    device: str | None = None,
    overrides: Iterable[str] = (),
) -> Recipe:
    """The recipe of a training, still without the weights it starts from.

    Args:
        profile: "short" starts from the recipe's profile of that name, "paper" from the recipe.
        folder: of the recipes. train: folders of HR images instead of the recipe's.
        device: "cpu", "cuda:0", ... instead of the recipe's.
        overrides: "a.b=value" texts; those that address stages of other trainings are left out.
    Raises:
        RecipeError: a recipe that cannot be made. FileNotFoundError: there is none of that name.
    """
    recipe = load_recipe(
        folder / f"{training.recipe}.yaml", profile=None if profile == "paper" else profile
    )
    data = {"val": None, **training.data}
    if train:
        data |= {"train": tuple(train), "name": ", ".join(train), "terms": None}
    changes: dict[str, Any] = {
        **training.settings,
        "name": training.name,
        "stages": _stages(training, recipe),
        "model_options": {**recipe.model_options, **training.options},
        "data": dataclasses.replace(recipe.data, **data),
        "init": dataclasses.replace(recipe.init, **training.init),
    }
    if training.model is not None:
        changes["model"] = training.model
    if device is not None:
        changes["device"] = device.partition(":")[0]
    made = dataclasses.replace(recipe, **changes)
    names = {stage.name for stage in made.stages}
    own = [text for text in overrides if _stage_of(text) in (None, *names)]
    made = parse_recipe(made.to_yaml(), own, training.name)
    check_models(made)
    return made


def check_overrides(overrides: Iterable[str], recipes: Iterable[Recipe]) -> None:
    """RecipeError for an override of a stage that no training has."""
    names = {stage.name for recipe in recipes for stage in recipe.stages}
    for text in overrides:
        if _stage_of(text) not in (None, *names):
            known = ", ".join(sorted(names)) or "none: nothing is trained"
            raise RecipeError(f"--set {text}: no such stage, there are: {known}")


def _stage_of(override: str) -> str | None:
    """The stage that "stages.dnet.ema=0.9" addresses."""
    parts = override.partition("=")[0].split(".")
    return parts[1] if parts[0] == "stages" and len(parts) > 1 else None


def _stages(training: Training, recipe: Recipe) -> tuple[StageConfig, ...]:
    like = training.like or training.step
    found = [stage for stage in recipe.stages if stage.step == like]
    if not found:
        raise RecipeError(f"{recipe.name}: expected a stage {like}, there is none")
    if training.iterations is not None:
        found = [_shortened(found[0], training.iterations)]
    changes = dict(training.stage)
    made = []
    for stage in found:
        own = {**changes}
        for section in ("loss", "optimizer"):
            if section in changes:
                own[section] = dataclasses.replace(getattr(stage, section), **changes[section])
        name = stage.name if training.like is None else stage.name.replace(like, training.step)
        made.append(dataclasses.replace(stage, name=name, **own))
    return tuple(made)


def _shortened(stage: StageConfig, steps: int) -> StageConfig:
    """A single period of so many steps; what changes with the step does so in proportion."""
    share = steps / stage.iterations
    optimizer, masks = stage.optimizer, stage.masks
    halve, cooling = optimizer.decay_every, masks.cooling
    return dataclasses.replace(
        stage,
        name=stage.step,
        iterations=steps,
        optimizer=dataclasses.replace(
            optimizer,
            periods=1,
            warmup=min(optimizer.warmup, steps // 10),
            decay_every=None if halve is None else max(1, round(halve * share)),
        ),
        masks=dataclasses.replace(
            masks,
            ramp=round(masks.ramp * share),
            cooling=None if cooling is None else max(1, round(cooling * share)),
        ),
    )


def started(recipe: Recipe, weights: Path) -> Recipe:
    """The recipe from these weights."""
    init = dataclasses.replace(recipe.init, conv="torch", weights=str(weights))
    return dataclasses.replace(recipe, init=init)


def converted(training: Training, recipe: Recipe, weights: Path, target: Path) -> Path:
    """``target``, a weights file of the training's network: what it shares with ``weights``.

    The rest starts at random, by the recipe's seed. Raises ValueError where nothing is shared.
    """
    if target.is_file() or training.convert is None:
        return target
    torch.manual_seed(recipe.seed)
    net = make_net(recipe, recipe.stages[0].name)
    own = net.state_dict()
    shared = {k: v for k, v in training.convert(read_weights(weights)).items() if k in own}
    if not shared:
        raise ValueError(f"{weights}: shares no weights with {recipe.model}")
    net.load_state_dict({**own, **shared})
    save_weights(net, target, {"note": f"start of {training.name}, in part from {weights.name}"})
    return target


def seconds_of(experiment: Path) -> float:
    """Seconds that an experiment has trained, as its metrics tell."""
    path = experiment / "metrics.csv"
    if not path.is_file():
        return 0.0
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    total = 0.0
    for _, stage in itertools.groupby(rows, key=lambda row: row["stage"]):
        before = 0
        for row in stage:
            step, rate = int(row["step"]), float(row["steps_per_second"] or 0)
            total += (step - before) / rate if rate else 0.0
            before = step
    return total
