"""Training of networks that are no MGA form, with sparse masks and without."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsesr
from sparsesr.data import load_pair, paired_images
from sparsesr.io import read_image, write_image
from sparsesr.models import load_weights
from sparsesr.models.registry import _MODELS, register
from sparsesr.models.smsr import SMSR
from sparsesr.train import RecipeError, load_recipe, parse_recipe, train
from sparsesr.train.recipe import MaskConfig, OptimizerConfig
from sparsesr.train.schedule import active_ramp, learning_rate, temperature

pytest.importorskip("lightning", reason="needs the extra train")

from lightning.pytorch.callbacks import Callback

REPOSITORY = Path(__file__).resolve().parents[2]
STAGE = """
stages:
  - name: whole
    iterations: 8
    loss: {{sr: 255, active: {active}}}
    optimizer: {{lr: {rate}, warmup: 0, decay_every: {halve}}}
    masks: {{ramp: 4, cooling: 10, temperature: 0.4}}
    ema: 0
    val_every: 8
    checkpoint_every: 4
    log_every: 4
"""


class PowerCutError(Exception):
    """Stands for a power cut."""


class KillAfter(Callback):
    """Raises after a step, and after what was saved there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.step == self.step:
            raise PowerCutError


@pytest.fixture(autouse=True)
def small_smsr() -> Any:
    """The name of a network small enough for a test."""
    register("small", (2,), "test", lambda scale: SMSR(scale, channels=8, modules=2, layers=2))
    yield
    del _MODELS["small"]


@pytest.fixture
def text(recipe_text: str) -> str:
    """The tiny recipe, for the small network, with one stage `whole`."""
    head = recipe_text.partition("stages:")[0]
    return head.replace("fsrcnn-mga", "small") + STAGE.format(active=0.1, rate=1e-3, halve=1000)


def run(text: str, output: Path, *overrides: str, **options: Any) -> Path:
    return train(parse_recipe(text, overrides), output, progress=False, **options)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_leaves_a_loadable_file_and_a_card(text: str, tmp_path: Path) -> None:
    folder = run(text, tmp_path / "out")
    net = sparsesr.from_pretrained(folder / "small-x2.safetensors")
    assert net.model_name == "small"
    card = json.loads((folder / "small-x2.json").read_text())
    assert card["steps"] == {"whole": 8}
    assert set(card["metrics"]) >= {"psnr", "ssim", "sparsity"}
    last = rows(folder)[-1]
    assert (last["stage"], last["step"]) == ("whole", "8")
    assert 0 < float(last["loss_active"]) < 1
    assert 0 <= float(last["val_sparsity"]) <= 1
    assert float(last["val_psnr"]) > 0
    assert (last["val_psnr_coarse"], last["loss_mask"]) == ("", "")


def test_steps_lower_the_loss(text: str, tmp_path: Path) -> None:
    set_ = "stages.whole."
    folder = run(
        text, tmp_path / "out", f"{set_}iterations=80", f"{set_}log_every=20", "data.batch=4"
    )
    losses = [float(row["loss_sr"]) for row in rows(folder)]
    # The untrained body adds noise to the bicubic image; batches differ by some 10 %.
    assert losses[-1] < 0.7 * losses[0]


def test_the_active_share_falls_with_its_weight(text: str, tmp_path: Path) -> None:
    shares = []
    for weight in (0, 500):
        folder = run(
            text,
            tmp_path / str(weight),
            "stages.whole.iterations=40",
            "stages.whole.log_every=10",
            f"stages.whole.loss.active={weight}",
            "stages.whole.optimizer.lr=0.01",
        )
        shares.append(float(rows(folder)[-1]["loss_active"]))
    assert shares[1] < 0.7 * shares[0]


def test_resumes_bit_for_bit(text: str, tmp_path: Path) -> None:
    """The noise of the masks continues where it was, too."""
    straight = run(text, tmp_path / "straight")
    for step in (5, 4):  # after a checkpoint, and at one
        folder = tmp_path / f"cut{step}"
        with pytest.raises(PowerCutError):
            run(text, folder, callbacks=[KillAfter(step)])
        run(text, folder)
        a, b = (torch.load(d / "checkpoints" / "whole.pt", weights_only=True)
                for d in (straight, folder))  # fmt: skip
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("model", ["srresnet-smsr", "imdn-smsr"])
def test_other_backbones_resume_bit_for_bit(text: str, tmp_path: Path, model: str) -> None:
    """Batch statistics and the noise of the masks with them."""
    part = {"srresnet-smsr": "groups", "imdn-smsr": "blocks"}[model]
    override = (f"model={model}", f"model_options.masked_{part}=1")
    straight = run(text, tmp_path / "straight", *override)
    with pytest.raises(PowerCutError):
        run(text, tmp_path / "cut", *override, callbacks=[KillAfter(5)])
    run(text, tmp_path / "cut", *override)
    a, b = (load_weights(tmp_path / name / f"{model}-x2.safetensors")[1]
            for name in ("straight", "cut"))  # fmt: skip
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any("ch_mask" in key for key in a)
    last = rows(straight)[-1]
    assert 0 < float(last["loss_active"]) < 1
    assert 0 <= float(last["val_sparsity"]) <= 1


def test_300_steps_on_photographs(text: str, tmp_path: Path, shared: Path) -> None:
    """On fixed images, from the untrained network on: less loss with less of it computed."""
    folders = tmp_path / "train", tmp_path / "test"
    for folder, source in zip(folders, ("train", "Set5/HR"), strict=True):
        folder.mkdir()
        for path in sorted((shared / "data" / source).glob("*.*g"))[:8]:
            write_image(folder / f"{path.stem}.png", read_image(path)[:128, :128])
    stage = "stages.whole"
    options = [f"data.train={folders[0]}", "data.val=null", "data.batch=4", "data.lr_crop=16"]
    options += [f"{stage}.masks.ramp=100", f"{stage}.loss.active=20", f"{stage}.val_every=0"]
    run(text, tmp_path / "0", *options, f"{stage}.iterations=1", f"{stage}.optimizer.lr=1e-30")
    run(text, tmp_path / "300", *options, f"{stage}.iterations=300")
    pairs = [load_pair(pair, 2) for pair in paired_images(folders[1], 2)]
    losses, sparsities = [], []
    for steps in ("0", "300"):
        net = sparsesr.from_pretrained(tmp_path / steps / "small-x2.safetensors")
        with torch.no_grad():
            outs = [(net(lr, return_details=True), hr) for lr, hr in pairs]
        losses.append(sum(float((out.sr - hr).abs().mean()) for out, hr in outs))
        sparsities.append(sum(float(out.sparsity()) for out, _ in outs) / len(outs))
    assert losses[1] < 0.85 * losses[0]
    assert sparsities[1] > sparsities[0] + 0.2


def test_starts_from_a_weights_file(text: str, tmp_path: Path) -> None:
    first = run(text, tmp_path / "first") / "small-x2.safetensors"
    folder = run(
        text,
        tmp_path / "second",
        f"init.weights={first}",
        "stages.whole.optimizer.lr=1e-30",
        "stages.whole.iterations=1",
    )
    before = sparsesr.from_pretrained(first).state_dict()
    after = sparsesr.from_pretrained(folder / "small-x2.safetensors").state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    other = tmp_path / "other.pt"
    torch.save({"w": torch.zeros(1)}, other)
    with pytest.raises(RecipeError, match=r"other\.pt: (?s:.*)Missing key"):
        run(text, tmp_path / "third", f"init.weights={other}")
    scaled = SMSR(3, channels=8, modules=2, layers=2)
    torch.save(scaled.state_dict(), other)
    with pytest.raises(RecipeError, match=r"other\.pt: (?s:.*)size mismatch for tail\.0\.weight"):
        run(text, tmp_path / "fourth", f"init.weights={other}")


def test_a_network_without_masks(text: str, tmp_path: Path) -> None:
    override = ("model=drsan-32s", "stages.whole.iterations=1", "stages.whole.loss.active=0")
    folder = run(text, tmp_path / "out", *override)
    assert rows(folder)[-1]["loss_active"] == ""
    assert (folder / "drsan-32s-x2.safetensors").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=drsan-32s", "loss.active: drsan-32s has no sparse masks"),
        ("model=fsrcnn-mga", "fsrcnn-mga is trained in dnet, allnet, e2e, mask; got whole"),
        ("stages.whole.name=dnet", "small is trained in whole; got dnet"),
        ("init.conv=identity", "init.conv: 'identity' is for networks that end in"),
        ("stages.whole.masks.temperature=0", r"temperature: expected in \(0, 1\], got 0"),
        ("stages.whole.masks.cooling=0", "cooling: expected >= 1, got 0"),
        ("stages.whole.masks.ramp=-1", "ramp: expected >= 0, got -1"),
        ("stages.whole.optimizer.decay_every=0", "decay_every: expected >= 1, got 0"),
    ],
)
def test_bad_recipes(text: str, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(text, tmp_path / "out", override)


def test_the_shipped_recipe_is_the_papers() -> None:
    recipe = load_recipe(REPOSITORY / "recipes" / "smsr-x2.yaml")
    (stage,) = recipe.stages
    assert (recipe.model, recipe.scale, recipe.data.batch, recipe.data.lr_crop) == (
        "smsr",
        2,
        16,
        48,
    )
    assert (stage.iterations, stage.loss.sr, stage.loss.active) == (1_000_000, 255, 0.1)
    rates = [learning_rate(n, stage.iterations, stage.optimizer) for n in (0, 199_999, 400_000)]
    assert rates == [2e-4, 2e-4, 5e-5]
    cooled = [temperature(step, stage.masks) for step in (0, 100_000, 400_000)]
    assert cooled == pytest.approx([1, 0.8, 0.4])
    ramp = [active_ramp(step, stage.masks) for step in (0, 25_000, 60_000)]
    assert ramp == [0, 0.5, 1]


def test_schedules_without_a_ramp() -> None:
    assert active_ramp(0, MaskConfig()) == 1
    assert temperature(10**6, MaskConfig()) == 1
    halved = OptimizerConfig(lr=1.0, warmup=2, warmup_lr=0.5, decay_every=3)
    rates = [learning_rate(step, 9, halved) for step in range(9)]
    assert rates == [0.5, 0.75, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
