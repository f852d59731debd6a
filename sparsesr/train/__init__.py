"""Training from recipes: MGA's three steps, other networks whole (needs the extra `train`)."""

from __future__ import annotations

from sparsesr.train.experiment import Experiment, ExperimentError
from sparsesr.train.loading import Rates
from sparsesr.train.losses import mask_target
from sparsesr.train.recipe import Recipe, RecipeError
from sparsesr.train.recipe_file import load_recipe, parse_recipe
from sparsesr.train.runner import MissingExtraError, time_loader, train
from sparsesr.train.schedule import learning_rate

__all__ = [
    "Experiment",
    "ExperimentError",
    "MissingExtraError",
    "Rates",
    "Recipe",
    "RecipeError",
    "learning_rate",
    "load_recipe",
    "mask_target",
    "parse_recipe",
    "time_loader",
    "train",
]
