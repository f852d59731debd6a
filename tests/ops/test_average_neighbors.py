"""``average_neighbors`` on every backend against the rule told one pixel at a time."""

from __future__ import annotations

import oracle
import pytest
import routing_cases
import torch
from masked_cases import assert_close, require

from sparsesr import use_backend
from sparsesr.ops import average_neighbors, reference

SIZES = [(1, 1, 5, 7), (2, 3, 9, 6), (1, 3, 3, 3), (1, 4, 2, 8), (3, 2, 1, 1), (1, 3, 17, 40)]
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)


def _image(size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(1)).to(dtype)


def _classes(size: tuple[int, ...], share: float) -> torch.Tensor:
    """Classes 0 to 2; ``share`` of the pixels are of class 1 or 2."""
    rng = torch.Generator().manual_seed(2)
    shape = (size[0], *size[2:])
    level = torch.randint(1, 3, shape, generator=rng)
    return (level * (torch.rand(shape, generator=rng) < share)).to(torch.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@DTYPES
def test_equals_the_rule(
    backend: str, device: torch.device, size: tuple[int, ...], dtype: torch.dtype
) -> None:
    require(backend, "average_neighbors", dtype)
    image = _image(size, dtype)
    for share in (0, 0.2, 0.7, 1):
        classes = _classes(size, share)
        for min_heavy, first_heavy in ((1, 1), (3, 1), (2, 2), (9, 1), (1, 0)):
            got = average_neighbors(image.to(device), classes.to(device), min_heavy, first_heavy)
            exact = routing_cases.average(image.double(), classes, min_heavy, first_heavy)
            plain = reference.average_neighbors(image, classes, min_heavy, first_heavy)
            assert_close(got, exact, plain)
            copied = exact == image.double()
            assert torch.equal(got.cpu()[copied], image[copied])


def test_every_layout(backend: str, device: torch.device) -> None:
    require(backend, "average_neighbors")
    image, classes = _image(SIZES[1]), _classes(SIZES[1], 0.3)
    exact = routing_cases.average(image.double(), classes, 1, 1)
    plain = reference.average_neighbors(image, classes, 1, 1)
    for name, view in oracle.layouts(image.to(device)).items():
        spread = classes.to(device).transpose(1, 2).contiguous().transpose(1, 2)
        got = average_neighbors(view, spread)
        assert_close(got, exact, plain, name)
        layout = torch.contiguous_format
        if name.startswith("channels_last"):
            layout = torch.channels_last
        assert got.is_contiguous(memory_format=layout), name
        assert got.data_ptr() != view.data_ptr()


def test_gradcheck(backend: str, device: torch.device) -> None:
    require(backend, "average_neighbors", torch.float64)
    image = _image((2, 2, 4, 5), torch.float64).to(device).requires_grad_()
    classes = _classes((2, 2, 4, 5), 0.3).to(device)
    assert torch.autograd.gradcheck(lambda x: average_neighbors(x, classes), [image])
    assert torch.autograd.gradgradcheck(lambda x: average_neighbors(x, classes), [image])


def test_compiles_whole() -> None:
    image, classes = _image(SIZES[1]).requires_grad_(), _classes(SIZES[1], 0.3)

    def step(image: torch.Tensor) -> torch.Tensor:
        return average_neighbors(image, classes).square().sum()

    with use_backend("reference"):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(
            torch.autograd.grad(compiled(image), image), torch.autograd.grad(step(image), image)
        )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"image": torch.zeros(3, 4, 5)}, ValueError, r"image \[B,C,H,W\], got shape"),
        ({"class_map": torch.zeros(2, 4, 5)}, TypeError, r"uint8 on cpu, got float32"),
        (
            {"class_map": torch.zeros(2, 5, 4, dtype=torch.uint8)},
            ValueError,
            r"class_map \[2, 4, 5\].*got \[2, 5, 4\]",
        ),
        ({"min_heavy": 0}, ValueError, "min_heavy >= 1, got 0"),
        ({"first_heavy": 1.0}, TypeError, "first_heavy as an int, got float"),
    ],
)
def test_bad_input(change: dict, error: type, text: str) -> None:
    good = {"image": torch.zeros(2, 1, 4, 5), "class_map": torch.zeros(2, 4, 5, dtype=torch.uint8)}
    with pytest.raises(error, match=f"^average_neighbors: .*{text}"):
        average_neighbors(**{**good, **change})
