"""A folder of HR photographs and their LR twins, decoded once and memory-mapped from a cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from sparsesr.data.pairs import check_scale, crop_to_multiple
from sparsesr.io import list_images, read_image
from sparsesr.metrics import imresize

# Raise when the stored layout or the way LR is made changes: old entries are then ignored.
CACHE_VERSION = 1
_INDEX = "index.json"


def default_cache_dir() -> Path:
    """`$SPARSESR_CACHE`, else `sparsesr` under the user's cache folder."""
    if os.environ.get("SPARSESR_CACHE"):
        return Path(os.environ["SPARSESR_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sparsesr"


class HRFolder:
    """All images of a folder as uint8 HR [3,s*h,s*w] and LR [3,h,w] arrays.

    HR is cropped at the top left to a multiple of the scale; LR is its MATLAB bicubic reduction
    rounded to 8 bit, as the LR test sets are. The first use decodes everything and writes two flat
    files below `cache`; later uses map them, so that starting costs nothing and several runs share
    the memory. The entry's key covers names, sizes and modification times of the files.

    Args:
        root: folder of images, or a folder that has them in `HR/`.
        scale: integer scale >= 1.
        cache: cache folder; None takes `default_cache_dir()`.
    Raises:
        FileNotFoundError: no such folder. ValueError: no images in it.
    """

    def __init__(self, root: str | Path, scale: int, cache: str | Path | None = None) -> None:
        check_scale(scale)
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"image folder not found: {root} (expected a folder of images)")
        self.root = root / "HR" if (root / "HR").is_dir() else root
        self.scale = scale
        self.files = sorted(list_images(self.root), key=lambda path: path.name)
        if not self.files:
            raise ValueError(f"no images in {self.root}: expected PNG or JPEG files")
        cache_dir = Path(cache) if cache is not None else default_cache_dir()
        self.cache_path = cache_dir / f"hr-folder-{self._key()}"
        if not (self.cache_path / _INDEX).is_file():
            self._build()
        self.hr, self.lr = self._open()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def _key(self) -> str:
        """Hash of everything the cached arrays depend on."""
        stats = [(path.name, path.stat()) for path in self.files]
        listing = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        text = json.dumps([CACHE_VERSION, self.scale, listing])
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def _build(self) -> None:
        """Decode every file into a scratch folder, then rename it into place."""
        self.cache_path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.cache_path.parent))
        try:
            shapes = []
            with open(part / "hr.bin", "wb") as hr_file, open(part / "lr.bin", "wb") as lr_file:
                for path in self.files:
                    hr = crop_to_multiple(read_image(path), self.scale, path)
                    lr = imresize(hr, 1 / self.scale)
                    hr_file.write(np.ascontiguousarray(hr.transpose(2, 0, 1)).tobytes())
                    lr_file.write(np.ascontiguousarray(lr.transpose(2, 0, 1)).tobytes())
                    shapes.append(lr.shape[:2])
            (part / _INDEX).write_text(json.dumps(shapes))
            try:
                os.rename(part, self.cache_path)
            except OSError:
                # Another process finished the same entry first; anything else is a real failure.
                if not (self.cache_path / _INDEX).is_file():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _open(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        shapes = json.loads((self.cache_path / _INDEX).read_text())
        lists = []
        for name, factor in (("hr.bin", self.scale), ("lr.bin", 1)):
            flat = np.memmap(self.cache_path / name, dtype=np.uint8, mode="r")
            total = sum(3 * height * width * factor**2 for height, width in shapes)
            if total != flat.size:
                raise RuntimeError(
                    f"{self.cache_path / name} has {flat.size} bytes, its index asks for {total}: "
                    f"remove {self.cache_path} and start again"
                )
            images, start = [], 0
            for height, width in shapes:
                shape = (3, height * factor, width * factor)
                size = shape[0] * shape[1] * shape[2]
                # A plain ndarray view: slicing np.memmap objects costs microseconds each.
                images.append(np.asarray(flat[start : start + size]).reshape(shape))
                start += size
            lists.append(images)
        return lists[0], lists[1]
