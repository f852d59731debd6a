"""The registered ops on the Triton backend: shapes and strides are as declared."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck
from torch.utils._pytree import tree_map_only

from sparsesr import use_backend

INDEX = torch.tensor([[0, 5, 11], [2, 3, 7]], dtype=torch.int32)


def _samples(layout: torch.memory_format) -> dict[str, tuple[object, ...]]:
    mask, x = torch.rand(2, 3, 4), torch.randn(2, 3, 9, 14).contiguous(memory_format=layout)
    patches = torch.randn(6, 3, 4, 4).contiguous(memory_format=layout)
    windows = torch.randn(6, 3, 6, 6).contiguous(memory_format=layout)
    filters, collect = [torch.randn(3, 3, 3, 3) for _ in range(2)], torch.randn(4, 6, 1, 1)
    dense, pixels = torch.rand(2, 3) > 0.5, torch.rand(2, 1, 9, 14) > 0.5
    image, classes = torch.rand(2, 3, 9, 14), torch.randint(0, 3, (2, 9, 14)).to(torch.uint8)
    image = image.contiguous(memory_format=layout)
    weights = [torch.randn(4, 3), torch.randn(3, 4), torch.randn(3, 3)]
    tables = [torch.randn(1, 4), torch.randn(1, 3)]
    places = torch.arange(9.0), torch.arange(14.0)
    program = "v1 = conv v0 weight=0 pad=0 act=prelu:1\nreturn v1"
    return {
        "select_patches": (mask, 3, True),
        "gather_patches": (x, INDEX, 4, 1, 4),
        "gather_patches_backward": (windows, INDEX, 9, 14, 4, 1, 4),
        "select_gather_patches": (mask, x, 3, 4, 1, 4, True),
        "scatter_patches": (x, patches, INDEX, 4, 4, "replace"),
        "scatter_patches_": (x.clone(), patches, INDEX, 4, 4, "mean"),
        "scatter_patches_backward": (x, INDEX, 4, 4, "mean"),
        "masked_conv2d": (x, filters[0], torch.randn(3), pixels),
        "masked_block": (x, filters, collect, None, dense, pixels),
        "route_mlp": (x, classes, weights, tables, tables, [torch.ones(3)], [2, 1], *places, image),
        "average_neighbors": (image, classes, 1, 1),
        "refine_patches_": (x.clone(), x, INDEX, [*filters[:1], torch.ones(1)], program, 4, 1),
    }


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", list(_samples(torch.contiguous_format)))
def test_fake_tensors_tell_the_truth(
    device: torch.device, name: str, layout: torch.memory_format
) -> None:
    arguments = tree_map_only(torch.Tensor, lambda t: t.to(device), _samples(layout)[name])
    with use_backend("triton"):
        opcheck(
            getattr(torch.ops.sparsesr, name).default,
            arguments,
            test_utils=("test_schema", "test_faketensor"),
        )
