"""What each command does: run an evaluation over its clips and put the findings together."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from inspect import getdoc
from pathlib import Path

import torch
from tqdm import tqdm

from mien.checkpoint import default_weights, load_animator
from mien.data.datasets import to_picture
from mien.data.records import read_records
from mien.errors import UserError
from mien.evaluation.clips import Watched, read_lags
from mien.evaluation.cross import (
    Crossed,
    CrossJudge,
    CrossScore,
    cross_clips,
    load_portraits,
    smallest_gaps,
)
from mien.evaluation.findings import Curves, Figures, Findings, Output
from mien.evaluation.lips import LipScore
from mien.evaluation.looks import Likeness
from mien.evaluation.phonemes import Phonemes
from mien.evaluation.reenact import FaceScores, Reenactment, reenact_clips
from mien.evaluation.speech import (
    SpeechJudge,
    SpeechScore,
    Spoken,
    closures_of,
    overlapping,
    speech_clips,
)
from mien.evaluation.summary import mean_by_identity, mean_of, median_of
from mien.evaluation.sync import openings_and_loudness
from mien.face import FaceLandmarker
from mien.media import PICTURE_SUFFIXES
from mien.metrics import SyncScore, lip_sync
from mien.session.session import load_models


def reenactment(given: Namespace, output: Output) -> Findings:
    """Every clip from its own first frame; means over clips and over people."""
    records = read_records(given.root, given.manifest)
    animator = load_animator(given.animator or default_weights()[0])
    faces, scored, strips = FaceScores(), [], []
    clips = reenact_clips(animator, records, given.root, given.stride, faces)
    for redrawn in tqdm(clips, total=len(records), unit="clip", disable=None, leave=False):
        path = redrawn.record.path
        scored.append((redrawn.record, redrawn.score))
        strip = output.strip(path, redrawn.frames[1:], redrawn.drawn)
        strips.append((f"{path}: real, drawn", strip))
    people = mean_by_identity(scored)
    means = {
        "mean over clips": mean_of([score for _, score in scored]),
        "mean over people": mean_of(list(people.values())),
    }
    notes = _notes(faces.likeness)
    if given.stride != 1:
        notes.append("tremble is left out: it needs --stride 1, every frame")
    figures = {
        "clips": {record.path: _with_shares(score) for record, score in scored},
        "people": {identity: _with_shares(score) for identity, score in people.items()},
        "means": {name: _with_shares(score) for name, score in means.items()},
    }
    return Findings("Self-reenactment", _doc(Reenactment), figures, notes, strips=strips)


def spoken(given: Namespace, output: Output) -> Findings:
    """Every clip's own person says its sound; medians over clips, means by person."""
    records = read_records(given.root, given.manifest)
    lags = read_lags(given.offsets, records)
    animator, speech = load_models(given.animator, given.speech)
    try:
        phonemes, notes = Phonemes(), []
    except UserError as error:
        phonemes, notes = None, [f"closed is left out: {error}"]
    judge = SpeechJudge(animator, speech, phonemes, given.seed)
    if len(records) == 1:
        notes.append("other sound is left out: it needs a second clip")
    clips, strips, curves = [], [], []
    found = speech_clips(judge, records, given.root, lags, given.seconds)
    for said in tqdm(found, total=len(records), unit="clip", disable=None, leave=False):
        clips.append((said.record, said.scores))
        strips.append(_strip(output, said.record.path, said.real, said.drawn, "real, drawn"))
        curves.append(_lip_curves(said))
    drawn = [(record, scores["drawn"]) for record, scores in clips]
    figures: Figures = {
        "clips": {record.path: _each(scores) for record, scores in clips},
        "people": {who: asdict(score) for who, score in mean_by_identity(drawn).items()},
    }
    if phonemes is not None:
        figures["closures over all clips"] = {
            kind: closures_of([scores[kind] for _, scores in clips]) for kind in clips[0][1]
        }
    figures["medians"] = _medians([scores for _, scores in clips])
    notes += _notes(judge.likeness)
    meaning = f"{_doc(LipScore)}\n\n{_doc(SpeechScore)}"
    return Findings("Lips and speech", meaning, figures, notes, curves, strips)


def crossed(given: Namespace, output: Output) -> Findings:
    """Every portrait driven by every clip; medians over pairs, smallest gaps by portrait."""
    records = read_records(given.root, given.manifest)
    animator = load_animator(given.animator or default_weights()[0])
    second = FaceLandmarker(given.second_landmarks) if given.second_landmarks else None
    judge = CrossJudge(animator, second)
    paths = list_pictures(given.portraits)
    portraits = load_portraits(paths, judge.mesh, animator.config.image_size)
    scored: list[tuple[str, str, dict[str, CrossScore]]] = []
    strips, curves = [], []
    found = cross_clips(judge, portraits, records, given.root, given.seconds)
    total = len(records) * len(portraits)
    for pair in tqdm(found, total=total, unit="pair", disable=None, leave=False):
        name = _pair_name(pair)
        strips.append(_strip(output, name, pair.driver, pair.drawn, "driver, drawn"))
        gaps = pair.drawn.mouth.gap.tolist(), pair.driver.mouth.gap.tolist()
        curves.append(Curves(f"lip gap, {name}", ("drawn", "driver"), gaps))
        scored.append((name, pair.portrait.name, pair.scores))
    figures = {
        "pairs": {name: _each(scores) for name, _, scores in scored},
        "portraits": smallest_gaps([(who, scores["drawn"]) for _, who, scores in scored]),
        "medians": _medians([scores for _, _, scores in scored]),
    }
    notes = _notes(judge.likeness)
    return Findings("Strangers", _doc(CrossScore), figures, notes, curves, strips)


def synced(given: Namespace, output: Output) -> Findings:
    """The correlation, its control, and the lag at which it is best."""
    openings, loudness = openings_and_loudness(given.video, given.audio)
    score = lip_sync(openings, loudness)
    scale = float(openings.std() / loudness.std().clamp_min(1e-9))
    level = ((loudness - loudness.mean()) * scale + openings.mean()).tolist()
    curves = [Curves(given.video.name, ("mouth opening", "loudness"), (openings.tolist(), level))]
    figures = {"sync": {given.video.name: asdict(score)}}
    return Findings("Lips and loudness", _doc(SyncScore), figures, curves=curves)


def list_pictures(given: Sequence[Path]) -> list[Path]:
    """The pictures named, and those in folders that are named.

    Raises:
        UserError: a folder holds none, or two have one name.
    """
    paths: list[Path] = []
    for place in given:
        inside = [place]
        if place.is_dir():
            inside = sorted(p for p in place.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        if not inside:
            raise UserError(f"the folder {place} holds no picture: give another")
        paths += inside
    names = [path.name for path in paths]
    if doubles := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two portraits are named {min(doubles)}: rename one")
    return paths


def _medians(scores: Sequence[dict]) -> dict:
    """Of what was drawn and of each of its rivals."""
    return {
        kind: asdict(median_of([each[kind] for each in scores if kind in each]))
        for kind in scores[0]
    }


def _each(scores: dict) -> dict:
    return {kind: asdict(score) for kind, score in scores.items()}


def _with_shares(score: Reenactment) -> dict[str, float]:
    return {**asdict(score), "gain": score.gain, "mouth_share": score.mouth_share}


def _notes(likeness: Likeness) -> list[str]:
    return [likeness.missing] if likeness.missing else []


def _strip(output: Output, name: str, above: Watched, below: Watched, rows: str) -> tuple[str, str]:
    """Caption and file of a strip of two clips from their first frames on."""
    count = min(len(above), len(below))
    pictures = [to_picture(torch.from_numpy(clip.frames[:count])) for clip in (above, below)]
    return f"{name}: {rows}", output.strip(name, *pictures)


def _lip_curves(said: Spoken) -> Curves:
    drawn, real, _ = overlapping(said.drawn.mouth, said.real.mouth, None, said.lag)
    title = f"lip gap, {said.record.path}"
    return Curves(title, ("drawn", "real"), (drawn.gap.tolist(), real.gap.tolist()))


def _pair_name(pair: Crossed) -> str:
    return f"{pair.portrait.name} by {Path(pair.record.path).name}"


def _doc(kind: type) -> str:
    return getdoc(kind) or ""
