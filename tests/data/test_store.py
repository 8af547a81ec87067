"""Clips and latents are read from a folder and from an object store alike."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from mien.audio.pretrained import FrontEndConfig
from mien.data.augment import AugmentConfig
from mien.data.datasets import ClipCache, FramePairs
from mien.data.drawn import write_clips
from mien.data.latents import extract_all
from mien.data.records import data_root, read_records
from mien.data.speech import SpeechClips, VoiceConfig, WindowSpec
from mien.data.store import Store
from mien.errors import UserError
from tests.tiny_nets import tiny_animator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=2, clips=2, frames=20, size=64, seed=0)
    return folder


@pytest.fixture
def bucket(folder: Path) -> Iterator[str]:
    """The clips in fsspec's object store in memory."""
    files = MemoryFileSystem()
    files.put(f"{folder}/", "/bucket/clips", recursive=True)
    yield "memory://bucket/clips"
    files.rm("/bucket", recursive=True)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """The clips behind a web server on this machine."""
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def pairs_from(root: Store) -> FramePairs:
    records = read_records(root, Path("train.jsonl"))
    return FramePairs(records, ClipCache(root, 64, 1), AugmentConfig(), balance=0.0, seed=0)


def test_pairs_of_a_bucket_are_those_of_the_folder(folder: Path, bucket: str):
    near, far = (pairs_from(data_root(place)) for place in (str(folder), bucket))
    for index in range(6):
        assert torch.equal(near[index].source, far[index].source)
        assert torch.equal(near[index].driving, far[index].driving)


def test_pairs_of_a_web_server_are_those_of_the_folder(folder: Path, server: str):
    near, far = (pairs_from(data_root(place)) for place in (str(folder), server))
    assert torch.equal(near[0].source, far[0].source)


def test_latents_go_to_a_bucket_and_come_back(folder: Path, bucket: str, tmp_path: Path):
    records = read_records(Store(bucket), Path("train.jsonl"))
    animator = tiny_animator().eval()
    window = WindowSpec(12, 4, FrontEndConfig())
    samples = []
    for root, cache in ((folder, tmp_path / "motion"), (bucket, "memory://bucket/motion")):
        extract_all(animator, records, Store(root), Store(cache))
        clips = SpeechClips(records, Store(cache), window, VoiceConfig(), balance=0.0, seed=0)
        samples.append(clips[3])
    assert torch.equal(samples[0].motion, samples[1].motion)
    assert torch.equal(samples[0].features, samples[1].features)


def test_nothing_that_was_fetched_stays(bucket: str):
    with Store(bucket).file("train.jsonl") as path:
        assert path.read_text(encoding="utf-8")
    assert not path.exists()


def test_what_is_not_there_is_said_with_its_place(bucket: str, tmp_path: Path):
    for place in (bucket, str(tmp_path)):
        with pytest.raises(UserError, match="nothing.mp4") as error:
            Store(place).read("nothing.mp4")
        assert place in str(error.value)
    with pytest.raises(UserError, match="no manifest"):
        read_records(Store(bucket), Path("other.jsonl"))


def test_an_unknown_kind_of_store_is_said():
    with pytest.raises(UserError, match="nosuch"):
        Store("nosuch://bucket").read("a.mp4")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    store = Store(tmp_path)
    store.write("a/b.bin", b"old")
    (tmp_path / "a" / "c.bin").mkdir()
    with pytest.raises(UserError, match="c.bin"):
        store.write("a/c.bin", b"new")
    assert store.read("a/b.bin") == b"old"
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b.bin", "c.bin"]
