"""What ``sparsesr upscale`` has to do: which files, and where each result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsesr.cli._common import CommandError


@dataclass(frozen=True)
class Job:
    """One file to do; ``problem`` says why it cannot be done, ``skip`` that it need not be."""

    source: Path
    output: Path
    mask: Path | None = None
    problem: str | None = None
    skip: bool = False


def plan(
    sources: list[Path],
    output: Path | None,
    scale: float,
    file_format: str = "same",
    save_mask: bool = False,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> list[Job]:
    """The files to do and where each goes, with what is wrong found before any time is spent.

    With ``skip_existing`` an input whose output is there is left out, its mask with it.

    Raises:
        CommandError: one output file for several inputs, or a folder without ``output``.
    """
    from sparsesr.io import READ_SUFFIXES, WRITE_SUFFIXES, list_images

    files: list[tuple[Path, str | None]] = []
    for source in sources:
        try:
            found = list_images(source)
        except FileNotFoundError as error:
            files.append((source, str(error)))
            continue
        if source.is_dir() and output is None:
            raise CommandError(
                f"-o is needed for a folder: results beside {source}/* would be inputs next"
            )
        if not found:
            kinds = " ".join(sorted(READ_SUFFIXES))
            files.append((source, f"{source}: no image in this folder (looked for {kinds})"))
        files += [(path, None) for path in found]
    to_file = output is not None and not output.is_dir() and output.suffix.lower() in WRITE_SUFFIXES
    if to_file and len(files) != 1:
        raise CommandError(
            f"-o {output} is one file, but there are {len(files)} inputs; name a folder"
        )
    if to_file and file_format != "same":
        raise CommandError(f"-o {output} has its own format; drop --format {file_format}")
    if output is not None and output.exists() and not output.is_dir() and not to_file:
        raise CommandError(f"-o {output} is a file, but no image; name a folder or an image file")
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}
    for path, problem in files:
        target = _target(path, output, scale, file_format, to_file)
        if problem is None and skip_existing and target not in taken and target.exists():
            taken[target] = path
            jobs.append(Job(path, target, skip=True))
            continue
        mask = target.with_name(f"{target.stem}_mask.png") if save_mask else None
        for wanted in (target, *([mask] if mask is not None else [])):
            if problem is None and wanted in taken:
                problem = f"{path}: {wanted} is already the output of {taken[wanted]}"
            if problem is None and wanted.exists() and not overwrite:
                problem = f"{path}: {wanted} already exists; pass --overwrite to replace it"
            if problem is None and wanted.exists() and wanted.resolve() == path.resolve():
                problem = f"{path}: would be replaced by its own result; choose another -o"
            taken.setdefault(wanted, path)
        jobs.append(Job(path, target, mask, problem))
    return jobs


def _target(
    source: Path, output: Path | None, scale: float, file_format: str, to_file: bool
) -> Path:
    if output is not None and to_file:
        return output
    suffix = source.suffix if file_format == "same" else f".{file_format}"
    folder = source.parent if output is None else output
    return folder / f"{source.stem}_x{scale:g}{suffix}"
