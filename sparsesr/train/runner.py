"""Runs a recipe: every stage in turn, resuming where the experiment folder left off."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsesr.data import HRFolder, PatchBatches
from sparsesr.models import create_model, save_weights
from sparsesr.train.experiment import Experiment, ExperimentError, write_atomically
from sparsesr.train.initial import initialise, load_parts, read_weights
from sparsesr.train.recipe import Recipe, StageConfig
from sparsesr.train.validation import ValidationSet, final_metrics

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

log = logging.getLogger("sparsesr.train")

HINT = "pip install -e .[train]"


class MissingExtraError(ImportError):
    """A package of the extra `train` is not installed."""


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    stage: str | None = None,
    restart: bool = False,
    progress: bool = True,
    command: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train `recipe` in the experiment folder `output`; returns that folder.

    Continues an unfinished training of the same recipe with bit-identical results; finished stages
    are not run again. After the last stage the weights file and its card lie in the folder.

    Args:
        stage: run this stage alone; the one before it must be finished (or `init.weights` given).
        restart: move an existing folder aside and start over.
        progress: show a progress bar. command: recorded in the card. callbacks: Lightning's, added.
    Raises:
        MissingExtraError: lightning is not installed. FileNotFoundError: a data folder is missing.
        ExperimentError: `output` holds something else. RecipeError: an impossible recipe.
    """
    _require_lightning()
    stages = [s for s in recipe.stages if stage in (None, s.name)]
    if not stages:
        recipe.first_step(str(stage))  # raises, naming the stages there are
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    images = ValidationSet(recipe.data.val, recipe.scale) if recipe.data.val else None
    folder = HRFolder(recipe.data.train, recipe.scale, recipe.data.cache)
    experiment = Experiment(output, recipe, restart)
    for config in stages:
        if experiment.finished(config.name):
            log.info("stage %s: finished before, skipped", config.name)
        else:
            _run_stage(experiment, config, folder, images, progress, callbacks)
    last = recipe.stages[-1].name
    if experiment.finished(last) and not experiment.final_path().is_file():
        _write_final(experiment, last, images, command)
        log.info("wrote %s", experiment.final_path())
    return experiment.root


def _require_lightning() -> None:
    try:
        import lightning.pytorch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"training needs lightning ({error}): {HINT}") from None


def _run_stage(
    experiment: Experiment,
    stage: StageConfig,
    folder: HRFolder,
    images: ValidationSet | None,
    progress: bool,
    callbacks: Sequence[Callback],
) -> None:
    """Train one stage from its start or its last checkpoint to its end."""
    from sparsesr.train.callbacks import Checkpoint, Metrics, Progress, Resume
    from sparsesr.train.module import StageModule, batches_from

    recipe = experiment.recipe
    module = StageModule(_initial_net(experiment, stage), stage, recipe.channels_last)
    hooks: list[Any] = [metrics := Metrics(experiment, images)]
    if experiment.last_path(stage.name).is_file():
        state = torch.load(experiment.last_path(stage.name), map_location="cpu", weights_only=True)
        module.load_state_dict(state["module"])
        module.step = state["step"]
        hooks.append(Resume(state))
        log.info("stage %s: resuming at step %d", stage.name, module.step)
    # Rows beyond the checkpoint (or of a start that never reached one) will be written again.
    experiment.drop_metrics_after(stage.name, module.step)
    if progress:
        hooks.append(Progress(metrics, module.step, stage.iterations))
    hooks.append(Checkpoint(experiment))
    with _quiet():
        trainer = _make_trainer(recipe, stage, [*hooks, *callbacks], progress)
        first = recipe.first_step(stage.name)
        batches = PatchBatches(
            folder,
            lr_crop=stage.lr_crop or recipe.data.lr_crop,
            batch=stage.batch or recipe.data.batch,
            steps=first + stage.iterations,
            seed=recipe.seed,
            rank=trainer.global_rank,
        )
        loader = batches_from(batches, first + module.step, first + stage.iterations)
        if module.step < stage.iterations:
            trainer.fit(module, loader)
    if module.step < stage.iterations:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        weights = {key: value.cpu() for key, value in module.average.net.state_dict().items()}
        path = experiment.weights_path(stage.name)
        write_atomically(path, lambda part: torch.save(weights, part))


def _make_trainer(recipe: Recipe, stage: StageConfig, hooks: list[Any], progress: bool) -> Any:
    """A Lightning trainer that does nothing per step but what the callbacks ask for."""
    import lightning.pytorch as pl

    accelerator = {"cpu": "cpu", "cuda": "gpu", "auto": "auto"}[recipe.device]
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision="bf16-mixed" if recipe.precision == "bfloat16" else "32-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        gradient_clip_val=stage.optimizer.clip,
        callbacks=hooks,
    )


def _initial_net(experiment: Experiment, stage: StageConfig) -> Any:
    """The stage's model: seeded, then with the previous stage's weights or `init.weights`."""
    recipe = experiment.recipe
    names = [config.name for config in recipe.stages]
    torch.manual_seed(recipe.seed + names.index(stage.name))
    net = create_model(recipe.stage_model(stage.name), scale=recipe.scale, **recipe.model_options)
    before = names.index(stage.name) - 1
    if before >= 0 and experiment.finished(names[before]):
        path = experiment.weights_path(names[before])
        load_parts(net, torch.load(path, map_location="cpu", weights_only=True), str(path))
    elif recipe.init.weights is not None:
        load_parts(net, read_weights(recipe.init.weights), recipe.init.weights)
    elif before >= 0:
        raise ExperimentError(
            f"stage {stage.name} starts from the weights of {names[before]}, which is not finished "
            f"in {experiment.root}: run it first, or set init.weights"
        )
    else:
        initialise(net, recipe.init)
    return net


def _write_final(
    experiment: Experiment, last: str, images: ValidationSet | None, command: str | None
) -> None:
    """The weights file and its card."""
    recipe = experiment.recipe
    net = create_model(recipe.stage_model(last), scale=recipe.scale, **recipe.model_options)
    path = experiment.weights_path(last)
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    net.eval()
    card: dict[str, Any] = {
        "model": recipe.stage_model(last),
        "scale": recipe.scale,
        "arguments": dict(recipe.model_options),
        "training_data": {"name": recipe.data.name, "terms": recipe.data.terms},
        "steps": {stage.name: stage.iterations for stage in recipe.stages},
        "recipe": recipe.name,
        "seed": recipe.seed,
        "command": command,
        "metrics": None,
    }
    if images is not None and last == "mask":
        card["metrics"] = final_metrics(net, images)
    save_weights(net, experiment.final_path(), card)


@contextmanager
def _quiet() -> Any:
    """Hush what Lightning says about choices made here on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
