"""Folders of HR photographs and their LR twins, decoded once and memory-mapped from a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparsesr.data.cache import default_cache_dir, is_complete, read_entry, write_entry
from sparsesr.data.pairs import ImagePair, check_scale, crop_to_multiple, paired_images
from sparsesr.io import ImageError, read_image
from sparsesr.metrics import imresize

# Raise when the stored layout or the way LR is made changes: old entries are then ignored.
CACHE_VERSION = 1

Progress = Callable[[int, int, str], None]


class HRFolder:
    """All images of one or more folders as uint8 HR [3,s*h,s*w] and LR [3,h,w] arrays.

    HR is cropped at the top left to a multiple of the scale. LR images that lie beside the HR
    folder, as `sparsesr.data.layouts` lists, are taken as they are; else LR is the MATLAB bicubic
    reduction of HR rounded to 8 bit, as the LR test sets are. The first use decodes everything and
    writes two flat files below `cache`; later uses map them, so that starting costs nothing and
    several runs share the memory. The entry's key covers names, sizes and modification times of
    all files. A pickled HRFolder holds no pixels: it maps the same entry again.

    Args:
        root: folder of images, a data set's folder as `sparsesr.data.layouts` knows them, or a list
            of these; images are ordered by folder, then by name.
        scale: integer scale >= 1.
        cache: cache folder; None takes `default_cache_dir()`.
        progress: called with (images done, images, name) while the cache is built.
    Raises:
        FileNotFoundError: no such folder.
        ValueError: no images in it, an image without its partner, an LR image of another size than
            HR divided by the scale. ImageError: a file that cannot be read.
        CacheError: the cache cannot be written.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        scale: int,
        cache: str | Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        check_scale(scale)
        roots = [root] if isinstance(root, (str, Path)) else list(root)
        if not roots:
            raise ValueError("HRFolder: expected a folder of images or several, got an empty list")
        self.scale = scale
        self.pairs = [pair for r in roots for pair in paired_images(r, scale, training=True)]
        self.files = [pair.hr for pair in self.pairs]
        cache_dir = Path(cache) if cache is not None else default_cache_dir()
        self.cache_path = cache_dir / f"hr-folder-{self._key()}"
        if not is_complete(self.cache_path):
            write_entry(self.cache_path, self._decoded(progress))
        self.hr, self.lr = read_entry(self.cache_path, scale)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the pixels, which another process maps for itself."""
        return {key: value for key, value in self.__dict__.items() if key not in ("hr", "lr")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the pixels again."""
        self.__dict__.update(state)
        self.hr, self.lr = read_entry(self.cache_path, self.scale)

    def _key(self) -> str:
        """Hash of everything the cached arrays depend on."""
        content: list[Any] = [CACHE_VERSION, self.scale, [_identity(path) for path in self.files]]
        if any(pair.lr is not None for pair in self.pairs):
            content.append([pair.lr and _identity(pair.lr) for pair in self.pairs])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]

    def _decoded(self, progress: Progress | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for done, pair in enumerate(self.pairs, 1):
            yield with_lr(pair, self.scale, read(pair.hr))
            if progress is not None:
                progress(done, len(self.pairs), pair.hr.name)


def with_lr(pair: ImagePair, scale: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair's decoded HR `image`, cropped to [s*h,s*w,3], and its LR [h,w,3].

    Raises ValueError when the LR file has another size.
    """
    hr = crop_to_multiple(image, scale, pair.hr)
    if pair.lr is None:
        return hr, imresize(hr, 1 / scale)
    lr = read(pair.lr)
    expected = (hr.shape[0] // scale, hr.shape[1] // scale)
    if lr.shape[:2] != expected:
        raise ValueError(
            f"{pair.lr} is {lr.shape[1]}x{lr.shape[0]} and {pair.hr} {image.shape[1]}x"
            f"{image.shape[0]}: expected an LR image of {expected[1]}x{expected[0]} at scale "
            f"{scale}; use LR images of these HR images, or remove {pair.lr.parent} to have them "
            "made"
        )
    return hr, lr


def read(path: Path) -> np.ndarray:
    """`read_image`; whatever is wrong with the file is an ImageError that names it."""
    try:
        return read_image(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _identity(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return path.name, stat.st_size, stat.st_mtime_ns
