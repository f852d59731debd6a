"""Where the time of one forward pass goes, stage by stage."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsesr import ops
from sparsesr.inference.machine import synchronise
from sparsesr.inference.upscaler import Upscaler, backend_choice, choice_options
from sparsesr.nn import PixelRouter, selects_patches
from sparsesr.nn.pixel_classes import first_heavy_class
from sparsesr.nn.pixel_places import pixel_places

Thunk = Callable[[], Any]
Clock = Callable[[], float]


def profile(
    net: nn.Module,
    lr_size: tuple[int, int],
    k: float | None = None,
    budget: float | None = None,
    repeats: int = 10,
    backend: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Seconds of each stage (median of interleaved repeats), parameters and multiply-adds.

    Args:
        net: a model; one that selects patches is timed in six stages (base, mask, select, gather,
            refine, scatter), or in four where one op does the work of the last three (refine); one
            that routes pixels in five (encoder, classifier, choice, samplers, average), another as
            a whole.
        lr_size: LR height and width in pixels; the image is noise.
        k: patches to refine, the model's default when neither ``k`` nor ``budget`` is given; of a
            network that routes pixels, the exponent of the cost.
        budget: the same as a fraction; there, of the pixels that are heavy.
        repeats: timed runs of everything, >= 1; one more warms up.
        backend: ops backend, None for the current choice.
        device: where to run, None for where the net is.

    Returns:
        {"model", "lr_size": [H, W], "k", "params", "macs", "paper_flops", "stages": {name: s},
        "total": s}: "k" is the number of patches refined or None, "total" the time of a plain
        call, which need not be the sum of the stages (it may fuse some of them). A network that
        routes pixels adds "heavy_fraction"; its multiply-adds are those of the classes it chose.

    Raises:
        ValueError: ``repeats`` or a side below 1; ``k`` and ``budget`` as in ``Upscaler``.
    """
    height, width = lr_size
    if repeats < 1 or height < 1 or width < 1:
        raise ValueError(
            f"profile: expected repeats and sides of at least 1, got repeats={repeats} and "
            f"lr_size={tuple(lr_size)}"
        )
    upscaler = Upscaler(net, backend=backend, k=k, budget=budget, device=device)
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    lr = noise.to(upscaler.device).contiguous(memory_format=upscaler.memory_format)
    count, stages = _stages(upscaler, lr)
    seconds = interleaved(
        {**stages, "total": lambda: upscaler.run(lr)}, repeats, upscaler.device, backend
    )
    total = seconds.pop("total")
    from sparsesr.complexity import complexity, routed_complexity

    extra = {}
    if isinstance(net, PixelRouter):
        out = upscaler.run(lr, return_details=True)
        size = routed_complexity(net, (height, width), out.class_counts()[0].tolist())
        extra = {"heavy_fraction": float(out.heavy_fraction()[0])}
    else:
        size = complexity(net, (height, width), **choice_options(k, budget))
    return {
        "model": f"{getattr(net, 'model_name', type(net).__name__.lower())}-x{net.scale}",
        "lr_size": [height, width],
        "k": count,
        "params": size.params,
        "macs": size.macs,
        "paper_flops": size.paper_flops,
        "stages": seconds or {"forward": total},
        "total": total,
        **extra,
    }


def interleaved(
    runs: dict[str, Thunk],
    repeats: int,
    device: torch.device | None = None,
    backend: str | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each function, taken in turns so that a busy machine hits all alike.

    Args:
        runs: name -> function without arguments; each is called once before the clock starts.
        repeats: timed rounds.
        device: synchronised around every call where it is a GPU.
        backend: ops backend, None for the current choice.
        clock: seconds; ``time.process_time`` for one thread on a CPU that others use too.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode(), backend_choice(backend):
        for turn in range(repeats + 1):
            for name, run in runs.items():
                synchronise(device)
                start = clock()
                run()
                synchronise(device)
                if turn > 0:
                    times[name].append(clock() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _stages(upscaler: Upscaler, lr: Tensor) -> tuple[int | None, dict[str, Thunk]]:
    """The stages of a network that chooses, each fed with what the one before made."""
    net: Any = upscaler.net
    if isinstance(net, PixelRouter):
        return None, _routing_stages(net, upscaler, lr)
    if not selects_patches(net):
        return None, {}
    out = upscaler.run(lr, **choice_options(upscaler.k, upscaler.budget), return_details=True)
    index = out.index
    count = index.shape[1]
    with torch.inference_mode(), backend_choice(upscaler.backend):
        coarse, feature = net.coarse_and_feature(lr)
        mask = net.score(feature)
        plan = net.plan(coarse, feature)
        windows = net.gather(feature, index)
        refined = net.refine(windows)
    side = net.scale * net.patch_size
    stages: dict[str, Thunk] = {
        "base": lambda: net.coarse_and_feature(lr),
        "mask": lambda: net.score(feature),
        "select": lambda: net.select(mask, count),
    }
    if plan is not None and count > 0:
        return count, {**stages, "refine": lambda: plan.refine_(coarse, feature, index)}
    return count, {
        **stages,
        "gather": lambda: net.gather(feature, index),
        "refine": lambda: net.refine(windows),
        "scatter": lambda: ops.scatter_patches_(coarse, refined, index, side),
    }


def _routing_stages(net: PixelRouter, upscaler: Upscaler, lr: Tensor) -> dict[str, Thunk]:
    """The stages of a network that routes pixels."""
    lr_size, options = (lr.shape[-2], lr.shape[-1]), choice_options(upscaler.k, upscaler.budget)
    size = net.output_size(lr_size)
    costs, heavy = net.costs(lr_size, size), first_heavy_class(net.classes)
    with torch.inference_mode(), backend_choice(upscaler.backend):
        places = pixel_places(lr_size, size, lr.device)
        feature = net.encode(lr)
        logits = net.classify(feature, places)
        class_map = net.choose(logits, costs, **options)
        image = net.sample(feature, class_map, places, lr)
    return {
        "encoder": lambda: net.encode(lr),
        "classifier": lambda: net.classify(feature, places),
        "choice": lambda: net.choose(logits, costs, **options),
        "samplers": lambda: net.sample(feature, class_map, places, lr),
        "average": lambda: ops.average_neighbors(image, class_map, 1, heavy),
    }
