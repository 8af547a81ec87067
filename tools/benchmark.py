#!/usr/bin/env python
"""Benchmark of inference: render only by engine, end to end cold and warm, time per stage, GFLOP
per frame, and the share of what a 3x3 convolution reaches on this machine.

    python tools/benchmark.py [--device cuda --precision bf16-mixed] [--threads N]
                              [--engine NAME] [--animator FILE --speech FILE] [--json FILE]

The demo's portrait speaks the demo's sentence. Parts that are timed alone: best of three runs.
Cold: `mien infer` in a new process, with imports and weights. Warm: the session's second video.
"""

import argparse
import dataclasses
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mien.command_line import Parser, run_guarded
from mien.devices import MIXED, add_engine_options, autocast, choose_device

if TYPE_CHECKING:
    from torch import Tensor

    from mien.portrait.animator import Animator
    from mien.types import Appearance

# GFLOP a frame of the nets that draw frames in other systems, counted layer by layer: in float32 no
# machine draws with them faster than at its ceiling.
PEERS = {"LIA's decoder, 256 px": 30.1, "FLOAT's decoder, 512 px": 37.8, "IMTalker, 512 px": 123.8,
         "MuseTalk, 256 px": 800.0, "LivePortrait, 512 px": 1234.0}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="How fast is it here, and where does the time go?")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    parser.add_argument("--speech", type=Path, help="stage-2 weights (default: those that ship)")
    add_engine_options(parser)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return run_guarded(lambda: measure(parser.parse_args(argv)))


def measure(given: argparse.Namespace) -> None:
    """Print both tables."""
    import torch

    from mien.report import back_ends, machine
    from mien.session import Session
    from mien.session.session import load_models

    if given.threads:
        torch.set_num_threads(given.threads)
    device = choose_device(given.device)
    nets = load_models(given.animator, given.speech)
    animator, speech = nets[0].to(device), nets[1].to(device)
    print(f"machine    {machine(device)}")
    print(f"back ends  {back_ends(device)}")
    print(f"device     {device}, {given.precision}")
    print(f"picture    {animator.config.image_size} px\n")
    with torch.inference_mode(), autocast(device, given.precision):
        figures = nets_alone(animator, speech, given.precision) | face_model()
    figures |= mixed_precision(animator, device) if given.precision != MIXED else {}
    figures |= by_engine(animator, given.engine)
    figures |= end_to_end(Session(animator, speech, given.precision, given.engine), given)
    for name, value in figures.items():
        print(f"{name:42}{value:10.3f}")
    if given.json is not None:
        where = {"machine": machine(device), "device": str(device), "precision": given.precision}
        text = json.dumps(where | figures, indent=1) + "\n"
        given.json.write_text(text, encoding="utf-8")


def nets_alone(animator, speech, precision: str) -> dict[str, float]:
    """Both nets on random input: an Animator and a SpeechToMotion."""
    import torch

    from mien.audio.features import FPS, STEPS_PER_FRAME
    from mien.motion.rollout import rollout
    from mien.report import best_time, gflop
    from mien.session.guiding import with_mesh_at_rest

    device = next(animator.parameters()).device
    window = speech.config.window
    _, appearance, still = rendering(animator)
    source = appearance.picture
    features = torch.randn(1, window * STEPS_PER_FRAME, speech.config.front_end.dims, device=device)
    at_rest = with_mesh_at_rest(still) if speech.config.mesh else still
    context = speech.encode_audio(features)

    def move() -> None:
        generator = torch.Generator().manual_seed(0)
        list(rollout(speech, context, appearance.vector, at_rest, speech.sampling, generator))

    def best(work: Callable[[], object]) -> float:
        work()  # warms up
        return best_time(work, device)

    ceiling = convolution_ceiling(device)
    return {
        "encode the portrait, ms": 1e3 * best(lambda: animator.encode_appearance(source)),
        "encode audio, ms a second of audio": 1e3
        * best(lambda: speech.encode_audio(features))
        * FPS
        / window,
        "motion, ms a frame": 1e3 * best(move) / window,
        "motion, GFLOP a frame": gflop(move) / window,
        "a 3x3 convolution, GFLOP a second": ceiling,
        **render_alone(animator, precision, "render"),
        **render_alone(with_decoder(animator), precision, "render with an image decoder"),
        **{f"  {name}, at least ms": 1e3 * needed / ceiling for name, needed in PEERS.items()},
    }


def render_alone(animator, precision: str, name: str) -> dict[str, float]:
    """Frames without guides by torch, as many chunks at once as a session renders, and the share of
    a convolution's GFLOP a second that they reach: the median of five, timed by turns with it,
    since a machine's speed varies.
    """
    from mien.engines import choose_engine
    from mien.engines.example import example, render_at_once
    from mien.portrait.streaming import FRAMES_AT_ONCE
    from mien.report import best_time, gflop

    device, engine = next(animator.parameters()).device, choose_engine(animator, precision, "torch")
    inputs = example(animator, FRAMES_AT_ONCE, guided=False)
    context = functools.partial(autocast, device, precision)
    work = functools.partial(render_at_once, engine, inputs, context)
    work()  # warms up
    operations = gflop(lambda: animator.render_prepared(*inputs)) / FRAMES_AT_ONCE
    frames, rounds = FRAMES_AT_ONCE * engine.chunks_at_once, []
    for _ in range(5):
        spent = best_time(work, device, runs=1) / frames
        rounds.append((spent, operations / spent / convolution_ceiling(device)))
    seconds = min(spent for spent, _ in rounds)
    return {
        f"{name}, ms a frame": 1e3 * seconds,
        f"{name}, frames a second": 1 / seconds,
        f"{name}, GFLOP a frame": operations,
        f"{name}, share of that": statistics.median(share for _, share in rounds),
    }


def with_decoder(animator) -> "Animator":
    """The same net with an image decoder (residual), at random weights."""
    from mien.portrait.animator import Animator

    config = dataclasses.replace(animator.config, decoder="residual")
    return Animator(config).to(next(animator.parameters()).device).eval()


def face_model() -> dict[str, float]:
    """The face model of 20 turning heads, drawn on the CPU."""
    import numpy as np
    import torch

    from mien.face_model.coefficients import Camera, FaceCoefficients
    from mien.face_model.maps import draw_maps, head_box, head_triangles
    from mien.face_model.parametric import FaceModel
    from mien.ops.rasterize import rasterize_perspective
    from mien.report import best_time

    model, t, size = FaceModel.load(), 20, 256
    face = FaceCoefficients(
        identity=np.zeros(len(model.identity_axes)),
        expression=np.full((t, len(model.expression_names)), 0.1),
        rotation=np.linspace((-0.3, -0.5, 0.0), (0.3, 0.5, 0.0), t),
        translation=np.tile((0.0, 0.0, 100.0), (t, 1)),
        eyes=np.zeros((t, 2)),
        scale=1.0,
        camera=Camera(4.0, (0.5, 0.5), size, size),
        frames=np.arange(t),
        fps=25.0,
    )
    box, triangles = head_box(model, face), head_triangles(model)
    places = model.project(face).astype(np.float64)
    values = np.concatenate([places, places], axis=-1)

    def best(work: Callable[[], object]) -> float:
        work()  # warms up
        return 1e3 * best_time(work, torch.device("cpu")) / t

    return {
        "rasterise the face model, 256 px, ms": best(
            lambda: rasterize_perspective(places, triangles, values, size, size, "front")
        ),
        "condition maps, 256 px, ms": best(lambda: draw_maps(model, face, box, size)),
    }


def rendering(animator) -> "tuple[Callable[[], Tensor], Appearance, Tensor]":
    """What renders a few frames of the demo's portrait, its appearance, and its motion."""
    import torch
    from skimage import data

    from mien.portrait.appearance import fit_to
    from mien.portrait.streaming import FRAMES_AT_ONCE

    device = next(animator.parameters()).device
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].to(device)
    source = fit_to(picture / 127.5 - 1, animator.config.image_size)
    appearance, still = animator.encode_appearance(source), animator.encode_motion(source)
    motion = still[:, None] + 0.1 * torch.randn(1, FRAMES_AT_ONCE, still.shape[-1], device=device)
    return lambda: animator.render(appearance, still, motion), appearance, still


def by_engine(animator, named: str) -> dict[str, float]:
    """Milliseconds a frame with guides by each engine that works here, in the precision that it
    takes by itself, on one thread and on all, each the best of five, and how near its frames are to
    those of torch in float32; by compile, which takes minutes to begin, if it is the one that is
    named.
    """

    import torch

    from mien.devices import AUTO
    from mien.engines import RENDERING, choose_engine, refusal
    from mien.engines.example import decibels, example, render_at_once
    from mien.portrait.streaming import FRAMES_AT_ONCE
    from mien.report import best_time

    device, threads = next(animator.parameters()).device, torch.get_num_threads()
    working = [name for name, problem in RENDERING.problems().items() if not problem]
    figures = {}
    with torch.inference_mode():
        inputs = example(animator, FRAMES_AT_ONCE)
        expected = animator.render_prepared(*inputs)
        for name in working:
            if refusal(name, animator) or (name == "compile" and name != named):
                continue
            for count in sorted({1, threads}):
                torch.set_num_threads(count)
                engine = choose_engine(animator, AUTO, name)
                apart = decibels(engine.render(*inputs), expected)
                best = best_time(functools.partial(render_at_once, engine, inputs), device, runs=5)
                label = f"  {engine.what}, {count} thread{'s' * (count > 1)}"
                frames = FRAMES_AT_ONCE * engine.chunks_at_once
                figures[f"{label}, ms a frame"] = 1e3 * best / frames
            figures[f"  {name}, dB from torch in float32"] = apart
    torch.set_num_threads(threads)
    return figures


def mixed_precision(animator, device) -> dict[str, float]:
    """Rendering in bf16-mixed, and how near its frames are to those in full precision."""
    import torch

    from mien.engines.example import decibels
    from mien.portrait.streaming import FRAMES_AT_ONCE
    from mien.report import best_time

    with torch.inference_mode():
        draw, _, _ = rendering(animator)
        exact = draw()
        with autocast(device, MIXED):
            apart = decibels(draw(), exact)
            seconds = best_time(draw, device) / FRAMES_AT_ONCE
    return {
        f"render in {MIXED}, ms a frame": 1e3 * seconds,
        f"render in {MIXED}, dB between frames": apart,
    }


def convolution_ceiling(device) -> float:
    """GFLOP a second of a large 3x3 convolution, which rendering can approach."""
    import torch
    from torch.nn import functional as F

    from mien.nn.conv import channels_last
    from mien.report import best_time, gflop

    x = channels_last(torch.randn(8, 64, 64, 64, device=device))
    weight = channels_last(torch.randn(64, 64, 3, 3, device=device))

    def convolve() -> None:
        F.conv2d(x, weight, padding=1)

    convolve()
    return gflop(convolve) / best_time(convolve, device)


def end_to_end(session, given: argparse.Namespace) -> dict[str, float]:
    """The demo by a new process and by a session that is warm, and its time per stage."""
    from importlib.resources import as_file, files

    from PIL import Image
    from skimage import data

    from mien.pipeline import animate

    with tempfile.TemporaryDirectory() as folder, as_file(files("mien") / "assets/demo.wav") as wav:
        output, portrait = Path(folder) / "demo.mp4", Path(folder) / "portrait.png"
        Image.fromarray(data.astronaut()).save(portrait)
        cold = seconds_of_command([str(wav), str(portrait), "-o", str(output)], given)
        for _ in range(2):
            report = animate(wav, portrait, output, session=session, overwrite=True)
        still: dict[str, float] = {}
        if session.animator.config.guide and session.speech.config.mesh:
            made = animate(wav, portrait, output, session=session, overwrite=True, still_head=True)
            still = {
                "still head, s of work a second of video": made.work_per_second,
                "  of that render, s": made.work["render"] / made.seconds,
            }
    shares = {f"  {part}, s": seconds for part, seconds in report.work.items()}
    return {
        "cold start and first video, s": cold,
        "end to end, s of work a second of video": report.work_per_second,
        "end to end, frames a second": report.frames / sum(report.work.values()),
        **shares,
        **still,
    }


def seconds_of_command(arguments: list[str], given: argparse.Namespace) -> float:
    """Seconds of `mien infer` in a process of its own."""
    from mien.session.session import default_weights

    weights = default_weights()
    options = {"--animator": given.animator or weights[0], "--speech": given.speech or weights[1]}
    options |= {"--device": given.device, "--precision": given.precision}
    options |= {"--threads": given.threads, "--engine": given.engine}
    chosen = [text for name, value in options.items() if value for text in (name, str(value))]
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mien", "infer", *arguments, *chosen]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
