"""``sparsesr upscale`` on many files: trees, patterns, names, several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sparsesr.io import read_image, write_image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Images at three depths, a hidden folder, a text file."""
    root = tmp_path / "tree"
    rng = np.random.default_rng(0)
    for name in ("a.png", "one/a.png", "one/two/b.bmp", "one/.thumbs/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    (root / "one" / "notes.txt").write_text("no image")
    return root


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_recursive_keeps_the_tree(run: Callable, model: tuple, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("upscale", tree, "-o", out, *model).code == 0
    assert files(out) == ["a_x2.png"]
    result = run("upscale", tree, "-o", out, *model, "--recursive", "--skip-existing", "--json")
    assert result.code == 0, result.err
    assert files(out) == ["a_x2.png", "one/a_x2.png", "one/two/b_x2.bmp"]
    document = result.json()
    assert (document["done"], document["skipped"]) == (2, 1)


def test_results_in_the_tree_are_no_inputs(run: Callable, model: tuple, tree: Path) -> None:
    words = ("upscale", tree, "-o", tree / "out", *model, "-r", "--skip-existing", "--json")
    assert run(*words).json()["done"] == 3
    again = run(*words).json()
    assert (again["done"], again["skipped"]) == (0, 3)


def test_patterns(run: Callable, model: tuple, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("upscale", tree / "**" / "*.bmp", tree / "?.*", "-o", out, *model)
    assert result.code == 0, result.err
    assert files(out) == ["a_x2.png", "b_x2.bmp"]
    missing = run("upscale", tree / "*.tif", tree / "a.png", "-o", tmp_path / "two", *model)
    assert missing.code == 1
    assert "*.tif: matches no image" in missing.err
    assert files(tmp_path / "two") == ["a_x2.png"]


def test_a_name_with_brackets_is_no_pattern(
    run: Callable, model: tuple, tree: Path, tmp_path: Path
) -> None:
    (tree / "a.png").rename(tree / "[a].png")
    assert run("upscale", tree / "[a].png", "-o", tmp_path / "out", *model).code == 0
    assert files(tmp_path / "out") == ["[a]_x2.png"]


def test_templates(run: Callable, model: tuple, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("upscale", tree, "-r", "-o", out, *model)
    assert run(*words, "--template", "{model}/{stem}@{scale}.{ext}").code == 0
    assert files(out) == [
        "fsrcnn-mga-x2/a@2.png",
        "one/fsrcnn-mga-x2/a@2.png",
        "one/two/fsrcnn-mga-x2/b@2.bmp",
    ]
    assert run(*words, "--template", "big_{stem}.webp").code == 0
    assert (out / "one" / "two" / "big_b.webp").is_file()
    one = run("upscale", tree, "-r", "-o", tmp_path / "flat", *model, "--template", "same.png")
    assert one.code == 0, one.err  # they lie in three folders


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--template", "{name}.png"], "unknown field {name}; expected {stem}, {scale}"),
        (["--template", "{}.png"], "unknown field {}"),
        (["--template", "{stem"], "expected '}' before end of string"),
        (["--template", "../{stem}.png"], "names must stay in the output folder"),
        (["--template", "/{stem}.png"], "names must stay in the output folder"),
        (["--template", "{stem}"], "expected a name that ends with .{ext} or one of"),
        (["-o", "x.png", "--template", "{stem}.png"], "drop --template {stem}.png"),
        (["--quality", "best"], "--quality best: expected one of draft, balanced, full"),
        (["--quality", "95"], "of JPEG and WebP is --jpeg-quality"),
        (["--quality", "draft", "--k", 3], "--k 3 and --quality draft exclude each other"),
        (["--time-budget", "fast"], "--time-budget fast: expected a time such as 200ms"),
        (["--time-budget", "200"], "--time-budget 200: expected a time such as 200ms"),
        (["--time-budget", "0s"], "expected a time budget above 0 seconds"),
        (["--time-budget", "1s", "--budget", "5%"], "--budget 5% and --time-budget 1s exclude"),
        (["--budget", "120%"], "--budget 120%: expected a share such as 15% or 0.15"),
        (["--devices", "0,1", "--device", "cpu"], "--device cpu and --devices 0,1 exclude"),
        (["--devices", "cpu,abacus"], "unknown device 'abacus'"),
        (["--hr", "hr.png"], "--hr is what --compare compares with; add --compare"),
    ],
)
def test_wrong_options(
    run: Callable, model: tuple, tree: Path, tmp_path: Path, words: list, text: str
) -> None:
    words = words if "-o" in words else ["-o", tmp_path / "out", *words]
    result = run("upscale", tree / "a.png", *model, *words)
    assert result.code == 2
    assert text in result.err
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there(run: Callable, model: tuple, tree: Path) -> None:
    result = run("upscale", tree / "a.png", *model, "--devices", "0,99")
    assert result.code == 3
    assert "torch sees no such CUDA GPU" in result.err


@pytest.mark.parametrize(("quality", "count"), [("draft", 1), ("balanced", 2), ("full", 6)])
def test_quality(
    run: Callable, model: tuple, tree: Path, tmp_path: Path, quality: str, count: int
) -> None:
    words = ("upscale", tree / "a.png", "-o", tmp_path / "out", *model, "--quality", quality)
    document = run(*words, "--json").json()
    assert document["quality"] == quality
    assert document["files"][0]["k_used"] == count


def test_time_budget(
    run: Callable,
    model: tuple,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPARSESR_CACHE", str(tmp_path / "cache"))
    words = ("upscale", tree / "a.png", *model)
    result = run(*words, "-o", tmp_path / "out", "--time-budget", "1min", "--json")
    assert result.code == 0, result.err
    assert "timing the network on 8x9 pixels, once for this size" in result.err
    assert "; of 60 s chose 6 patches, took " in result.err
    document = result.json()
    assert document["time_budget"] == 60.0
    (row,) = document["files"]
    assert row["k_used"] == 6
    assert 0 < row["time_budget"]["took"] < row["time_budget"]["asked"] == 60.0
    short = run(*words, "-o", tmp_path / "two", "--time-budget", ".001ms")
    assert short.code == 1
    assert "expected a time budget of at least" in short.err
    assert "timing the network" not in short.err
    assert not (tmp_path / "two").exists()


def test_several_processes(run: Callable, model: tuple, tree: Path, tmp_path: Path) -> None:
    (tree / "broken.png").write_text("no image")
    words = ("upscale", tree, "-r", *model, "--budget", "50%", "--json")
    alone = run(*words, "-o", tmp_path / "one")
    shared = run(*words, "-o", tmp_path / "two", "--devices", "cpu,cpu")
    assert (alone.code, shared.code) == (1, 1), shared.err
    assert "broken.png: cannot be read as an image" in shared.err
    assert files(tmp_path / "two") == files(tmp_path / "one")
    for name in files(tmp_path / "one"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()

    def facts(document: dict) -> list:
        return [(row["input"], row["ok"], row.get("k_used")) for row in document["files"]]

    assert facts(shared.json()) == facts(alone.json())


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """HR and LR images of one photograph, HR with a row and a column too many."""
    from sparsesr.metrics import imresize

    rng = np.random.default_rng(0)
    smooth = np.clip(imresize(rng.random((9, 9, 3)), size=(65, 81)), 0, 1)
    hr = (255 * smooth).astype(np.uint8)
    for folder, name, image in (
        ("HR", "p.png", hr),
        ("LR", "px2.png", imresize(hr[:64, :80], 0.5)),
        ("LR", "q.png", imresize(hr[:64, :80], 0.5)),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_image(tmp_path / folder / name, image)
    return tmp_path


def test_compare(run: Callable, model: tuple, pairs: Path) -> None:
    words = ("upscale", pairs / "LR" / "px2.png", *model, "--compare", "--json")
    plain = run(*words, "-o", pairs / "plain")
    assert plain.code == 0, plain.err
    assert files(pairs / "plain") == ["px2_x2.png", "px2_x2_compare.png"]
    assert plain.json()["files"][0]["compare"] == str(pairs / "plain" / "px2_x2_compare.png")
    with_hr = run(*words, "-o", pairs / "out", "--hr", pairs / "HR")
    assert with_hr.code == 0, with_hr.err
    strips = [read_image(pairs / name / "px2_x2_compare.png") for name in ("plain", "out")]
    assert strips[1].shape[1] > strips[0].shape[1]  # the original is a panel more
    for name in ("plain", "out"):
        assert read_image(pairs / name / "px2_x2.png").shape == (64, 80, 3)


def test_what_cannot_be_compared(run: Callable, model: tuple, pairs: Path) -> None:
    words = ("upscale", pairs / "LR", *model, "--compare", "-o", pairs / "out")
    missing = run(*words, "--hr", pairs / "HR")
    assert missing.code == 1
    assert "q.png: no HR image q.* in --hr" in missing.err
    assert files(pairs / "out") == ["px2_x2.png", "px2_x2_compare.png"]
    other = run("upscale", pairs / "LR" / "q.png", *model, "--compare", "--hr",
                pairs / "LR" / "q.png", "-o", pairs / "two")  # fmt: skip
    assert other.code == 1
    assert "q.png: expected an HR image of 80x64 to compare with, got 40x32" in other.err
    assert not (pairs / "two").exists()


def test_memory_that_is_short(
    run: Callable,
    model: tuple,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """``--tile 0`` goes on in tiles; where even these are too large the file fails, by its name."""
    from sparsesr.nn import SparseRefine

    forward, limit = SparseRefine.forward, 24 * 30

    def limited(self: SparseRefine, lr: object, *words: object, **options: object) -> object:
        if lr.shape[2] * lr.shape[3] > limit:  # type: ignore[attr-defined]
            raise MemoryError
        return forward(self, lr, *words, **options)  # type: ignore[arg-type]

    rng = np.random.default_rng(0)
    write_image(tree / "large.png", rng.integers(0, 256, (40, 44, 3), dtype=np.uint8))
    words = ("upscale", tree / "large.png", *model)
    assert run(*words, "-o", tmp_path / "one").code == 0
    monkeypatch.setattr(SparseRefine, "forward", limited)
    tiled = run(*words, "-o", tmp_path / "two", "--tile", 0)
    assert tiled.code == 0, tiled.err
    assert "out of memory for the whole image; trying tiles of 22 LR pixels" in caplog.text
    np.testing.assert_allclose(
        read_image(tmp_path / "two" / "large_x2.png").astype(int),
        read_image(tmp_path / "one" / "large_x2.png"),
        atol=1,
    )
    monkeypatch.setattr(SparseRefine, "feature", limited_feature)
    failed = run(*words, "-o", tmp_path / "three", "--tile", 0)
    assert failed.code == 1
    assert "large.png: out of memory even in tiles of 22 LR pixels" in failed.err
    assert not (tmp_path / "three").exists()


def limited_feature(*words: object) -> object:
    """No memory for anything."""
    raise MemoryError
