"""The work of each command: run an evaluation over its clips and collect the findings."""

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
from mien.devices import choose_device
from mien.errors import UserError
from mien.evaluation import cross, follow, reenact, speech
from mien.evaluation.clips import read_lags
from mien.evaluation.comparison import Comparison, Task, TrackedClip
from mien.evaluation.findings import Curves, Figures, Findings, Output, without_nan
from mien.evaluation.metrics.sync import SyncScore, lip_sync
from mien.evaluation.phonemes import Phonemes
from mien.evaluation.suite import Scores, Suite
from mien.evaluation.summary import Scored, by_row, mean_by_person, mean_of, median_of
from mien.evaluation.sync import openings_and_loudness
from mien.evaluation.systems import SYSTEMS
from mien.face import FaceLandmarker
from mien.media import PICTURE_SUFFIXES
from mien.portrait.animator import Animator
from mien.session.session import load_models


def reenactment(given: Namespace, output: Output) -> Findings:
    """Every clip from its own first frame; means over clips and over people."""
    records = read_records(given.root, given.manifest)
    animator = _animator(given)
    suite, scored, strips = Suite(Task.REENACT, "real"), [], []
    clips = reenact.reenact_clips(animator, records, given.root, given.stride, given.precision)
    for redrawn in tqdm(clips, total=len(records), unit="clip", disable=None, leave=False):
        record, drawn = redrawn.record, redrawn.rows["drawn"]
        scored.append(Scored(record.path, record.identity, suite.score(redrawn.rows)))
        strips.append(_strip(output, record.path, drawn, "real, drawn"))
    people = mean_by_person(scored)
    figures = {
        **_clips_and_people(scored),
        **_of_set(suite),
        "means": {
            "mean over clips": by_row([each.scores for each in scored], mean_of),
            "mean over people": by_row(list(people.values()), mean_of),
        },
    }
    notes = [*suite.notes]
    if given.stride != 1:
        notes.append("tremble is left out: it needs --stride 1, every frame")
    return Findings(
        "Self-reenactment", _meaning(reenact.MEANING, suite), figures, notes, strips=strips
    )


def spoken(given: Namespace, output: Output) -> Findings:
    """Every clip regenerated from its audio; medians over clips, means by person."""
    records = read_records(given.root, given.manifest)
    lags = read_lags(given.offsets, records)
    device = choose_device(given.device)
    animator, talking = load_models(given.animator, given.speech, device)
    try:
        phonemes, notes = Phonemes(), []
    except UserError as error:
        phonemes, notes = None, [f"closed is left out: {error}"]
    speaking = speech.Speaking(animator, talking, phonemes, given.seed, given.precision)
    if len(records) == 1:
        notes.append("other sound is left out: it needs a second clip")
    suite, scored, strips, curves = Suite(Task.SPEECH, "real"), [], [], []
    clips = speech.speech_clips(speaking, records, given.root, lags, given.seconds)
    for said in tqdm(clips, total=len(records), unit="clip", disable=None, leave=False):
        record, drawn = said.record, said.rows["drawn"]
        scored.append(Scored(record.path, record.identity, suite.score(said.rows)))
        strips.append(_strip(output, record.path, drawn, "real, drawn"))
        curves.append(_lip_curves(record.path, drawn, "real"))
    figures = {
        **_clips_and_people(scored),
        **_of_set(suite),
        "medians": by_row([each.scores for each in scored], median_of),
    }
    notes += suite.notes
    meaning = _meaning(speech.MEANING, suite)
    return Findings("Lips and speech", meaning, figures, notes, curves, strips)


def crossed(given: Namespace, output: Output) -> Findings:
    """Every portrait driven by every clip; medians over pairs, smallest gaps by portrait."""
    records = read_records(given.root, given.manifest)
    animator = _animator(given)
    second = FaceLandmarker(given.second_landmarks) if given.second_landmarks else None
    driving = cross.Driving(animator, second, given.precision)
    portraits = cross.load_portraits(list_pictures(given.portraits), animator.config.image_size)
    suite, scored, strips, curves = Suite(Task.CROSS, "driver"), [], [], []
    pairs = cross.cross_clips(driving, portraits, records, given.root, given.seconds)
    total = len(records) * len(portraits)
    for pair in tqdm(pairs, total=total, unit="pair", disable=None, leave=False):
        scored.append(Scored(pair.name, pair.portrait.name, suite.score(pair.rows)))
        strips.append(_strip(output, pair.name, pair.rows["drawn"], "driver, drawn"))
        curves.append(_lip_curves(pair.name, pair.rows["drawn"], "driver"))
    figures = {
        "pairs": {each.name: each.scores for each in scored},
        "portraits": cross.smallest_gaps(scored),
        **_of_set(suite),
        "medians": by_row([each.scores for each in scored], median_of),
    }
    meaning = _meaning(cross.MEANING, suite)
    return Findings("Cross-identity reenactment", meaning, figures, [*suite.notes], curves, strips)


def followed(given: Namespace, output: Output) -> Findings:
    """Portraits driven by the same and by other people; means over pairs, the metrics of following
    weighted by frames.
    """
    records = read_records(given.root, given.manifest)
    systems = {name: SYSTEMS[name](given) for name in dict.fromkeys(given.system)}
    pictures = list_pictures(given.portraits or ())
    drivers = follow.load_drivers(records, given.root, given.frames)
    pairs = {
        Task.FOLLOW: [(driver, driver.portrait()) for driver in drivers],
        Task.FOLLOW_OTHER: follow.portraits_for(drivers, pictures),
    }
    found = Findings("Following a driver", "", {})
    follow.note(found, follow.FITTED_WITH)
    for task, kind in ((Task.FOLLOW, "same identity"), (Task.FOLLOW_OTHER, "cross identity")):
        if not pairs[task]:
            found.notes.append(f"{kind} is left out: it needs a second person, or --portraits")
            continue
        suite = Suite(task, follow.DRIVER)
        clips = follow.follow_all(systems, drivers, pairs[task], task)
        scored = []
        for each in tqdm(clips, kind, len(pairs[task]), unit="pair", disable=None, leave=False):
            scored.append(Scored(each.name, each.person, suite.score(each.rows)))
            follow.show(found, output, each, tuple(systems))
        found.figures |= without_nan(follow.figures(kind, scored, suite.of_set()))
        for text in suite.notes:
            follow.note(found, text)
        found.meaning = _meaning(follow.MEANING, suite)
    return found


def synced(given: Namespace, output: Output) -> Findings:
    """The correlation, its control, and the lag at which it is best."""
    openings, loudness = openings_and_loudness(given.video, given.audio)
    score = lip_sync(openings, loudness)
    scale = float(openings.std() / loudness.std().clamp_min(1e-9))
    level = ((loudness - loudness.mean()) * scale + openings.mean()).tolist()
    curves = [Curves(given.video.name, ("mouth opening", "loudness"), (openings.tolist(), level))]
    figures = {"sync": {given.video.name: asdict(score)}}
    return Findings("Lips and loudness", getdoc(SyncScore) or "", figures, curves=curves)


def list_pictures(given: Sequence[Path]) -> list[Path]:
    """The pictures named, and those in folders that are named.

    Raises:
        UserError: a folder has no picture, or two pictures have the same name.
    """
    paths: list[Path] = []
    for place in given:
        inside = [place]
        if place.is_dir():
            inside = sorted(p for p in place.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        if not inside:
            raise UserError(f"the folder {place} has no picture: give another")
        paths += inside
    names = [path.name for path in paths]
    if doubles := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two portraits are named {min(doubles)}: rename one")
    return paths


def _animator(given: Namespace) -> Animator:
    """The net of the command line, on its device."""
    device = choose_device(given.device)
    return load_animator(given.animator or default_weights()[0]).to(device)


def _clips_and_people(scored: Sequence[Scored]) -> Figures:
    return {"clips": {each.name: each.scores for each in scored}, "people": mean_by_person(scored)}


def _of_set(suite: Suite) -> dict[str, dict[str, Scores]]:
    """The section of figures that see all clips, where there is one."""
    figures = suite.of_set()
    return {"all clips": figures} if figures else {}


def _meaning(rows: str, suite: Suite) -> str:
    """What the rows are, and what each figure means."""
    return f"{' '.join(rows.split())}\n\n{suite.meaning()}"


def _strip(output: Output, name: str, pair: Comparison, rows: str) -> tuple[str, str]:
    """Caption and file of a strip of the reference over what was drawn."""
    clips: tuple[TrackedClip, ...] = pair.reference, pair.clip
    pictures = [to_picture(torch.from_numpy(clip.frames)) for clip in clips]
    return f"{name}: {rows}", output.strip(name, *pictures)


def _lip_curves(name: str, pair: Comparison, reference: str) -> Curves:
    gaps = pair.clip.mouth.gap.tolist(), pair.reference.mouth.gap.tolist()
    return Curves(f"lip gap, {name}", ("drawn", reference), gaps)
