"""Runs an ablation: its trainings, its measurements, its table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsesr.data import paired_images
from sparsesr.models import create_model, from_pretrained, parse_name, save_weights, weights_dir
from sparsesr.models.convert import convert
from sparsesr.train import ExperimentError, Recipe, load_recipe, train
from sparsesr.train.initial import load_parts, make_net, read_weights

from . import dense, mga, routing
from .measure import measure
from .plan import PROFILES, Ablation, Given, Training, Variant, trainings
from .published import published_row
from .recipes import (
    check_overrides,
    converted,
    make_recipe,
    recipes_folder,
    seconds_of,
    started,
)
from .report import write_files

log = logging.getLogger("sparsesr.ablations")

ABLATIONS: dict[str, Ablation] = {
    table.name: table for table in (*mga.TABLES, *routing.TABLES, *dense.TABLES)
}
_TEST_SETS = ("Set5", "Set14", "B100")


class WeightsMissingError(LookupError):
    """An ablation of given weights without them; the text says which are needed."""


@dataclass(frozen=True)
class Options:
    """How to run an ablation.

    Attributes:
        output: folder for experiments, measurements and the table.
        profile: "short" (minutes for each row on one CPU core) or "paper" (the whole schedule).
        data: test sets; by default Set5, Set14 and B100 beside the recipe's validation set.
        train: folders of HR images instead of the recipe's. weights: given names or files.
        device: where to train and measure. overrides: of the recipes, "data.batch=4".
        recipes: their folder. progress: show the trainings' progress bars. command: recorded in the
            table and on the cards of trained weights.
    """

    output: Path
    profile: str = "short"
    data: Sequence[str] = ()
    train: Sequence[str] = ()
    weights: Sequence[str] = ()
    device: str | None = None
    overrides: Sequence[str] = ()
    recipes: Path | None = None
    progress: bool = False
    command: str | None = None


def run_ablation(name: str, options: Options) -> dict[str, Any]:
    """Train and measure what is missing; the table as a document, written to files too.

    Returns:
        {"ablation", "paper", "table", "profile", "command", "about", "note", "convention",
        "columns", "rows", "files"}; a row has "variant", "model", "params", "from", "steps" (by
        training), "train" (data), "seconds", "sets" (measures by data set), "published_as" and
        "published" (the name of the paper's row and its measures by data set).

    Raises:
        ValueError: an unknown ablation or profile, weights of another network, no test set.
        WeightsMissingError: weights that must be given are not.
        RecipeError, ExperimentError, FileNotFoundError, ImportError: as of ``train``.
    """
    if name not in ABLATIONS:
        raise ValueError(f"unknown ablation {name!r}; expected one of {', '.join(ABLATIONS)}")
    if options.profile not in PROFILES:
        raise ValueError(
            f"unknown profile {options.profile!r}; expected one of {', '.join(PROFILES)}"
        )
    return _Run(ABLATIONS[name], options).document()


class _Run:
    """One run; networks are loaded and trained when a row asks for them."""

    def __init__(self, ablation: Ablation, options: Options) -> None:
        self.ablation, self.options = ablation, options
        self.root = options.output
        self.given = _given(ablation, options.weights)
        self.variants = ablation.variants(options.profile, list(self.given))
        self.sets = list(options.data) or self._test_sets()
        for root in self.sets:
            paired_images(root, parse_name(ablation.recipe)[1] or 1)  # mistakes show before hours
        self.recipes = {t.name: self._recipe(t) for t in trainings(self.variants)}
        check_overrides(options.overrides, self.recipes.values())

    def document(self) -> dict[str, Any]:
        """Everything, in the order of the rows."""
        self.root.mkdir(parents=True, exist_ok=True)
        for training in trainings(self.variants):
            self._train(training)
        document = {
            "ablation": self.ablation.name,
            "paper": self.ablation.paper,
            "table": self.ablation.table,
            "profile": self.options.profile,
            "command": self.options.command,
            "about": self.ablation.about,
            "note": self.ablation.note,
            "convention": self.ablation.convention,
            "columns": list(self.ablation.columns),
            "rows": [self._row(variant) for variant in self.variants],
        }
        files = write_files(document, self.root)
        return {**document, "files": [str(path) for path in files]}

    def _test_sets(self) -> list[str]:
        folder = self.options.recipes or recipes_folder()
        profile = None if self.options.profile == "paper" else self.options.profile
        recipe = load_recipe(folder / f"{self.ablation.recipe}.yaml", profile=profile)
        beside = Path(recipe.data.val or "").parent
        found = [str(beside / name) for name in _TEST_SETS if (beside / name).is_dir()]
        if not found:
            raise ValueError(f"no test set {', '.join(_TEST_SETS)} in {beside}; give --data")
        return found

    # Trainings

    def _recipe(self, training: Training) -> Recipe:
        return make_recipe(
            training,
            self.options.profile,
            self.options.recipes or recipes_folder(),
            train=self.options.train,
            device=self.options.device,
            overrides=self.options.overrides,
        )

    def _folder(self, training: Training) -> Path:
        return self.root / self.options.profile / training.name

    def _train(self, training: Training) -> None:
        recipe = self.recipes[training.name]
        folder = self._folder(training)
        if training.start is not None:
            weights = self._weights(training.start)
            if training.convert is not None:
                target = folder.with_name(f"{folder.name}-start.safetensors")
                weights = converted(training, recipe, weights, target)
            recipe = started(recipe, weights)
        log.info("%s: %s", self.ablation.name, training.name)
        options = self.options
        try:
            train(recipe, folder, progress=options.progress, command=options.command)
        except ExperimentError as error:
            text = f"{error}. For an ablation: another --output, or remove {folder}"
            raise ExperimentError(text) from None

    def _weights(self, source: Training | Given) -> Path:
        """A file that ``read_weights`` reads."""
        if isinstance(source, Training):
            last = self.recipes[source.name].stages[-1].name
            return self._folder(source) / "checkpoints" / f"{last}.pt"
        if not source.user:
            return weights_dir() / f"{source.name}.safetensors"
        given = self.given[source.name]
        if given.suffix == ".safetensors":
            return given
        target = self.root / f"{source.name}.safetensors"
        net, card = convert(given)
        save_weights(net, target, card)
        return target

    # Rows

    def _row(self, variant: Variant) -> dict[str, Any]:
        net = self._net(variant)
        row = {
            "variant": variant.name,
            "model": f"{net.model_name}-x{variant.scale or net.scale}",
            "params": sum(p.numel() for p in net.parameters()),
            **self._history(variant.source),
            "sets": {},
        }
        for root in self.sets:
            log.info("%s: %s on %s", self.ablation.name, variant.name, root)
            row["sets"][Path(root).resolve().name] = measure(
                variant, net, root, self.ablation, self.root / "measured", self.options.device
            )
        a = self.ablation
        printed = variant.published
        published = published_row(a.paper, a.table, printed, variant.scale) if printed else {}
        return {**row, "published_as": printed, "published": published}

    def _history(self, source: Training | Given) -> dict[str, Any]:
        """Where the weights come from: start, steps, data, seconds."""
        if isinstance(source, Given):
            origin = self._origin(source)
            return {"from": origin, "steps": {}, "train": None, "seconds": 0.0}
        chain = list(source.chain())
        recipe = self.recipes[source.name]
        steps = {t.name: sum(s.iterations for s in self.recipes[t.name].stages) for t in chain}
        crop, batch = (
            getattr(recipe.stages[-1], key) or getattr(recipe.data, key)
            for key in ("lr_crop", "batch")
        )
        name = recipe.data.name or ", ".join(recipe.data.train)
        return {
            "from": self._origin(source.origin),
            "steps": steps,
            "train": f"{name}; {batch} crops of {crop}x{crop} a step",
            "seconds": round(sum(seconds_of(self._folder(t)) for t in chain), 2),
        }

    def _origin(self, origin: Given | None) -> str:
        if origin is None:
            return "scratch"
        return self.given[origin.name].name if origin.user else f"shipped {origin.name}"

    def _net(self, variant: Variant) -> Any:
        source = variant.source
        if isinstance(source, Given):
            return _load(self.given[source.name]) if source.user else from_pretrained(source.name)
        recipe = self.recipes[source.name]
        state = read_weights(self._weights(source))
        net = (
            create_model(variant.form, recipe.scale)
            if variant.form
            else make_net(recipe, recipe.stages[-1].name)
        )
        load_parts(net, state, source.name)
        if recipe.stages[-1].step == "light":
            net.samplers_in_use = recipe.stages[-1].samplers
        return net.eval()


def _given(ablation: Ablation, weights: Iterable[str]) -> dict[str, Path]:
    """The user's files by the model they hold."""
    found: dict[str, Path] = {}
    patterns = (*ablation.weights, *ablation.optional)
    for text in weights:
        path = Path(text)
        if not path.suffix:
            path = weights_dir() / f"{text}.safetensors"
        net: Any = _load(path)
        if not any(fnmatchcase(net.model_name, pattern) for pattern in patterns):
            known = ", ".join(patterns) or "none: it trains its own"
            raise ValueError(
                f"{ablation.name}: expected weights of {known}; {text} holds {net.model_name}"
            )
        found[f"{net.model_name}-x{net.scale}"] = path
    for pattern in ablation.weights:
        if not any(fnmatchcase(parse_name(model)[0], pattern) for model in found):
            raise WeightsMissingError(
                f"{ablation.name} measures published weights of {pattern}, which do not ship with "
                "this package: give --weights FILE, the released checkpoint or what "
                "`sparsesr convert` made of it"
            )
    return found


def _load(path: Path) -> nn.Module:
    if path.suffix in (".pt", ".pth"):
        return convert(path)[0]
    with torch.no_grad():
        return from_pretrained(str(path))
