"""What happens between steps: metrics, validation, checkpoints, progress."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from sparsesr.io import write_image
from sparsesr.train import processes
from sparsesr.train.experiment import Experiment
from sparsesr.train.module import StageModule
from sparsesr.train.sample import sample_image
from sparsesr.train.validation import ValidationSet, validate

log = logging.getLogger("sparsesr.train")


class Metrics(Callback):
    """Rows of metrics.csv and TensorBoard, every `log_every` and `val_every` steps.

    With each validation a picture goes to `samples/` and, where it is the best so far, the averaged
    weights to `checkpoints/<stage>-best.pt`. The first process does all of this; losses are means
    over all.
    """

    def __init__(self, experiment: Experiment, images: ValidationSet | None) -> None:
        self.experiment = experiment
        self.images = images
        self.latest: dict[str, Any] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0
        self._since = self._ended = 0.0
        self._waited = 0.0
        self._board: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the clock; open the log."""
        self._since = self._ended = time.perf_counter()
        if trainer.is_global_zero:
            self._board = open_board(self.experiment, pl_module.stage.name, pl_module.step)

    def on_train_end(self, *args: Any) -> None:
        """Close the log."""
        if self._board is not None:
            self._board.close()

    def on_exception(self, *args: Any) -> None:
        """Close it after an error, too."""
        self.on_train_end()

    def on_train_batch_start(self, *args: Any) -> None:
        """What passed since the last batch ended was spent on getting this one."""
        self._waited += time.perf_counter() - self._ended

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Add up the losses; write a row when one is due."""
        for key, value in pl_module.losses.items():
            # Kept as tensors: no synchronisation with a GPU between rows.
            self._sums[key] = self._sums[key] + value if key in self._sums else value.clone()
        self._count += 1
        if pl_module.stepped:
            self._end_of_step(trainer, pl_module)
        self._ended = time.perf_counter()

    def _end_of_step(self, trainer: pl.Trainer, module: StageModule) -> None:
        stage, step = module.stage, module.step
        last = step == stage.iterations
        due = last or bool(stage.val_every and step % stage.val_every == 0)
        if not (due or (stage.log_every and step % stage.log_every == 0)):
            return
        row = self._row(trainer, module)
        if not trainer.is_global_zero:
            return
        if due and self.images is not None:
            row.update(self._validate(module))
            log.info("%s", _describe(row, stage.iterations))
        self.latest.update(row)
        self.experiment.append_metrics(row)
        if self._board is not None:
            for key, value in row.items():
                if key not in ("stage", "step"):
                    self._board.add_scalar(f"{stage.name}/{key}", float(value), step)

    def _row(self, trainer: pl.Trainer, module: StageModule) -> dict[str, Any]:
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        row: dict[str, Any] = {"stage": module.stage.name, "step": module.step}
        for key, value in self._sums.items():
            mean = float(processes.mean(value / self._count))
            row[key if key == "loss" else f"loss_{key}"] = f"{mean:.6g}"
        row["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}"
        row["steps_per_second"] = round(self._count / module.stage.accumulate / seconds, 2)
        row["loading"] = round(self._waited / seconds, 3)
        self._sums, self._count, self._since, self._waited = {}, 0, now, 0.0
        return row

    def _validate(self, module: StageModule) -> dict[str, float]:
        assert self.images is not None
        stage, net = module.stage, module.average.net
        values = validate(net, self.images, stage.step)
        keep_best(self.experiment, module, values)
        picture = sample_image(net, self.images, stage.step)
        path = self.experiment.samples / f"{stage.name}-{module.step:07d}.png"
        write_image(path, picture, overwrite=True)
        self._since = time.perf_counter()
        return {key: round(value, 5) for key, value in values.items()}


def open_board(experiment: Experiment, stage: str, step: int) -> Any:
    """TensorBoard's writer, which forgets what it holds beyond `step`; None where it is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("tensorboard is not installed: metrics.csv alone is written")
        return None
    return SummaryWriter(experiment.root / "logs" / stage, purge_step=step + 1)


def keep_best(experiment: Experiment, module: StageModule, values: dict[str, float]) -> None:
    """Write `<stage>-best.pt` if `values` beat what it holds, by PSNR or the mask's error.

    A head stage moves the coarse image alone: there the PSNR is that image's.
    """
    measure, sign = ("val_mask_l1", -1) if module.stage.supervised_mask else ("val_psnr", 1)
    if module.stage.step == "head":
        measure = "val_psnr_coarse"
    path = experiment.best_path(module.stage.name)
    if path.is_file():
        best = torch.load(path, map_location="cpu", weights_only=True)
        better = sign * (values[measure] - best[measure]) > 0  # not so if either is NaN
        # One of a later step was found before an interruption: it will be found again.
        if best["step"] < module.step and not better:
            return
    weights = module.average.weights()
    state = {"step": module.step, measure: values[measure], "weights": weights}
    experiment.save(state, path)


class Checkpoint(Callback):
    """Saves the resumable state every `checkpoint_every` steps and at the stage's end."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Save when due. The state is complete here: weights, average and step agree."""
        stage = pl_module.stage
        due = stage.checkpoint_every and pl_module.step % stage.checkpoint_every == 0
        if pl_module.stepped and (due or pl_module.step == stage.iterations):
            save_state(pl_module, trainer, self.experiment)


class Progress(TQDMProgressBar):
    """Progress bar over the steps left, with the step, the loss and the latest validation."""

    def __init__(self, metrics: Metrics, iterations: int) -> None:
        super().__init__(refresh_rate=20)
        self.metrics = metrics
        self.iterations = iterations

    def init_train_tqdm(self) -> Any:
        """Lightning's bar, on stderr."""
        return Tqdm(
            disable=self.is_disabled,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Name the bar after the stage."""
        super().on_train_epoch_start(trainer, *args)
        module: Any = trainer.lightning_module
        self.train_progress_bar.set_description(module.stage.name)

    def get_metrics(self, trainer: pl.Trainer, pl_module: Any) -> dict[str, Any]:
        """What stands behind the bar."""
        latest = self.metrics.latest
        shown = {"step": f"{pl_module.step}/{self.iterations}"}
        if "loss" in latest:
            shown["loss"] = latest["loss"]
        for key, label in (("val_psnr", "Y-PSNR"), ("val_psnr_coarse", "coarse")):
            if key in latest:
                shown[label] = f"{latest[key]:.2f}"  # tqdm itself would show three digits
        return shown


def save_state(module: StageModule, trainer: pl.Trainer, to: Experiment) -> None:
    """Write `<stage>-last.pt`: step, network, average, optimiser, scaler and all generators."""
    own = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if module.device.type == "cuda" else None,
    }
    generators = processes.gathered(own)
    if not trainer.is_global_zero:
        return
    state = {
        "of": [to.recipe.name, module.stage.name],
        "step": module.step,
        "module": module.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "scaler": trainer.precision_plugin.state_dict(),
        "generators": generators,
    }
    to.save(state, to.last_path(module.stage.name))


class Resume(Callback):
    """Puts a saved state into the optimiser and the generators once they exist."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore; the network, average and step were restored before the trainer was made."""
        trainer.optimizers[0].load_state_dict(self.state["optimizer"])
        trainer.precision_plugin.load_state_dict(self.state["scaler"])
        if len(self.state["generators"]) != processes.count():
            saved = len(self.state["generators"])
            log.info("saved by %d processes, now %d: random draws differ", saved, processes.count())
            return
        own = self.state["generators"][processes.rank()]
        torch.set_rng_state(own["cpu"])
        if own["cuda"] is not None and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"])


def _describe(row: dict[str, Any], iterations: int) -> str:
    text = f"{row['stage']} {row['step']}/{iterations}"
    shown = {
        "loss": "loss",
        "lr": "lr",
        "val_psnr": "Y-PSNR",
        "val_psnr_coarse": "coarse",
        "val_mask_l1": "mask l1",
        "val_sparsity": "sparsity",
        "val_heavy": "heavy",
        "steps_per_second": "steps/s",
        "loading": "loading",
    }
    return text + "".join(f"  {label} {row[key]}" for key, label in shown.items() if key in row)
