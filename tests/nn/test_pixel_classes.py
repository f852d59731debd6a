"""The three rules that give pixels their classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparsesr.nn.pixel_classes import (
    classes_adaptively,
    classes_by_budget,
    classes_by_cost,
    first_heavy_class,
)


def _logits(classes: int, batch: int = 2, height: int = 9, width: int = 13) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    return torch.randn(batch, classes, height, width, generator=rng)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("k", [0, 0.5, 2, -1])
def test_cost_is_the_papers_formula(classes: int, k: float) -> None:
    logits = _logits(classes).double()
    costs = torch.arange(1, classes + 1, dtype=torch.float64)
    expected = (logits.softmax(1) / costs.view(1, -1, 1, 1) ** k).argmax(1)
    assert torch.equal(classes_by_cost(logits, costs.tolist(), k).long(), expected)


def test_equals_are_light_and_nan_too() -> None:
    assert int(classes_by_cost(torch.zeros(1, 3, 1, 1), [0.2, 0.3, 0.5], 0)) == 0
    assert int(classes_by_cost(torch.full((1, 2, 1, 1), math.nan), [0.2, 0.8], 0)) == 0


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("budget", [0, 0.001, 0.2, 0.5, 1])
def test_a_budget_is_exact(classes: int, budget: float) -> None:
    logits, first = _logits(classes), first_heavy_class(classes)
    chosen = classes_by_budget(logits, budget)
    heavy = chosen >= first
    pixels = heavy[0].numel()
    assert heavy.flatten(1).sum(1).tolist() == [math.ceil(round(budget * pixels, 6))] * 2
    p = logits.softmax(1)
    difficulty = p[:, first:].sum(1)
    for image, is_heavy in zip(difficulty, heavy, strict=True):
        if 0 < is_heavy.sum() < pixels:
            assert image[is_heavy].min() >= image[~is_heavy].max()
    # Within its half a pixel takes the likeliest class.
    light, costly = p[:, :first].argmax(1), p[:, first:].argmax(1) + first
    assert torch.equal(chosen.long(), torch.where(heavy, costly, light))


def test_a_budget_among_equals_takes_them_in_order() -> None:
    chosen = classes_by_budget(torch.zeros(1, 2, 2, 5), 0.3)
    assert chosen.flatten().tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]


def _two_means(values: Tensor) -> tuple[list[int], int]:
    """The released rule for two classes as its library does it, pixel by pixel, and its rounds."""
    values = (values - values.min()) / (values.max() - values.min())
    centroids = [float(values.mean()), 0.0]  # after the round that starts from 0.5 alone
    rounds = 1
    while rounds < 20:
        rounds += 1
        labels = [int(abs(v - centroids[1]) < abs(v - centroids[0])) for v in values.tolist()]
        means = []
        for j in (0, 1):
            own = [v for v, label in zip(values.tolist(), labels, strict=True) if label == j]
            means.append(sum(own) / len(own) if own else 0.0)
        shift = sum((a - b) ** 2 for a, b in zip(means, centroids, strict=True))
        centroids = means
        if shift <= 1e-4:
            break
    if labels[int(values.argmin())] == 1:
        labels = [1 - label for label in labels]
    return labels, rounds


def test_two_clusters_are_the_released_rule() -> None:
    seen = set()
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        logits = torch.randn(1, 2, 17, 23, generator=rng).exp() * (seed % 5 + 0.2)
        expected, rounds = _two_means((logits[:, 1] - logits[:, 0]).sigmoid().flatten().double())
        assert classes_adaptively(logits).flatten().tolist() == expected
        seen.add(rounds)
    assert len(seen) > 2  # of several lengths


def test_three_clusters_are_plain_k_means() -> None:
    logits = _logits(3, batch=1, height=31, width=29)
    p = logits.softmax(1)[:, 1:].sum(1).flatten().double()
    p = (p - p.min()) / (p.max() - p.min())
    centroids = torch.tensor([1, 3, 5]) / 6
    for _ in range(19):
        labels = (p[:, None] - centroids).abs().argmin(1)
        means = torch.stack([p[labels == j].mean() for j in range(3)])
        moved = (means - centroids).square().sum()
        centroids = means
        if moved <= 1e-4:
            break
    assert torch.equal(classes_adaptively(logits).flatten().long(), labels)


def test_each_image_has_its_own_clusters() -> None:
    logits = _logits(2, batch=3)
    logits[1] *= 4
    together = classes_adaptively(logits)
    for i in range(3):
        assert torch.equal(classes_adaptively(logits[i : i + 1])[0], together[i])


@pytest.mark.parametrize("classes", [2, 3])
def test_an_image_of_one_difficulty_is_light(classes: int) -> None:
    logits = torch.zeros(2, classes, 4, 5)
    logits[1, -1] = 3
    assert classes_adaptively(logits).unique().tolist() == [0]
    assert classes_adaptively(logits[..., :1, :1]).unique().tolist() == [0]
