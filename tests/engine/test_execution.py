"""When programs run, when modules run instead, and that nobody can tell but by the clock."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from typing import Any

import pytest
import torch
from small_nets import FAMILIES, SCALES, small
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import sparsesr
from sparsesr import MaskPredictor, SparseRefine, engine, ops
from sparsesr.engine import cache, execution

VARIABLE = "SPARSESR_EXECUTOR"


def _image(*size: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, 3, *size, dtype=torch.float64, generator=generator)


def _net(family: str = "fsrcnn", form: str = "mga", scale: int = 2, **options: Any) -> Any:
    return small(family, form, scale, **options).double().eval()


def _layered(net: Any, lr: Tensor, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "off")
        return net(lr, **options)


@torch.no_grad()
def _agree(net: Any, lr: Tensor, **options: Any) -> None:
    expected = _layered(net, lr, **options)
    torch.testing.assert_close(net(lr, **options), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("family", FAMILIES)
def test_fused_patches_equal_layered_ones(calls: list, family: str, scale: int) -> None:
    net = _net(family, "mga", scale)
    for k in (0, 1, 7, 10**6):
        calls.clear()
        _agree(net, _image(9, 14), k=k)
        assert calls.count("refine_patches_") == (k > 0)


@pytest.mark.parametrize("form", ["allnet", "base", "dnet", "mga-light"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 12)])
def test_forms(calls: list, form: str, size: tuple[int, int]) -> None:
    _agree(_net(form=form, scale=3), _image(*size))
    assert calls


def test_drsan_and_pcsr(calls: list) -> None:
    _agree(sparsesr.create_model("drsan-32s-mga", 2).double().eval(), _image(9, 6), k=3)
    assert "refine_patches_" in calls
    calls.clear()
    for family in ("fsrcnn", "carn"):
        _agree(sparsesr.create_model(f"{family}-pcsr", 2).double().eval(), _image(6, 5), budget=0.3)
    assert calls == ["run_program"] * 2


def test_details(calls: list) -> None:
    net, lr = _net(), _image(9, 10)
    with torch.no_grad():
        out = net(lr, k=3, return_details=True)
        assert torch.equal(out.sr, net(lr, k=3))
        assert torch.equal(out.coarse, net(lr, k=0))
        assert torch.equal(out.coarse, net.base(lr)[0])
    expected = _layered(net, lr, k=3, return_details=True)
    assert torch.equal(out.index, expected.index)
    torch.testing.assert_close(out.sr, expected.sr, rtol=1e-11, atol=1e-12)
    assert calls.count("refine_patches_") == 2


def test_the_coarse_image_is_made_around_the_patches(
    calls: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered: list[Any] = []
    run_program = ops.run_program

    def recorded(*args: Any) -> Tensor:
        covered.extend(index for index in args[3:4] if index is not None)
        return run_program(*args)

    monkeypatch.setattr(ops, "run_program", recorded)
    for form in ("mga", "mga-light"):
        net, lr = _net(form=form), _image(9, 10)
        covered.clear()
        with torch.no_grad():
            chosen = net(lr, k=3, return_details=True)
            assert covered == []  # the coarse image is asked for
            torch.testing.assert_close(net(lr, k=3), chosen.sr, rtol=0, atol=0)
            assert [c.tolist() for c in covered] == [chosen.index.tolist()]
        covered.clear()
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        net(lr, k=3)  # grad mode is on, and somebody may want the gradient of what they do with it
        assert covered == []


def test_a_base_that_is_watched_is_called(calls: list) -> None:
    net, lr = _net(), _image(9, 10)
    with torch.no_grad():
        want = net(lr, k=3)
        seen: list[str] = []
        handle = net.base.register_forward_hook(lambda *_: seen.append("hook"))
        assert torch.equal(net(lr, k=3), want)
        handle.remove()
        plain = net.base.forward
        net.base.forward = lambda x: seen.append("instance") or plain(x)  # type: ignore[func-returns-value]
        assert torch.equal(net(lr, k=3), want)
        del net.base.forward

        class Doubled(type(net.base)):  # type: ignore[misc]
            def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
                coarse, feature = super().forward(lr)
                return 2 * coarse, feature

        net.base.__class__ = Doubled
        assert not torch.equal(net(lr, k=3), want)
    assert seen == ["hook", "instance"]


def test_orders(calls: list) -> None:
    net, lr = _net(), _image(16, 12)
    for order in ("largest", "smallest", "random"):
        pair = [torch.Generator().manual_seed(0) for _ in range(2)]
        with torch.no_grad():
            made = net(lr, k=3, order=order, generator=pair[0])
            expected = _layered(net, lr, k=3, order=order, generator=pair[1])
        torch.testing.assert_close(made, expected, rtol=1e-11, atol=1e-12)


def test_user_networks(calls: list) -> None:
    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 1)

        def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
            feature = self.body(lr)
            return nn.functional.pixel_shuffle(self.head(feature), 2), feature

    for act, fused in ((nn.ReLU(), 1), (nn.GELU(), 0)):
        refine = nn.Sequential(nn.Conv2d(8, 9, 3), act, nn.Conv2d(9, 12, 1), nn.PixelShuffle(2))
        net = SparseRefine(Base(), refine, MaskPredictor(8), scale=2, k=3).double().eval()
        calls.clear()
        _agree(net, _image(9, 7))
        assert calls.count("refine_patches_") == fused


def test_low_precision(calls: list) -> None:
    net, lr = _net().bfloat16(), _image(9, 10).bfloat16()
    with torch.no_grad():
        torch.testing.assert_close(net(lr, k=3), _layered(net, lr, k=3), rtol=0.02, atol=0.02)
    assert calls


# When the module itself runs.


def test_without_native_kernels_the_module_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a program ran on the reference")

    monkeypatch.setattr(execution.ops, "run_program", fail)
    monkeypatch.setattr(execution.ops, "refine_patches_", fail)
    net = small("fsrcnn", "mga", 2).eval()
    with torch.no_grad(), sparsesr.use_backend("reference"):
        net(torch.rand(1, 3, 8, 8), k=1)
        small("fsrcnn", "dnet", 2)(torch.rand(1, 3, 8, 8))


def test_float64_is_never_taken_for_native() -> None:
    assert not execution.natively("run_program", torch.zeros(1, 1, 2, 2, dtype=torch.float64))


def test_gradients_are_those_of_the_module(calls: list) -> None:
    net, lr = _net(), _image(9, 6)
    net(lr, k=2).square().sum().backward()
    assert not calls
    got = {n: p.grad for n, p in net.named_parameters()}
    net.zero_grad()
    _layered(net, lr, k=2).square().sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(got[name], parameter.grad), name
    net.requires_grad_(False)
    net(lr, k=2)
    assert calls
    calls.clear()
    assert net(lr.clone().requires_grad_(), k=2).requires_grad
    assert not calls
    net.refine.requires_grad_()  # the frozen Base-Net may run as programs
    assert net(lr, k=2).requires_grad
    assert "refine_patches_" not in calls
    assert "run_program" in calls


@pytest.mark.parametrize("kind", ["forward", "pre", "global", "instance"])
def test_hooks_are_called(calls: list, kind: str) -> None:
    net, lr, seen = _net(), _image(8, 8), []
    with torch.no_grad():
        net(lr, k=1)
        calls.clear()
        for part in (net.base.extract[0], net.base.upsampler[0], net.mask.conv1, net.refine.tail):
            if kind == "forward":
                part.register_forward_hook(lambda m, *_: seen.append(m))
            elif kind == "pre":
                part.register_forward_pre_hook(lambda m, *_: seen.append(m))
            elif kind == "instance":
                plain = part.forward
                part.forward = lambda x, m=part, f=plain: seen.append(m) or f(x)
        handle = None
        if kind == "global":
            handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(m))
        net(lr, k=1)
        if handle is not None:
            handle.remove()
    assert not calls
    assert {net.base.extract[0], net.base.upsampler[0], net.mask.conv1, net.refine.tail} <= {*seen}


def test_modes_and_transforms(calls: list) -> None:
    net, lr = _net("fsrcnn", "dnet"), _image(6, 6)
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            net(lr)
        assert counter.get_total_flops() > 0
        torch.func.vmap(net)(lr[:, None])
        with torch.autograd.forward_ad.dual_level():
            net(lr)
        with torch.autocast("cpu", torch.bfloat16):
            _net("fsrcnn", "dnet").float()(lr.float())
        torch.jit.trace(net, lr, check_trace=False)
        assert not calls
        with torch.device("cpu"):
            net(lr)
        assert calls


def test_complexity_counts_the_modules(calls: list) -> None:
    net = small("fsrcnn", "mga", 4)
    with torch.no_grad():
        before = sparsesr.complexity(net, (20, 16), k=3)
    assert not calls
    assert before.macs > 0


def test_compile_and_export(calls: list) -> None:
    net, lr = _net(), _image(8, 12)
    with torch.no_grad():
        expected = _layered(net, lr, k=3)
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")(lr, k=3)
        torch.testing.assert_close(compiled, expected)
        exported = torch.export.export(net, (lr,), {"k": 3}).module()(lr, k=3)
        torch.testing.assert_close(exported, expected)
    assert not calls


def test_decomposition_traces_through(calls: list) -> None:
    graph = torch.fx.symbolic_trace(_net("fsrcnn", "mga").base)
    assert len(list(graph.graph.nodes)) > 5


# What a change does.


@torch.no_grad()
def test_changes_are_seen(calls: list) -> None:
    net, lr = _net(), _image(8, 9)
    _agree(net, lr, k=3)
    lowered = cache.for_patches(net.refine, (12, 6, 6)).lowered
    assert cache.for_patches(net.refine, (12, 6, 6)).lowered is lowered
    net.refine.tail.conv1.weight.mul_(2)  # in place
    _agree(net, lr, k=3)
    net.load_state_dict({k: v + 0.01 for k, v in net.state_dict().items()})
    _agree(net, lr, k=3)
    net.load_state_dict({k: v + 0.01 for k, v in net.state_dict().items()}, assign=True)
    _agree(net, lr, k=3)
    assert cache.for_patches(net.refine, (12, 6, 6)).lowered is lowered  # values are not structure
    net.refine.tail.act = nn.LeakyReLU(0.3)  # a part replaced
    _agree(net, lr, k=3)
    net.refine.tail.act.negative_slope = 0.5
    _agree(net, lr, k=3)
    net.refine.mapping[0].bias = None
    _agree(net, lr, k=3)
    net.refine.mapping.append(nn.Conv2d(12, 12, 1).double())
    _agree(net, lr, k=3)
    assert cache.for_patches(net.refine, (12, 6, 6)).lowered.text != lowered.text
    assert calls.count("refine_patches_") == 8


@torch.no_grad()
def test_full_and_back(calls: list) -> None:
    net, feature = _net("fsrcnn", "dnet"), _image(7, 7).repeat(1, 4, 1, 1)
    whole = engine.run(net.refine, feature)
    net.refine.full = False
    torch.testing.assert_close(engine.run(net.refine, feature), net.refine(feature))
    net.refine.full = True
    assert torch.equal(engine.run(net.refine, feature), whole)
    assert calls == ["run_program"] * 2  # valid convolutions do not stream


@torch.no_grad()
def test_training_mode_matters_where_it_does(calls: list) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double().eval()
    lr = _image(5, 5)
    engine.run(net, lr)
    assert calls == ["run_program"]
    torch.testing.assert_close(engine.run(net.train(), lr), copy.deepcopy(net)(lr))
    torch.testing.assert_close(engine.run(net.eval(), lr), net(lr))
    assert calls == ["run_program"] * 2
    assert small("fsrcnn", "mga", 2).training
    small("fsrcnn", "mga", 2)(torch.rand(1, 3, 8, 8), k=1)
    assert len(calls) > 2  # nothing in it knows of training


@torch.no_grad()
def test_forms_are_remembered_and_counters_end_it(
    calls: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.count = nn.Conv2d(3, 4, 1).double(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return self.conv(x)

    made: list[int] = []
    lower_map = cache.lower_map
    monkeypatch.setattr(cache, "lower_map", lambda *a: made.append(1) or lower_map(*a))
    conv, lr = nn.Conv2d(3, 4, 1).double(), _image(4, 4)
    for i in range(10):
        engine.run(conv.train(i % 2 == 0), lr)
    assert len(made) == 2
    net = Counting()
    for _ in range(cache._PATIENCE + 20):
        net.count += 1
        engine.run(net, lr)
    assert len(made) == 2 + cache._PATIENCE
    assert "changes from call to call" in str(engine.why_not_run(net, lr))


@torch.no_grad()
def test_copies_pickles_and_the_end(calls: list) -> None:
    net, lr = _net(), _image(8, 8)
    keys = net.state_dict().keys()
    expected = net(lr, k=2)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(lr, k=2), expected)
        assert other.state_dict().keys() == keys
        other.refine.tail.conv1.weight.zero_()
    assert torch.equal(net(lr, k=2), expected)
    part = weakref.ref(net.refine)
    assert net.refine in cache._entries
    del net, other
    gc.collect()
    assert part() is None


@torch.no_grad()
def test_another_thread_runs_while_one_is_traced(calls: list) -> None:
    other, x, done = nn.Conv2d(3, 3, 1).double(), _image(4, 4), threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while not done.is_set():
                with torch.no_grad():
                    assert isinstance(other(x), Tensor)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(5):
        engine.lower(_net("rcan", "mga").refine, (64, 6, 6))
    done.set()
    thread.join()
    assert not failed


# The environment variable.


@torch.no_grad()
def test_executors(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    net, lr = _net(), _image(8, 8)
    for name, expected in (
        ("auto", {"run_program", "refine_patches_"}),
        ("", {"run_program", "refine_patches_"}),
        ("fused", {"run_program", "refine_patches_"}),
        ("layered", {"run_program"}),
        ("off", set()),
    ):
        monkeypatch.setenv(VARIABLE, name)
        calls.clear()
        net(lr, k=2)
        assert set(calls) == expected, name
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ValueError, match=r"expected one of auto, fused, layered, off; got 'fast'"):
        net(lr, k=2)


@torch.no_grad()
def test_fused_insists(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    net, lr = _net(), _image(8, 8)
    net.refine.tail.act = nn.GELU()
    net(lr, k=2)
    assert "refine_patches_" not in calls
    monkeypatch.setenv(VARIABLE, "fused")
    with pytest.raises(
        RuntimeError, match=r"FSRCNNRefine has no program for windows of 6 px: .*ge"
    ):
        net(lr, k=2)


@torch.no_grad()
def test_the_choice_is_asked(calls: list, monkeypatch: pytest.MonkeyPatch) -> None:
    net, lr = _net(), _image(8, 8)
    monkeypatch.setattr(execution.choice, "fused_patches", lambda facts, device: False)
    monkeypatch.setattr(execution.choice, "stream_map", lambda facts, device: facts.steps > 2)
    net(lr, k=2)
    assert calls == ["run_program"] * 2  # features and mask
    monkeypatch.setenv(VARIABLE, "fused")
    net(lr, k=2)
    assert "refine_patches_" in calls


# refine_ and explain.


@torch.no_grad()
def test_refine_in_place(calls: list) -> None:
    net, lr = _net(), _image(8, 8)
    coarse, feature = net.base(lr)
    index = torch.tensor([[0, 3], [1, 2]], dtype=torch.int32)
    expected = net.paste(coarse, net.refine_selected(feature, index), index)
    assert engine.refine_(net.refine, coarse, feature, index, 4, 1)
    torch.testing.assert_close(coarse, expected, rtol=1e-11, atol=1e-12)
    before = coarse.clone()
    assert not engine.refine_(nn.GELU(), coarse, feature, index, 4, 1)
    assert not engine.refine_(net.refine, coarse[:, :2], feature, index, 4, 1)  # another image
    assert torch.equal(coarse, before)


def test_explain(calls: list) -> None:
    text = _net("fsrcnn", scale=4).explain((120, 160), k=300)
    assert "base features FSRCNNBase: program, streamed" in text
    assert "refine FSRCNNRefine: fused" in text
    assert "v5 = deconv v4 weight=10 bias=11 stride=4 pad=4" in text
    assert "300 of 1200 patches (25.0%)" in text
    assert "per patch of 6x6: 3,456 bytes in, 6,144 out, 342,528 MACs" in text
    text = _net("rfdn", "allnet").explain()
    assert "no program: at_least" in text
    assert "576 of 576" in text


def test_explain_what_fell_back(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small("fsrcnn", "mga", 2).eval()
    net.refine.tail.act = nn.GELU()
    with sparsesr.use_backend("reference"):
        text = net.explain()
    assert "refine FSRCNNRefine: layered\n    no program: gelu: gelu is not in the language" in text
    assert "(no backend computes run_program natively here)" in text
    monkeypatch.setenv(VARIABLE, "layered")
    text = small("fsrcnn", "mga", 2).explain()
    assert "refine FSRCNNRefine: layered (SPARSESR_EXECUTOR=layered)" in text


def test_explained_macs_are_those_of_complexity() -> None:
    pytest.importorskip("thop")
    for family in FAMILIES:
        net = small(family, "mga", 2)
        line = next(t for t in net.explain((16, 24), k=5).splitlines() if t.startswith("LR"))
        sparse = sparsesr.complexity(net, (16, 24), k=5).macs
        filters = 25 * 24 * 2  # of the mask: 1 -> 25 on the grid, and its dynamic convolution
        assert f"{(sparse - filters) / 1e9:.3f} GMACs; dense" in line
        dense = sparsesr.complexity(small(family, "dnet", 2), (16, 24)).macs
        assert line.endswith(f"{dense / 1e9:.3f} GMACs")
