#!/usr/bin/env python
"""How fast does training read: pairs of frames and windows of sound a second, and what they cost.

    python tools/benchmark_data.py ROOT MANIFEST [--size 256] [--pairs 200]

One process and one thread, clips in the order of a shuffle, nothing cached but by the system: a set
far larger than memory. Stored anew, the same clips show what other ways of storing would give; with
`pip install litdata webdataset` these two are measured beside them.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mien.command_line import Parser, guarded, positive

if TYPE_CHECKING:
    from mien.data.manifest import ClipRecord
    from mien.motion.speech_to_motion import SpeechToMotion
    from mien.portrait.animator import Animator
    from mien.types import SpeechClip

PRESETS = ("small", "base", "paper")
Read = Callable[["ClipRecord", Sequence[int]], object]  # some frames of a clip


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(description="How fast does training read?")
    parser.add_argument("root", type=Path, help="folder that the manifest's paths start from")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--size", type=positive(int), default=256, help="pixels a side")
    parser.add_argument("--pairs", type=positive(int), default=200, help="to read each way")
    return guarded(lambda: measure(parser.parse_args(argv)))


def measure(given: argparse.Namespace) -> None:
    """Print a row for each way of storing."""
    import cv2
    import torch

    from mien.data.augment import AugmentConfig, augment_pair
    from mien.data.datasets import far_frames, mouth_map, sample_generator, to_picture
    from mien.data.records import read_records
    from mien.media import read_frames_at
    from mien.report import gflop, machine
    from mien.session.session import load_models

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    root: Path = given.root
    records = read_records(root, given.manifest)
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    some = shuffled[:40]
    wanted = [
        (some[i % len(some)], far_frames(some[i % len(some)].frames, sample_generator(0, i)))
        for i in range(given.pairs)
    ]
    print(f"machine  {machine()}, one process, one thread")
    print(f"clips    {len(some)} of {len(records)}, {sum(r.seconds for r in some):.0f} s\n")
    print(f"{'stored as':36}{'pairs/s':>9}{'ms a pair':>11}{'KB a second':>13}")

    with tempfile.TemporaryDirectory() as folder:
        for name, store in WAYS.items():
            kept = Path(folder, name.replace(" ", "-"))
            kept.mkdir()
            try:
                read = store(some, root, kept, given.size)
            except ImportError as missing:
                print(f"{name:36}  {missing.name} is not installed")
                continue
            begin = time.perf_counter()
            for record, numbers in wanted:
                read(record, numbers)
            seconds = (time.perf_counter() - begin) / len(wanted)
            stored = [path for path in kept.rglob("*") if path.is_file()]
            paths = stored or [root / record.path for record in some]
            size = sum(path.stat().st_size for path in paths) / sum(r.seconds for r in some)
            print(f"{name:36}{1 / seconds:9.1f}{1e3 * seconds:11.2f}{size / 1e3:13.1f}", flush=True)

    pairs = [
        (record, read_frames_at(root / record.path, n, given.size)) for record, n in wanted[:40]
    ]
    begin = time.perf_counter()
    for i, (record, frames) in enumerate(pairs):
        source, driving = to_picture(torch.from_numpy(frames))
        mouth = mouth_map(record, given.size)
        augment_pair(source, driving, mouth, AugmentConfig(), sample_generator(1, i))
    milliseconds = (time.perf_counter() - begin) / len(pairs) * 1e3
    print(f"\nchanging the looks of a pair: {milliseconds:.1f} ms")
    animator, speech = load_models()
    animator, speech = animator.cpu(), speech.cpu()
    costs = (f"{name} {gflop(partial(_learn_pair, name)):.1f}" for name in PRESETS)
    print(f"learning from it takes the animator {', '.join(costs)} GFLOP")
    _measure_windows(animator, speech, shuffled, root)


def _learn_pair(preset: str) -> None:
    """Forward and backward by numbers alone: no memory is taken and nothing is calculated; without
    the nets that judge.
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


def _learn_window(speech: "SpeechToMotion", clip: "SpeechClip") -> None:
    """Forward and backward; what counts does not see the selective scan."""
    import torch

    from mien.motion.objective import SpeechObjectiveConfig, speech_objective

    generator = torch.Generator().manual_seed(0)
    speech_objective(speech, clip, SpeechObjectiveConfig(), generator)[0].backward()


def _measure_windows(
    animator: "Animator", speech: "SpeechToMotion", records: Sequence["ClipRecord"], root: Path
) -> None:
    """Windows of the motion that the animator sees in a few clips."""
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
        windows = SpeechClips(long_enough, Path(folder), window, VoiceConfig(), balance=1, seed=0)
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
    print(f"learning from it takes {gflop(partial(_learn_window, speech, clip)):.1f} GFLOP")


def _as_they_are(
    records: Sequence["ClipRecord"], root: Path, folder: Path, size: int, sought: bool
) -> Read:
    from mien.media import read_frames_at, read_video

    def read(record: "ClipRecord", numbers: Sequence[int]) -> object:
        if sought:
            return read_frames_at(root / record.path, numbers, size)
        return read_video(root / record.path, size)[list(numbers)]

    return read


def _mp4(
    records: Sequence["ClipRecord"], root: Path, folder: Path, size: int, key_every: int
) -> Read:
    from mien.media import VideoWriter, load_audio, read_frames_at, read_video

    paths = {record.path: folder / f"{i}.mp4" for i, record in enumerate(records)}
    for record in records:
        sound = load_audio(root / record.path)
        with VideoWriter(paths[record.path], sound, key_every=key_every) as writer:
            writer.write(read_video(root / record.path, size))
    return lambda record, numbers: read_frames_at(paths[record.path], numbers, size)


def _jpegs_in_one_file(
    records: Sequence["ClipRecord"], root: Path, folder: Path, size: int
) -> Read:
    """A file a clip in which pictures stand one after the other, and where each begins."""
    paths = {record.path: folder / f"{i}.jpegs" for i, record in enumerate(records)}
    places = {}
    for record in records:
        item = _one_item(str(root / record.path), size)
        paths[record.path].write_bytes(item["jpegs"])
        places[record.path] = item["begins"]

    def read(record: "ClipRecord", numbers: Sequence[int]) -> object:
        pictures = []
        with paths[record.path].open("rb") as file:
            for begin, end in (places[record.path][n : n + 2] for n in numbers):
                file.seek(begin)
                pictures.append(_decoded(file.read(end - begin)))
        return pictures

    return read


def _litdata(
    records: Sequence["ClipRecord"], root: Path, folder: Path, size: int, whole: bool
) -> Read:
    """A jpeg an item, or all of a clip in one."""
    from litdata import StreamingDataset, optimize  # pyright: ignore[reportMissingImports]

    optimize(
        partial(_one_item if whole else _items, size=size),
        [str(root / record.path) for record in records],
        str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        keep_data_ordered=True,
        verbose=False,
    )
    items = StreamingDataset(str(folder))
    firsts = np.cumsum([0, *(record.frames for record in records)])
    places = {record.path: i for i, record in enumerate(records)}

    def read(record: "ClipRecord", numbers: Sequence[int]) -> object:
        place = places[record.path]
        if not whole:
            return [_decoded(items[int(firsts[place]) + n]["jpeg"]) for n in numbers]
        item = items[place]
        begins = item["begins"]
        return [_decoded(item["jpegs"][begins[n] : begins[n + 1]]) for n in numbers]

    return read


def _items(path: str, size: int) -> Iterator[dict[str, bytes]]:
    for coded in _jpegs(Path(path), size):
        yield {"jpeg": coded}


def _one_item(path: str, size: int) -> dict[str, Any]:
    coded = _jpegs(Path(path), size)
    return {"jpegs": b"".join(coded), "begins": np.cumsum([0, *map(len, coded)])}


def _webdataset(records: Sequence["ClipRecord"], root: Path, folder: Path, size: int) -> Read:
    """Its samples come in the order of the file alone, which is the order of `records` too."""
    from webdataset import TarWriter, WebDataset  # pyright: ignore

    with TarWriter(str(folder / "clips.tar")) as tar:
        for i, record in enumerate(records):
            coded = _jpegs(root / record.path, size)
            tar.write({"__key__": str(i), **{f"{n}.jpg": one for n, one in enumerate(coded)}})
    samples = iter(WebDataset(str(folder / "clips.tar"), shardshuffle=False).repeat())

    def read(record: "ClipRecord", numbers: Sequence[int]) -> object:
        sample = next(samples)
        return [_decoded(sample[f"{n}.jpg"]) for n in numbers]

    return read


def _jpegs(path: Path, size: int) -> list[bytes]:
    """The frames of a clip, coded one by one."""
    import cv2

    from mien.media import read_video

    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    return [cv2.imencode(".jpg", frame, quality)[1].tobytes() for frame in read_video(path, size)]


def _decoded(coded: Any) -> Any:
    import cv2

    return cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR)


WAYS: dict[str, Callable[[Sequence["ClipRecord"], Path, Path, int], Read]] = {
    "as they are, whole clips": partial(_as_they_are, sought=False),
    "as they are, sought": partial(_as_they_are, sought=True),
    **{f"mp4, a key frame in {n}, sought": partial(_mp4, key_every=n) for n in (1, 5, 10, 25)},
    "jpegs, a file a clip": _jpegs_in_one_file,
    "litdata, a jpeg an item": partial(_litdata, whole=False),
    "litdata, a clip's jpegs an item": partial(_litdata, whole=True),
    "WebDataset, a clip's jpegs a sample": _webdataset,
}


if __name__ == "__main__":
    sys.exit(main())
