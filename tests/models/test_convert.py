"""Released checkpoints: recognised by their tensors, read without running code."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

import sparsesr
from sparsesr.models import save_weights
from sparsesr.models.convert import UnknownCheckpointError, convert


@pytest.fixture(scope="module")
def made_up() -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of a released SMSR x3."""
    torch.manual_seed(0)
    return sparsesr.create_model("smsr", 3).state_dict()


@pytest.fixture(scope="module")
def checkpoint(made_up: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "smsr_x3.pt"
    torch.save(made_up, path)
    return path


def test_converted_weights_are_the_released_ones(
    checkpoint: Path, made_up: dict, tmp_path: Path
) -> None:
    net, card = convert(checkpoint)
    assert (net.model_name, net.scale, net.training) == ("smsr", 3, False)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert card["converted_from"] == {"file": "smsr_x3.pt", "sha256": digest}
    save_weights(net, tmp_path / "a.safetensors", card)
    again = sparsesr.from_pretrained(tmp_path / "a.safetensors")
    assert again.model_name == "smsr"
    state = again.state_dict()
    assert state.keys() == made_up.keys()
    assert all(torch.equal(state[key], value) for key, value in made_up.items())
    with pytest.raises(ValueError, match="is for scale 3, got scale=2"):
        sparsesr.from_pretrained(tmp_path / "a.safetensors", scale=2)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"name": "x", "args": {"scale": 3}, "sd": state}, "iter": 1},
        lambda state: {"params": state},
    ],
)
def test_training_checkpoints_are_opened(wrap: object, made_up: dict, tmp_path: Path) -> None:
    torch.save(wrap(made_up), tmp_path / "a.pth")  # type: ignore[operator]
    assert convert(tmp_path / "a.pth")[0].scale == 3


def test_what_does_not_fit_is_named(made_up: dict, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    missing = {key: value for key, value in made_up.items() if key != "head.0.bias"}
    torch.save(missing, path)
    with pytest.raises(UnknownCheckpointError, match=r"(?s)looks like smsr.*head\.0\.bias"):
        convert(path)
    torch.save({**made_up, "tail.0.weight": torch.zeros(75, 64, 3, 3)}, path)
    with pytest.raises(UnknownCheckpointError, match="no scale 5"):
        convert(path)
    torch.save({**made_up, "collect.0.weight": torch.zeros(64, 256, 1, 1)}, path)
    with pytest.raises(UnknownCheckpointError, match=r"(?s)size mismatch for collect\.0\.weight"):
        convert(path)


def test_another_network(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1), "conv.bias": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(
        UnknownCheckpointError, match=r"these 2 tensors \(conv.weight, conv.bias.*of smsr"
    ):
        convert(tmp_path / "a.pt")
    torch.save({"epoch": 3}, tmp_path / "b.pt")
    with pytest.raises(UnknownCheckpointError, match="expected a state dict"):
        convert(tmp_path / "b.pt")


class _Payload:
    """Unpickled as code would be."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("never-run"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _Payload()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(_Payload()))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(UnknownCheckpointError, match="by running code from it"):
            convert(tmp_path / name)
    assert not (tmp_path / "never-run").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short"])
def test_broken_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(UnknownCheckpointError, match="expected a torch checkpoint"):
        convert(tmp_path / "a.pt")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        convert(tmp_path / "a.pt")


def test_the_published_file(shared: Path) -> None:
    net, card = convert(shared / "weights" / "smsr_x2.pt")
    assert (net.model_name, net.scale) == ("smsr", 2)
    assert sum(p.numel() for p in net.parameters()) == 987_330
    assert card["training_data"]["name"] == "DIV2K, 800 training images"
