"""What ``sparsesr upscale`` has to do: which files, and where each result goes."""

from __future__ import annotations

import glob
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sparsesr.cli._common import CommandError

TEMPLATE = "{stem}_x{scale}.{ext}"
_FIELDS = ("stem", "scale", "ext", "model")


@dataclass(frozen=True)
class Job:
    """One file to do; ``problem`` says why it cannot be done, ``skip`` that it need not be.

    Attributes:
        mask, strip: further outputs, None where they are not asked for.
        hr: what the result is compared with.
    """

    source: Path
    output: Path
    mask: Path | None = None
    strip: Path | None = None
    hr: Path | None = None
    problem: str | None = None
    skip: bool = False


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        sources: files, folders and patterns such as ``photos/*.png``.
        output: a folder, a file for a single source, None for beside each source.
        scale, model: for the names of the results.
        file_format: a suffix without its dot, or "same".
        template: of the names, ``TEMPLATE`` by default.
        recursive: sub-folders too; their tree is kept in ``output``.
        save_mask, compare: whether a mask and a strip belong to each result.
        hr: a file, or a folder with a file of each source's name.
        overwrite, skip_existing: what becomes of a source whose output is there.
    """

    sources: list[Path]
    output: Path | None
    scale: float
    model: str = "model"
    file_format: str = "same"
    template: str = TEMPLATE
    recursive: bool = False
    save_mask: bool = False
    compare: bool = False
    hr: Path | None = None
    overwrite: bool = False
    skip_existing: bool = False


def plan(request: Request) -> list[Job]:
    """The files to do and where each goes, with what is wrong found before any time is spent.

    With ``skip_existing`` an input whose output is there is left out, its mask with it.

    Raises:
        CommandError: one output file for several inputs, a folder without ``output``, a template
            with an unknown field.
    """
    check_template(request)
    files = list(_files(request))
    to_file = _is_image_file(request.output)
    _check_output(request, len(files), to_file)
    taken: dict[Path, Path] = {}
    return [_job(request, each, to_file, taken) for each in files]


@dataclass(frozen=True)
class _File:
    """A source and the folder, relative to the output, that its result goes to."""

    path: Path
    folder: PurePath = field(default_factory=PurePath)
    problem: str | None = None


def _files(request: Request) -> Iterator[_File]:
    from sparsesr.io import READ_SUFFIXES

    kinds = " ".join(sorted(READ_SUFFIXES))
    for source in request.sources:
        if source.is_file():
            yield _File(source)
        elif source.is_dir():
            if request.output is None:
                raise CommandError(
                    f"-o is needed for a folder: results beside {source}/* would be inputs next"
                )
            found = list(_in_folder(request, source))
            yield from found
            if not found:
                yield _none(source, f"no image in this folder (looked for {kinds})")
        elif glob.has_magic(str(source)):
            found = [_File(path) for path in _matches(source)]
            yield from found
            if not found:
                yield _none(source, f"matches no image (looked for {kinds})")
        else:
            yield _none(source, "no such file or folder; check the path")


def _none(source: Path, problem: str) -> _File:
    return _File(source, problem=f"{source}: {problem}")


def _in_folder(request: Request, root: Path) -> Iterator[_File]:
    """Images in a folder, those that lie in the output folder or a hidden one left out."""
    from sparsesr.io import list_images

    results = None if request.output is None else request.output.resolve()
    for path in list_images(root, request.recursive):
        folder = path.relative_to(root).parent
        hidden = any(part.startswith(".") for part in folder.parts)
        inside = results is not None and results in path.resolve().parents
        if not hidden and not (inside and root.resolve() != results):
            yield _File(path, folder)


def _matches(pattern: Path) -> list[Path]:
    from sparsesr.io import READ_SUFFIXES

    found = (Path(name) for name in glob.glob(str(pattern), recursive=True))
    return sorted(path for path in found if path.is_file() and path.suffix.lower() in READ_SUFFIXES)


def _is_image_file(output: Path | None) -> bool:
    from sparsesr.io import WRITE_SUFFIXES

    return output is not None and not output.is_dir() and output.suffix.lower() in WRITE_SUFFIXES


def _check_output(request: Request, count: int, to_file: bool) -> None:
    output = request.output
    if to_file and count != 1:
        raise CommandError(f"-o {output} is one file, but there are {count} inputs; name a folder")
    for name, given in (
        (f"--format {request.file_format}", request.file_format != "same"),
        (f"--template {request.template}", request.template != TEMPLATE),
    ):
        if to_file and given:
            raise CommandError(f"-o {output} has its own name and format; drop {name}")
    if output is not None and output.exists() and not output.is_dir() and not to_file:
        raise CommandError(f"-o {output} is a file, but no image; name a folder or an image file")


def check_template(request: Request) -> None:
    """Refuse a template that makes no file's name.

    Raises:
        CommandError: an unknown field, a name that leaves the output folder, no known suffix.
    """
    from sparsesr.io import WRITE_SUFFIXES

    text = f"--template {request.template}"
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(request.template)]
    except ValueError as error:
        raise CommandError(f"{text}: {error}") from None
    for name in fields:
        if name is not None and name not in _FIELDS:
            known = ", ".join(f"{{{each}}}" for each in _FIELDS)
            raise CommandError(f"{text}: unknown field {{{name}}}; expected {known}")
    path = _named(request, Path("image.png"))
    if path.is_absolute() or ".." in path.parts:
        raise CommandError(f"{text}: names must stay in the output folder; use -o for the folder")
    if path.suffix.lower() not in WRITE_SUFFIXES:
        suffixes = " ".join(sorted(WRITE_SUFFIXES))
        raise CommandError(f"{text}: expected a name that ends with .{{ext}} or one of {suffixes}")


def _named(request: Request, source: Path) -> Path:
    suffix = source.suffix.lstrip(".") if request.file_format == "same" else request.file_format
    name = request.template.format(
        stem=source.stem, scale=f"{request.scale:g}", ext=suffix, model=request.model
    )
    return Path(name)


def _job(request: Request, file: _File, to_file: bool, taken: dict[Path, Path]) -> Job:
    path, problem = file.path, file.problem
    if to_file:
        assert request.output is not None
        target = request.output
    else:
        folder = path.parent if request.output is None else request.output / file.folder
        target = folder / _named(request, path)
    if problem is None and request.skip_existing and target not in taken and target.exists():
        taken[target] = path
        return Job(path, target, skip=True)
    mask = target.with_name(f"{target.stem}_mask.png") if request.save_mask else None
    strip = target.with_name(f"{target.stem}_compare.png") if request.compare else None
    hr = None
    if problem is None and request.hr is not None:
        hr, problem = _hr_of(request, path)
    for wanted in (each for each in (target, mask, strip) if each is not None):
        if problem is None and wanted in taken:
            problem = f"{path}: {wanted} is already the output of {taken[wanted]}"
        if problem is None and wanted.exists() and not request.overwrite:
            problem = f"{path}: {wanted} already exists; pass --overwrite to replace it"
        if problem is None and wanted.exists() and wanted.resolve() == path.resolve():
            problem = f"{path}: would be replaced by its own result; choose another -o"
        taken.setdefault(wanted, path)
    return Job(path, target, mask, strip, hr, problem)


def _hr_of(request: Request, source: Path) -> tuple[Path | None, str | None]:
    """The HR image of a source, by its name, with or without the ``x4`` of LR files; or why not."""
    from sparsesr.io import READ_SUFFIXES

    assert request.hr is not None
    if request.hr.is_file():
        return request.hr, None
    stems = [source.stem, source.stem.removesuffix(f"x{request.scale:g}")]
    for stem in dict.fromkeys(stems):
        for suffix in sorted(READ_SUFFIXES):
            path = request.hr / f"{stem}{suffix}"
            if path.is_file():
                return path, None
    return None, f"{source}: no HR image {stems[0]}.* in --hr {request.hr}"
