"""The registered ops on the Triton backend: shapes and strides are as declared."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

from sparsesr import use_backend

INDEX = torch.tensor([[0, 5, 11], [2, 3, 7]], dtype=torch.int32)


def _samples(layout: torch.memory_format) -> dict[str, tuple[object, ...]]:
    mask, x = torch.rand(2, 3, 4), torch.randn(2, 3, 9, 14).contiguous(memory_format=layout)
    patches = torch.randn(6, 3, 4, 4).contiguous(memory_format=layout)
    windows = torch.randn(6, 3, 6, 6).contiguous(memory_format=layout)
    return {
        "select_patches": (mask, 3, True),
        "gather_patches": (x, INDEX, 4, 1, 4),
        "gather_patches_backward": (windows, INDEX, 9, 14, 4, 1, 4),
        "select_gather_patches": (mask, x, 3, 4, 1, 4, True),
        "scatter_patches": (x, patches, INDEX, 4, 4, "replace"),
        "scatter_patches_": (x.clone(), patches, INDEX, 4, 4, "mean"),
        "scatter_patches_backward": (x, INDEX, 4, 4, "mean"),
    }


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", list(_samples(torch.contiguous_format)))
def test_fake_tensors_tell_the_truth(
    device: torch.device, name: str, layout: torch.memory_format
) -> None:
    arguments = tuple(
        a.to(device) if isinstance(a, torch.Tensor) else a for a in _samples(layout)[name]
    )
    with use_backend("triton"):
        opcheck(
            getattr(torch.ops.sparsesr, name).default,
            arguments,
            test_utils=("test_schema", "test_faketensor"),
        )
