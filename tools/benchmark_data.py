#!/usr/bin/env python
"""Benchmark of the training data: reading speed of frame pairs and audio windows, and their cost.

    python tools/benchmark_data.py ROOT MANIFEST [--size 256] [--pairs 200]

One process and one thread, shuffled clips, no cache but the system's: as for a data set far larger
than memory.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mien.command_line import Parser, positive, run_guarded

if TYPE_CHECKING:
    from mien.data.manifest import ClipRecord
    from mien.motion.speech_to_motion import SpeechToMotion
    from mien.portrait.animator import Animator
    from mien.types import SpeechClip

PRESETS = ("small", "base", "paper")
CLIPS = 40  # that pairs are read from


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="How fast does training read?")
    parser.add_argument("root", type=Path, help="folder that the manifest's paths start from")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--size", type=positive(int), default=256, help="pixels a side")
    parser.add_argument("--pairs", type=positive(int), default=200, help="how many are read")
    return run_guarded(lambda: measure(parser.parse_args(argv)))


def measure(given: argparse.Namespace) -> None:
    """Print what a pair of frames and a window of motion and sound cost."""
    import cv2
    import torch

    from mien.data.records import read_records
    from mien.report import gflop, machine
    from mien.session.session import load_models

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    root: Path = given.root
    records = read_records(root, given.manifest)
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    print(f"machine  {machine(torch.device('cpu'))}, one process, one thread")
    _measure_pairs(shuffled[:CLIPS], root, given.size, given.pairs)
    costs = (f"{name} {gflop(partial(_train_on_pair, name)):.1f}" for name in PRESETS)
    print(f"forward and backward of the animator: {', '.join(costs)} GFLOP")
    animator, speech = load_models()
    _measure_windows(animator.cpu(), speech.cpu(), shuffled, root)


def _measure_pairs(records: Sequence["ClipRecord"], root: Path, size: int, count: int) -> None:
    """Seek and decode two distant frames of a clip; then augment them."""
    import torch

    from mien.data.augment import AugmentConfig, augment_pair
    from mien.data.datasets import far_frames, mouth_map, sample_generator, to_picture
    from mien.media import read_frames_at

    def read(i: int) -> "np.ndarray":
        record = records[i % len(records)]
        numbers = far_frames(record.frames, sample_generator(0, i))
        return read_frames_at(root / record.path, numbers, size)

    begin = time.perf_counter()
    for i in range(count):
        read(i)
    reading = (time.perf_counter() - begin) / count
    seconds = sum(record.seconds for record in records)
    stored = sum((root / record.path).stat().st_size for record in records) / seconds
    print(f"clips    {len(records)}, {seconds:.0f} s, {stored / 1e3:.1f} KB a second\n")
    print(f"reading a pair: {1e3 * reading:.2f} ms, {1 / reading:.1f} pairs a second")
    pairs = [to_picture(torch.from_numpy(read(i))) for i in range(min(count, CLIPS))]
    begin = time.perf_counter()
    for i, (source, driving) in enumerate(pairs):
        mouth = mouth_map(records[i % len(records)], size)
        augment_pair(source, driving, mouth, AugmentConfig(), sample_generator(1, i))
    milliseconds = (time.perf_counter() - begin) / len(pairs) * 1e3
    print(f"augmenting a pair: {milliseconds:.1f} ms")


def _train_on_pair(preset: str) -> None:
    """Forward and backward on the meta device, which counts FLOP without allocating; without the
    discriminator and the perceptual net.
    """
    import torch
    from omegaconf import OmegaConf

    from mien.config import restore
    from mien.overlays import join_configs
    from mien.portrait.animator import Animator, AnimatorConfig

    numbers = OmegaConf.create(
        join_configs(["stage1.yaml", f"{preset}.yaml"])
    ).model.init_args.animator
    config = restore(AnimatorConfig, cast(dict[str, Any], OmegaConf.to_container(numbers)))
    with torch.device("meta"):
        animator = Animator(config)
        picture = torch.empty(1, 3, config.image_size, config.image_size)
    source, driving = animator.encode_motion(picture), animator.encode_motion(picture)
    appearance = animator.encode_appearance(picture)
    animator.draw(appearance, source, driving[:, None]).frames.mean().backward()


def _train_on_window(speech: "SpeechToMotion", clip: "SpeechClip") -> None:
    """Forward and backward; the selective scan is not counted."""
    import torch

    from mien.motion.objective import SpeechObjectiveConfig, speech_objective

    generator = torch.Generator().manual_seed(0)
    speech_objective(speech, clip, SpeechObjectiveConfig(), generator)[0].backward()


def _measure_windows(
    animator: "Animator", speech: "SpeechToMotion", records: Sequence["ClipRecord"], root: Path
) -> None:
    """Windows of the motion that the animator encodes from a few clips."""
    from mien.data.latents import extract_all
    from mien.data.speech import SpeechClips, VoiceConfig, WindowSpec
    from mien.report import gflop

    config = speech.config
    window = WindowSpec(config.window, config.history, config.front_end, config.mesh)
    long_enough = [record for record in records if record.frames >= window.frames][:8]
    if not long_enough:
        print(f"no clip has the {window.frames} frames of a window")
        return
    with tempfile.TemporaryDirectory() as folder:
        extract_all(animator, long_enough, root, Path(folder))
        windows = SpeechClips(long_enough, Path(folder), window, VoiceConfig(), balance=1.0, seed=0)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        clip = windows[0]  # builds the front end
        begin = time.perf_counter()
        for i in range(100):
            windows[i]
        milliseconds = (time.perf_counter() - begin) / 100 * 1e3
    seconds = sum(record.seconds for record in long_enough)
    print(
        f"a window of motion and sound, of clips of {seconds / len(long_enough):.1f} s: "
        f"{milliseconds:.1f} ms, {size / seconds / 1e3:.1f} KB a second"
    )
    print(f"forward and backward: {gflop(partial(_train_on_window, speech, clip)):.1f} GFLOP")


if __name__ == "__main__":
    sys.exit(main())
