"""`mien evaluate`: from drawn clips to tables, JSON and a page, with tiny nets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mien.cli import main
from mien.data.drawn import draw_clip, draw_person, write_clips
from mien.errors import UserError
from mien.evaluation import drive, gather
from mien.evaluation.findings import rows_of, shown
from mien.evaluation.phonemes import Phonemes
from mien.evaluation.speech import Said
from mien.media import VideoWriter, read_video, to_bytes
from tests.portrait.tiny import pictures
from tests.tiny_nets import save_tiny_pair, tiny_pair

FRAMES = 30
CLIPS = "valid/valid-0-0.mp4", "valid/valid-1-0.mp4"


class SpeaksAtTen(Phonemes):
    """In place of the recogniser: lips close at frame 10."""

    def __init__(self) -> None:
        pass

    def closures(self, waveform):
        return np.array([10])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Clips of two drawn people, a drawn portrait, and a tiny pair of nets."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_clips(folder, "valid", people=2, clips=1, frames=FRAMES, size=64, seed=0)
    random = np.random.default_rng(5)
    portrait = draw_clip(draw_person(random), 200, 1, random).frames[0]
    Image.fromarray(portrait).save(folder / "portrait.png")
    save_tiny_pair(folder)
    return folder


def missing(*_):
    raise UserError("it is not there")


@pytest.fixture(autouse=True)
def recognisers(monkeypatch):
    """Of sounds: one that is known. Of people: none, it takes a second a clip."""
    monkeypatch.setattr(gather, "Phonemes", SpeaksAtTen)
    monkeypatch.setattr("mien.evaluation.metrics.identity.FaceIdentity", missing)


def asked(folder: Path, what: str, *more: str) -> list[str]:
    given = ["evaluate", what, "--root", str(folder), "--manifest", "valid.jsonl"]
    given += ["--animator", str(folder / "animator.safetensors")]
    if what == "speech":
        given += ["--speech", str(folder / "speech_to_motion.safetensors")]
    if what == "cross":
        given += ["--portraits", str(folder / "portrait.png")]
    return [*given, *more]


def evaluated(folder: Path, output: Path, what: str, *more: str) -> dict:
    """The figures of a run that went well; its page must hold each of them."""
    assert main(asked(folder, what, "-o", str(output), *more)) == 0
    figures = json.loads((output / "scores.json").read_text(), parse_constant=pytest.fail)
    page = (output / "index.html").read_text()
    for note in figures["notes"]:
        assert note.split("(")[0] in page
    for title in figures.keys() - {"notes"}:
        table = page.split(f"<h2>{title.capitalize()}</h2>")[1].split("</table>")[0]
        for name, row in rows_of(figures[title]):
            line = table.split(f"<tr><th>{name}</th>")[1].split("</tr>")[0]
            for value in row.values():
                assert value is None or f"<td>{shown(value)}</td>" in line
    return figures


def own_frames(folder: Path, late: int):
    """In place of the nets: each clip's own frames, so many later, for its own sound; else still
    ones.
    """
    clips = [read_video(folder / path, 64) for path in CLIPS]
    turns = iter((0, None, 1, None))

    def say(animator, speech, portrait, sound, seed, precision) -> Said:
        which = next(turns)
        if which is None:
            frames = to_bytes(portrait).repeat(FRAMES, axis=0)
        else:
            frames = np.roll(clips[which], late, axis=0)
        speaking = np.repeat((1.0, 0.0), FRAMES // 2)
        return Said(frames, speaking, torch.arange(float(FRAMES))[None, :, None], (10, 20))

    return say


@pytest.mark.parametrize("late", [0, 3])
def test_perfect_speech_scores_one_at_the_audited_offset(folder, tmp_path, monkeypatch, late):
    monkeypatch.setattr("mien.evaluation.speech.say", own_frames(folder, late))
    (tmp_path / "offsets.tsv").write_text(
        "# clip\tframes\n" + "".join(f"{Path(p).name}\t{late}\n" for p in CLIPS)
    )
    offsets = "--offsets", str(tmp_path / "offsets.tsv")
    figures = evaluated(folder, tmp_path / "out", "speech", *offsets)
    drawn = figures["medians"]["drawn"]
    for name in ("gap", "fast", "width", "spread"):
        assert drawn[name] == pytest.approx(1, abs=1e-6), name
    assert drawn["joins"] == 1
    assert figures["medians"]["other sound"]["gap"] == 0
    assert figures["medians"]["copied"]["gap"] == 0
    assert figures["medians"]["real"]["gap"] == pytest.approx(1)
    assert figures["medians"]["real"]["sync"] == drawn["sync"]
    assert late or drawn["sync"] > 0.5
    assert figures["medians"]["real"]["closed"] == drawn["closed"]
    assert figures["all clips"]["drawn"]["closed"] == drawn["closed"]
    if not late:
        assert drawn["tremble"] == drawn["sharpness"] == 1
        assert drawn["silence"] == figures["medians"]["real"]["silence"]
    assert (
        figures["people"]["valid-0"]["drawn"]["gap"] == figures["clips"][CLIPS[0]]["drawn"]["gap"]
    )


def test_an_offset_that_is_wrong_is_not_searched_away(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("mien.evaluation.speech.say", own_frames(folder, 3))
    assert evaluated(folder, tmp_path, "speech")["medians"]["drawn"]["gap"] < 0.6


def test_speech_of_tiny_nets_goes_all_the_way(folder, tmp_path, capsys):
    figures = evaluated(folder, tmp_path, "speech", "--seconds", "1")
    assert set(figures["clips"]) == set(CLIPS)
    assert set(figures["clips"][CLIPS[0]]) == {"drawn", "real", "copied", "other sound"}
    assert figures["medians"]["real"]["spread"] == 1
    assert figures["medians"]["drawn"]["joins"] > 0  # 25 frames are more than a window of 20
    printed = capsys.readouterr().out
    assert "medians" in printed and f"{CLIPS[1]} other sound" in printed
    assert "\nspread: " in printed, "columns are explained"
    page = (tmp_path / "index.html").read_text()
    assert page.count("<svg") == 2 and "http" not in page
    strips = sorted(path.name for path in (tmp_path / "strips").iterdir())
    assert strips == [path.replace("/", "_") + ".png" for path in CLIPS]
    assert all(f'src="strips/{name}"' in page for name in strips)


def test_what_is_not_installed_is_left_out_with_a_sentence(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "Phonemes", missing)
    monkeypatch.setattr("mien.evaluation.speech.say", own_frames(folder, 0))
    figures = evaluated(folder, tmp_path, "speech")
    assert "closed is left out: it is not there" in figures["notes"]
    assert "identity is left out: it is not there" in figures["notes"]
    assert figures["medians"]["drawn"]["closed"] is None
    assert figures["medians"]["drawn"]["identity"] is None
    assert figures["all clips"]["drawn"]["closed"] is None
    assert "<th>closed</th>" not in (tmp_path / "index.html").read_text()


def test_a_stranger_who_does_as_the_driver_follows_the_driver(folder, tmp_path, monkeypatch):
    def mirror(animator, portrait, frames, rest, meshes):
        yield from frames.split(8)

    monkeypatch.setattr("mien.evaluation.cross.drive", mirror)
    figures = evaluated(folder, tmp_path, "cross", "--seconds", "1")
    kinds = figures["medians"]
    for name in ("gap", "gap_slope", "width", "width_slope"):
        assert kinds["drawn"][name] == pytest.approx(1, abs=1e-6)
        assert kinds["driver"][name] == pytest.approx(1)
        assert kinds["copied"][name] == pytest.approx(0, abs=1e-9)
    assert kinds["drawn"]["tremble"] == 1
    pairs = [scores["drawn"] for scores in figures["pairs"].values()]
    assert len(pairs) == 2
    portrait = figures["portraits"]["portrait.png"]
    assert portrait["smallest"] == min(pair["smallest"] for pair in pairs)
    assert portrait["rest"] == kinds["copied"]["smallest"] == kinds["drawn"]["rest"]
    for pair in figures["pairs"].values():
        assert pair["driver"]["smallest"] == pair["driver"]["rest"]


def test_strangers_of_tiny_nets_go_all_the_way(folder, tmp_path, capsys):
    evaluated(folder, tmp_path, "cross", "--seconds", "0.4")
    assert "portrait.png by valid-1-0.mp4 driver" in capsys.readouterr().out
    assert len(list((tmp_path / "strips").iterdir())) == 2


def test_reenactment_has_a_page_too(folder, tmp_path):
    figures = evaluated(folder, tmp_path, "reenact", "--stride", "10")
    assert any("--stride 1" in note for note in figures["notes"])
    rows = figures["clips"][CLIPS[0]]
    assert set(rows) == {"drawn", "copied", "real", "undriven"}
    copied = rows["copied"]
    # The whole is between its parts.
    parts = sorted((copied["face"], copied["outside"]))
    assert parts[0] < copied["psnr"] < parts[1]
    assert rows["real"]["psnr"] == 100 and rows["real"]["sharpness"] == 1
    assert (
        figures["all clips"]["copied"]["diversity"] == 0 < figures["all clips"]["real"]["diversity"]
    )


def test_sync_has_a_page_too(folder, tmp_path, capsys):
    given = ["evaluate", "sync", str(folder / CLIPS[0]), "-o", str(tmp_path)]
    assert main(given) == 0
    figures = json.loads((tmp_path / "scores.json").read_text())["sync"]["valid-0-0.mp4"]
    assert figures["correlation"] > 0.5 > figures["reversed"]  # drawn mouths follow loudness
    assert f"{figures['correlation']:.4f}" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "index.html").read_text()


def test_a_driver_at_rest_leaves_the_portrait_at_rest():
    animator, _ = tiny_pair()
    portrait, driver = pictures(2)[:1], pictures(4, seed=7)
    with torch.no_grad():
        still = animator.reconstruct(animator.encode_appearance(portrait))
    drawn = torch.cat(list(drive(animator, portrait, driver[:1].repeat(9, 1, 1, 1), 0)))
    assert drawn.shape == (9, 3, 64, 64)
    assert torch.allclose(drawn, still.expand_as(drawn), atol=1e-4)
    moved = torch.cat(list(drive(animator, portrait, driver, 0)))
    assert not torch.allclose(moved[1:], still.expand_as(moved[1:]), atol=1e-2)


def test_a_portrait_is_its_own_rest():
    animator, _ = tiny_pair()
    frames = pictures(4)
    own, absolute = (
        torch.cat(list(drive(animator, frames[:1], frames, rest))) for rest in (0, None)
    )
    assert torch.allclose(own, absolute, atol=1e-4)


def mistakes(folder: Path) -> dict[str, tuple[list[str], str]]:
    (folder / "words.tsv").write_text(f"{CLIPS[0]}\tsoon\n")
    (folder / "others.json").write_text('{"nobody.mp4": 2}')
    (folder / "broken.json").write_text("{")
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "a_file").write_text("")
    Image.fromarray(np.full((80, 80, 3), 128, np.uint8)).save(folder / "grey.png")

    def offsets(name: str) -> list[str]:
        return asked(folder, "speech", "--offsets", str(folder / name))

    def portraits(name: str) -> list[str]:
        return asked(folder, "cross", "--portraits", str(folder / name))

    twice = [str(folder / "portrait.png")] * 2
    return {
        "words": (offsets("words.tsv"), "'soon' is not a whole number"),
        "others": (offsets("others.json"), "names none of the clips"),
        "broken": (offsets("broken.json"), "cannot be read"),
        "missing": (offsets("missing.tsv"), "cannot be read"),
        "empty": (portraits("empty"), "has no picture"),
        "grey": (portraits("grey.png"), "no face found"),
        "twice": (asked(folder, "cross", "--portraits", *twice), "two portraits are named"),
        "stride": (asked(folder, "reenact", "--stride", "99"), "no second frame"),
        "nothing": (asked(folder, "reenact", "--stride", "0"), "not above 0"),
        "file": (asked(folder, "reenact", "-o", str(folder / "a_file")), "cannot be written to"),
        "what": (["evaluate", "smell"], "invalid choice"),
    }


NAMES = ["words", "others", "broken", "missing", "empty", "grey", "twice", "stride"]
NAMES += ["nothing", "file", "what"]


@pytest.mark.parametrize("name", NAMES)
def test_a_mistake_is_one_sentence(folder, capsys, name):
    arguments, words = mistakes(folder)[name]
    assert main(arguments) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ") and words in said[-1]


def test_a_clip_without_a_face_or_a_sound_is_named(folder, tmp_path, capsys):
    grey = np.full((10, 64, 64, 3), 128, np.uint8)
    with VideoWriter(tmp_path / "grey.mp4", torch.zeros(6400)) as writer:
        writer.write(grey)
    clip = {"path": "grey.mp4", "identity": "x", "licence": "own", "seconds": 0.4, "frames": 10}
    (tmp_path / "grey.jsonl").write_text(json.dumps(clip))
    where = ["--root", str(tmp_path), "--manifest", str(tmp_path / "grey.jsonl")]
    assert main([*asked(folder, "speech"), *where]) == 1
    assert "grey.mp4 shows no face" in capsys.readouterr().err
    with VideoWriter(tmp_path / "grey.mp4", torch.zeros(0)) as writer:
        writer.write(read_video(folder / CLIPS[0])[:10])
    assert main([*asked(folder, "speech"), *where]) == 1
    assert "audio track" in capsys.readouterr().err
