"""The documents are true: tables equal their sources, links lead somewhere, examples run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
MANUAL = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
DOCUMENTS = [
    *MANUAL,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "bench/README.md",
    "csrc/README.md",
    "kernels/README.md",
]
RUN = {"upscale", "evaluate"}  # seconds, on small pictures


def _blocks(name: str, kind: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def _command_lines(name: str) -> list[list[str]]:
    """The words of each ``sparsesr ...`` of the document's shell blocks, without that one."""
    found = []
    for line in "".join(_blocks(name, "sh")).splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words[:1] == ["sparsesr"]:
                found.append(words[1:])
    return found


WITH_PYTHON = [name for name in MANUAL if _blocks(name, "python")]
WITH_COMMANDS = [name for name in MANUAL if _command_lines(name)]


def test_tables_are_what_the_result_files_say(root: Path) -> None:
    done = subprocess.run([sys.executable, "tools/update_tables.py", "--check"], cwd=root)
    assert done.returncode == 0, "run python tools/update_tables.py"


def test_the_claims_of_the_readme_are_in_its_tables(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    claims, rest = text.split("## Start")
    tables = "".join(re.findall(r"<!-- table: .*?<!-- end table -->", rest, re.DOTALL))
    quoted = re.findall(r"\b\d+\.\d+x", claims)
    assert quoted
    for ratio in quoted:
        assert f" {ratio} " in tables, ratio


def test_the_list_of_sources_is_that_of_the_tool(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/benchmarks.md names the file that each table is made from."""
    path = root / "tools" / "update_tables.py"
    spec = importlib.util.spec_from_file_location("update_tables", path)
    assert spec is not None
    assert spec.loader is not None
    tool: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    real, read = tool._run_of, []
    monkeypatch.setattr(tool, "_run_of", lambda table: read.append(table) or real(table))
    text = (root / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    listed = text.split("<!-- table sources -->")[1].split("<!-- end table sources -->")[0]
    sources = dict(re.findall(r"^\| `([a-z ]+)` \| `([^`]+)` \|", listed, re.MULTILINE))
    assert set(sources) == {name for name in tool.TABLES if not name.endswith("facts")}
    for name, file in sources.items():
        read.clear()
        tool.TABLES[name]()
        assert root / file == (tool.RUNS[read[0]] if read else tool.EVALUATION), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links(root: Path, name: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if target.startswith("http"):
            continue
        file = (root / name).parent / target if target else root / name
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file), f"{target}#{anchor}"


def _anchors(file: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [name for name in MANUAL if name != "README.md"])
def test_the_readme_leads_to_every_document(root: Path, name: str) -> None:
    assert f"({name})" in (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python_blocks_run(
    root: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, with one set of names, in a folder that has the result files."""
    (tmp_path / "bench").symlink_to(root / "bench")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": name}
    for code in _blocks(name, "python"):
        exec(compile(code, name, "exec"), namespace)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_command_lines_parse(name: str) -> None:
    """Commands, options and their values are those of the command line; nothing is run."""
    typer = pytest.importorskip("typer")
    from sparsesr.cli import build_app

    commands = typer.main.get_command(build_app()).commands
    for command, *words in _command_lines(name):
        assert command in commands
        with commands[command].make_context(command, words):
            pass


def test_command_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("typer.testing")
    image = pytest.importorskip("PIL.Image")
    from sparsesr.cli import build_app

    monkeypatch.chdir(tmp_path)
    picture = image.radial_gradient("L").resize((48, 40)).convert("RGB")
    for file in ("photo.jpg", "frames/1.png", "frames/2.png", "Set5/HR/one.png"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    lines = [line for line in _command_lines("README.md") if line[0] in RUN]
    lines = [line for line in lines if "--sweep" not in line]
    assert {line[0] for line in lines} == RUN
    for line in lines:
        done = testing.CliRunner().invoke(build_app(), line)
        assert done.exit_code == 0, f"{shlex.join(line)}\n{done.output}"
    with image.open("photo_x4.png") as larger:
        assert larger.size == (192, 160)
    assert len(list(Path("larger").glob("*_x4.png"))) == 2


def test_ci_runs_the_command_of_the_readme(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- test command -->\n```sh\n[^\n]*pytest[^\n]*\n```", text)
