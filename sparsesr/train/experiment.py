"""The experiment folder: what it holds, and whether a training may continue in it."""

from __future__ import annotations

import csv
import json
import os
import pickle
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparsesr.io import atomic_output
from sparsesr.train import processes
from sparsesr.train.recipe import Recipe, RecipeError
from sparsesr.train.recipe_file import differences, parse_recipe

METRIC_COLUMNS = (
    "stage",
    "step",
    "loss",
    "loss_sr",
    "loss_coarse",
    "loss_mask",
    "lr",
    "steps_per_second",
    "val_psnr",
    "val_psnr_coarse",
    "val_mask_l1",
    "loss_active",
    "val_sparsity",
    "loss_balance",
    "val_heavy",
    "loading",
)


_DISCARD = "remove it to start the stage over, or use another output folder"


class ExperimentError(RuntimeError):
    """The experiment folder belongs to another recipe, or lacks what was asked of it."""


class Experiment:
    """A folder with `recipe.yaml`, `environment.json`, `metrics.csv`, `logs/` (TensorBoard),
    `samples/` (images of every validation), `checkpoints/` and the weights.

    A stage is finished when `checkpoints/<stage>.pt` exists, running when only
    `checkpoints/<stage>-last.pt` does. Every file is written aside and renamed.

    Args:
        root: the folder, made if needed.
        recipe: must equal the one the folder was started with, except for stages not yet begun.
        restart: move an existing folder aside (to `<root>.1`, `.2`, ...) and start afresh.

    Of several processes only the first one writes.

    Raises:
        ExperimentError: the folder holds another training, or something else altogether.
    """

    def __init__(self, root: str | Path, recipe: Recipe, restart: bool = False) -> None:
        self.root = Path(root)
        self.recipe = recipe
        self.checkpoints = self.root / "checkpoints"
        self.samples = self.root / "samples"
        self.metrics = self.root / "metrics.csv"
        if restart and self.root.exists():
            with held(self.root):
                self.root.rename(_free_name(self.root))
        self._check_folder()
        if processes.rank() == 0:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
            write_text(self.root / "recipe.yaml", recipe.to_yaml())
            write_text(self.root / "environment.json", json.dumps(environment(), indent=2) + "\n")

    def _check_folder(self) -> None:
        if not self.root.exists() or not any(self.root.iterdir()):
            return
        path = self.root / "recipe.yaml"
        if not path.is_file():
            raise ExperimentError(
                f"{self.root} is not empty and holds no recipe.yaml: it is no experiment folder; "
                "choose another output folder"
            )
        try:
            old = parse_recipe(path.read_text(encoding="utf-8"), source=str(path))
        except RecipeError as error:
            raise ExperimentError(f"{error}; use --restart or another output folder") from None
        begun = {stage.name for stage in old.stages if self.begun(stage.name)}
        if not begun:
            return
        changed = [
            key
            for key in differences(old.to_dict(), self.recipe.to_dict())
            if not (key.startswith("stages.") and key.split(".")[1] not in begun)
        ]
        if changed:
            raise ExperimentError(
                f"{self.root} was started with a different recipe (differs in "
                f"{', '.join(changed)}): use another output folder, or --restart to move this one "
                "aside and start over"
            )

    def begun(self, stage: str) -> bool:
        """Whether the stage has taken a step that was saved."""
        return self.last_path(stage).is_file() or self.finished(stage)

    def finished(self, stage: str) -> bool:
        """Whether the stage has run to its end."""
        return self.weights_path(stage).is_file()

    def last_path(self, stage: str) -> Path:
        """The stage's latest resumable state."""
        return self.checkpoints / f"{stage}-last.pt"

    def weights_path(self, stage: str) -> Path:
        """The finished stage's averaged weights (a state dict)."""
        return self.checkpoints / f"{stage}.pt"

    def final_path(self, stage: str) -> Path:
        """The weights file of a finished stage, to ship."""
        name = self.recipe.stage_model(stage)
        return self.root / f"{name}-x{self.recipe.scale}.safetensors"

    def best_path(self, stage: str) -> Path:
        """The stage's best averaged weights so far, by its validation: {step, measure, weights}."""
        return self.checkpoints / f"{stage}-best.pt"

    def save(self, state: Any, path: Path) -> None:
        """Write `state` in one step: what was there before stays until all of it is written.

        Raises ExperimentError where it cannot be written.
        """
        try:
            with atomic_output(path, overwrite=True) as part:
                torch.save(state, part)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into either
            kept = "; the one of an earlier step is still there" if path.is_file() else ""
            raise ExperimentError(
                f"cannot write {path} ({error}){kept}. Free some space, then run the same command "
                "again: it continues from the last checkpoint"
            ) from error

    def load_state(self, stage: str) -> dict[str, Any] | None:
        """The stage's latest resumable state; None where there is none.

        Raises ExperimentError for a file that is damaged, or of another recipe or stage.
        """
        path = self.last_path(stage)
        if not path.is_file():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ExperimentError(f"cannot read {path} ({error}); {_DISCARD}") from error
        origin = state.get("of") if isinstance(state, dict) else None
        if origin != [self.recipe.name, stage]:
            what = "of " + ", stage ".join(origin) if origin else "no checkpoint of a training"
            raise ExperimentError(
                f"{path} is {what}; expected one of {self.recipe.name}, stage {stage}: {_DISCARD}"
            )
        return state

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one row to metrics.csv; columns it lacks stay empty."""
        new = not self.metrics.is_file()
        with open(self.metrics, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, METRIC_COLUMNS, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def drop_metrics_after(self, stage: str, step: int) -> None:
        """Forget rows of `stage` beyond `step`: they will be measured again."""
        if not self.metrics.is_file():
            return
        with open(self.metrics, newline="", encoding="utf-8") as file:
            # A line cut short by a kill lacks columns, or its step.
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        kept = [row for row in rows if row["stage"] != stage or int(row["step"] or 0) <= step]

        with (
            atomic_output(self.metrics, overwrite=True) as part,
            open(part, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, METRIC_COLUMNS)
            writer.writeheader()
            writer.writerows(kept)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within the block no other training writes to the experiment folder `folder`.

    Raises ExperimentError where one does. Without file locks (Windows) nothing is checked.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExperimentError(
                f"another training runs in {folder}: wait for it, or use another output folder"
            ) from None
        yield
    finally:
        os.close(handle)


def environment() -> dict[str, Any]:
    """Versions and machine of this run."""
    import lightning

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with atomic_output(path, overwrite=True) as part:
        part.write_text(text, encoding="utf-8")


def _free_name(path: Path) -> Path:
    number = 1
    while (other := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return other
