"""Training of PCSR forms: heavy, then light, each with the rest frozen; one scale or many."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsesr
from sparsesr.data import load_pair, paired_images
from sparsesr.metrics import imresize
from sparsesr.models import load_weights
from sparsesr.nn import PixelRouter
from sparsesr.train import RecipeError, load_recipe, parse_recipe, train
from sparsesr.train.losses import balance

pytest.importorskip("lightning", reason="needs the extra train")

from lightning.pytorch.callbacks import Callback

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = """
stages:
  - &stage
    name: heavy
    iterations: 6
    loss: {sr: 1000}
    optimizer: {lr: 1e-3, min_lr: 1e-7, betas: [0.9, 0.99], warmup: 0}
    ema: 0
    val_every: 6
    checkpoint_every: 2
    log_every: 2
  - {<<: *stage, name: light, loss: {sr: 1000, balance: 3}}
"""


@pytest.fixture
def text(routed_head: str) -> str:
    """The tiny recipe for FSRCNN-PCSR."""
    return routed_head + STAGES


def run(text: str, output: Path, *overrides: str, **options: Any) -> Path:
    return train(parse_recipe(text, overrides), output, progress=False, **options)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def _after(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{stage}.pt", weights_only=True)


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Parts whose tensors differ."""
    names = {key.partition(".imnet")[0] for key in before}
    return {
        name.partition(".")[0] if name.startswith("encoder") else name
        for name in names
        for key in before
        if key.startswith(name) and not torch.equal(before[key], after[key])
    }


def test_each_stage_trains_its_part(text: str, tmp_path: Path) -> None:
    folder = run(text, tmp_path / "out")
    net = sparsesr.from_pretrained(folder / "fsrcnn-pcsr-x2.safetensors")
    assert isinstance(net, PixelRouter)
    assert net.samplers_in_use == 2
    heavy, light = _after(folder, "heavy"), _after(folder, "light")
    assert _changed(heavy, light) == {"light_sampler", "classifier"}
    torch.manual_seed(0)
    start = sparsesr.create_model("fsrcnn-pcsr", 2).state_dict()
    assert _changed(start, heavy) == {"encoder", "heavy_sampler"}
    table = rows(folder)
    assert {row["loss_balance"] for row in table if row["stage"] == "heavy"} == {""}
    first, last = (next(r for r in reversed(table) if r["stage"] == s) for s in ("heavy", "light"))
    assert first["val_heavy"] == "1.0"
    assert 0 <= float(last["val_heavy"]) <= 1
    assert 0 <= float(last["loss_balance"]) <= 1
    card = json.loads((folder / "fsrcnn-pcsr-x2.json").read_text())
    assert card["steps"] == {"heavy": 6, "light": 6}
    assert set(card["metrics"]) >= {"psnr", "ssim", "heavy_fraction"}


def test_batch_norm_of_a_frozen_encoder_stands_still(text: str, tmp_path: Path) -> None:
    folder = run(text.replace("fsrcnn-pcsr", "carn-pcsr"), tmp_path / "out", "data.batch=1")
    heavy, light = _after(folder, "heavy"), _after(folder, "light")
    assert _changed(heavy, light) == {"light_sampler", "classifier"}
    assert int(light["encoder.c1.1.num_batches_tracked"]) == 6


def test_three_classes_are_three_stages(text: str, tmp_path: Path) -> None:
    more = text + "  - {<<: *stage, name: light-2, samplers: 3, loss: {sr: 1000, balance: 3}}\n"
    folder = run(more, tmp_path / "out", "model_options.middle=[[12, 12]]")
    heavy, first, second = (_after(folder, name) for name in ("heavy", "light", "light-2"))
    assert _changed(heavy, first) == {"samplers.1", "classifier"}
    assert _changed(first, second) == {"samplers.0", "classifier"}
    with pytest.raises(RecipeError, match=r"light-2\.samplers: fsrcnn-pcsr has 2, got 3"):
        run(more, tmp_path / "two")


class PowerCutError(Exception):
    """Stands for a power cut."""


class KillAfter(Callback):
    """Raises after a step, and after what was saved there."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if pl_module.stage.step == "light" and pl_module.step == self.step:
            raise PowerCutError


@pytest.mark.parametrize("scales", ["null", "[2, 4]"])
def test_resumes_bit_for_bit(text: str, tmp_path: Path, scales: str) -> None:
    override = (f"data.scales={scales}", "data.lr_crop=6")
    straight = run(text, tmp_path / "straight", *override)
    with pytest.raises(PowerCutError):
        run(text, tmp_path / "cut", *override, callbacks=[KillAfter(3)])
    run(text, tmp_path / "cut", *override)
    name = "fsrcnn-pcsr-x2.safetensors"
    a, b = (load_weights(folder / name)[1] for folder in (straight, tmp_path / "cut"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("scales", ["null", "[2, 4]"])
def test_both_stages_lower_the_loss(text: str, tmp_path: Path, scales: str) -> None:
    """One net, tried on the photographs it was trained on; heavy pixels beat bilinear ones."""
    folder = run(
        text,
        tmp_path / "out",
        f"data.scales={scales}",
        "data.batch=8",
        *(f"stages.{s}.iterations=120" for s in ("heavy", "light")),
        *(f"stages.{s}.log_every=20" for s in ("heavy", "light")),
    )
    for stage in ("heavy", "light"):
        losses = [float(row["loss_sr"]) for row in rows(folder) if row["stage"] == stage]
        assert losses[-1] < 0.8 * losses[0], stage
    net = sparsesr.from_pretrained(folder / "fsrcnn-pcsr-x2.safetensors")
    pairs = [load_pair(pair, 2) for pair in paired_images(tmp_path / "photos", 2)]
    with torch.no_grad():
        for factor in (2, 3) if scales != "null" else (2,):
            errors = [0.0, 0.0]
            for _, hr in pairs:
                hr = hr[..., :36, :48]
                lr = imresize(hr, 1 / factor)
                errors[0] += float((net(lr, scale=factor, k=-50) - hr).abs().mean())
                plain = torch.nn.functional.interpolate(lr, size=(36, 48), mode="bilinear")
                errors[1] += float((plain - hr).abs().mean())
            assert errors[0] < errors[1], factor


def test_balance_is_eq_7_as_released() -> None:
    p = torch.rand(3, 1, 5, 4)
    both = torch.cat([1 - p, p], dim=1)
    half = p.numel() / 2
    torch.testing.assert_close(balance(both), (p.sum() - half).abs() / half)
    assert float(balance(torch.full((2, 4, 9), 0.25))) == 0
    one = torch.zeros(2, 4, 9)
    one[:, 1] = 1
    assert float(balance(one)) == pytest.approx(2 - 2 / 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.heavy.loss.balance=1", "only light stages"),
        ("data.scales=[4, 2]", "1 <= low <= high"),
        ("data.lr=file", "expected 'image' or 'crop'"),
        ("stages.light.samplers=1", "samplers: expected >= 2"),
        ("model=fsrcnn-mga", "trained in dnet, allnet, e2e, mask; got heavy, light"),
        ("init.conv=identity", "'identity' is for networks"),
    ],
)
def test_bad_recipes(text: str, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(text, tmp_path / "out", override)


def test_several_scales_are_for_routers_with_float_lr(text: str) -> None:
    with pytest.raises(RecipeError, match="need lr: crop"):
        parse_recipe(text, ["data.scales=[2, 4]", "data.lr=image"])
    whole = text.partition("stages:")[0].replace("fsrcnn-pcsr", "fsrcnn")
    whole += "stages: [{name: whole, iterations: 1, optimizer: {warmup: 0}}]"
    with pytest.raises(RecipeError, match="only PCSR forms are trained on several"):
        parse_recipe(whole, ["data.scales=[2, 4]"])


def test_the_recipe_that_ships() -> None:
    recipe = load_recipe(REPOSITORY / "recipes" / "fsrcnn-pcsr-x4.yaml")
    assert recipe.steps == ("heavy", "light")
    assert [stage.iterations for stage in recipe.stages] == [2_000_000, 500_000]
    assert recipe.stages[1].loss.balance == 3
