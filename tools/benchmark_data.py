"""How fast does training read: pairs of frames and windows of sound a second, and what they cost.

    python tools/benchmark_data.py ROOT MANIFEST [--size 256] [--pairs 200]

One process and one thread, clips in the order of a shuffle, nothing cached but by the system: a set
far larger than memory. Stored anew, the same clips show what other ways of storing would give.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mien.infer import Parser, guarded, positive


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
    from mien.data.datamodule import read_records
    from mien.data.datasets import far_frames, mouth_map, sample_generator, to_picture
    from mien.media import VideoWriter, load_audio, read_frames_at, read_video
    from mien.report import machine

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    root: Path = given.root
    records = read_records(root, given.manifest)
    order = np.random.default_rng(0).permutation(len(records))[:40]
    some = [records[i] for i in order]
    wanted = [
        (some[i % len(some)], far_frames(some[i % len(some)].frames, sample_generator(0, i)))
        for i in range(given.pairs)
    ]
    print(f"machine  {machine()}, one process, one thread")
    print(f"clips    {len(some)} of {len(records)}, {sum(r.seconds for r in some):.0f} s\n")
    print(f"{'stored as':34}{'pairs/s':>9}{'ms a pair':>11}{'KB a second':>13}")

    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, tuple[Callable, dict[str, Path]]] = {
            "as they are, whole clips": (
                lambda path, numbers: read_video(path, given.size)[numbers],
                {r.path: root / r.path for r in some},
            ),
            "as they are, sought": (
                lambda path, numbers: read_frames_at(path, numbers, given.size),
                {r.path: root / r.path for r in some},
            ),
        }
        for key_every in (1, 5, 10, 25):
            paths = {}
            for number, record in enumerate(some):
                path = paths[record.path] = Path(folder, f"{key_every}-{number}.mp4")
                sound = load_audio(root / record.path)
                with VideoWriter(path, sound, key_every=key_every) as writer:
                    writer.write(read_video(root / record.path, given.size))
            ways[f"mp4, a key frame in {key_every}, sought"] = ways["as they are, sought"][0], paths
        ways["jpeg of quality 95, one a frame"] = _jpegs(some, root, Path(folder), given.size)
        for name, (read, paths) in ways.items():
            begin = time.perf_counter()
            for record, numbers in wanted:
                read(paths[record.path], numbers)
            seconds = (time.perf_counter() - begin) / len(wanted)
            size = sum(_size(path) for path in paths.values()) / sum(r.seconds for r in some)
            print(f"{name:34}{1 / seconds:9.1f}{1e3 * seconds:11.2f}{size / 1e3:13.1f}", flush=True)

    record, numbers = wanted[0]
    frames = read_frames_at(root / record.path, numbers, given.size)
    source, driving = to_picture(torch.from_numpy(frames))
    begin = time.perf_counter()
    for i in range(20):
        generator = sample_generator(1, i)
        augment_pair(source, driving, mouth_map(record, given.size), AugmentConfig(), generator)
    print(f"\naugmentation beside it {(time.perf_counter() - begin) / 20 * 1e3:.1f} ms a pair")


def _jpegs(records: Sequence, root: Path, folder: Path, size: int) -> tuple[Callable, dict]:
    """A file a clip in which pictures stand one after the other, and where each begins."""
    import cv2

    from mien.media import read_video

    places: dict[Path, list[int]] = {}
    paths = {}
    for number, record in enumerate(records):
        path = paths[record.path] = folder / f"{number}.jpegs"
        data, starts = io.BytesIO(), [0]
        for frame in read_video(root / record.path, size):
            data.write(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
            starts.append(data.tell())
        path.write_bytes(data.getvalue())
        places[path] = starts

    def read(path: Path, numbers: Sequence[int]) -> np.ndarray:
        with path.open("rb") as file:
            frames = []
            for n in numbers:
                begin, end = places[path][n : n + 2]
                file.seek(begin)
                coded = np.frombuffer(file.read(end - begin), np.uint8)
                frames.append(cv2.imdecode(coded, cv2.IMREAD_COLOR))
        return np.stack(frames)

    return read, paths


def _size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
