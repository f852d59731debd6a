"""One training stage as a LightningModule. Importing this needs the extra `train`."""

from __future__ import annotations

import dataclasses
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

from sparsesr.data import Queries
from sparsesr.nn import PixelRouter, has_sparse_masks
from sparsesr.train.average import WeightAverage
from sparsesr.train.initial import frozen_modules
from sparsesr.train.losses import balance, blended, every_patch, l1, mask_sample, min_max_of_all
from sparsesr.train.recipe import ROUTED, WHOLE, StageConfig
from sparsesr.train.schedule import active_ramp, learning_rate, temperature

Batch = tuple[torch.Tensor, torch.Tensor | Queries]


class StageModule(pl.LightningModule):
    """The network of one stage with its loss, optimiser, schedule and weight average.

    `step` counts finished optimiser steps, across restarts; `stepped` says whether the last batch
    ended one (with `accumulate` not each does). `average` is what gets evaluated and shipped.
    `losses` holds the detached terms of the last batch.

    Args:
        net: model of the stage, its initial weights already in it.
        stage: the stage's part of the recipe.
        channels_last: memory format of the network and its input.
        fused: Adam in one kernel; not together with float16, whose scaler comes between.
    """

    def __init__(
        self,
        net: nn.Module,
        stage: StageConfig,
        channels_last: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.stage = stage
        self.fused = fused
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if isinstance(net, PixelRouter):
            net.samplers_in_use = 1 if stage.step == "heavy" else stage.samplers
        for part in frozen_modules(stage, net):
            part.requires_grad_(False)
        self.net = net.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self.average = WeightAverage(self.net, stage.ema)
        self.step = 0
        self.stepped = False
        self.losses: dict[str, torch.Tensor] = {}
        self.train()  # Lightning leaves the modes as it finds them

    def train(self, mode: bool = True) -> StageModule:
        """Training mode; frozen parts and the average stay in eval mode."""
        super().train(mode)
        self.average.eval()
        for part in frozen_modules(self.stage, self.net):
            part.eval()
        return self

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Loss of one batch (lr [N,3,h,w], hr [N,3,sh,sw] or single pixels of it)."""
        self.stepped = False
        lr, hr = batch
        lr = lr.contiguous(memory_format=self.memory_format)
        if isinstance(hr, torch.Tensor):
            hr = hr.contiguous(memory_format=self.memory_format)
        if self.stage.step in ROUTED:
            terms = self.routed_terms(lr, hr)
        elif not isinstance(hr, torch.Tensor):
            raise TypeError("single pixels train PCSR forms only")
        elif self.stage.supervised_mask:
            terms = self.mask_terms(lr)
        elif self.stage.step in ("e2e", "mask"):
            terms = self.blended_terms(lr, hr)
        elif self.stage.step == WHOLE:
            terms = self.whole_terms(lr, hr)
        elif self.stage.step == "head":
            terms = {"coarse": l1(self.net.coarse_and_feature(lr)[0], hr)}
        else:
            terms = self.image_terms(lr, hr)
        weights = dataclasses.asdict(self.stage.loss)
        weights["active"] *= active_ramp(self.step, self.stage.masks)
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        self.losses = {"loss": loss.detach(), **{k: v.detach() for k, v in terms.items()}}
        return loss

    def image_terms(self, lr: torch.Tensor, hr: torch.Tensor) -> dict[str, torch.Tensor]:
        """Stages dnet and allnet: mean|SR - HR| and, where it has a weight, mean|coarse - HR|."""
        every = every_patch(self.net)
        if self.stage.loss.coarse == 0:
            return {"sr": l1(self.net(lr, **every), hr)}
        out = self.net(lr, return_details=True, **every)
        return {"sr": l1(out.sr, hr), "coarse": l1(out.coarse, hr)}

    def mask_terms(self, lr: torch.Tensor) -> dict[str, torch.Tensor]:
        """Stage mask: mean|M - T|, every patch refined to form T, no selection in the loss."""
        with torch.no_grad():
            feature, target = mask_sample(self.net, lr, min_max_of_all)
        return {"mask": l1(self.net.score(feature), target)}

    def blended_terms(self, lr: torch.Tensor, hr: torch.Tensor) -> dict[str, torch.Tensor]:
        """Stages e2e and mask without supervision: the SR loss reaches the mask's scores."""
        sr, coarse = blended(self.net, lr, self.stage.budget)
        terms = {"sr": l1(sr, hr)}
        if self.stage.step == "e2e" and self.stage.loss.coarse:
            terms["coarse"] = l1(coarse, hr)
        return terms

    def routed_terms(self, lr: torch.Tensor, hr: torch.Tensor | Queries) -> dict[str, torch.Tensor]:
        """Stages heavy and light: mean|SR - HR|; light adds how unevenly the samplers are used."""
        if isinstance(hr, torch.Tensor):
            out, target = self.net(lr, return_details=True), hr
        else:
            out, target = self.net.at(lr, hr.places, hr.cells), hr.colours
        terms = {"sr": l1(out.sr, target)}
        if self.stage.step == "light":
            terms["balance"] = balance(out.probabilities)
        return terms

    def whole_terms(self, lr: torch.Tensor, hr: torch.Tensor) -> dict[str, torch.Tensor]:
        """Stage whole: mean|SR - HR|; sparse masks add the share of values they let through."""
        if not has_sparse_masks(self.net):
            return {"sr": l1(self.net(lr), hr)}
        self.net.temperature = temperature(self.step, self.stage.masks)
        out = self.net(lr, return_details=True)
        return {"sr": l1(out.sr, hr), "active": out.active().mean()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over what is not frozen; the learning rate is set at every step."""
        config = self.stage.optimizer
        return torch.optim.Adam(
            [p for p in self.net.parameters() if p.requires_grad],
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=self.fused,
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step at the schedule's rate, then the average follows."""
        optimizer = args[2] if len(args) > 2 else kwargs["optimizer"]
        rate = learning_rate(self.step, self.stage.iterations, self.stage.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = rate
        super().optimizer_step(*args, **kwargs)
        self.average.update(self.net)
        self.step += 1
        self.stepped = True
