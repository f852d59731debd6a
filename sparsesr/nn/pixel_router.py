"""``PixelRouter``: an encoder at LR, and for every HR pixel the sampler it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import engine, ops
from .pixel_classes import (
    classes_adaptively,
    classes_by_budget,
    classes_by_cost,
    first_heavy_class,
)
from .pixel_cost import class_costs, encoder_operations
from .pixel_places import Places, centres, pixel_places
from .pixel_sampler import PixelSampler
from .sparse_refine import check_image

PAIR = ("light_sampler", "heavy_sampler")  # names of two samplers in released checkpoints


class RoutedOutput(NamedTuple):
    """What a pixel router computed.

    Attributes:
        sr: super-resolved image [B, 3, H, W], unclamped.
        class_map: class of each pixel [B, H, W] uint8, 0 the cheapest.
        logits: of the classifier, [B, M, H, W].
        refined: whether light pixels beside heavy ones were averaged.
    """

    sr: Tensor
    class_map: Tensor
    logits: Tensor
    refined: bool

    def heavy_fraction(self) -> Tensor:
        """Share of the pixels of each image that are heavy, [B] float64."""
        heavy = self.class_map >= first_heavy_class(self.logits.shape[1])
        return heavy.flatten(1).double().mean(1)

    def class_counts(self) -> Tensor:
        """Pixels of each class in each image, [B, M] int64."""
        classes = range(self.logits.shape[1])
        return torch.stack([(self.class_map == j).flatten(1).sum(1) for j in classes], dim=1)


class MixedOutput(NamedTuple):
    """What a pixel router computed in training mode.

    Attributes:
        sr: [B, 3, H, W], all samplers in use weighted by their probabilities.
        probabilities: of the samplers in use, cheapest first, [B, M', H, W].
    """

    sr: Tensor
    probabilities: Tensor


class PixelRouter(nn.Module):
    """Pixel-level classifier for super-resolution (PCSR: Jeong et al., ECCV 2024).

    ``feature = encoder(lr - mean)``; a small MLP classifies every HR pixel from the nearest feature
    and where the pixel lies; the MLP of its class gives its colours, added to the bilinear image.
    The scale is a choice of the call: one network serves all.

    In eval mode each pixel takes one sampler. In training mode all samplers run on all pixels and
    their colours are averaged by probability (eq. 5), differentiably; ``samplers_in_use`` limits
    them to the heaviest ones, as the stages of the training do.

    Attributes:
        receptive_field: LR pixels square that a pixel depends on, given what ``adaptive`` and
            ``budget`` take from the whole image; None where that is not known.

    Args:
        encoder: [B,3,h,w] -> [B,C,h,w].
        channels: C.
        hidden: hidden widths of each sampler, cheapest first; at least two samplers.
        classifier_hidden: hidden widths of the classifier.
        scale: where the call does not say.
        mean: colour subtracted before the encoder.

    Raises:
        ValueError: fewer than two samplers or more than 255, a scale below 1.

    Example:
        >>> net = PixelRouter(nn.Conv2d(3, 8, 3, padding=1), 8, [[4], [16, 16]], scale=2).eval()
        >>> out = net(torch.rand(1, 3, 6, 5), budget=0.2, return_details=True)
        >>> out.sr.shape, out.heavy_fraction().tolist()
        (torch.Size([1, 3, 12, 10]), [0.2])
        >>> net(torch.rand(1, 3, 6, 5), scale=2.7).shape
        torch.Size([1, 3, 16, 14])
    """

    receptive_field: int | None = None

    def __init__(
        self,
        encoder: nn.Module,
        channels: int,
        hidden: Sequence[Sequence[int]],
        classifier_hidden: Sequence[int] = (),
        *,
        scale: int,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__()
        if not 2 <= len(hidden) <= 255:
            raise ValueError(f"PixelRouter: expected 2 to 255 samplers, got {len(hidden)}")
        _check_scale(scale)
        self.scale = scale
        self.encoder = encoder
        samplers = [PixelSampler(channels, widths, 3) for widths in hidden]
        if len(samplers) == 2:
            for name, sampler in zip(PAIR, samplers, strict=True):
                setattr(self, name, sampler)
        else:
            self.samplers = nn.ModuleList(samplers)
        self.classifier = PixelSampler(channels, classifier_hidden, len(samplers))
        self.samplers_in_use = len(samplers)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self._encoder_operations = encoder_operations(encoder)

    @property
    def all_samplers(self) -> list[PixelSampler]:
        """The samplers, cheapest first."""
        if hasattr(self, "samplers"):
            return list(self.samplers)  # type: ignore[arg-type]
        return [getattr(self, name) for name in PAIR]

    @property
    def classes(self) -> int:
        """M, the number of samplers."""
        return len(self.all_samplers)

    def forward(
        self,
        lr: Tensor,  # [B, 3, h, w]
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        k: float | None = None,
        adaptive: bool = False,
        budget: float | None = None,
        refine: bool = True,
        min_heavy: int = 1,
        return_details: bool = False,
    ) -> Tensor | RoutedOutput | MixedOutput:
        """Super-resolve ``lr`` [B,3,h,w] in [0,1] to [B,3,H,W], unclamped.

        Args:
            lr: any h, w, B; NCHW or channels_last.
            scale: H = round(h * scale), W alike; at least 1, the network's own by default.
            size: (H, W) instead of a scale.
            k: exponent of the cost (eq. 10), 0 by default; the larger, the fewer heavy pixels.
            adaptive: choose by the paper's ADM instead, each image by its own difficulties.
            budget: the fraction of pixels that are heavy instead, in [0, 1], exact in each image:
                ceil(budget * H * W).
            refine: average light pixels that lie beside heavy ones (the paper's refinement).
            min_heavy: how many heavy pixels in its 3x3 a light pixel needs to be averaged.
            return_details: return ``RoutedOutput`` (``MixedOutput`` in training mode).

        Raises:
            TypeError, ValueError: a wrong image, scale and size both given or below the image's
                own, more than one of k, adaptive and budget, any of them in training mode.
        """
        check_image(lr)
        hr_size = self.output_size(lr.shape[-2:], scale, size)
        check_routing(k, adaptive, budget)
        places = pixel_places((lr.shape[-2], lr.shape[-1]), hr_size, lr.device)
        feature = self.encode(lr)
        if self.training:
            if k is not None or adaptive or budget is not None:
                raise ValueError(
                    "PixelRouter: in training mode every pixel goes through every sampler; drop k, "
                    "adaptive and budget, or call eval()"
                )
            return self._mixed(feature, places, lr, return_details)
        logits = self.classify(feature, places)
        class_map = self.choose(logits, self.costs(lr.shape[-2:], hr_size), k, adaptive, budget)
        sr = self.sample(feature, class_map, places, lr)
        if refine:
            sr = ops.average_neighbors(sr, class_map, min_heavy, first_heavy_class(self.classes))
        return RoutedOutput(sr, class_map, logits, refine) if return_details else sr

    # The steps one by one, for profiling and training.

    def output_size(
        self, lr_size: Sequence[int], scale: float | None = None, size: Sequence[int] | None = None
    ) -> tuple[int, int]:
        """(H, W) for a scale, a size, or neither.

        Raises:
            TypeError, ValueError: both given, or not at least as large as the LR image.
        """
        if scale is not None and size is not None:
            raise ValueError(f"expected scale or size, got both (scale={scale}, size={size})")
        h, w = lr_size
        if size is None:
            scale = _check_scale(self.scale if scale is None else scale)
            return round(h * scale), round(w * scale)
        pair = tuple(size)
        if len(pair) != 2 or not all(isinstance(n, (int, torch.SymInt)) for n in pair):
            raise TypeError(f"expected size (H, W) as two ints, got {size!r}")
        if pair[0] < h or pair[1] < w:
            raise ValueError(f"expected size of at least {h}x{w}, the LR image, got {pair}")
        return pair[0], pair[1]

    def encode(self, lr: Tensor) -> Tensor:
        """Feature map [B,C,h,w]."""
        return engine.run(self.encoder, lr - self.mean.to(lr.dtype))

    def classify(self, feature: Tensor, places: Places) -> Tensor:
        """Logits [B,M,H,W] of every HR pixel."""
        mlps = [self.classifier.mlp(places)]
        return ops.route_mlp(feature, None, mlps, places.rows.source, places.cols.source)

    def choose(
        self,
        logits: Tensor,
        costs: Sequence[float],
        k: float | None = None,
        adaptive: bool = False,
        budget: float | None = None,
    ) -> Tensor:
        """Classes [B,H,W] uint8."""
        if adaptive:
            return classes_adaptively(logits)
        if budget is not None:
            return classes_by_budget(logits, budget)
        unused = self.classes - self.samplers_in_use  # while it is being trained
        k = 0.0 if k is None else k
        return classes_by_cost(logits[:, unused:], costs[unused:], k) + unused

    def sample(self, feature: Tensor, class_map: Tensor, places: Places, lr: Tensor) -> Tensor:
        """Colours [B,3,H,W] of every pixel by the sampler of its class, over the bilinear image."""
        mlps = [sampler.mlp(places) for sampler in self.all_samplers]
        return ops.route_mlp(feature, class_map, mlps, places.rows.source, places.cols.source, lr)

    def costs(self, lr_size: Sequence[int], hr_size: Sequence[int]) -> list[float]:
        """Relative cost of each class at the scale of these sizes, summing to 1 (eq. 9)."""
        scale = (hr_size[0] / lr_size[0], hr_size[1] / lr_size[1])
        each = [sampler_operations(sampler) for sampler in self.all_samplers]
        return class_costs(self._encoder_operations, each, scale)

    def _mixed(
        self, feature: Tensor, places: Places, lr: Tensor, return_details: bool
    ) -> Tensor | MixedOutput:
        used = self._used_samplers()
        rows, cols = places.rows.source, places.cols.source
        images = [
            ops.route_mlp(feature, None, [sampler.mlp(places)], rows, cols, lr) for sampler in used
        ]
        logits = self.classify(feature, places)[:, self.classes - len(used) :]
        probabilities = logits.softmax(1)
        sr = _mix(images, probabilities)
        return MixedOutput(sr, probabilities) if return_details else sr

    def at(self, lr: Tensor, places: Tensor, cells: Tensor) -> MixedOutput:
        """Single pixels of images of any scale, each its own, as in training mode.

        Args:
            lr: [B,3,h,w]. places: [B,Q,2], rows first, in an image that spans [-1, 1].
            cells: size of a pixel there, [B,2].

        Returns:
            ``MixedOutput`` with sr [B,3,Q] and probabilities [B,M',Q].
        """
        used = self._used_samplers()
        x = _inputs(self.encoder(lr - self.mean.to(lr.dtype)), places, cells)
        grid = places.flip(-1)[:, None]
        image = F.grid_sample(lr, grid, padding_mode="border", align_corners=False)[:, :, 0]
        images = [sampler(x).transpose(1, 2) + image for sampler in used]
        logits = self.classifier(x).transpose(1, 2)[:, self.classes - len(used) :]
        probabilities = logits.softmax(1)
        return MixedOutput(_mix(images, probabilities), probabilities)

    def _used_samplers(self) -> list[PixelSampler]:
        return self.all_samplers[self.classes - self.samplers_in_use :]


def _mix(images: list[Tensor], probabilities: Tensor) -> Tensor:
    """The images, weighted; a single one as it is, since the classifier is not trained then."""
    if len(images) == 1:
        return images[0]
    shares = [probabilities[:, j : j + 1] for j in range(len(images))]
    return torch.stack([p * image for p, image in zip(shares, images, strict=True)]).sum(0)


def _inputs(feature: Tensor, places: Tensor, cells: Tensor) -> Tensor:
    """[nearest feature, offset from its pixel, cell] of every place, [B,Q,C+4] (LIIF)."""
    size = feature.shape[-2:]
    near, offsets = [], []
    for axis, length in enumerate(size):
        place = places[..., axis]
        nearest = (((place + 1) * length - 1) / 2).round().clamp(0, length - 1).long()
        near.append(nearest)
        offsets.append((place - centres(length, place.device)[nearest]) * length)
    index = (near[0] * size[1] + near[1])[:, None].expand(-1, feature.shape[1], -1)
    values = feature.flatten(2).gather(2, index).transpose(1, 2)
    cell = cells * cells.new_tensor(size)
    place = torch.stack(offsets, dim=-1)
    return torch.cat([values, place, cell[:, None].expand_as(place)], dim=-1).to(feature.dtype)


def sampler_operations(sampler: PixelSampler) -> int:
    """Operations of a sampler or classifier for one pixel, as the paper counts: every input."""
    return sum(2 * layer.weight.numel() for layer in sampler.linears)


def routes_pixels(net: nn.Module) -> bool:
    """Whether the network gives every pixel a sampler, so that k, adaptive and budget mean so."""
    return isinstance(net, PixelRouter)


def check_routing(k: float | None, adaptive: bool, budget: float | None) -> None:
    """At most one rule: k finite, or adaptive, or a budget in [0, 1].

    Raises:
        TypeError: k or budget not a number, adaptive not a bool.
        ValueError: more than one of them, or one out of range.
    """
    if not isinstance(adaptive, bool):
        raise TypeError(f"expected adaptive as a bool, got {adaptive!r}")
    given = [
        text
        for text, is_given in (
            (f"k={k}", k is not None),
            ("adaptive=True", adaptive),
            (f"budget={budget}", budget is not None),
        )
        if is_given
    ]
    if len(given) > 1:
        raise ValueError(f"expected one of k, adaptive and budget, got {' and '.join(given)}")
    for name, value in (("k", k), ("budget", budget)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"expected {name} as a number, got {value!r}")
    if k is not None and not math.isfinite(k):
        raise ValueError(f"expected a finite k, got {k}; -50 makes all pixels heavy, 50 light")
    if budget is not None and not 0 <= budget <= 1:
        raise ValueError(f"expected budget in [0, 1], got {budget}; 0.25 makes a quarter heavy")


def _check_scale(scale: object) -> float:
    if isinstance(scale, bool) or not isinstance(scale, (int, float)):
        raise TypeError(f"expected scale as a number, got {scale!r}")
    if not (scale >= 1 and math.isfinite(scale)):
        raise ValueError(f"expected a scale >= 1, got {scale}")
    return scale
