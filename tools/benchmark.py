#!/usr/bin/env python
"""Benchmark of inference: render only, end to end, time per stage, and GFLOP per frame.

    python tools/benchmark.py [--device cuda --precision bf16-mixed] [--threads N]
                              [--animator FILE --speech FILE] [--json FILE]

The demo's portrait speaks the demo's sentence. Parts that are timed alone: best of three runs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mien.command_line import Parser, run_guarded
from mien.devices import add_device_options, autocast, choose_device


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="How fast is it here, and where does the time go?")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    parser.add_argument("--speech", type=Path, help="stage-2 weights (default: those that ship)")
    add_device_options(parser)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return run_guarded(lambda: measure(parser.parse_args(argv)))


def measure(given: argparse.Namespace) -> None:
    """Print both tables."""
    import torch

    from mien.report import back_ends, machine
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
        figures = nets_alone(animator, speech) | face_model() | end_to_end(animator, speech)
    for name, value in figures.items():
        print(f"{name:42}{value:10.3f}")
    if given.json is not None:
        where = {"machine": machine(device), "device": str(device), "precision": given.precision}
        text = json.dumps(where | figures, indent=1) + "\n"
        given.json.write_text(text, encoding="utf-8")


def nets_alone(animator, speech) -> dict[str, float]:
    """Both nets on random input: an Animator and a SpeechToMotion."""
    import torch

    from mien.audio.features import FPS, STEPS_PER_FRAME
    from mien.motion.rollout import SamplingConfig, rollout
    from mien.portrait.streaming import FRAMES_AT_ONCE
    from mien.report import best_time, gflop
    from mien.session.guiding import with_mesh_at_rest

    device = next(animator.parameters()).device
    size, window = animator.config.image_size, speech.config.window
    source = torch.rand(1, 3, size, size, device=device) * 2 - 1
    features = torch.randn(1, window * STEPS_PER_FRAME, speech.config.front_end.dims, device=device)
    appearance = animator.encode_appearance(source)
    still = animator.encode_motion(source)
    at_rest = with_mesh_at_rest(still) if speech.config.mesh else still
    motion = still[:, None] + 0.1 * torch.randn(1, FRAMES_AT_ONCE, still.shape[-1], device=device)
    context = speech.encode_audio(features)

    def draw() -> None:
        animator.render(appearance, still, motion)

    def move() -> None:
        generator = torch.Generator().manual_seed(0)
        list(rollout(speech, context, appearance.vector, at_rest, SamplingConfig(), generator))

    def best(work: Callable[[], object]) -> float:
        work()  # warms up
        return best_time(work, device)

    rendering = best(draw) / FRAMES_AT_ONCE
    return {
        "encode the portrait, ms": 1e3 * best(lambda: animator.encode_appearance(source)),
        "encode audio, ms a second of audio": 1e3
        * best(lambda: speech.encode_audio(features))
        * FPS
        / window,
        "motion, ms a frame": 1e3 * best(move) / window,
        "render, ms a frame": 1e3 * rendering,
        "render only, frames a second": 1 / rendering,
        "motion, GFLOP a frame": gflop(move) / window,
        "render, GFLOP a frame": gflop(draw) / FRAMES_AT_ONCE,
    }


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


def end_to_end(animator, speech) -> dict[str, float]:
    """The demo, and its time per stage."""
    from importlib.resources import as_file, files

    from skimage import data

    from mien.pipeline import animate

    with tempfile.TemporaryDirectory() as folder, as_file(files("mien") / "assets/demo.wav") as wav:
        output = Path(folder) / "demo.mp4"
        report = animate(wav, data.astronaut(), output, animator=animator, speech=speech)
    shares = {f"  {part}, s": seconds for part, seconds in report.work.items()}
    return {
        "end to end, s of work a second of video": report.work_per_second,
        "end to end, frames a second": report.frames / sum(report.work.values()),
        **shares,
    }


if __name__ == "__main__":
    sys.exit(main())
