"""The plan of a family: what it counts, what it times, what it says to use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sparsesr.complexity import complexity
from sparsesr.inference import planning
from sparsesr.inference.planning import default_splits, find_family, plan
from sparsesr.models import create_model


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return plan("fsrcnn", 2, (24, 40), values=("1", "50%", "all"), repeats=1)


def test_rows(document: dict[str, Any]) -> None:
    lean, published, *rows = document["rows"]
    assert (document["family"], document["scale"]) == ("fsrcnn", 2)
    assert (document["lr_size"], document["patches"]) == ([24, 40], 60)
    assert (lean["form"], lean["k"], lean["macs_saved"], lean["time_saved"]) == ("dnet", None, 1, 1)
    assert lean["macs"] == complexity(create_model("fsrcnn-dnet", 2), (24, 40)).macs
    # The published D-Net computes the Base-Net's upsampler too: 12 -> 56 -> 3 by 9x9 taps.
    assert published["macs"] - lean["macs"] == (12 * 56 + 56 * 3 * 81) * 24 * 40
    assert [(r["form"], r["split"], r["k"]) for r in rows] == [
        (form, split, k)
        for split in ([2, 2], [3, 1])
        for form in ("mga", "mga-light")
        for k in (1, 30, 60)
    ]
    for row in rows:
        blocks = {"base_blocks": row["split"][0], "refine_blocks": row["split"][1]}
        net = create_model(row["model"], **blocks)
        assert row["model"] == f"fsrcnn-{row['form']}-x2"
        assert row["macs"] == complexity(net, (24, 40), k=row["k"]).macs
        assert row["coverage"] == row["k"] / 60
        assert row["macs_saved"] == lean["macs"] / row["macs"]
        assert row["time_saved"] == lean["seconds"] / row["seconds"]
    assert document["timing"]["repeats"] == 1


def test_break_evens_are_of_every_network(document: dict[str, Any]) -> None:
    found = document["break_even"]
    assert [(entry["model"], entry["split"]) for entry in found] == [
        (f"fsrcnn-{form}-x2", split) for split in ([2, 2], [3, 1]) for form in ("mga", "mga-light")
    ]
    for entry in found:
        curve = [
            r for r in document["rows"] if (r["model"], r["split"]) == tuple(entry.values())[:2]
        ]
        lean = document["rows"][0]["macs"]
        verdict = entry["macs"]
        if verdict["verdict"] == "crosses":
            below = [r for r in curve if r["coverage"] <= verdict["coverage"]]
            assert all(r["macs"] <= lean for r in below)
        assert set(verdict) == {"verdict", "coverage"}


def _timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> dict[str, Any]:
    """The plan of fsrcnn x2 where a model takes its seconds and 10 for all patches."""
    entries: list[Any] = []
    kept = planning._Entry.row

    def row(entry: Any, _: float) -> dict[str, Any]:
        entries.append(entry)
        share = entry.facts["coverage"] or 0.0
        return kept(entry, seconds[entry.facts["form"]] + 10 * share)

    monkeypatch.setattr(planning._Entry, "row", row)
    monkeypatch.setattr(planning, "interleaved", lambda runs, *_: dict.fromkeys(runs, 0.0))
    return plan("fsrcnn", 2, (40, 40), ("0", "50%", "all"), splits=[(3, 1)], repeats=1)


@pytest.mark.parametrize(
    ("mga", "light", "use"),
    [
        (8.0, 5.0, [("fsrcnn-mga-light-x2", 0.5), ("fsrcnn-dnet-x2", 1.0)]),
        (7.0, 9.0, [("fsrcnn-mga-x2", 0.3), ("fsrcnn-dnet-x2", 1.0)]),
        (11.0, 10.0, [("fsrcnn-dnet-x2", 1.0)]),
        (1.0, -1.0, [("fsrcnn-mga-light-x2", 1.0)]),
    ],
)
def test_what_to_use(
    monkeypatch: pytest.MonkeyPatch, mga: float, light: float, use: list[tuple[str, float]]
) -> None:
    times = {"dnet": 10.0, planning.PUBLISHED: 12.0, "mga": mga, "mga-light": light}
    document = _timed(monkeypatch, times)
    assert [(entry["model"], entry["up_to"]) for entry in document["use"]] == [
        (model, pytest.approx(share)) for model, share in use
    ]


def test_families_and_splits() -> None:
    assert default_splits(find_family("srresnet-mga-x4")) == [(10, 6), (12, 4), (14, 2)]
    assert default_splits(find_family("fsrcnn")) == [(2, 2), (3, 1)]
    assert find_family("rcan-mga-light").name == "rcan"
    with pytest.raises(ValueError, match=r"expected one of MGA's families \(fsrcnn, pan, .*'smsr'"):
        find_family("smsr")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_size": (0, 8)}, r"sides and repeats of at least 1, got lr_size=\(0, 8\)"),
        ({"repeats": 0}, "repeats=0"),
        ({"splits": [(4, 0)]}, r"splits of at least 1\+1 blocks, got 4\+0"),
        ({"values": ("some",)}, "expected values such as 240, 10% or all, got 'some'"),
        ({"scale": 7}, "no scale 7"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], message: str) -> None:
    given = {"family": "fsrcnn", "scale": 2, "lr_size": (8, 8), "repeats": 1, **options}
    with pytest.raises(ValueError, match=message):
        plan(**given)


# Lean D-Net / -mga, published D-Net / -mga, lean D-Net / -mga-light in true multiply-adds.
RATIOS = {
    "fsrcnn": (0.99, 1.52, 1.49),
    "pan": (0.99, 1.46, 1.77),
    "rfdn": (1.32, 1.36, 1.32),
    "srresnet": (1.06, 1.51, 1.89),
    "rcan": (1.25, 1.31, 1.33),
}


@pytest.mark.parametrize("family", list(RATIOS))
def test_ratios_of_multiply_adds_at_480x270(family: str) -> None:
    """x4, K = 1000; a hundredth of rounding in the two digits, and one per cent.

    Counting runs the network: the slow two on a fifth of the sides, with as large a share refined.
    """
    size, k = ((54, 96), 40) if family in ("rfdn", "rcan") else ((270, 480), 1000)
    with torch.device("meta"):  # sixteen million weights of RCAN need not be drawn
        dnet, mga_net, light_net = (
            create_model(f"{family}-{form}", 4) for form in ("dnet", "mga", "mga-light")
        )
    lean = complexity(dnet, size).macs
    published = complexity(planning._WithCoarse(dnet), size).macs
    mga, light = (complexity(net, size, k=k).macs for net in (mga_net, light_net))
    found = (lean / mga, published / mga, lean / light)
    for ratio, want in zip(found, RATIOS[family], strict=True):
        assert ratio == pytest.approx(want, rel=0.01, abs=0.005)
