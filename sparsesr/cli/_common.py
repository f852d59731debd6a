"""What the commands share: options, where text goes, exit codes, loading a network."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

DONE, SOME_FAILED, USAGE, MISSING = 0, 1, 2, 3
INTERRUPTED = 130  # by Ctrl-C, as shells have it

DEFAULT_MODEL = "fsrcnn-mga"
DEFAULT_SCALE = 4

ModelOption = Annotated[
    str | None,
    typer.Option("-m", "--model", "-n", help="Model name (see `sparsesr models`) or weights file."),
]
ScaleOption = Annotated[
    int | None, typer.Option("-s", "--scale", help="Scale, if the model's name does not carry it.")
]
AnyScaleOption = Annotated[
    float | None,
    typer.Option(
        "-s", "--scale", help="Scale, if the model's name does not carry it. PCSR: any, e.g. 2.7."
    ),
]
KOption = Annotated[
    str | None,
    typer.Option(
        "-k",
        "--k",
        help="Patches to refine in each image: a number or 'all'. PCSR: exponent of the cost.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget", help="The same as a share, 15% or 0.15. PCSR: of the pixels, heavy ones."
    ),
]
BackendOption = Annotated[
    str | None,
    typer.Option("--backend", help="reference, cpu, cuda, triton or auto (see `sparsesr env`)."),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda:0, ...")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]

Command = TypeVar("Command", bound=Callable[..., Any])


class CommandError(Exception):
    """End the command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def guarded(command: Command) -> Command:
    """Turn the errors a user can cause into one line on stderr and the agreed exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except CommandError as error:
            fail(str(error), error.code)
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED)
        except Exception as error:
            from sparsesr.data import CacheError
            from sparsesr.io import ImageError

            if isinstance(error, (ImageError, CacheError)):
                fail(str(error), SOME_FAILED)
            if isinstance(error, (ValueError, FileNotFoundError, FileExistsError)):
                fail(str(error), USAGE)
            if isinstance(error, ImportError):
                fail(str(error), MISSING)
            raise

    return run  # type: ignore[return-value]


def fail(message: str, code: int) -> NoReturn:
    """Print ``error: message`` on stderr and leave with ``code``."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


def console(stderr: bool = True, quiet: bool = False) -> Console:
    """A rich console; on stderr unless told otherwise, so that stdout stays parsable."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=quiet, highlight=False)


def print_json(document: Any) -> None:
    """Write one JSON document to stdout; infinities and NaN become null, as JSON has neither."""
    sys.stdout.write(json.dumps(_finite(document), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def check_backend(name: str | None) -> None:
    """CommandError with exit code 2 for an unknown backend, 3 for one that cannot run here."""
    if name is None or name == "auto":
        return
    import sparsesr

    states = {state.name: state for state in sparsesr.backends()}
    if name not in states:
        raise CommandError(f"unknown backend {name!r}; expected auto, {', '.join(states)}")
    if not states[name].available:
        raise CommandError(f"backend {name!r} is not available: {states[name].reason}", MISSING)


def check_device(name: str | None) -> None:
    """CommandError with exit code 2 for a malformed device, 3 for one that is not there."""
    if name is None:
        return
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise CommandError(f"unknown device {name!r}; expected cpu or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CommandError(f"device {name!r} is not there: torch sees no such CUDA GPU", MISSING)


def parse_k(k: str | None, budget: str | None, net: Any = None) -> dict[str, Any]:
    """``--k`` and ``--budget`` as keyword arguments of a network.

    "all" is a k beyond any image; for a ``net`` that routes pixels, a budget of all of them, and k
    is any number.
    """
    from sparsesr.nn import PixelRouter

    if k is not None and budget is not None:
        raise CommandError(f"--k {k} and --budget {budget} exclude each other; give one of them")
    if budget is not None:
        return {"budget": _share(budget)}
    if k is None:
        return {}
    if isinstance(net, PixelRouter):
        return {"budget": 1.0} if k == "all" else {"k": _exponent(k)}
    if k == "all":
        return {"k": 2**31 - 1}
    try:
        number = int(k)
    except ValueError:
        raise CommandError(f"--k {k}: expected a number of patches or 'all'") from None
    if number < 0:
        raise CommandError(f"--k {k}: expected 0 or more patches; 0 refines nothing")
    return {"k": number}


def _share(budget: str) -> float:
    percent = budget.endswith("%")
    try:
        share = float(budget.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise CommandError(f"--budget {budget}: expected a share such as 15% or 0.15, at most all")
    return share


def _exponent(k: str) -> float:
    try:
        number = float(k)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CommandError(f"--k {k}: expected a number, the exponent of the cost, or 'all'")
    return number


def parse_size(text: str, option: str) -> tuple[int, int]:
    """(H, W) of an image given as WIDTHxHEIGHT."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise CommandError(f"{option} {text}: expected WIDTHxHEIGHT such as 480x270")
    return int(match[2]), int(match[1])


def load_net(model: str | None, scale: int | None) -> tuple[Any, str]:
    """The network with its weights, in eval mode, and its name with the scale.

    A name takes the shipped weights, a path the file's. Unknown names, names without shipped
    weights and missing files stop with exit code 3, a contradicting scale with 2.
    """
    import sparsesr

    source = _with_scale(model, scale)
    try:
        net: Any = sparsesr.from_pretrained(source, scale)
    except (sparsesr.models.UnknownModelError, FileNotFoundError) as error:
        raise CommandError(str(error), MISSING) from None
    except RuntimeError as error:  # load_state_dict: the tensors are not the model's
        raise CommandError(
            f"{source}: the weights do not fit the model ({error})", MISSING
        ) from None
    return net, f"{net.model_name}-x{net.scale}"


def load_for_scale(model: str | None, scale: float | None) -> tuple[Any, str, float]:
    """As ``load_net``, and the scale to use; a network that routes pixels takes any scale.

    Stops with exit code 2 for a scale that the network does not have.
    """
    from sparsesr.nn import routes_pixels

    whole = None if scale is None or scale != int(scale) else int(scale)
    source = _with_scale(model, whole)
    net, name = load_net(source, None if _is_file_name(source) else whole)
    if scale is not None and scale != net.scale and not routes_pixels(net):
        raise CommandError(f"{source} is for scale {net.scale}, got scale={scale:g}")
    if scale is not None and not (scale >= 1 and math.isfinite(scale)):
        raise CommandError(f"--scale {scale:g}: expected a number >= 1")
    return net, name, net.scale if scale is None else scale


def _with_scale(model: str | None, scale: int | None) -> str:
    """The model asked for; a name without a scale gets --scale, or the default."""
    import sparsesr

    text = DEFAULT_MODEL if model is None else model
    if _is_file_name(text) or sparsesr.models.parse_name(text)[1] is not None:
        return text
    return f"{text}-x{scale or DEFAULT_SCALE}"


def _is_file_name(model: str) -> bool:
    return Path(model).suffix in (".safetensors", ".pt", ".pth") or "/" in model


def untrained_net(model: str | None, scale: int | None) -> Any:
    """The network with random weights, or None if ``model`` is a file or no model's name."""
    import sparsesr

    source = _with_scale(model, scale)
    if _is_file_name(source):
        return None
    try:
        return sparsesr.create_model(source, scale).eval()
    except sparsesr.models.UnknownModelError:
        return None
