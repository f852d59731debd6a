"""Runs a recipe: every stage in turn, resuming where the experiment folder left off."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import platform
import signal
import threading
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sparsesr.data import HRFolder
from sparsesr.models import save_weights
from sparsesr.train import processes
from sparsesr.train.experiment import Experiment, ExperimentError, held
from sparsesr.train.initial import (
    check_models,
    frozen_parts,
    initialise,
    load_parts,
    make_net,
    model_of,
    read_weights,
    same_head,
    start_light_head,
)
from sparsesr.train.loading import (
    ProcessBatches,
    Rates,
    make_loader,
    measure_rates,
    open_folder,
)
from sparsesr.train.recipe import Recipe, RecipeError, StageConfig
from sparsesr.train.validation import ValidationSet, final_metrics

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

log = logging.getLogger("sparsesr.train")

HINT = "pip install -e .[train]"

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


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
    are not run again. After the last stage the weights file and its card lie in the folder. Started
    by `torchrun`, every process takes its share of each batch and the first one writes.

    Args:
        stage: run this stage alone; the one before it must be finished (or `init.weights` given).
        restart: move an existing folder aside and start over.
        progress: show a progress bar. command: recorded in the card. callbacks: Lightning's, added.
    Raises:
        MissingExtraError: lightning is not installed. FileNotFoundError: a data folder is missing.
        ExperimentError: `output` holds something else, or cannot be written (a full disk): what was
        saved before is still there. RecipeError: an impossible recipe.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the same call continues.
    """
    _require_lightning()
    stages = _prepared(recipe, stage)
    processes.join(recipe.device)
    images = ValidationSet(recipe.data.val, recipe.scale) if recipe.data.val else None
    folder = open_folder(recipe)
    for config in stages:
        ProcessBatches(folder, recipe, config)  # a crop too large shows now, not in stage three
    with processes.first_alone():
        experiment = Experiment(output, recipe, restart and processes.rank() == 0)
    with held(experiment.root) if processes.rank() == 0 else nullcontext():
        for config in stages:
            if experiment.finished(config.name):
                log.info("stage %s: finished before, skipped", config.name)
            else:
                _run_stage(experiment, config, folder, images, progress, callbacks)
            processes.wait()
        if processes.rank() == 0:
            _write_finals(experiment, images, command)
    return experiment.root


def _write_finals(
    experiment: Experiment, images: ValidationSet | None, command: str | None
) -> None:
    """The weights files that finished stages deserve and do not have yet."""
    for name in _final_stages(experiment.recipe):
        if experiment.finished(name) and not experiment.final_path(name).is_file():
            _write_final(experiment, name, images, command)
            log.info("wrote %s", experiment.final_path(name))


def time_loader(recipe: Recipe, stage: str | None = None, steps: int = 50) -> Rates:
    """Steps per second with and without cutting batches, of a stage (by default the first).

    Nothing is written. Raises as `train` does; RecipeError for a stage there is not.
    """
    _require_lightning()
    from sparsesr.train.module import StageModule

    chosen = _prepared(recipe, stage)[0]
    long_enough = dataclasses.replace(chosen, iterations=max(chosen.iterations, steps + 2))
    folder = open_folder(recipe)
    net = make_net(recipe, chosen.name)
    gpu = processes.uses_gpu(recipe.device)
    module = StageModule(net, chosen, recipe.channels_last).to("cuda" if gpu else "cpu")
    dtype = getattr(torch, resolve_precision(recipe))
    return measure_rates(module, make_loader(folder, recipe, long_enough), steps, dtype)


def _prepared(recipe: Recipe, stage: str | None) -> list[StageConfig]:
    """The stages to run, once everything that can be known to be wrong has been looked at."""
    stages = [s for s in recipe.stages if stage in (None, s.name)]
    if not stages:
        recipe.first_step(str(stage))  # raises, naming the stages there are
    check_models(recipe)
    resolve_precision(recipe)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    _keep_freed_memory()
    return stages


def _final_stages(recipe: Recipe) -> list[str]:
    """Stages whose weights are worth a file of their own: the last, and the D-Net.

    An All-Net that a mask stage follows is part of that stage's file.
    """
    names = [stage.name for stage in recipe.stages]
    return [name for name in names if name in ("dnet", names[-1])]


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
    from sparsesr.train.module import StageModule

    recipe = experiment.recipe
    net = _initial_net(experiment, stage)
    fused = recipe.precision != "float16"
    module = StageModule(net, stage, recipe.channels_last, fused)
    hooks: list[Any] = [metrics := Metrics(experiment, images)]
    state = experiment.load_state(stage.name)
    if state is not None:
        module.load_state_dict(state["module"])
        module.step = state["step"]
        hooks.append(Resume(state))
        log.info("stage %s: resuming at step %d", stage.name, module.step)
    first = processes.rank() == 0
    if first:
        # Rows beyond the checkpoint (or of a start that never reached one) will be written again.
        experiment.drop_metrics_after(stage.name, module.step)
    processes.wait()
    if progress and first:
        hooks.append(Progress(metrics, stage.iterations))
    hooks.append(Checkpoint(experiment))
    with _quiet():
        trainer = _make_trainer(recipe, stage, [*hooks, *callbacks], progress and first)
        loader = make_loader(folder, recipe, stage, module.step)
        if module.step < stage.iterations:
            _fit(trainer, module, loader)
    if first:
        experiment.save(module.average.weights(), experiment.weights_path(stage.name))


def _fit(trainer: Any, module: Any, loader: Any) -> None:
    """Fit; Lightning answers Ctrl-C and SIGTERM with exit(), here they are KeyboardInterrupt."""
    from tqdm.contrib.logging import logging_redirect_tqdm  # type: ignore[import-untyped]

    before = signal.getsignal(signal.SIGINT)
    try:
        # Log lines go above the progress bar, not into it.
        with logging_redirect_tqdm([log]):
            trainer.fit(module, loader)
    except SystemExit:
        # Lightning left Ctrl-C ignored for its own shutdown.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


def resolve_precision(recipe: Recipe) -> str:
    """ "float32", "bfloat16" or "float16": what the recipe's precision is on this machine.

    Raises RecipeError for float16 without a GPU.
    """
    gpu = processes.uses_gpu(recipe.device)
    if recipe.precision == "float16" and not gpu:
        raise RecipeError("precision: float16 needs a GPU; use float32, bfloat16 or auto")
    if recipe.precision != "auto":
        return recipe.precision
    return "bfloat16" if gpu and torch.cuda.get_device_capability()[0] >= 8 else "float32"


def _make_trainer(recipe: Recipe, stage: StageConfig, hooks: list[Any], progress: bool) -> Any:
    """A Lightning trainer that does nothing per step but what the callbacks ask for."""
    import lightning.pytorch as pl
    from lightning.pytorch.strategies import DDPStrategy

    accelerator = {"cpu": "cpu", "cuda": "gpu", "auto": "auto"}[recipe.device]
    precision: dict[str, Any] = {
        "float32": "32-true",
        "bfloat16": "bf16-mixed",
        "float16": "16-mixed",
    }
    spread: dict[str, Any] = {"devices": 1}
    if processes.count() > 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", processes.count()))
        spread = {"devices": here, "num_nodes": processes.count() // here}
        # A Base-Net's upsampler has no gradient where the coarse image has no loss.
        unused = stage.step in ("dnet", "allnet") and stage.loss.coarse == 0
        spread["strategy"] = DDPStrategy(find_unused_parameters=unused)
        spread["sync_batchnorm"] = processes.uses_gpu(recipe.device)
    return pl.Trainer(
        accelerator=accelerator,
        **spread,
        precision=precision[resolve_precision(recipe)],
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        accumulate_grad_batches=stage.accumulate,
        gradient_clip_val=stage.optimizer.clip,
        callbacks=hooks,
    )


def _initial_net(experiment: Experiment, stage: StageConfig) -> Any:
    """The stage's model: seeded, then with the previous stage's weights or `init.weights`."""
    recipe = experiment.recipe
    names = [config.name for config in recipe.stages]
    torch.manual_seed(recipe.seed + names.index(stage.name))
    net = make_net(recipe, stage.name)
    before = names.index(stage.name) - 1
    if before >= 0 and experiment.finished(names[before]):
        path = experiment.weights_path(names[before])
        _start_from(net, stage, read_weights(path), recipe.stage_model(names[before]), str(path))
    elif recipe.init.weights is not None:
        given = recipe.init.weights
        _start_from(net, stage, read_weights(given), model_of(given), given)
    elif before >= 0:
        raise ExperimentError(
            f"stage {stage.name} starts from the weights of {names[before]}, which is not finished "
            f"in {experiment.root}: run it first, or set init.weights"
        )
    else:
        initialise(net, recipe.init)
    if processes.rank() > 0:
        # Alike weights, but random draws while training (of masks) of each process's own.
        torch.manual_seed(recipe.seed + names.index(stage.name) + (processes.rank() << 32))
    return net


def _start_from(
    net: Any, stage: StageConfig, state: dict[str, Any], model: str | None, source: str
) -> None:
    """The weights of `model`; a coarse head of another kind than its own starts afresh.

    Raises RecipeError where `stage` would freeze such a head.
    """
    head = same_head(net, model)
    if not head:
        if "base" in frozen_parts(stage):
            raise RecipeError(
                f"stages.{stage.name}: it leaves the coarse head of {net.model_name} as it is, and "
                f"{source} ({model}) has none of its kind; train it before, in a stage named head"
            )
        start_light_head(net)
    load_parts(net, state, source, head)


def _write_final(
    experiment: Experiment, stage: str, images: ValidationSet | None, command: str | None
) -> None:
    """The weights file of a stage and its card."""
    recipe = experiment.recipe
    net = make_net(recipe, stage)
    path = experiment.weights_path(stage)
    names = [config.name for config in recipe.stages]
    trained = recipe.stages[: names.index(stage) + 1]
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    net.eval()
    card: dict[str, Any] = {
        "model": recipe.stage_model(stage),
        "scale": recipe.scale,
        "arguments": net.arguments,
        "training_data": {"name": recipe.data.name, "terms": recipe.data.terms},
        "steps": {config.name: config.iterations for config in trained},
        "recipe": recipe.name,
        "seed": recipe.seed,
        "command": command,
        "metrics": None if images is None else final_metrics(net, images),
    }
    save_weights(net, experiment.final_path(stage), card)


def _keep_freed_memory() -> None:
    """Let glibc keep the megabyte blocks that every step frees and takes again.

    By default they go back to the kernel, and each step pays for fresh pages: 5 to 10 % of the time
    on the CPU. Elsewhere than on glibc nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


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
