"""Whole trainings, a few steps long: chaining, resuming, freezing, what is left on disk."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsesr
from sparsesr.io import read_image
from sparsesr.train import ExperimentError, Recipe, RecipeError, parse_recipe, time_loader, train
from sparsesr.train.runner import resolve_precision

pytest.importorskip("lightning", reason="needs the extra train")

from lightning.pytorch.callbacks import Callback


class PowerCutError(Exception):
    """Stands for a power cut."""


class KillAfter(Callback):
    """Raises after a step, and after what was saved there."""

    def __init__(self, stage: str, step: int) -> None:
        self.at = (stage, step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if (pl_module.stage.name, pl_module.step) == self.at:
            raise PowerCutError


def run(recipe: Recipe, output: Path, **options: Any) -> Path:
    return train(recipe, output, progress=False, **options)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def equal(a: Any, b: Any) -> bool:
    """Deep equality of nested states, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.fixture
def straight(recipe: Recipe, tmp_path: Path) -> Path:
    """The experiment folder of an uninterrupted run."""
    return run(recipe, tmp_path / "straight", command="sparsesr train tiny.yaml")


def test_chain_leaves_a_loadable_file_and_a_card(straight: Path, recipe: Recipe) -> None:
    net = sparsesr.from_pretrained(straight / "fsrcnn-mga-x2.safetensors")
    assert net.model_name == "fsrcnn-mga"
    card = json.loads((straight / "fsrcnn-mga-x2.json").read_text())
    assert (card["model"], card["scale"], card["arguments"]) == ("fsrcnn-mga", 2, {})
    assert card["steps"] == {"dnet": 6, "allnet": 6, "mask": 6}
    assert card["training_data"] == {"name": "waves", "terms": "none"}
    assert card["command"] == "sparsesr train tiny.yaml"
    assert card["metrics"]["convention"] == "y"
    assert set(card["metrics"]["k"]) == {"0", "1000", "all"}
    assert parse_recipe((straight / "recipe.yaml").read_text()) == recipe
    assert json.loads((straight / "environment.json").read_text())["torch"] == torch.__version__
    assert not [path for path in straight.rglob(".*") if path.is_file()]
    with open(straight / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [(row["stage"], int(row["step"])) for row in rows]
    assert steps == [(s, n) for s in ("dnet", "allnet", "mask") for n in (2, 3, 4, 6)]
    assert all(row["val_psnr"] for row in rows if row["step"] in ("3", "6"))
    assert float(rows[-1]["val_mask_l1"]) > 0


def test_the_dnet_gets_a_file_of_its_own(straight: Path) -> None:
    net = sparsesr.from_pretrained(straight / "fsrcnn-dnet-x2.safetensors")
    trained = torch.load(straight / "checkpoints" / "dnet.pt", weights_only=True)
    assert all(torch.equal(value, trained[key]) for key, value in net.state_dict().items())
    card = json.loads((straight / "fsrcnn-dnet-x2.json").read_text())
    assert (card["model"], card["steps"]) == ("fsrcnn-dnet", {"dnet": 6})
    assert card["metrics"]["psnr"] > 0
    assert len(list(straight.glob("*.safetensors"))) == 2  # the All-Net is part of the -mga file


def test_mask_stage_changes_the_mask_alone(straight: Path) -> None:
    before, after = (load(straight / "checkpoints" / f"{s}.pt") for s in ("allnet", "mask"))
    assert all(torch.equal(after[key], value) for key, value in before.items())
    raw = load(straight / "checkpoints" / "mask-last.pt")["module"]
    assert all(torch.equal(raw[f"net.{key}"], value) for key, value in before.items())
    torch.manual_seed(2)  # the seed of the third stage
    fresh = sparsesr.create_model("fsrcnn-mga", scale=2).state_dict()
    masks = [key for key in after if key.startswith("mask.")]
    assert masks
    assert any(not torch.equal(after[key], fresh[key]) for key in masks)


def test_stages_hand_on_averaged_weights(straight: Path, recipe: Recipe, tmp_path: Path) -> None:
    state = load(straight / "checkpoints" / "dnet-last.pt")["module"]
    shipped = load(straight / "checkpoints" / "dnet.pt")
    assert all(torch.equal(state[f"average.net.{key}"], value) for key, value in shipped.items())
    assert any(not torch.equal(state[f"net.{key}"], value) for key, value in shipped.items())


@pytest.mark.parametrize(
    ("stage", "step"), [("dnet", 2), ("dnet", 3), ("allnet", 5), ("mask", 4), ("mask", 6)]
)
def test_killed_and_resumed_equals_straight(
    straight: Path, recipe: Recipe, tmp_path: Path, stage: str, step: int
) -> None:
    output = tmp_path / "killed"
    with pytest.raises(PowerCutError):
        run(recipe, output, callbacks=[KillAfter(stage, step)])
    torch.manual_seed(123)
    run(recipe, output)
    for name in ("dnet", "allnet", "mask"):
        for file in (f"{name}.pt", f"{name}-last.pt"):
            assert equal(load(output / "checkpoints" / file), load(straight / "checkpoints" / file))
    columns = ("stage", "step", "lr", "val_psnr")
    tables = []
    for folder in (output, straight):
        with open(folder / "metrics.csv", newline="") as file:
            tables.append([[row[key] for key in columns] for row in csv.DictReader(file)])
    # Rows whose logging window the kill cut in two may differ in loss, never in what is here.
    assert tables[0] == tables[1]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_surface(recipe: Recipe, tmp_path: Path, interrupt: type) -> None:
    class Interrupt(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            raise interrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "out", callbacks=[Interrupt()])
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "out" / "checkpoints" / "dnet.pt").exists()


def test_finished_run_is_left_alone(straight: Path, recipe: Recipe) -> None:
    path = straight / "fsrcnn-mga-x2.safetensors"
    before = path.stat().st_mtime_ns
    run(recipe, straight)
    assert path.stat().st_mtime_ns == before


def test_single_stages(recipe: Recipe, tmp_path: Path) -> None:
    output = tmp_path / "single"
    with pytest.raises(ExperimentError, match="starts from the weights of dnet"):
        run(recipe, output, stage="allnet")
    with pytest.raises(RecipeError, match="expected one of dnet, allnet, mask, got 'tail'"):
        run(recipe, output, stage="tail")
    run(recipe, output, stage="dnet")
    names = sorted(p.name for p in (output / "checkpoints").iterdir())
    assert names == ["dnet-best.pt", "dnet-last.pt", "dnet.pt"]
    # A stage that has not begun may still change; one that has may not.
    longer = dataclasses.replace(recipe.stages[1], iterations=4)
    changed = dataclasses.replace(recipe, stages=(recipe.stages[0], longer, recipe.stages[2]))
    run(changed, output, stage="allnet")
    with pytest.raises(ExperimentError, match=r"differs in stages\.allnet\.iterations"):
        run(recipe, output)


def test_other_recipe_and_restart(recipe: Recipe, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(recipe, output, stage="dnet")
    other = dataclasses.replace(recipe, seed=1)
    with pytest.raises(ExperimentError, match=r"different recipe \(differs in seed\).*--restart"):
        run(other, output)
    run(other, output, stage="dnet", restart=True)
    old, new = (load(p / "checkpoints" / "dnet.pt") for p in (tmp_path / "out.1", output))
    assert not equal(old, new)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("")
    with pytest.raises(ExperimentError, match="is no experiment folder"):
        run(recipe, tmp_path / "foreign")


def test_initial_weights(straight: Path, recipe_text: str, tmp_path: Path) -> None:
    weights = straight / "fsrcnn-mga-x2.safetensors"
    recipe = parse_recipe(recipe_text, [f"init.weights={weights}", "stages.mask.freeze=[mask]"])
    # Everything frozen: nothing to optimise.
    with pytest.raises(ValueError, match="empty parameter list"):
        run(recipe, tmp_path / "out", stage="mask")
    recipe = parse_recipe(recipe_text, [f"init.weights={weights}"])
    run(recipe, tmp_path / "out2", stage="mask")
    trained = load(tmp_path / "out2" / "checkpoints" / "mask.pt")
    old = sparsesr.from_pretrained(weights).state_dict()
    assert all(torch.equal(trained[k], v) for k, v in old.items() if not k.startswith("mask."))


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("data.train=none", FileNotFoundError, "image folder not found: none"),
        ("data.val=none", FileNotFoundError, "image folder not found: none"),
        ("model=fsrcmn-mga", ValueError, "fsrcnn"),
        ("scale=7", ValueError, "7"),
        ("model_options={depth: 3}", RecipeError, "model_options: .*depth"),
        ("stages.dnet.freeze=[mask]", RecipeError, "fsrcnn-dnet has no 'mask'"),
        ("data.lr_crop=10", RecipeError, "lr_crop 10 is no multiple of the patch size 4"),
        ("data.lr_crop=40", ValueError, "lr_crop 40 does not fit"),
        ("stages.mask.lr_crop=40", ValueError, "lr_crop 40 does not fit"),
        ("init.weights=none.safetensors", FileNotFoundError, r"init.weights: no such file"),
    ],
)
def test_mistakes_show_before_training(
    recipe_text: str, tmp_path: Path, override: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(parse_recipe(recipe_text, [override]), tmp_path / "out")


def test_options_of_later_forms(recipe_text: str, tmp_path: Path) -> None:
    overrides = ["model_options={patch_size: 2, mask_channels: 1, k: 7}", "data.val=null"]
    output = run(parse_recipe(recipe_text, overrides), tmp_path / "out")
    net = sparsesr.from_pretrained(output / "fsrcnn-mga-x2.safetensors")
    assert (net.patch_size, net.k) == (2, 7)


def test_clipping_and_restarts_of_the_schedule(recipe_text: str, tmp_path: Path) -> None:
    overrides = [
        "stages.dnet.optimizer.clip=0.1",
        "stages.dnet.optimizer.periods=2",
        "stages.dnet.ema=0",
        "stages.dnet.loss.coarse=0",
        "channels_last=false",
    ]
    recipe = parse_recipe(recipe_text, overrides)
    output = run(recipe, tmp_path / "out", stage="dnet")
    state = load(output / "checkpoints" / "dnet-last.pt")
    shipped = load(output / "checkpoints" / "dnet.pt")
    assert all(torch.equal(state["module"][f"net.{k}"], v) for k, v in shipped.items())


def test_another_round_of_a_step(straight: Path, recipe: Recipe, tmp_path: Path) -> None:
    """allnet-2 goes on from allnet's weights, and can be added before the mask has begun."""
    dnet, allnet, mask = recipe.stages
    again = dataclasses.replace(allnet, name="allnet-2", iterations=4)
    longer = dataclasses.replace(recipe, stages=(dnet, allnet, again, mask))
    assert longer.stage_model("allnet-2") == "fsrcnn-allnet"
    output = tmp_path / "longer"
    run(dataclasses.replace(recipe, stages=(dnet, allnet)), output)
    run(longer, output)
    weights = {name: load(output / "checkpoints" / f"{name}.pt") for name in ("allnet", "allnet-2")}
    assert equal(weights["allnet"], load(straight / "checkpoints" / "allnet.pt"))
    assert not equal(weights["allnet"], weights["allnet-2"])
    final = load(output / "checkpoints" / "mask.pt")
    assert all(torch.equal(final[key], value) for key, value in weights["allnet-2"].items())
    card = json.loads((output / "fsrcnn-mga-x2.json").read_text())
    assert card["steps"] == {"dnet": 6, "allnet": 6, "allnet-2": 4, "mask": 6}


def test_logs_samples_and_the_best(straight: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for stage in ("dnet", "allnet", "mask"):
        board = EventAccumulator(str(straight / "logs" / stage)).Reload()
        assert [e.step for e in board.Scalars(f"{stage}/loss")] == [2, 3, 4, 6]
        measure = "val_mask_l1" if stage == "mask" else "val_psnr"
        values = {e.step: e.value for e in board.Scalars(f"{stage}/{measure}")}
        best = load(straight / "checkpoints" / f"{stage}-best.pt")
        chosen = min if stage == "mask" else max
        assert best[measure] == pytest.approx(chosen(values.values()), rel=1e-4)
        assert best["step"] in values
        assert best["weights"].keys() == load(straight / "checkpoints" / f"{stage}.pt").keys()
        for step in (3, 6):
            picture = read_image(straight / "samples" / f"{stage}-{step:07d}.png")
            panels = 4 if stage != "whole" else 3
            assert picture.shape[1] == panels * 48 + (panels - 1) * 4


def test_a_resumed_training_continues_its_log(recipe: Recipe, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = tmp_path / "killed"
    with pytest.raises(PowerCutError):
        run(recipe, output, stage="dnet", callbacks=[KillAfter("dnet", 4)])
    run(recipe, output, stage="dnet")
    board = EventAccumulator(str(output / "logs" / "dnet")).Reload()
    assert [e.step for e in board.Scalars("dnet/loss")] == [2, 3, 4, 6]


def test_a_full_disk_leaves_the_checkpoint_before(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, save, written = tmp_path / "out", torch.save, []

    def full(state: Any, path: Path) -> None:
        if Path(path).name.startswith("dnet-last"):
            written.append(path)
            if len(written) == 2:
                Path(path).write_bytes(b"half")
                raise OSError(28, "No space left on device")
        save(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        ExperimentError, match=r"cannot write .*dnet-last.pt .*No space left.*still"
    ):
        run(recipe, output)
    assert load(output / "checkpoints" / "dnet-last.pt")["step"] == 3
    assert not list(output.rglob("*.part"))
    run(recipe, output, stage="dnet")
    assert load(output / "checkpoints" / "dnet-last.pt")["step"] == 6


def test_a_checkpoint_of_another_training(straight: Path, recipe: Recipe, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(PowerCutError):
        run(recipe, output, callbacks=[KillAfter("dnet", 4)])
    last = output / "checkpoints" / "dnet-last.pt"
    shutil.copy(straight / "checkpoints" / "allnet-last.pt", last)
    with pytest.raises(ExperimentError, match="is of tiny, stage allnet; expected one of tiny, st"):
        run(recipe, output)
    shutil.copy(straight / "checkpoints" / "dnet.pt", last)
    with pytest.raises(ExperimentError, match="is no checkpoint of a training"):
        run(recipe, output)
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ExperimentError, match=r"cannot read .*dnet-last.pt"):
        run(recipe, output)
    last.unlink()
    run(recipe, output, stage="dnet")
    same = (load(folder / "checkpoints" / "dnet.pt") for folder in (output, straight))
    assert equal(*same)


def test_one_training_in_a_folder(recipe: Recipe, tmp_path: Path) -> None:
    output = tmp_path / "out"

    class Another(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            with pytest.raises(ExperimentError, match="another training runs in"):
                run(recipe, output)
            with pytest.raises(ExperimentError, match="another training runs in"):
                run(recipe, output, restart=True)
            raise PowerCutError

    with pytest.raises(PowerCutError):
        run(recipe, output, callbacks=[Another()])
    run(recipe, output, stage="dnet")  # the lock went with the training that held it


def test_all_parts_at_once(recipe_text: str, tmp_path: Path) -> None:
    """e2e: one stage, whose SR loss reaches base, refine and mask."""
    head, _, stages = recipe_text.partition("stages:")
    text = head + "stages:" + stages.partition("  - {")[0].replace("dnet", "e2e")
    output = run(parse_recipe(text), tmp_path / "out")
    torch.manual_seed(0)
    start = sparsesr.create_model("fsrcnn-mga", scale=2).state_dict()
    trained = load(output / "checkpoints" / "e2e.pt")
    moved = {key.split(".")[0] for key in start if not torch.equal(start[key], trained[key])}
    assert moved == {"base", "refine", "mask"}
    with open(output / "metrics.csv", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert all(row[key] for key in ("loss_sr", "loss_coarse", "val_mask_l1"))
    assert sparsesr.from_pretrained(output / "fsrcnn-mga-x2.safetensors").model_name == "fsrcnn-mga"


def test_a_mask_without_supervision(straight: Path, recipe_text: str, tmp_path: Path) -> None:
    weights = straight / "fsrcnn-mga-x2.safetensors"
    overrides = [f"init.weights={weights}", "stages.mask.loss={sr: 10, mask: 0}"]
    output = run(parse_recipe(recipe_text, overrides), tmp_path / "out", stage="mask")
    trained, start = (
        load(output / "checkpoints" / "mask.pt"),
        load(straight / "checkpoints" / "mask.pt"),
    )
    moved = {key.split(".")[0] for key in start if not torch.equal(start[key], trained[key])}
    assert moved == {"mask"}


def test_rates(recipe: Recipe, recipe_text: str) -> None:
    rates = time_loader(recipe, steps=3)
    assert min(rates.loader, rates.network, rates.both) > 0
    assert "without the loader" in str(rates)
    with pytest.raises(RecipeError, match="expected one of dnet, allnet, mask, got 'tail'"):
        time_loader(recipe, "tail")


def test_float16_needs_a_gpu(recipe_text: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="precision: float16 needs a GPU"):
        run(parse_recipe(recipe_text, ["precision=float16"]), tmp_path / "out")
    automatic = parse_recipe(recipe_text, ["precision=auto", "device=cpu"])
    assert resolve_precision(automatic) == "float32"
