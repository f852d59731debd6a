"""Weights files: written whole or not at all, read with every mismatch named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import sparsesr
from sparsesr.models import (
    UnknownModelError,
    WeightsNotFoundError,
    load_weights,
    save_weights,
    shipped_weights,
    weights,
)

CARD = {"training_data": "none", "steps": 0}


def test_round_trip(tmp_path: Path) -> None:
    net = sparsesr.create_model("fsrcnn-mga-x3", patch_size=2, k=9)
    save_weights(net, tmp_path / "a.safetensors", CARD)
    again = sparsesr.from_pretrained(tmp_path / "a.safetensors")
    assert (again.model_name, again.scale, again.arguments) == ("fsrcnn-mga", 3, net.arguments)
    assert not again.training
    for key, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    card = json.loads((tmp_path / "a.json").read_text())
    assert card["model"] == "fsrcnn-mga"
    assert card["steps"] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


def test_nothing_half_written(tmp_path: Path) -> None:
    net = sparsesr.create_model("fsrcnn-mga-x3")
    save_weights(net, tmp_path / "a.safetensors", CARD)
    before = (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(TypeError):
        save_weights(net, tmp_path / "a.safetensors", {"bad": object()})
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights file"):
        sparsesr.from_pretrained(tmp_path / "none.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_weights(tmp_path / "junk.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="does not say which sparsesr model"):
        load_weights(tmp_path / "foreign.safetensors")
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected a \.safetensors file"):
        load_weights(tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"expected a \.safetensors path"):
        save_weights(sparsesr.create_model("fsrcnn-base-x2"), tmp_path / "a.pt", CARD)
    with pytest.raises(ValueError, match=r"made by sparsesr\.create_model"):
        save_weights(torch.nn.Linear(1, 1), tmp_path / "a.safetensors", CARD)


def test_scale_contradiction(tmp_path: Path) -> None:
    save_weights(sparsesr.create_model("fsrcnn-base-x2"), tmp_path / "a.safetensors", CARD)
    with pytest.raises(ValueError, match="is for scale 2, got scale=4"):
        sparsesr.from_pretrained(tmp_path / "a.safetensors", scale=4)


def test_names_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "weights_dir", lambda: tmp_path)
    with pytest.raises(WeightsNotFoundError, match=r"no weights ship for fsrcnn-mga-x4"):
        sparsesr.from_pretrained("fsrcnn-mga-x4")
    with pytest.raises(UnknownModelError):
        sparsesr.from_pretrained("fsrcmm-x4")


def test_allnet_reads_the_mga_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "weights_dir", lambda: tmp_path)
    net = sparsesr.create_model("fsrcnn-mga-x2", patch_size=8, k=3).eval()
    save_weights(net, tmp_path / "fsrcnn-mga-x2.safetensors", CARD)
    allnet = sparsesr.from_pretrained("fsrcnn-allnet-x2")
    lr = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        assert torch.equal(allnet(lr), net(lr, budget=1.0))
    with pytest.raises(WeightsNotFoundError):
        sparsesr.from_pretrained("fsrcnn-dnet-x2")  # trained apart: not a part of the -mga file


def test_allnet_has_the_depth_of_the_mga_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "weights_dir", lambda: tmp_path)
    depth = {"base_blocks": 1, "refine_blocks": 2}
    net = sparsesr.create_model("pan-mga-light-x2", k=3, mask_channels=1, **depth)
    save_weights(net, tmp_path / "pan-mga-light-x2.safetensors", CARD)
    assert sparsesr.from_pretrained("pan-allnet-light-x2").arguments == depth
    with pytest.raises(WeightsNotFoundError):
        sparsesr.from_pretrained("pan-allnet-x2")


@pytest.mark.parametrize("name", list(shipped_weights()))
def test_shipped_files_load_and_have_cards(name: str) -> None:
    net = sparsesr.from_pretrained(name)
    assert f"{net.model_name}-x{net.scale}" == name
    card = json.loads(shipped_weights()[name].with_suffix(".json").read_text())
    for key in ("model", "scale", "training_data", "steps", "metrics", "command"):
        assert key in card, key
