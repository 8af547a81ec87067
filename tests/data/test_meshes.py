"""Meshes are kept by content, and only so many in memory."""

from pathlib import Path

import pytest
import torch

from mien.data.drawn import write_clips
from mien.data.meshes import ClipMeshes, MeshCache
from mien.data.records import read_records
from mien.data.store import Store
from mien.errors import UserError


def test_memory_holds_the_last_ones_and_all_can_be_read_again(tmp_path: Path, monkeypatch):
    write_clips(tmp_path, "train", people=3, clips=2, frames=5, size=64, seed=0)
    records = read_records(Store(tmp_path), Path("train.jsonl"))
    cache = MeshCache(tmp_path, tmp_path / "meshes")
    for i, record in enumerate(records):
        points = torch.full((5, 468, 3), i / 10)
        cache.keep(record, ClipMeshes(points, torch.ones(5).bool()))
    monkeypatch.setattr(MeshCache, "held", 2 * 5 * 468 * 3 * 4)  # bytes of two clips
    for _ in range(2):
        for i, record in enumerate(records):
            assert abs(float(cache.read(record).points.mean()) - i / 10) < 1e-4
            assert len(cache._held) <= 2


def test_a_value_that_is_kept_anew_replaces_the_one_in_memory(tmp_path: Path):
    write_clips(tmp_path, "train", people=1, clips=1, frames=2, size=64, seed=0)
    (record,) = read_records(Store(tmp_path), Path("train.jsonl"))
    cache = MeshCache(tmp_path, tmp_path / "meshes")
    for number in (0.25, 0.5):
        cache.keep(record, ClipMeshes(torch.full((2, 468, 3), number), torch.ones(2).bool()))
        assert float(cache.read(record).points.mean()) == pytest.approx(number, abs=1e-3)


@pytest.mark.parametrize("content", [b"", None], ids=["damaged", "deleted"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path):
    write_clips(tmp_path, "train", people=1, clips=1, frames=2, size=64, seed=0)
    (record,) = read_records(Store(tmp_path), Path("train.jsonl"))
    cache = MeshCache(tmp_path, tmp_path / "meshes")
    cache.keep(record, ClipMeshes(torch.zeros(2, 468, 3), torch.ones(2).bool()))
    (file,) = (tmp_path / "meshes").glob("*.safetensors")
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=f"{file.name}.* cannot be read"):
        cache.read(record)
