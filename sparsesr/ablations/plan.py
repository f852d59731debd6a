"""What an ablation is made of: variants, the trainings they share, how each is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

PROFILES = ("short", "paper")
PAPER_K_PIXELS = 16  # of a patch where the papers give K: K p^2 is kept

# Settings and sections of every training in the short profile: one CPU core, no evaluation between.
SHORT_SETTINGS = {"threads": 1, "precision": "float32"}
SHORT_DATA = {"workers": 0}
SHORT_STAGE = {"checkpoint_every": 500, "lr_crop": None, "batch": None}

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Given:
    """Weights that are not trained here: a shipped network's, or a file of the user's.

    Attributes:
        name: of shipped weights, "fsrcnn-mga-x4"; of a user's file, the model it must hold.
        user: whether it is a file that the user gives.
    """

    name: str
    user: bool = False


@dataclass(frozen=True)
class Training:
    """One step of a training; those of the same name in one output folder are one training.

    Attributes:
        name: of its experiment folder.
        recipe: file in recipes/, without its ending.
        step: dnet, allnet, mask, e2e, heavy, light or whole.
        iterations: of the step; None for all its rounds in the recipe.
        like: the step whose settings in the recipe it takes, by default its own.
        model: instead of the recipe's. options: added to the recipe's model options.
        start: what it starts from; None for the recipe's own start.
        convert: state of ``start`` -> the tensors of it that this network has, by its names; the
            others start at random. None where both have the same.
        stage: fields of the stage that differ from the recipe's; ``loss`` and ``optimizer`` hold
            only what differs in them.
        data, init: the same of those sections. settings: the same of the recipe itself.
    """

    name: str
    recipe: str
    step: str
    iterations: int | None = None
    like: str | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    start: Training | Given | None = None
    convert: Callable[[State], dict[str, Tensor]] | None = None
    stage: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    init: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def chain(self) -> Iterator[Training]:
        """All trainings that lead here, the first one first."""
        if isinstance(self.start, Training):
            yield from self.start.chain()
        yield self

    @property
    def origin(self) -> Given | None:
        """Where the first of them starts."""
        return self.start.origin if isinstance(self.start, Training) else self.start


Wrap = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Variant:
    """One row of a table.

    Attributes:
        name: of the row, the paper's with our network in it.
        source: what is measured.
        published: name of the paper's row, where it has one.
        form: model name that the weights are read into, "fsrcnn-base"; None for their own.
        scale: at which it is measured, None for the network's.
        runs: options of ``evaluate``, one set for each run; a row is the mean of its runs.
        wrap: makes what is measured of the network.
    """

    name: str
    source: Training | Given
    published: str | None = None
    form: str | None = None
    scale: int | None = None
    runs: Sequence[Mapping[str, Any]] = ({},)
    wrap: Wrap | None = None


@dataclass(frozen=True)
class Ablation:
    """A table.

    Attributes:
        name: of the command, "table6". paper, table: where it is printed.
        about: one line: what is compared.
        variants: makes the rows for a profile and the user's weights by their model.
        note: what of the paper's setting is different here.
        columns: measures beside PSNR and SSIM: "params", "flops", "heavy_fraction", "sparsity".
        convention: of ``evaluate``.
        recipe: whose data are the default.
        weights: models, as patterns, that the user must give weights of; optional: may give.
    """

    name: str
    paper: str
    table: str
    about: str
    variants: Callable[[str, Sequence[str]], list[Variant]]
    note: str
    recipe: str
    columns: tuple[str, ...] = ()
    convention: Literal["y", "rgb", "pcsr"] = "y"
    weights: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def trainings(variants: Sequence[Variant]) -> list[Training]:
    """Every training of the rows once, in an order that can be run."""
    found: dict[str, Training] = {}
    for variant in variants:
        if isinstance(variant.source, Training):
            for training in variant.source.chain():
                found.setdefault(training.name, training)
    return list(found.values())
