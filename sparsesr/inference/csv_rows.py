"""The documents of an evaluation as one flat table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sparsesr.io import atomic_output

_DOCUMENT = (
    "model",
    "scale",
    "convention",
    "dataset",
    "hr_mod",
    "order",
    "mask",
    "refine",
    "smooth",
)
_POINT = ("value", "k", "budget")
_LEAD = (*_DOCUMENT, *_POINT, "image")  # the first columns, where they are there
MEAN = "mean"  # in place of an image's name


def write_csv(
    path: str | Path, documents: Iterable[dict[str, Any]], overwrite: bool = False
) -> None:
    """Write what ``evaluate``, ``sweep`` and the like returned, whole or not at all.

    A row for each image and one called "mean", for each data set and value of k. Columns: model,
    scale, convention, dataset, options that are not the default, the value of a sweep, k or budget,
    image, the measures; seconds stand in the mean's row. A cell without a value is empty.

    Raises:
        OutputExistsError: the file exists and ``overwrite`` is False.
        FileNotFoundError: its folder does not exist.
    """
    rows = [row for document in documents for row in csv_rows(document)]
    found = dict.fromkeys(key for row in rows for key in row)
    lead = [key for key in _LEAD if key in found]
    columns = [*lead, *(key for key in found if key not in lead)]
    with (
        atomic_output(path, overwrite) as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def csv_rows(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one document, the images' before the mean's."""
    head = {key: document[key] for key in _DOCUMENT if key in document}
    parts: Sequence[dict[str, Any]] = document.get("points", [document])
    dense = document.get("dense")
    for part in [*parts, *([dense] if dense else [])]:
        choice = {key: part[key] for key in _POINT if part.get(key) is not None}
        # The dense network of a sweep has a name of its own.
        start = {**head, "model": part.get("model", document["model"]), **choice}
        for image in part["images"]:
            measures = {key: value for key, value in image.items() if key != "name"}
            yield {**start, "image": image["name"], **_flat(measures)}
        extra = {"seconds": part["seconds"]} if "seconds" in part else {}
        yield {**start, "image": MEAN, **_flat({**part["mean"], **extra})}


def _flat(measures: dict[str, Any]) -> dict[str, Any]:
    """Lists as columns numbered from 1, None as an empty cell."""
    flat: dict[str, Any] = {}
    for key, value in measures.items():
        if isinstance(value, list):
            flat.update({f"{key}_{i + 1}": item for i, item in enumerate(value)})
        else:
            flat[key] = "" if value is None else value
    return flat
