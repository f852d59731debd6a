"""Ablations: every row can be made, tiny ones run, finished work is not repeated."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sparsesr
from sparsesr.ablations import ABLATIONS, Options, WeightsMissingError, mga, routing, run
from sparsesr.ablations.dense import drsan_options
from sparsesr.ablations.plan import PROFILES, Training, trainings
from sparsesr.ablations.published import published_row
from sparsesr.ablations.recipes import make_recipe, recipes_folder
from sparsesr.train import ExperimentError, RecipeError

GIVEN = {"*-pcsr": "carn-pcsr-x4", "carn-pcsr": "carn-pcsr-x4"}
ONE_STEP = [
    f"stages.{name}.{key}"
    for name in ("dnet", "allnet", "mask")
    for key in ("iterations=1", "optimizer.warmup=0")
] + ["data.lr_crop=8", "data.batch=2"]


def _options(sets: Path, recipes: Path, **more: Any) -> Options:
    options = {
        "output": sets.parent / "out",
        "data": [str(sets / "Set14")],
        "recipes": recipes,
        "overrides": ONE_STEP,
    }
    return Options(**(options | more))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ABLATIONS)
def test_recipes_of_every_row(name: str, profile: str) -> None:
    """Each training of the tables is a recipe whose networks can be built."""
    ablation = ABLATIONS[name]
    variants = ablation.variants(profile, [GIVEN[pattern] for pattern in ablation.weights])
    for training in trainings(variants):
        recipe = make_recipe(training, profile, recipes_folder())
        assert recipe.name == training.name
        assert [stage.step for stage in recipe.stages] == [training.step] * len(recipe.stages)
        if profile == "short":
            assert [stage.iterations for stage in recipe.stages] == [training.iterations]


@pytest.mark.parametrize("name", ABLATIONS)
def test_published_rows(name: str) -> None:
    """A row that names a row of the paper finds numbers there."""
    ablation = ABLATIONS[name]
    variants = ablation.variants("short", [GIVEN[pattern] for pattern in ablation.weights])
    assert len({variant.name for variant in variants}) == len(variants)
    for variant in variants:
        if variant.published is not None:
            row = published_row(ablation.paper, ablation.table, variant.published, variant.scale)
            assert all("psnr" in values for values in row.values()), variant.published
            assert row, variant.published


def test_rows_share_trainings() -> None:
    """Masks of one channel and two stand on one All-Net; patch sizes have one each."""
    names = [t.name for t in trainings(ABLATIONS["table3"].variants("short", ()))]
    assert names == [
        f"fsrcnn-mga-x4-{name}"
        for name in ("base", "allnet-p4", "mask-p4-1c", "mask-p4-2c", "dnet")
    ]
    paper = [t.name for t in trainings(ABLATIONS["table6"].variants("paper", ()))]
    assert sum("allnet" in name for name in paper) == 3
    assert paper.index("fsrcnn-mga-x4-dnet") < paper.index("fsrcnn-mga-x4-allnet-p2")


@pytest.mark.parametrize("profile", PROFILES)
def test_one_name_one_training(profile: str) -> None:
    """Tables in one output folder share trainings of a name, so these must be the same."""
    found: dict[str, Training] = {}
    for ablation in ABLATIONS.values():
        given = [GIVEN[pattern] for pattern in ablation.weights]
        for training in trainings(ablation.variants(profile, given)):
            # Conversions have no equality of their own; names of starts stand for them.
            alone = dataclasses.replace(training, convert=None, start=None)
            assert found.setdefault(training.name, alone) == alone


def test_table3(sets: Path, recipes: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra train")
    options = _options(sets, recipes)
    document = run.run_ablation("table3", options)
    rows = {row["variant"]: row for row in document["rows"]}
    assert list(rows) == ["FSRCNN-B", "FSRCNN-M(1C)", "FSRCNN-M", "FSRCNN-D"]
    assert rows["FSRCNN-M"]["steps"] == {
        "fsrcnn-mga-x4-allnet-p4": 1,
        "fsrcnn-mga-x4-mask-p4-2c": 1,
    }
    assert rows["FSRCNN-B"]["model"] == "fsrcnn-base-x4"
    assert {row["from"] for row in rows.values()} == {"shipped fsrcnn-mga-x4"}
    assert rows["FSRCNN-M(1C)"]["params"] < rows["FSRCNN-M"]["params"]
    measured = rows["FSRCNN-M"]["sets"]["Set14"]
    assert measured["k"] == 16  # an LR image of 16x16 has no more
    assert measured["paper_flops"] > rows["FSRCNN-B"]["sets"]["Set14"]["paper_flops"]
    assert rows["FSRCNN-M"]["published"]["Urban100"] == {
        "psnr": 26.02,
        "ssim": 0.7825,
        "flops": "29.74G",
    }
    _check_files(document, options.output)


def _check_files(document: dict[str, Any], output: Path) -> None:
    name = document["ablation"]
    assert document["files"] == [str(output / f"{name}.{end}") for end in ("md", "json", "csv")]
    written = json.loads((output / f"{name}.json").read_text())
    assert written == {key: value for key, value in document.items() if key != "files"}
    text = (output / f"{name}.md").read_text()
    assert all(f"| {row['variant']} |" in text for row in document["rows"])
    with open(output / f"{name}.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    ours = [line for line in lines if line["source"] == "ours"]
    assert [line["variant"] for line in ours] == [row["variant"] for row in document["rows"]]


def test_table6_and_again(sets: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run trains nothing and measures nothing; the table is the same."""
    pytest.importorskip("lightning", reason="needs the extra train")
    options = _options(sets, recipes, data=())
    document = run.run_ablation("table6", options)
    assert [row["sets"].keys() for row in document["rows"]] == [{"Set5", "Set14"}] * 5
    k = [row["sets"]["Set5"]["k"] for row in document["rows"]]
    assert k == [None, 72, 18, 5, None]  # all there are, of 16x16 and 16x20 pixels
    assert all(row["seconds"] > 0 for row in document["rows"])

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("done before")

    monkeypatch.setattr("sparsesr.train.runner._run_stage", refuse)
    monkeypatch.setattr("sparsesr.ablations.measure.evaluate", refuse)
    assert run.run_ablation("table6", options) == document
    other = dataclasses.replace(options, overrides=[*ONE_STEP, "seed=1"])
    with pytest.raises(ExperimentError, match=r"differs in seed.* another --output, or remove"):
        run.run_ablation("table6", other)


def test_table7(sets: Path) -> None:
    """Half of the patches: the shipped network gains most where its mask says."""
    options = Options(output=sets.parent / "out", data=[str(sets / "Set14")])
    document = run.run_ablation("table7", options)
    rows = {row["variant"].partition("K=")[2]: row for row in document["rows"]}
    assert list(rows)[1:4] == ["paper,S", "paper,R", "paper,L"]
    k = {name: row["sets"]["Set14"]["k"] for name, row in rows.items()}
    assert (k["0"], k["all/2,L"], k["all"]) == (0, 8, 16)
    assert rows["all"]["steps"] == {}
    assert rows["all/2,L"]["published"]["Test4K"] == {"psnr": 34.66, "ssim": 0.9451}


def test_overrides(sets: Path, recipes: Path) -> None:
    with pytest.raises(RecipeError, match="no such stage, there are: allnet, dnet, mask"):
        run.run_ablation("table3", _options(sets, recipes, overrides=["stages.tail.ema=0"]))
    with pytest.raises(RecipeError, match="unknown key 'size' at data"):
        run.run_ablation("table3", _options(sets, recipes, overrides=["data.size=1"]))


@pytest.mark.parametrize(
    ("name", "more", "error", "text"),
    [
        ("table8", {}, ValueError, "unknown ablation 'table8'; expected one of table3"),
        ("table7", {"profile": "long"}, ValueError, "expected one of short, paper"),
        ("table7", {"weights": ["fsrcnn-dnet-x4"]}, ValueError, r"of \*-mga; fsrcnn-dnet-x4 holds"),
        ("pcsr-refinement", {}, WeightsMissingError, "give --weights FILE"),
    ],
)
def test_mistakes(
    sets: Path, name: str, more: dict[str, Any], error: type[Exception], text: str
) -> None:
    options = Options(output=sets.parent / "out", data=[str(sets / "Set14")], **more)
    with pytest.raises(error, match=text):
        run.run_ablation(name, options)


def test_no_test_set(recipes: Path, sets: Path) -> None:
    text = (recipes / "fsrcnn-mga-x4.yaml").read_text()
    (recipes / "fsrcnn-mga-x4.yaml").write_text(text.replace(f"val: {sets}", f"val: {sets}/none"))
    with pytest.raises(ValueError, match=r"no test set Set5, Set14, B100 in .*none; give --data"):
        run.run_ablation("table7", Options(output=sets.parent / "out", recipes=recipes))


# Starts


def test_mapping_layers_are_dealt_out() -> None:
    """The D-Net of another decomposition, with the layers dealt out, is the same function."""
    source = sparsesr.create_model("fsrcnn-dnet-x2")
    lr = torch.rand(1, 3, 9, 8)
    for base in (1, 2, 3):
        net = sparsesr.create_model("fsrcnn-dnet-x2", base_blocks=base, refine_blocks=4 - base)
        net.load_state_dict(mga.dealt_out(source.state_dict(), base))
        torch.testing.assert_close(net(lr), source(lr))


def test_three_classes_share_encoder_and_heavy_sampler() -> None:
    two = sparsesr.create_model("fsrcnn-pcsr-x4").eval()
    three = sparsesr.create_model("fsrcnn-pcsr-x4", middle=[[16, 16]]).eval()
    three.load_state_dict({**three.state_dict(), **routing.widened(two.state_dict())})
    lr = torch.rand(1, 3, 6, 7)
    for k in (-50, 50):  # the heaviest class everywhere, the lightest
        torch.testing.assert_close(three(lr, k=k), two(lr, k=k))


# What is measured


def test_in_patches() -> None:
    """Each patch as if it were the image; patches as large as the image change nothing."""
    net = sparsesr.create_model("fsrcnn-pcsr-x4").eval()
    lr = torch.rand(1, 3, 10, 13)
    with torch.no_grad():
        whole = net(lr, return_details=True)
        same = routing.in_patches(net, 16)(lr, return_details=True)
        cut = routing.in_patches(net, 8)(lr, return_details=True)
        corner = net(lr[..., 8:, 8:])
    torch.testing.assert_close(same.sr, whole.sr)
    assert cut.sr.shape == whole.sr.shape
    assert cut.class_map.shape == whole.class_map.shape
    torch.testing.assert_close(cut.sr[..., 32:, 32:], corner)


def test_flops_of_patches() -> None:
    """A dense network costs as much in patches that do not overlap."""
    net = sparsesr.create_model("fsrcnn-x4")
    whole = sparsesr.complexity(net, (12, 10))
    assert sparsesr.complexity(routing.in_patches(net, 8), (12, 10)) == whole


def test_all_averaged() -> None:
    """Every light pixel inside takes the mean; one heavy pixel at least gives fewer of them."""
    net = sparsesr.create_model("fsrcnn-pcsr-x4").eval()
    lr = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        plain = net(lr, budget=0.1, refine=False, return_details=True)
        averaged = routing.all_averaged(net)(lr, budget=0.1)
    heavy = (averaged.class_map[:, None] == 1).expand_as(plain.sr)
    torch.testing.assert_close(averaged.sr[heavy], plain.sr[heavy])
    mean = torch.nn.functional.avg_pool2d(plain.sr, 3, stride=1)
    inside = averaged.sr[..., 1:-1, 1:-1]
    light = ~heavy[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside[light], mean[light])
    torch.testing.assert_close(averaged.sr[..., 0, :], plain.sr[..., 0, :])


def test_options_of_drsan() -> None:
    assert drsan_options("Res+CA+Concat") == {
        "groups": 2,
        "residual": "last",
        "attention": "channel",
        "concat": True,
    }


def test_a_chain_starts_with_its_origin() -> None:
    (mask,) = [
        variant.source
        for variant in ABLATIONS["table6"].variants("paper", ())
        if variant.name == "FSRCNN-M(2)"
    ]
    assert isinstance(mask, Training)
    assert [t.step for t in mask.chain()] == ["dnet", "allnet", "mask"]
    assert mask.origin is None
