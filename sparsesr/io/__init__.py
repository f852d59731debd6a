"""Image files and arrays: read, write without leaving halves behind, and turn into tensors."""

from __future__ import annotations

from sparsesr.io.arrays import to_array, to_tensor
from sparsesr.io.atomic import OutputExistsError, atomic_output
from sparsesr.io.files import (
    READ_SUFFIXES,
    WRITE_SUFFIXES,
    ImageError,
    list_images,
    read_image,
    write_image,
)

__all__ = [
    "READ_SUFFIXES",
    "WRITE_SUFFIXES",
    "ImageError",
    "OutputExistsError",
    "atomic_output",
    "list_images",
    "read_image",
    "to_array",
    "to_tensor",
    "write_image",
]
