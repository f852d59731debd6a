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
from sparsesr.io.metadata import Metadata
from sparsesr.io.picture import Picture, PictureWarning, read_picture
from sparsesr.io.picture_writer import write_picture

__all__ = [
    "READ_SUFFIXES",
    "WRITE_SUFFIXES",
    "ImageError",
    "Metadata",
    "OutputExistsError",
    "Picture",
    "PictureWarning",
    "atomic_output",
    "list_images",
    "read_image",
    "read_picture",
    "to_array",
    "to_tensor",
    "write_image",
    "write_picture",
]
