"""From an image of any kind to a larger one of the same kind."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from sparsesr.io import to_array, to_tensor
from sparsesr.metrics import FULL_RANGE_LUMA
from sparsesr.nn import check_k_budget, check_routing, routes_pixels, selects_patches

from .machine import synchronise
from .symmetry import SYMMETRIES, mean_over_symmetries
from .tiled import Tiler
from .tiling import SMALLEST, Progress
from .time_budget import Pick, TimeBudget

log = logging.getLogger("sparsesr")

PRECISIONS = {
    "auto": None,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_SIZES = {"scale", "size"}
_ROWS = 64  # that are rounded at a time

Image = TypeVar("Image")


class Upscaler:
    """Call a network on an image and get the same kind of image back.

    Args:
        net: a model of ``create_model`` or ``from_pretrained``. It is switched to eval mode and
            moved to ``device``, on the CPU in channels_last.
        tile: "auto": the image whole where that fits the memory, else in the largest tiles that do;
            0: whole; N >= 16: tiles of N LR pixels. Where memory is short all the same, the tile
            is halved. Tiles give what the whole image gives, the K largest patches of all of it
            included, unless the network declares no ``receptive_field``: then a warning says
            what they change.
        backend: "reference", "cpu", "cuda", "triton" or None for the current choice.
        k: patches to refine in each image, for models that select patches; the exponent of the
            cost, any number, for models that route pixels.
        budget: the same as a fraction of all patches, or of the pixels that are heavy, in [0, 1];
            not together with ``k``.
        device: "cpu", "cuda:0", ...; None leaves the net where it is.
        scale: any number >= 1 for models that route pixels; None, or theirs, for all others.
        precision: "fp32", "fp16" or "bf16" for a copy of the net in that dtype; "auto" leaves the
            net as it is. What a half precision makes NaN or infinite is computed in float32.
        tta: the mean over the eight symmetries of the square, for eight times the work.
        progress: called as ``progress(done, all)`` after every tile. May be set later.
        time_budget: seconds that a call of the network may take; as much is refined as that
            allows (``TimeBudget``). Not together with ``k`` or ``budget``.

    Attributes:
        clock: the ``TimeBudget``, None without one.
        picked: what it chose for the last call, and how long that took.

    Raises:
        TypeError: ``net`` is not a Module.
        ValueError: another ``tile`` or ``precision``, a negative number of patches, two of ``k``,
            ``budget`` and ``time_budget``, one of them for a network that chooses neither patches
            nor pixels; in calls, a ``time_budget`` shorter than the coarse image takes.

    Example:
        >>> import numpy as np, sparsesr
        >>> up = sparsesr.Upscaler(sparsesr.create_model("fsrcnn-mga", scale=2), budget=0.25)
        >>> up(np.zeros((12, 10, 3), np.uint8)).shape
        (24, 20, 3)
    """

    def __init__(
        self,
        net: nn.Module,
        tile: str | int = "auto",
        backend: str | None = None,
        k: float | None = None,
        budget: float | None = None,
        device: str | torch.device | None = None,
        scale: float | None = None,
        precision: str = "auto",
        tta: bool = False,
        progress: Callable[[int, int], None] | None = None,
        time_budget: float | None = None,
    ) -> None:
        if not isinstance(net, nn.Module):
            raise TypeError(f"Upscaler: expected a Module, got {type(net).__name__}")
        if precision not in PRECISIONS:
            raise ValueError(
                f"Upscaler: expected precision as one of {', '.join(PRECISIONS)}, got {precision!r}"
            )
        self.tile = check_tile(tile)
        check_choice(net, k, budget)
        if time_budget is not None and (k is not None or budget is not None):
            raise ValueError(
                f"Upscaler: expected one of k, budget and time_budget, got k={k}, budget={budget}, "
                f"time_budget={time_budget}"
            )
        if scale is not None and scale != getattr(net, "scale", scale) and not routes_pixels(net):
            raise ValueError(f"Upscaler: the network is for x{net.scale}, got scale={scale:g}")
        self.net = net.eval() if device is None else net.eval().to(device)
        self.backend = backend
        self.k = k
        self.budget = budget
        self.scale = scale
        first = next(net.parameters(), None)
        self.device = torch.device("cpu") if first is None else first.device
        self.dtype = torch.float32 if first is None else first.dtype
        self.tta = tta
        self.progress = progress
        self._tiler = Tiler(self.tile)
        self._float: nn.Module | None = None  # the net that repeats what overflows
        wanted = PRECISIONS[precision]
        if wanted is not None and wanted != self.dtype:
            self._float = self.net if self.dtype == torch.float32 else None
            self.net, self.dtype = copy.deepcopy(self.net).to(wanted), wanted
        self.memory_format = (
            torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        )
        self.net.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.clock = None if time_budget is None else TimeBudget(self, time_budget)
        self.picked: Pick | None = None

    def __call__(self, image: Image) -> Image:
        """Upscale one image (or a batch, if it is a tensor of one).

        Args:
            image: PIL image of mode 1, L, LA, P, PA, RGB, RGBA, CMYK or I;16 (``upscale_pil``);
                ndarray [H, W, 3] or [H, W], uint8 or floating in [0, 1]; Tensor [3, H, W] or
                [B, 3, H, W], uint8 or floating in [0, 1].

        Returns:
            The same kind, dtype, mode, rank and device, scale times as high and wide. 8-bit
            kinds are clamped and rounded, floats are what the network returns, unclamped.

        Raises:
            TypeError: another kind.
            ValueError: another shape or PIL mode.
        """
        if isinstance(image, Tensor):
            return cast(Image, self._tensor(image))
        if isinstance(image, np.ndarray):
            return cast(Image, self._array(image))
        if hasattr(image, "getbands") and hasattr(image, "convert"):
            return cast(Image, self._pil(image))
        raise TypeError(
            f"Upscaler: expected a PIL image, an ndarray or a Tensor, got {type(image).__name__}"
        )

    def run(
        self,
        lr: Tensor,  # [B, 3, H, W] floating in [0, 1]
        **options: Any,
    ) -> Any:
        """Call the network itself: no gradient, its device, dtype, backend and memory format.

        Args:
            lr: [B, 3, H, W] floating in [0, 1], any device.
            **options: what the network's forward takes (``return_details=True``, ``order``, ...);
                ``k``, ``budget`` and ``scale`` default to those given to the constructor, or to
                what its ``time_budget`` allows.

        Returns:
            What the network returns, on its device.
        """
        if not options.keys() & {"k", "budget", "adaptive"}:
            if self.clock is not None:
                return self._run_timed(self.clock, lr, options)
            options.update(choice_options(self.k, self.budget))
        if self.scale is not None and routes_pixels(self.net) and not options.keys() & _SIZES:
            options["scale"] = self.scale
        with torch.inference_mode(), backend_choice(self.backend):
            out = self._enlarge(self.net, lr, self.dtype, options)
            if self.dtype in (torch.float16, torch.bfloat16) and not _is_finite(out):
                log.warning("NaN or infinite values in %s; computed again in float32", self.dtype)
                del out
                out = self._enlarge(self._float_net(), lr, torch.float32, options)
            return out

    def chosen(self) -> dict[str, Any]:
        """``k`` or ``budget`` of the last call that was left to this upscaler; may be empty."""
        if self.picked is not None:  # by the time that the call might take
            return self.picked.options
        return choice_options(self.k, self.budget)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """``progress`` hears nothing of the calls inside."""
        shown, self.progress = self.progress, None
        try:
            yield
        finally:
            self.progress = shown

    def _run_timed(self, clock: TimeBudget, lr: Tensor, options: dict[str, Any]) -> Any:
        """``run`` with what the time allows."""
        self.picked = clock.pick(lr)
        synchronise(self.device)
        start = time.perf_counter()
        out = self.run(lr, **options, **self.picked.options)
        synchronise(self.device)
        clock.took(self.picked, lr, time.perf_counter() - start)
        return out

    def _enlarge(
        self, net: nn.Module, lr: Tensor, dtype: torch.dtype, options: dict[str, Any]
    ) -> Any:
        x = lr.to(self.device, dtype).contiguous(memory_format=self.memory_format)
        progress = Progress(self.progress, SYMMETRIES if self.tta else 1)

        def run(view: Tensor, turned: dict[str, Any]) -> Any:
            return self._tiler.run(net, view, turned, progress)

        return mean_over_symmetries(run, x, options) if self.tta else run(x, options)

    def _float_net(self) -> nn.Module:
        if self._float is None:
            self._float = copy.deepcopy(self.net).float()
        return self._float

    def _tensor(self, image: Tensor) -> Tensor:
        if image.dim() not in (3, 4) or image.shape[-3] != 3:
            raise ValueError(
                f"Upscaler: expected a Tensor [3, H, W] or [B, 3, H, W], got {tuple(image.shape)}"
            )
        eight_bit = image.dtype == torch.uint8
        if not eight_bit and not torch.is_floating_point(image):
            raise TypeError(f"Upscaler: expected uint8 or a floating dtype, got {image.dtype}")
        lr = image.float() / 255 if eight_bit else image
        sr = self.run(lr if image.dim() == 4 else lr[None])
        if eight_bit:
            sr = sr.clamp(0, 1).mul(255).add(0.5).floor()
        sr = sr.to(image.device, image.dtype).contiguous()
        return sr if image.dim() == 4 else sr[0]

    def _array(self, image: np.ndarray) -> np.ndarray:
        grey = image.ndim == 2
        sr = self.run(to_tensor(np.repeat(image[:, :, None], 3, axis=2) if grey else image))
        if image.dtype == np.uint8:
            # Three equal channels in need not stay equal; their luma is the grey image.
            return _luma(round_to_array(sr)) if grey else round_to_array(sr)
        floats = sr[0].permute(1, 2, 0).cpu().numpy().astype(image.dtype)
        if grey:
            return floats @ np.array(FULL_RANGE_LUMA, image.dtype)
        return np.ascontiguousarray(floats)

    def _pil(self, image: Any) -> Any:
        from sparsesr.inference.pictures import upscale_pil

        return upscale_pil(self, image)


def round_to_array(sr: Tensor) -> np.ndarray:
    """``io.to_array`` a few rows at a time, so that a large image needs no copies of its size.

    Args:
        sr: [1, 3, H, W] floating, any device.

    Returns:
        [H, W, 3] uint8.
    """
    height, width = sr.shape[2:]
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS):
        image[top : top + _ROWS] = to_array(sr[:, :, top : top + _ROWS])
    return image


def _luma(image: np.ndarray) -> np.ndarray:
    return np.floor(image @ np.array(FULL_RANGE_LUMA) + 0.5).clip(0, 255).astype(np.uint8)


def _is_finite(out: Any) -> bool:
    return bool(torch.isfinite(out if isinstance(out, Tensor) else out.sr).all())


def check_tile(tile: object) -> str | int:
    """The tile asked for: "auto", 0 or the side of a tile; digits in a string are a number.

    Raises:
        ValueError: anything else, or a side below 16.
    """
    number = int(tile) if isinstance(tile, str) and tile.isdecimal() else tile
    if number == "auto":
        return "auto"
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or (number != 0 and number < SMALLEST):  # type: ignore[operator]
        raise ValueError(
            f"Upscaler: expected tile 'auto', 0 (the image whole) or the side of a tile of at "
            f"least {SMALLEST} LR pixels, got {tile!r}"
        )
    return number  # type: ignore[return-value]


def check_choice(net: nn.Module, k: float | None, budget: float | None) -> None:
    """Refuse a ``k`` or ``budget`` that the network cannot take.

    Raises:
        TypeError: ``k`` is not an int (for a network that routes pixels: not a number), or
            ``budget`` not a number.
        ValueError: both given, out of range, or the network chooses neither patches nor pixels.
    """
    if k is None and budget is None:
        return
    if routes_pixels(net):
        check_routing(k, False, budget)
        return
    check_k_budget(k, budget)  # type: ignore[arg-type]  # a float is what it refuses
    if not selects_patches(net):
        name = getattr(net, "model_name", type(net).__name__)
        raise ValueError(f"{name} does not select patches; leave out k and budget")


def choice_options(k: float | None, budget: float | None) -> dict[str, Any]:
    """Only those of k and budget that were given, as keyword arguments for a network."""
    given = {"k": k, "budget": budget}
    return {name: value for name, value in given.items() if value is not None}


def backend_choice(name: str | None) -> AbstractContextManager[Any]:
    """``use_backend(name)``, or nothing at all for None."""
    if name is None:
        return nullcontext()
    import sparsesr

    return sparsesr.use_backend(name)
