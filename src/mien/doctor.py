"""`mien doctor`: what works on this machine of inference and of its back ends, and why not."""

import argparse
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
from mien.errors import UserError
from mien.media import VideoWriter, read_video
from mien.ops.back_ends import Operation
from mien.ops.causal_conv1d import CAUSAL_CONV1D, causal_conv1d
from mien.ops.selective_scan import SELECTIVE_SCAN, selective_scan
from mien.report import machine
from mien.session.session import load_models
from mien.session.sound import encode_waveform
from mien.types import SAMPLE_RATE

# float32 sums in another order differ by a few units of the seventh digit.
_TOLERANCE = 1e-4


def main(arguments: list[str]) -> int:
    """Run each back end on a small example and print what came of it; returns the exit status."""
    argparse.ArgumentParser("mien doctor", description=__doc__).parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"machine  {machine()}")
    print(f"torch    {torch.__version__}, tensors go to {device}")
    with warnings.catch_warnings(action="ignore"):  # what they would tell stands in the tables
        sound = [_inference()]
        sound += [_judge(SELECTIVE_SCAN, _scan, device), _judge(CAUSAL_CONV1D, _filter, device)]
    print("\n-> is what runs here (unasked, unless an environment variable named it).")
    return 0 if all(sound) else 1


def _inference() -> bool:
    """Do what making a video needs, part by part, and print a line for each; False if one fails."""
    print("\nwhat a video is made with")
    sound = True
    for name, work in INFERENCE.items():
        begin = time.perf_counter()
        try:
            work()
            verdict = f"works ({time.perf_counter() - begin:.2f} s)"
        except Exception as error:  # whatever is missing or broken is what one wants to read here
            verdict = f"WRONG: it fails ({type(error).__name__}: {error})"
            sound = False
        print(f"   {name:14}{verdict}")
    return sound


def _hear() -> None:
    silence = torch.zeros(SAMPLE_RATE)
    log_mel(silence[None])
    encode_waveform(load_models()[1], silence + 0.1)


def _see() -> None:
    face_mesh().all_faces(np.full((256, 256, 3), 127, np.uint8))


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        with VideoWriter(path, torch.zeros(SAMPLE_RATE)) as writer:
            writer.write(np.zeros((25, 64, 64, 3), np.uint8))
        read_video(path)


INFERENCE = {"weights": load_models, "sound": _hear, "faces": _see, "video": _write}


def _judge(operation: Operation, run: Callable[[str, str], Tensor], device: str) -> bool:
    """Print a line for each back end; False if one gives wrong results."""
    print(f"\n{operation.what} ({operation.variable} forces one of them by name)")
    try:
        used, _ = operation.choose(device, lambda name: None)
    except UserError as error:
        used = f"nothing runs: {error}"
        print(used)
    expected = run("reference", device)
    sound = True
    for name, problem in operation.problems().items():
        verdict = f"no: {problem}" if problem else _try(run, name, device, expected)
        sound &= not verdict.startswith("WRONG")
        print(f"{'->' if name == used else '  '} {name:14}{verdict}")
    return sound


def _try(run: Callable[[str, str], Tensor], name: str, device: str, expected: Tensor) -> str:
    """What a back end makes of the example; its first call may compile."""
    device = "cpu" if name == "numba" else device
    begin = time.perf_counter()
    try:
        y = run(name, device)
    except UserError as error:
        return f"no: {error}"
    except Exception as error:  # a kernel may fail to compile in any way
        return f"WRONG: it fails ({type(error).__name__}: {error})"
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    run(name, device)
    again = time.perf_counter() - begin
    error = ((y - expected.to(device)).abs().max() / expected.abs().max()).item()
    verdict = "works" if error < _TOLERANCE else "WRONG: do not use it"
    return f"{verdict} (error {error:.0e}, first call {first:.2f} s, then {again * 1e3:.1f} ms)"


def _scan(name: str, device: str) -> Tensor:
    """The output and the input's gradient."""
    u, delta, z, B, C, A, bias = _drawn(device, (2, 64, 500), (2, 64, 500), (2, 64, 500),
                                        (2, 16, 500), (2, 16, 500), (64, 16), (64,))  # fmt: skip
    arguments = u, delta, -A.exp(), B, C, bias, z, bias, True
    y = selective_scan(*arguments, back_end=name)
    assert isinstance(y, Tensor)
    return _there_and_back(y, u)


def _filter(name: str, device: str) -> Tensor:
    """The output and the input's gradient."""
    x, weight, bias = _drawn(device, (2, 64, 500), (64, 4), (64,))
    return _there_and_back(causal_conv1d(x, weight, bias, back_end=name), x)


def _there_and_back(y: Tensor, given: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(y.sum(), given)
    both = torch.stack((y.detach(), gradient))
    if both.is_cuda:
        torch.cuda.synchronize()
    return both


def _drawn(device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]
