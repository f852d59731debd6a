"""Dense networks in other engines: what a user would run instead."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from _executor import executor, run_by
from _networks import UPSAMPLERS, Contender, with_upsampler
from torch import Tensor, nn

ENGINES = ("OpenVINO", "OpenVINO bf16", "onnxruntime")


def compiled(dnet: nn.Module, lr: Tensor, lean: Contender) -> list[Contender]:
    """torch.compile of the lean D-Net, channels_last, both upsamplers; compiled here."""
    found = []
    for upsampler in UPSAMPLERS:
        x = lr.contiguous(memory_format=torch.channels_last)
        net = with_upsampler(dnet, upsampler).to(memory_format=torch.channels_last)
        program = torch.compile(net, fullgraph=True)
        run = run_by("off", _bind(program, x))
        run()
        found.append(replace(lean, engine="compile", upsampler=upsampler, layout="NHWC", run=run))
    return found


def installed(
    dnet: nn.Module,
    lr: Tensor,
    lean: Contender,
    threads: int,
    upsamplers: Sequence[str] = UPSAMPLERS,
    among: Sequence[str] = ENGINES,
) -> list[Contender]:
    """The lean D-Net in those engines that are installed."""
    found = []
    for upsampler in upsamplers:
        net = with_upsampler(dnet, upsampler)
        for engine in among:
            if missing(engine):
                continue
            build = _BUILDERS[engine]
            with warnings.catch_warnings(), executor("off"):
                warnings.simplefilter("ignore")  # of tracing: shapes are fixed here
                run = build(net, lr, threads)
            found.append(
                replace(
                    lean,
                    engine=engine,
                    upsampler=upsampler,
                    layout="own",
                    run=run,
                    exact="bf16" not in engine,
                )
            )
    return found


def missing(engine: str) -> list[str]:
    """Packages that an engine needs and that are not installed."""
    return [name for name in _PACKAGES[engine] if importlib.util.find_spec(name) is None]


def skipped() -> list[str]:
    """One line per engine that cannot run here."""
    return [
        f"{engine}: skipped, {', '.join(absent)} not installed (pip install 'sparsesr[bench]')"
        for engine in ENGINES
        if (absent := missing(engine))
    ]


def _bind(program: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], Tensor]:
    return lambda: program(x)


def _openvino(precision: str) -> Callable[[nn.Module, Tensor, int], Callable[[], Tensor]]:
    def build(net: nn.Module, lr: Tensor, threads: int) -> Callable[[], Tensor]:
        import openvino

        model = openvino.convert_model(net, example_input=lr, input=[list(lr.shape)])
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        }
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
        image = openvino.Tensor(lr.numpy())
        request.set_input_tensor(image)

        def run() -> Tensor:
            request.infer()
            return torch.from_numpy(request.get_output_tensor().data)

        return run

    return build


def _onnxruntime(net: nn.Module, lr: Tensor, threads: int) -> Callable[[], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        program = torch.onnx.export(net, (lr,), dynamo=True, verbose=False)
        program.save(path)
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    feed = {session.get_inputs()[0].name: lr.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


_BUILDERS = {
    "OpenVINO": _openvino("f32"),
    "OpenVINO bf16": _openvino("bf16"),
    "onnxruntime": _onnxruntime,
}
_PACKAGES = {
    "OpenVINO": ["openvino"],
    "OpenVINO bf16": ["openvino"],
    "onnxruntime": ["onnxruntime", "onnx", "onnxscript"],
}
