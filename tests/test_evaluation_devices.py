"""`mien evaluate --device cuda`: nets, frames and scores move, as far as a CPU can show it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mien.cli import main
from mien.data.drawn import draw_clip, draw_person, write_clips
from mien.errors import UserError
from mien.evaluation.findings import rows_of
from tests.pretend_gpu import PretendGpu
from tests.tiny_nets import save_tiny_pair

SHORT = {
    "reenact": ["--stride", "4"],
    "cross": ["--portraits", "portrait.png", "--seconds", "0.2"],
    "speech": ["--speech", "speech_to_motion.safetensors", "--seconds", "0.4"],
    "follow": ["--frames", "3"],
}
SECTIONS = {"reenact": "means", "follow": "same identity"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    write_clips(tmp_path, "valid", people=1, clips=1, frames=12, size=64, seed=0)
    random = np.random.default_rng(5)
    portrait = draw_clip(draw_person(random), 200, 1, random).frames[0]
    Image.fromarray(portrait).save(tmp_path / "portrait.png")
    save_tiny_pair(tmp_path)
    monkeypatch.chdir(tmp_path)

    def missing(*_):
        raise UserError("it takes too long for this test")

    monkeypatch.setattr("mien.evaluation.metrics.identity.FaceIdentity", missing)
    monkeypatch.setattr("mien.evaluation.gather.Phonemes", missing)
    return tmp_path


def evaluated(folder: Path, what: str, device: str, *more: str) -> dict:
    asked = ["--root", str(folder), "--manifest", "valid.jsonl", "--device", device]
    asked += ["--animator", "animator.safetensors", *SHORT[what], "-o", str(folder / device)]
    assert main(["evaluate", what, *asked, *more]) == 0
    return json.loads((folder / device / "scores.json").read_text())


@pytest.mark.parametrize("what", list(SHORT))
def test_nothing_is_left_on_the_cpu_and_the_figures_are_the_same(folder, monkeypatch, what):
    on_cpu = evaluated(folder, what, "cpu")
    monkeypatch.setenv("MIEN_SCAN", "reference")  # triton's kernels are interpreted, slowly
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with PretendGpu() as gpu:
        on_gpu = evaluated(folder, what, "cuda")
    assert {"conv2d", "grid_sample"} <= gpu.seen
    if what == "reenact":  # scores of pictures are computed where the pictures are
        assert {"nanmean", "log10"} <= gpu.seen
    section = SECTIONS.get(what, "medians")
    ours, theirs = (known(each[section]) for each in (on_gpu, on_cpu))
    if what == "speech":  # the drawn lips come from another back end's scan
        ours, theirs = ({k: v for k, v in e.items() if "drawn" not in k} for e in (ours, theirs))
    assert theirs and ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("what", ["reenact", "cross", "speech"])  # in follow no face is found
def test_in_bfloat16_only_what_was_drawn_changes(folder, what):
    section = "means" if what == "reenact" else "medians"
    full = evaluated(folder, what, "cpu")[section]
    mixed = evaluated(folder, what, "cpu", "--precision", "bf16-mixed")[section]
    drawn = [
        {
            k: v
            for k, v in known(e).items()
            if any(row in k for row in ("drawn", "undriven", "mien"))
        }
        for e in (full, mixed)
    ]
    others = [known(e).items() - d.items() for e, d in zip((full, mixed), drawn, strict=True)]
    assert others[0] == others[1] and others[0]
    assert drawn[0] != drawn[1]
    if what == "reenact":
        name = "mean over clips drawn psnr"
        assert drawn[1][name] == pytest.approx(drawn[0][name], abs=0.3)


def known(section: dict) -> dict[str, float]:
    """Figures by row and name, without those that are null."""
    return {
        f"{row} {name}": value
        for row, scores in rows_of(section)
        for name, value in scores.items()
        if value is not None
    }


def test_what_stays_on_the_cpu_is_noticed():
    """The pretended GPU refuses what a GPU refuses."""
    here = torch.ones(2)
    with PretendGpu() as gpu:
        there = here.to("cuda")
        assert there.is_cuda and (there * 2).device == torch.device("cuda:0")
        assert not there.cpu().is_cuda and not here.is_cuda
        assert torch.zeros(2, device=there.device).is_cuda
        with pytest.raises(RuntimeError, match="CPU and on the GPU"):
            there + here
        with pytest.raises(TypeError, match="cpu"):
            there.numpy()
        net = torch.nn.Linear(2, 2).to("cuda")
        assert net(there).is_cuda and not gpu.there(here)
        with pytest.raises(RuntimeError, match="CPU and on the GPU"):
            net(here)
