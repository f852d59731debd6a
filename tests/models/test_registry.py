"""Models by name."""

from __future__ import annotations

import pytest
import torch

import sparsesr
from sparsesr.models import UnknownModelError, parse_name


def test_names_with_and_without_scale() -> None:
    for net in (
        sparsesr.create_model("fsrcnn-mga-x3"),
        sparsesr.create_model("fsrcnn-mga", 3),
        sparsesr.create_model("fsrcnn-mga-x3", scale=3),
    ):
        assert (net.model_name, net.scale, net.arguments) == ("fsrcnn-mga", 3, {})
    assert parse_name("fsrcnn-mga") == ("fsrcnn-mga", None)


@pytest.mark.parametrize(
    ("name", "scale", "error", "text"),
    [
        (
            "fsrcnn-mag-x4",
            None,
            UnknownModelError,
            "unknown model 'fsrcnn-mag-x4'; did you mean fsrcnn-mga",
        ),
        ("qqqq", None, UnknownModelError, r"see list_models\(\)"),
        ("fsrcnn-mga", None, ValueError, "needs a scale: one of fsrcnn-mga-x2"),
        ("fsrcnn-mga-x4", 2, ValueError, "is for scale 4, got scale=2"),
        ("fsrcnn-mga-x8", None, ValueError, "has no scale 8; choose fsrcnn-mga-x2"),
    ],
)
def test_bad_names(name: str, scale: int | None, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        sparsesr.create_model(name, scale)


def test_unknown_option() -> None:
    with pytest.raises(
        TypeError, match="has no option 'patches'; it has: patch_size, mask_channels, k"
    ):
        sparsesr.create_model("fsrcnn-mga-x4", patches=3)


def test_every_listed_model_can_be_made() -> None:
    for info in sparsesr.list_models():
        for scale in info.scales:
            with torch.device("meta"):  # shapes alone
                assert sparsesr.create_model(info.name, scale).scale == scale


def test_the_families_are_all_there() -> None:
    names = {info.name: info.scales for info in sparsesr.list_models()}
    for family in ("fsrcnn", "pan", "rfdn", "srresnet", "rcan"):
        for form in ("base", "dnet", "allnet", "mga", "base-light", "allnet-light", "mga-light"):
            assert names[f"{family}-{form}"] == (2, 3, 4)
