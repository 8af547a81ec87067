"""What `mien doctor` runs and prints: parts of inference, engines, back ends of operations."""

import functools
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mien.audio.features import log_mel
from mien.data.meshes import face_mesh
from mien.engines import RENDERING, Engine, choose_engine, converted, refusal, slower
from mien.engines.example import Inputs, decibels, example
from mien.errors import UserError
from mien.media import VideoWriter, read_video
from mien.ops.back_ends import Operation
from mien.ops.causal_conv1d import CAUSAL_CONV1D, causal_conv1d
from mien.ops.normalization import NORMALIZATION
from mien.ops.sampling import SAMPLING
from mien.ops.selective_scan import SELECTIVE_SCAN, selective_scan
from mien.portrait.animator import Animator
from mien.portrait.streaming import FRAMES_AT_ONCE
from mien.report import machine
from mien.session.session import load_models
from mien.session.sound import encode_waveform
from mien.types import SAMPLE_RATE

# float32 sums in another order differ by a few units of the seventh digit.
_TOLERANCE = 1e-4
_NEAR = 45.0  # dB between the frames of an engine and those of torch in float32


def check_all() -> bool:
    """Run each on a small example and print the results; False if one is wrong."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"machine  {machine()}")
    print(f"torch    {torch.__version__}, tensors go to {device}")
    with warnings.catch_warnings(action="ignore"):  # the tables have the same information
        works = [_check_inference(), _check_rendering(device)]
        works += [
            _check(SELECTIVE_SCAN, _scan, device),
            _check(CAUSAL_CONV1D, _convolve, device),
            _check(SAMPLING, _sample, device, "torch"),
            _check(NORMALIZATION, _normalize, device, "torch"),
        ]
    print("\n-> marks the back end in use (chosen automatically or by an environment variable).")
    return all(works)


def _check_inference() -> bool:
    """Try each part of inference and print a line for it; False if one fails."""
    print("\nparts of inference")
    works = True
    for name, work in INFERENCE.items():
        begin = time.perf_counter()
        try:
            work()
            verdict = f"works ({time.perf_counter() - begin:.2f} s)"
        except Exception as error:  # anything may be missing or broken
            verdict = f"WRONG: it fails ({type(error).__name__}: {error})"
            works = False
        print(f"   {name:14}{verdict}")
    return works


def _encode_audio() -> None:
    silence = torch.zeros(SAMPLE_RATE)
    log_mel(silence[None])
    encode_waveform(load_models()[1], silence + 0.1)


def _detect_faces() -> None:
    face_mesh().all_faces(np.full((256, 256, 3), 127, np.uint8))


def _write_video() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        with VideoWriter(path, torch.zeros(SAMPLE_RATE)) as writer:
            writer.write(np.zeros((25, 64, 64, 3), np.uint8))
        read_video(path)


def _check_rendering(device: str) -> bool:
    """Print a line for each engine; False if one renders other frames than torch."""
    print(f"\n{RENDERING.what} ({RENDERING.variable} or --engine forces one of them by name)")
    animator = load_models(device=torch.device(device))[0]
    try:
        used = choose_engine(animator).what
    except UserError as error:
        used = f"nothing runs: {error}"
        print(used)
    works = True
    with torch.inference_mode():
        inputs = example(animator, FRAMES_AT_ONCE)
        expected = animator.render_prepared(*inputs)
        for name, problem in RENDERING.problems().items():
            problem, chosen = problem or refusal(name, animator), used.startswith(name)
            if problem:
                verdict = f"no: {problem}"
            elif chosen or converted(name, animator):
                engine = _once(name, animator)
                verdict = _try(functools.partial(_rendered, engine, inputs), expected, _likeness)
                if verdict.startswith("works") and engine().chunks_at_once > 1:
                    verdict += f", {engine().chunks_at_once} such calls at once"
            else:
                verdict = f"not tried: it converts or compiles the net at the first --engine {name}"
            reason = None if problem else slower(name, animator)
            works &= not verdict.startswith("WRONG")
            only = f"; only if it is named: {reason}" if reason else ""
            print(f"{'->' if chosen else '  '} {name:14}{verdict}{only}")
    return works


def _once(name: str, animator: Animator) -> Callable[[], Engine]:
    """What gives the engine, and makes it when it is first called."""
    return functools.cache(functools.partial(choose_engine, animator, forced=name))


def _rendered(engine: Callable[[], Engine], inputs: Inputs) -> Tensor:
    return engine().render(*inputs)


def _likeness(frames: Tensor, expected: Tensor) -> tuple[bool, str]:
    """Whether frames are near enough to the expected ones, and how near."""
    if torch.equal(frames, expected):
        return True, "equal to torch in float32"
    apart = decibels(frames, expected)
    return apart >= _NEAR, f"{apart:.0f} dB from torch in float32"


INFERENCE = {
    "weights": load_models,
    "sound": _encode_audio,
    "faces": _detect_faces,
    "video": _write_video,
}


def _check(
    operation: Operation,
    run: Callable[[str, str], Tensor],
    device: str,
    reference: str = "reference",
) -> bool:
    """Print a line for each back end; False if one gives other results than the reference."""
    print(f"\n{operation.what} ({operation.variable} forces one of them by name)")
    try:
        used, _ = operation.choose(device, lambda name: None)
    except UserError as error:
        used = f"nothing runs: {error}"
        print(used)
    expected = run(reference, device)
    works = True
    for name, problem in operation.problems().items():
        call = functools.partial(run, name, "cpu" if name == "numba" else device)
        verdict = f"no: {problem}" if problem else _try(call, expected, _error)
        works &= not verdict.startswith("WRONG")
        print(f"{'->' if name == used else '  '} {name:14}{verdict}")
    return works


def _try(
    run: Callable[[], Tensor],
    expected: Tensor,
    compare: Callable[[Tensor, Tensor], tuple[bool, str]],
) -> str:
    """How near the example's result is, and its times; its first call may compile."""
    begin = time.perf_counter()
    try:
        y = run()
    except UserError as error:
        return f"no: {error}"
    except Exception as error:  # a kernel may fail to compile in any way
        return f"WRONG: it fails ({type(error).__name__}: {error})"
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    run()
    again = time.perf_counter() - begin
    near, said = compare(y, expected)
    verdict = "works" if near else "WRONG: do not use it"
    return f"{verdict} ({said}, first call {first:.2f} s, then {again * 1e3:.1f} ms)"


def _error(y: Tensor, expected: Tensor) -> tuple[bool, str]:
    """Whether the largest error is one of rounding, and what it is."""
    error = ((y - expected.to(y.device)).abs().max() / expected.abs().max()).item()
    return error < _TOLERANCE, f"error {error:.0e}"


def _scan(name: str, device: str) -> Tensor:
    """The output and the input's gradient."""
    u, delta, z, B, C, A, bias = _random(device, (2, 64, 500), (2, 64, 500), (2, 64, 500),
                                        (2, 16, 500), (2, 16, 500), (64, 16), (64,))  # fmt: skip
    arguments = u, delta, -A.exp(), B, C, bias, z, bias, True
    y = selective_scan(*arguments, back_end=name)
    assert isinstance(y, Tensor)
    return _with_gradient(y, u)


def _convolve(name: str, device: str) -> Tensor:
    """The output and the input's gradient."""
    x, weight, bias = _random(device, (2, 64, 500), (64, 4), (64,))
    return _with_gradient(causal_conv1d(x, weight, bias, back_end=name), x)


def _sample(name: str, device: str) -> Tensor:
    """The sampled maps; the compiled loop has no gradient."""
    maps, places = (x.detach() for x in _random(device, (2, 8, 64, 64), (4, 64, 64, 2)))
    _, sample = SAMPLING.choose(device, lambda _: None, forced=name)
    return sample(maps, places)


def _normalize(name: str, device: str) -> Tensor:
    """Normalised maps of 12 channels; the compiled loop has no gradient."""
    x, weight, bias = (x.detach() for x in _random(device, (2, 12, 64, 64), (12,), (12,)))
    _, normalize = NORMALIZATION.choose(device, lambda _: None, forced=name)
    return normalize(x.contiguous(memory_format=torch.channels_last), 4, weight, bias, 1e-5, True)


def _with_gradient(y: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(y.sum(), x)
    both = torch.stack((y.detach(), gradient))
    if both.is_cuda:
        torch.cuda.synchronize()
    return both


def _random(device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]
