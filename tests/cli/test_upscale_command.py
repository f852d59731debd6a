"""``sparsesr upscale`` on real files, and every way to call it wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sparsesr.inference import Upscaler
from sparsesr.io import read_image
from sparsesr.models import create_model, from_pretrained, save_weights


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file_to_a_folder(run: Callable, weights: dict, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = weights["fsrcnn-mga-x2"]
    result = run("upscale", photos / "a.png", "-o", out, "-m", model, "--k", 5)
    assert result.code == 0, result.err
    assert result.out == ""
    assert names(out) == ["a_x2.png"]
    expected = Upscaler(from_pretrained(model), k=5)(read_image(photos / "a.png"))
    np.testing.assert_array_equal(read_image(out / "a_x2.png"), expected)


@pytest.mark.parametrize("name", ["fsrcnn", "carn", "msrresnet", "bsrn", "imdn", "drsan-32s"])
def test_dense_networks(run: Callable, photos: Path, tmp_path: Path, name: str) -> None:
    net, path = create_model(name, scale=2).eval(), tmp_path / f"{name}-x2.safetensors"
    save_weights(net, path, {})
    result = run("upscale", photos / "a.png", "-o", tmp_path / "sr.png", "-m", path)
    assert result.code == 0, result.err
    expected = Upscaler(net)(read_image(photos / "a.png"))
    np.testing.assert_array_equal(read_image(tmp_path / "sr.png"), expected)


def test_a_folder_survives_a_broken_file(
    run: Callable, weights: dict, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    result = run("upscale", "-i", photos, "-o", out, "-n", weights["fsrcnn-mga-x2"], "-s", 2)
    assert result.code == 1
    assert "warning:" in result.err
    assert "broken.png: cannot be read as an image" in result.err
    assert names(out) == ["a_x2.png", "b_x2.jpg"]
    assert read_image(out / "b_x2.jpg").shape == (16, 18, 3)


def test_json_is_one_document(run: Callable, weights: dict, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = weights["fsrcnn-mga-x2"]
    result = run("upscale", photos, "-o", out, "-m", model, "--budget", 0.5, "--json")
    assert result.code == 1
    document = result.json()
    assert (document["model"], document["scale"], document["budget"]) == ("fsrcnn-mga-x2", 2, 0.5)
    assert (document["done"], document["failed"]) == (2, 1)
    first, second, third = document["files"]
    assert (first["ok"], first["lr_size"], first["sr_size"]) == (True, [13, 10], [26, 20])
    assert (first["k_used"], first["coverage"]) == (6, 0.5)
    assert first["output"] == str(out / "a_x2.png")
    assert second["ok"]
    assert (third["ok"], third["output"]) == (False, None)
    assert "broken.png" in third["error"]


def test_to_a_named_file_and_beside_the_input(run: Callable, weights: dict, photos: Path) -> None:
    model = weights["fsrcnn-mga-x2"]
    target = photos / "result.jpg"
    assert run("upscale", photos / "a.png", "-o", target, "-m", model).code == 0
    assert read_image(target).shape == (26, 20, 3)
    assert run("upscale", photos / "a.png", "-m", model, "--format", "tif").code == 0
    assert (photos / "a_x2.tif").is_file()


def test_save_mask(run: Callable, weights: dict, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = weights["fsrcnn-mga-x2"]
    result = run("upscale", photos / "a.png", "-o", out, "-m", model, "--save-mask", "--json")
    assert names(out) == ["a_x2.png", "a_x2_mask.png"]
    assert result.json()["files"][0]["mask"] == str(out / "a_x2_mask.png")
    assert read_image(out / "a_x2_mask.png").shape[1] == 20


def test_existing_outputs_are_refused(
    run: Callable, weights: dict, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_x2.png").write_text("mine")
    words = ("upscale", photos / "a.png", "-o", out, "-m", weights["fsrcnn-mga-x2"])
    result = run(*words)
    assert result.code == 1
    assert "a_x2.png already exists; pass --overwrite to replace it" in result.err
    assert (out / "a_x2.png").read_text() == "mine"
    assert run(*words, "--overwrite").code == 0
    assert read_image(out / "a_x2.png").shape == (26, 20, 3)
    assert names(out) == ["a_x2.png"]


def test_two_inputs_with_one_output(
    run: Callable, weights: dict, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.png").unlink()
    out = tmp_path / "out"
    model = weights["fsrcnn-mga-x2"]
    (photos / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    result = run("upscale", photos, "-o", out, "-m", model, "--format", "png", "--overwrite")
    assert result.code == 1
    assert "a_x2.png is already the output of" in result.err
    assert names(out) == ["a_x2.png", "b_x2.png"]


def test_an_input_is_never_replaced_by_its_result(
    run: Callable, weights: dict, photos: Path
) -> None:
    before = (photos / "a.png").read_bytes()
    path = photos / "a.png"
    result = run("upscale", path, "-o", path, "-m", weights["fsrcnn-mga-x2"], "--overwrite")
    assert result.code == 1
    assert "would be replaced by its own result" in result.err
    assert path.read_bytes() == before


def test_missing_and_empty_inputs(run: Callable, weights: dict, photos: Path) -> None:
    empty = photos / "empty"
    empty.mkdir()
    model = weights["fsrcnn-mga-x2"]
    result = run(
        "upscale", photos / "no.png", empty, photos / "a.png", "-o", photos / "out", "-m", model
    )
    assert result.code == 1
    assert "no.png: no such file or folder" in result.err
    assert "empty: no image in this folder" in result.err
    assert names(photos / "out") == ["a_x2.png"]


def test_quiet_prints_only_warnings(
    run: Callable, weights: dict, photos: Path, tmp_path: Path
) -> None:
    model = weights["fsrcnn-mga-x2"]
    good = run("upscale", photos / "a.png", "-o", tmp_path / "one", "-m", model, "-q")
    assert (good.code, good.out, good.err) == (0, "", "")
    bad = run("upscale", photos, "-o", tmp_path / "two", "-m", model, "-q")
    assert bad.code == 1
    assert bad.err.startswith("warning:")


def test_tiles_precision_and_symmetries(
    run: Callable, weights: dict, photos: Path, tmp_path: Path
) -> None:
    model = weights["fsrcnn-mga-x2"]
    words = ["--tile", 16, "--precision", "bf16", "--tta"]
    done = run("upscale", photos / "a.png", "-o", tmp_path / "o", "-m", model, *words, "--json")
    assert done.code == 0, done.err
    (row,) = done.json()["files"]
    assert row["sr_size"] == [2 * n for n in row["lr_size"]]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--k", 3, "--budget", 0.5], 2, "--k 3 and --budget 0.5 exclude each other"),
        (["--k", -3], 2, "--k -3: expected 0 or more patches"),
        (["--k", "many"], 2, "--k many: expected a number of patches or 'all'"),
        (["--budget", 1.5], 2, "--budget 1.5: expected a share such as 15% or 0.15"),
        (["--scale", 4], 2, "is for scale 2, got scale=4"),
        (["--format", "gif"], 2, "--format gif: expected one of same, png"),
        (["--tile", 8], 2, "expected tile 'auto', 0 (the image whole) or the side of a tile"),
        (["--precision", "fp8"], 2, "expected precision as one of auto, fp32, fp16, bf16"),
        (["--backend", "abacus"], 2, "unknown backend 'abacus'; expected auto, reference"),
        (["--backend", "triton"], 3, "backend 'triton' is not available"),
        (["--device", "abacus"], 2, "unknown device 'abacus'"),
        (["--device", "cuda:99"], 3, "device 'cuda:99' is not there"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_wrong_options(
    run: Callable, weights: dict, photos: Path, words: list, code: int, text: str
) -> None:
    out = photos / "out"
    result = run(
        "upscale", photos / "a.png", "-o", out, "-m", weights["fsrcnn-mga-x2"], *words, "--json"
    )
    assert result.code == code
    assert text in result.err
    assert result.out == ""
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["-m", "fsrcn-mga-x4"], 3, "did you mean fsrcnn-mga"),
        (["-m", "fsrcnn-mga-x4", "--scale", 2], 2, "is for scale 4, got scale=2"),
        (["-m", "fsrcnn-mga-x7"], 2, "has no scale 7; choose fsrcnn-mga-x2"),
        (["-m", "fsrcnn-base-x3"], 3, "no weights ship for fsrcnn-base-x3"),
        (["-m", "no/such.safetensors"], 3, "no weights file no/such.safetensors"),
    ],
)
def test_wrong_models(run: Callable, photos: Path, words: list, code: int, text: str) -> None:
    result = run("upscale", photos / "a.png", *words)
    assert result.code == code
    assert text in result.err
    assert "a_x" not in " ".join(names(photos))


def test_wrong_targets(run: Callable, weights: dict, photos: Path) -> None:
    model = weights["fsrcnn-mga-x2"]
    for words, text in (
        ([], "nothing to upscale: name image files or a folder"),
        ([photos], "-o is needed for a folder"),
        ([photos, "-o", photos / "all.png"], "is one file, but there are 3 inputs"),
        ([photos, "-o", photos / "notes.txt"], "notes.txt is a file, but no image"),
        (
            [photos / "a.png", "-o", photos / "c.png", "-f", "jpg"],
            "its own name and format; drop --format jpg",
        ),
    ):
        result = run("upscale", *words, "-m", model)
        assert result.code == 2
        assert text in result.err
    assert names(photos) == ["a.png", "b.jpg", "broken.png", "notes.txt"]


def test_networks_without_masks(run: Callable, weights: dict, photos: Path) -> None:
    model = weights["fsrcnn-dnet-x2"]
    for words, text in (
        (["--save-mask"], "fsrcnn-dnet-x2 does not select patches, there is no mask"),
        (["--k", 4], "fsrcnn-dnet does not select patches; leave out k and budget"),
    ):
        result = run("upscale", photos / "a.png", "-m", model, *words)
        assert result.code == 2
        assert text in result.err


def test_a_failing_write_leaves_nothing(
    run: Callable, weights: dict, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    def save(self: Image.Image, file: object, **options: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    out = tmp_path / "out"
    result = run("upscale", photos / "a.png", "-o", out, "-m", weights["fsrcnn-mga-x2"])
    assert result.code == 1
    assert "no space left on device" in result.err
    assert names(out) == []
