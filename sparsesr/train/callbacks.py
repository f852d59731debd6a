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

from sparsesr.io import atomic_output
from sparsesr.train.experiment import Experiment
from sparsesr.train.module import StageModule
from sparsesr.train.validation import ValidationSet, validate

log = logging.getLogger("sparsesr.train")


class Metrics(Callback):
    """Rows of metrics.csv: mean losses every `log_every` steps, validation every `val_every`."""

    def __init__(self, experiment: Experiment, images: ValidationSet | None) -> None:
        self.experiment = experiment
        self.images = images
        self.latest: dict[str, Any] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Add up the losses; write a row when one is due."""
        for key, value in pl_module.losses.items():
            # Kept as tensors: no synchronisation with a GPU between rows.
            self._sums[key] = self._sums[key] + value if key in self._sums else value.clone()
        self._count += 1
        stage, step = pl_module.stage, pl_module.step
        last = step == stage.iterations
        due = stage.val_every and step % stage.val_every == 0
        if last or due or (stage.log_every and step % stage.log_every == 0):
            row = self._row(trainer, pl_module)
            if (last or due) and self.images is not None:
                values = validate(pl_module.average.net, self.images, stage.step)
                row.update({key: round(value, 5) for key, value in values.items()})
                log.info("%s", _describe(row, stage.iterations))
                self._since = time.perf_counter()
            self.latest.update(row)
            if trainer.is_global_zero:
                self.experiment.append_metrics(row)

    def _row(self, trainer: pl.Trainer, module: StageModule) -> dict[str, Any]:
        now = time.perf_counter()
        row: dict[str, Any] = {"stage": module.stage.name, "step": module.step}
        for key, value in self._sums.items():
            row[key if key == "loss" else f"loss_{key}"] = f"{float(value) / self._count:.6g}"
        row["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}"
        row["steps_per_second"] = round(self._count / max(now - self._since, 1e-9), 2)
        self._sums, self._count, self._since = {}, 0, now
        return row


class Checkpoint(Callback):
    """Saves the resumable state every `checkpoint_every` steps and at the stage's end."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any) -> None:
        """Save when due. The state is complete here: weights, average and step agree."""
        stage = pl_module.stage
        due = stage.checkpoint_every and pl_module.step % stage.checkpoint_every == 0
        if trainer.is_global_zero and (due or pl_module.step == stage.iterations):
            save_state(pl_module, trainer.optimizers[0], self.experiment)


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


def save_state(module: StageModule, optimizer: torch.optim.Optimizer, to: Experiment) -> None:
    """Write `<stage>-last.pt`: step, network, average, optimiser and generators."""
    state = {
        "step": module.step,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    with atomic_output(to.last_path(module.stage.name), overwrite=True) as part:
        torch.save(state, part)


class Resume(Callback):
    """Puts a saved state into the optimiser and the generators once they exist."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore; the network, average and step were restored before the trainer was made."""
        trainer.optimizers[0].load_state_dict(self.state["optimizer"])
        torch.set_rng_state(self.state["rng"])
        if self.state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self.state["cuda_rng"])


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
    }
    return text + "".join(f"  {label} {row[key]}" for key, label in shown.items() if key in row)
