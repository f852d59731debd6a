"""A sweep says of each point what evaluate and complexity say, and where it meets its rival."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sparsesr
from sparsesr.inference import Rival, evaluate, lean_rival, sweep
from sparsesr.inference.break_even import break_even, in_words
from sparsesr.inference.sweep import EXPONENTS, PATCH_VALUES, _spread, sweep_points

QUICK = {"repeats": 1, "time_images": 1}


@pytest.mark.parametrize("executor", ["auto", "layered"])
def test_quality_is_that_of_evaluate(
    net: torch.nn.Module, dataset: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setenv("SPARSESR_EXECUTOR", executor)
    choices = {"0": 0, "7": 7, "25%": 0.25, "paper": "paper"}
    result = sweep(net, dataset, 2, list(choices), **QUICK)  # type: ignore[arg-type]
    assert [point["value"] for point in result["points"]] == list(choices)
    for point in result["points"]:
        alone = evaluate(net, dataset, 2, k=choices[point["value"]])  # type: ignore[arg-type]
        assert (point["k"], point.get("budget")) == (alone["k"], alone.get("budget"))
        for key in ("psnr", "ssim"):
            assert point["mean"][key] == alone["mean"][key]
        for image, expected in zip(point["images"], alone["images"], strict=True):
            assert {key: image[key] for key in expected} == expected
    assert "floor" not in [point["value"] for point in result["points"]]
    json.dumps(result, allow_nan=False)


def test_other_orders_and_conventions(net: torch.nn.Module, dataset: Path) -> None:
    options = {"order": "random", "seed": 5, "convention": "rgb", "hr_mod": 4}
    result = sweep(net, dataset, 2, ["6"], **options, **QUICK)  # type: ignore[arg-type]
    alone = evaluate(net, dataset, 2, k=6, **options)  # type: ignore[arg-type]
    assert result["points"][0]["mean"]["psnr"] == alone["mean"]["psnr"]
    assert (result["order"], result["hr_mod"], result["convention"]) == ("random", 4, "rgb")


def test_coverage_and_multiply_adds(net: torch.nn.Module, dataset: Path) -> None:
    rival = lean_rival(net, 2)
    assert rival is not None
    values = ["all", "0", "1", "30"]
    result = sweep(net, dataset, 2, values, rival=rival, **QUICK)  # type: ignore[arg-type]
    assert [p["value"] for p in result["points"]] == ["0", "1", "30", "all"]  # by coverage
    sizes = {"one": (20, 18), "two": (26, 35)}  # 25 and 63 patches
    for point in result["points"]:
        for image in point["images"]:
            cost = sparsesr.complexity(net, sizes[image["name"]], k=image["k_used"])
            assert image["macs"] == cost.macs
    assert [image["coverage"] for image in result["points"][2]["images"]] == [1, 30 / 63]
    assert result["points"][2]["mean"]["coverage"] == pytest.approx((1 + 30 / 63) / 2)
    dense = result["dense"]
    expected = [sparsesr.complexity(rival.net, size).macs for size in sizes.values()]
    assert [image["macs"] for image in dense["images"]] == expected
    alone = evaluate(rival.net, dataset, 2)
    assert dense["trained"]
    assert dense["mean"]["psnr"] == alone["mean"]["psnr"]
    one_patch = result["points"][1]["mean"]
    assert result["floor"]["mean"] == {key: one_patch[key] for key in ("coverage", "macs")}
    assert result["floor"]["seconds"] == result["points"][1]["seconds"]  # timed once
    without = sweep(net, dataset, 2, ["0", "30"], **QUICK)  # type: ignore[arg-type]
    assert without["floor"]["mean"] == result["floor"]["mean"]
    found = result["break_even"]["macs"]
    assert set(result["break_even"]) == {"macs", "seconds"}
    # From one patch up, not from none: the mask's own cost is a step.
    (low, high), dense_macs = [result["points"][i]["mean"] for i in (1, 2)], dense["mean"]["macs"]
    share = (dense_macs - low["macs"]) / (high["macs"] - low["macs"])
    assert 0 < share < 1
    expected = low["coverage"] + share * (high["coverage"] - low["coverage"])
    assert found["coverage"] == pytest.approx(expected)


def test_time_says_how_it_was_taken(net: torch.nn.Module, dataset: Path) -> None:
    seen: list[tuple] = []
    result = sweep(
        net, dataset, 2, ["3"], time_images=9, repeats=2, progress=lambda *step: seen.append(step)
    )
    assert result["timing"] == {
        "images": ["one", "two"],
        "repeats": 2,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "dtype": "float32",
        "torch": torch.__version__,
    }
    assert result["points"][0]["seconds"] > 0
    assert (result["dense"], result["break_even"]) == (None, None)
    assert seen == [(1, 4, "one"), (2, 4, "two"), (3, 4, "one"), (4, 4, "two")]


def test_a_rival_without_weights_has_a_cost_alone(net: torch.nn.Module, dataset: Path) -> None:
    dense = sparsesr.create_model("fsrcnn-dnet", 2).eval()
    rival = Rival(dense, "untrained", trained=False)
    result = sweep(net, dataset, 2, ["0", "all"], rival=rival, **QUICK)  # type: ignore[arg-type]
    assert list(result["dense"]["mean"]) == ["macs"]
    assert result["dense"]["seconds"] > 0
    assert result["break_even"]["macs"]["verdict"] == "crosses"


def test_networks_that_route_pixels(dataset: Path) -> None:
    torch.manual_seed(1)
    routed = sparsesr.create_model("fsrcnn-pcsr", 2).eval()
    values = ["0%", "30%", "0.5", "adaptive", "all"]
    result = sweep(routed, dataset, 2, values, **QUICK)  # type: ignore[arg-type]
    for point in result["points"]:
        value = point["value"]
        given = {"budget": float(value[:-1]) / 100} if value.endswith("%") else {"k": value}
        given = {"k": 0.5} if value == "0.5" else given
        alone = evaluate(routed, dataset, 2, **given)  # type: ignore[arg-type]
        assert {key: point["mean"][key] for key in alone["mean"]} == alone["mean"]
        assert point["mean"]["coverage"] == alone["mean"]["heavy_fraction"]
    assert result["floor"]["seconds"] == result["points"][0]["seconds"]


def test_default_values(net: torch.nn.Module) -> None:
    routed = sparsesr.create_model("fsrcnn-pcsr", 2)
    assert [p.value for p in sweep_points(net, None, "Set5")] == list(PATCH_VALUES)
    assert [p.value for p in sweep_points(routed, None, "Set5")] == list(EXPONENTS)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "expected at least one value"),
        (["3", "x"], "expected values such as 240, 10% or all, got 'x'"),
        (["2.5"], "expected values such as 240, 10% or all, got '2.5'"),
        (["nan%"], "got 'nan%'"),
        (["120%"], "expected a share from 0% to 100%, got 120%"),
        (["-1"], "expected k >= 0, got -1"),
        (["3", "3"], "the value 3 is there twice"),
    ],
)
def test_bad_values(net: torch.nn.Module, dataset: Path, values: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sweep(net, dataset, 2, values)


def test_what_cannot_be_swept(net: torch.nn.Module, dataset: Path) -> None:
    for name in ("fsrcnn-dnet", "fsrcnn-allnet"):
        with pytest.raises(ValueError, match=f"{name} has no k to sweep"):
            sweep(sparsesr.create_model(name, 2), dataset, 2)
    with pytest.raises(ValueError, match="expected time_images and repeats >= 1, got 0 and 5"):
        sweep(net, dataset, 2, time_images=0)


def test_rivals() -> None:
    def rival(name: str, scale: int) -> tuple | None:
        found = lean_rival(sparsesr.create_model(name, scale), scale)
        return found and (found.name, found.trained)

    assert rival("fsrcnn-mga", 4) == ("fsrcnn-dnet-x4", True)
    assert rival("fsrcnn-mga-light", 3) == ("fsrcnn-dnet-x3", True)
    assert rival("pan-mga-light", 3) == ("pan-dnet-x3", False)
    assert rival("drsan-32s-mga", 2) == ("drsan-32s-x2", False)
    assert rival("carn-pcsr", 4) == ("carn-x4", False)
    assert rival("smsr", 2) is None
    assert lean_rival(torch.nn.Conv2d(3, 3, 1), 2) is None


def test_break_even() -> None:
    shares, psnrs = [0.0, 0.1, 0.5], [30.0, 31.0, 32.0]
    found = break_even(shares, [1.0, 2.0, 6.0], psnrs, 4.0)
    assert found == {"verdict": "crosses", "coverage": pytest.approx(0.3), "psnr": 31.5}
    assert break_even(shares, [4.0, 5.0, 6.0], psnrs, 4.0)["verdict"] == "dearer"
    cheaper = break_even(shares, [1.0, 2.0, 3.0], psnrs, 4.0)
    assert in_words(cheaper, "X", "pixels", 0.5) == (
        "below X up to 50 % of the pixels, the most measured"
    )
    # Noise may let a curve turn back; the first crossing counts.
    assert break_even(shares, [1.0, 5.0, 3.0], psnrs, 3.0)["coverage"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("sizes", "count", "numbers"),
    [([5, 1, 3], 1, [2]), ([5, 1, 3], 3, [0, 1, 2]), (list(range(10)), 5, [1, 3, 5, 7, 9])],
)
def test_images_to_time_are_spread_by_size(sizes: list, count: int, numbers: list) -> None:
    assert _spread(sizes, count) == numbers
