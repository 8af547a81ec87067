"""What validation is given: a fixed number of clips, read by place, in loader workers."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer

from mien.data.clips import ClipCache
from mien.data.datasets import FixedPairs, spread
from mien.data.drawn import write_clips
from mien.data.manifest import ClipRecord
from mien.data.portrait_data import PortraitData
from mien.training.losses import LossConfig
from mien.training.optimization import OptimizerConfig
from mien.training.stage1 import ReconstructionStage
from tests.portrait.tiny import tiny_animator


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, "train", people=1, clips=1, frames=20, size=64, seed=0)
    write_clips(folder, "valid", people=3, clips=3, frames=20, size=64, seed=1)
    return folder


def test_clips_are_spread_over_the_people():
    records = [
        ClipRecord(f"{who}/{i}.mp4", who, "own", 2.0, 50)
        for who, count in (("ann", 50), ("bob", 2), ("eve", 1))
        for i in range(count)
    ]
    chosen = spread(records, 6)
    assert [r.path for r in chosen] == [
        *("ann/0.mp4", "ann/1.mp4", "ann/2.mp4", "bob/0.mp4", "bob/1.mp4", "eve/0.mp4")
    ]
    assert spread(records, 2) == [records[0], records[50]]
    assert spread(records, None) == spread(records, 99) == records


def data_of(clips: Path, **changes) -> PortraitData:
    """The data of stage 1 beside a trainer that is ready to validate."""
    stage = ReconstructionStage(tiny_animator().config, LossConfig(), OptimizerConfig())
    spec = stage.data_spec
    data = PortraitData(str(clips), batch_size=2, valid_pairs=2, spec=spec, **changes)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(stage)
    data.trainer = trainer
    data.setup("validate")
    return data


def test_validation_reads_a_fixed_number_of_clips_in_workers(clips: Path):
    few, every = (data_of(clips, valid_clips=count, workers=1) for count in (4, None))
    assert (len(few.fixed_pairs), len(every.fixed_pairs)) == (8, 18)
    assert len({record.identity for record in few.fixed_pairs.records}) == 3
    loader = few.val_dataloader()
    assert loader.num_workers == 1
    batches = list(loader)
    assert len(batches) == 4
    assert torch.equal(batches[0].source[:1], few.fixed_pairs[0].source)


def test_validation_decodes_no_whole_clip(clips: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(cache: ClipCache, record: ClipRecord) -> None:
        raise AssertionError(f"{record.path} is decoded from its beginning to its end")

    monkeypatch.setattr(ClipCache, "_read", refuse)
    pairs = data_of(clips, workers=0).fixed_pairs
    assert isinstance(pairs, FixedPairs)
    for index in range(len(pairs)):
        assert pairs[index].driving.shape == (1, 3, 64, 64)
