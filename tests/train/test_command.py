"""`sparsesr train`: exit codes and messages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sparsesr.cli.train import register


@pytest.fixture
def app() -> typer.Typer:
    """An application with the command and a second one, as the real one has."""
    app = typer.Typer()
    register(app)

    @app.command("other")
    def other() -> None: ...

    return app


@pytest.fixture
def path(tmp_path: Path, recipe_text: str) -> Path:
    """The tiny recipe as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_text)
    return path


def test_trains(app: typer.Typer, path: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra train")
    arguments = ["train", str(path), "-o", str(tmp_path / "out"), "-q", "--stage", "dnet"]
    result = CliRunner().invoke(app, [*arguments, "--set", "stages.dnet.iterations=3"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "checkpoints" / "dnet.pt").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "scael=2"], "did you mean 'scale'?"),
        (["--set", "data.train=none"], "image folder not found: none"),
        (["--set", "model=fsrcmn-mga"], "fsrcnn"),
        (["--stage", "tail"], "expected one of dnet, allnet, mask"),
        (["--stage", "mask"], "starts from the weights of allnet"),
    ],
)
def test_usage_errors(
    app: typer.Typer, path: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    pytest.importorskip("lightning", reason="needs the extra train")
    command = ["train", str(path), "-o", str(tmp_path / "out"), *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_recipe(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "recipe not found" in result.stderr


def test_missing_extra(
    app: typer.Typer, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    result = CliRunner().invoke(app, ["train", str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code == 3
    assert "pip install -e .[train]" in result.stderr
