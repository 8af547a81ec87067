"""The tool finds clips, people and mouths, and says what is wrong with a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data, transform

from mien.data.manifest import read_manifest
from mien.face import FaceMesh, find_portrait
from mien.media import VideoWriter
from tests.tools import TOOLS, load_tool

TOOL = TOOLS / "build_manifest.py"
build_manifest = load_tool("build_manifest")


def write_clip(path: Path, picture: np.ndarray, frames: int = 6) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, torch.zeros(frames * 640)) as writer:
        writer.write(np.repeat(picture[None], frames, axis=0))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two clips of the astronaut, one of nobody."""
    folder = tmp_path_factory.mktemp("clips")
    picture = data.astronaut()
    x0, y0, x1, y1 = (
        max(0, round(edge)) for edge in find_portrait(picture, FaceMesh(), "astronaut").box
    )
    square = transform.resize(picture[y0:y1, x0:x1], (128, 128), anti_aliasing=True)
    square = (square * 255).astype(np.uint8)
    write_clip(folder / "eileen" / "one.mp4", square)
    write_clip(folder / "eileen" / "two's.mp4", square, frames=11)
    write_clip(folder / "nobody.mp4", np.full((128, 128, 3), 120, np.uint8))
    return folder


def test_folders_are_people_and_mouths_are_found(clips, tmp_path, capsys):
    assert build_manifest.main([str(clips), "-o", str(tmp_path / "all.jsonl")]) == 0
    records = {r.path: r for r in read_manifest(tmp_path / "all.jsonl", clips)}
    assert set(records) == {"eileen/one.mp4", "eileen/two's.mp4", "nobody.mp4"}
    one, two = records["eileen/one.mp4"], records["eileen/two's.mp4"]
    assert (one.identity, one.licence, one.frames, two.seconds) == ("eileen", "own", 6, 0.44)
    assert one.mouth is not None
    x0, y0, x1, y1 = one.mouth
    assert 0.3 < x0 < 0.45 and 0.55 < x1 < 0.72 and 0.6 < y0 < 0.7 and 0.72 < y1 < 0.85
    assert records["nobody.mp4"].identity == "nobody" and records["nobody.mp4"].mouth is None
    printed = capsys.readouterr().out
    assert "3 clips, 2 people" in printed and "no face in 1 of them, such as nobody.mp4" in printed


def test_a_table_says_who_is_who_and_licences_are_chosen(clips, tmp_path):
    shutil.copytree(clips, tmp_path / "clips")
    rows = ["file\tident\tclass", "eileen/one.mp4\tann\tpd", "nobody.mp4\tbob\toff"]
    (tmp_path / "clips" / "manifest.tsv").write_text("\n".join(rows) + "\n")
    output = tmp_path / "pd.jsonl"
    arguments = [str(tmp_path / "clips"), "-o", str(output), "--licence", "ccby,pd"]
    assert build_manifest.main(arguments) == 0
    (record,) = read_manifest(output, tmp_path / "clips")
    assert (record.identity, record.licence) == ("ann", "pd")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (None, "no clip to list"),
        ("file\tclass\na.mp4\tpd\n", "has no column ident"),
        ("file\tident\na.mp4\tann\n", "no file"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, capsys, rows: str | None, complaint: str):
    if rows is not None:
        (tmp_path / "manifest.tsv").write_text(rows)
    before = sorted(tmp_path.iterdir())
    assert build_manifest.main([str(tmp_path), "-o", str(tmp_path / "out.jsonl")]) == 1
    printed = capsys.readouterr().err.splitlines()
    assert complaint in printed[-1] and printed[-1].startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_no_folder_is_said(tmp_path, capsys):
    assert build_manifest.main([str(tmp_path / "none"), "-o", str(tmp_path / "a.jsonl")]) == 1
    assert "no folder" in capsys.readouterr().err
