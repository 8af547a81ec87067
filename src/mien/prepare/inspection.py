"""A data set on one HTML page: how much there is, a histogram of every measure, and the clips.

Accepted and rejected clips are shown side by side, so that a person can judge the limits. Pictures
are embedded; the page needs no network.
"""

import base64
import html
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from mien.errors import UserError
from mien.prepare.checks import Measures
from mien.prepare.outcome import SPLITS, STRIPS, Outcome, Part, read_records
from mien.types import FPS

VERDICTS = ("accepted", "rejected")
LINES, PEOPLE_SHOWN = 200, 30  # longer lists are truncated
BINS = 30
WIDTH, HEIGHT = 300, 90  # pixels of a histogram
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em }}
table {{ border-collapse: collapse }} td, th {{ padding: .2em .8em; text-align: left }}
td.number {{ text-align: right }} figure {{ display: inline-block; margin: .4em; font-size: 12px }}
figcaption {{ max-width: 290px; overflow-wrap: anywhere }} .plot {{ width: 300px }}
</style><h1>{title}</h1>{body}</html>
"""


class Sheet:
    """An evenly spaced sample of a stream of parts, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most, self._step, self.seen = most, 1, 0
        self.parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Keep every `step`-th; when there are too many, drop every second and double the step."""
        if self.seen % self._step == 0:
            self.parts.append(part)
        if len(self.parts) > self._most:
            self.parts = self.parts[::2]
            self._step *= 2
        self.seen += 1


class Tally:
    """Statistics of a data set, updated source by source; only what the page shows is kept."""

    def __init__(self, strips: int) -> None:
        self.sources = 0
        self.clips: Counter[tuple[str, str]] = Counter()  # of a split and a verdict
        self.frames: Counter[tuple[str, str]] = Counter()
        self.people: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self.frames_of: Counter[tuple[str, str]] = Counter()  # of a split and a person
        self.reasons: Counter[str] = Counter()
        self.problems = Listing()
        self.notes = Listing()
        self.values = {field.name: (array("f"), array("f")) for field in fields(Measures)}
        self.sheets = {verdict: Sheet(strips) for verdict in VERDICTS}

    def add(self, outcome: Outcome) -> None:
        """Count one source."""
        self.sources += 1
        if outcome.problem:
            self.problems.add(outcome.source.path, outcome.problem)
        for note in outcome.notes:
            self.notes.add(outcome.source.path, note)
        for part in outcome.parts:
            self._add_part(part)

    def _add_part(self, part: Part) -> None:
        split, identity = part.split or "", part.identity or ""
        rejected = bool(part.reasons)
        key = split, VERDICTS[rejected]
        self.clips[key] += 1
        self.frames[key] += part.frames
        self.people[key].add(identity)
        if not rejected:
            self.frames_of[split, identity] += part.frames
        self.reasons.update(reason.split(":")[0] for reason in part.reasons)
        self.sheets[VERDICTS[rejected]].add(part)
        for name, value in vars(part.measures).items():
            if value is not None and math.isfinite(value):
                self.values[name][rejected].append(value)


class Listing:
    """The first lines of a list, and how many there are."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.count = 0

    def add(self, path: str, text: str) -> None:
        """One more line."""
        if self.count < LINES:
            self.rows.append((path, text))
        self.count += 1


def write_page(folder: Path, output: Path, strips: int) -> None:
    """Write the page of a data set, with at most so many strips for each verdict.

    Raises:
        UserError: there are no records, or the page cannot be written.
    """
    tally = Tally(strips)
    for outcome in read_records(folder):
        tally.add(outcome)
    body = "".join(
        (
            _counts(tally),
            _problems(tally),
            "<h2>Measures</h2><p>Blue: accepted. Red, above it: rejected.</p>",
            *(_histogram(name, *values) for name, values in tally.values.items()),
            *(_sheet(folder, verdict, sheet) for verdict, sheet in tally.sheets.items()),
        )
    )
    page = PAGE.format(title=html.escape(folder.resolve().name), body=body)
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error}): check the folder") from error


def _counts(tally: Tally) -> str:
    rows = [
        (split, verdict, tally.clips[key], len(tally.people[key]), f"{hours:.2f}")
        for split in SPLITS
        for verdict in VERDICTS
        for key in [(split, verdict)]
        for hours in [tally.frames[key] / FPS / 3600]
    ]
    most = [
        (split, who, f"{frames / FPS / 60:.1f}")
        for (split, who), frames in tally.frames_of.most_common(PEOPLE_SHOWN)
    ]
    return (
        f"<p>{tally.sources} videos, {tally.problems.count} of them without a clip.</p>"
        + _table(("split", "verdict", "clips", "people", "hours"), rows)
        + "<h2>People</h2>"
        + _table(("split", f"who (at most {PEOPLE_SHOWN})", "minutes"), most)
    )


def _problems(tally: Tally) -> str:
    return (
        "<h2>Why clips were rejected</h2>"
        + _table(("reason", "clips"), tally.reasons.most_common())
        + f"<h2>Videos without a clip ({tally.problems.count})</h2>"
        + _table(("video", "why"), tally.problems.rows)
        + f"<h2>Notes ({tally.notes.count})</h2>"
        + _table(("video", "note"), tally.notes.rows)
    )


def _histogram(name: str, accepted: array, rejected: array) -> str:
    """A stacked histogram of a measure as an SVG."""
    count = len(accepted) + len(rejected)
    if not count:
        return ""
    every = np.concatenate((np.asarray(accepted), np.asarray(rejected)))
    edges = np.histogram_bin_edges(every, BINS)
    good, bad = (np.histogram(some, edges)[0].tolist() for some in (accepted, rejected))
    scale = HEIGHT / max(a + b for a, b in zip(good, bad, strict=True))

    def bar(place: int, below: int, count: int, colour: str) -> str:
        x, y = place * WIDTH / BINS, HEIGHT - (below + count) * scale
        size = f'width="{WIDTH / BINS - 1:.1f}" height="{count * scale:.1f}"'
        return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>'

    bars = "".join(bar(i, 0, a, "#47b") + bar(i, a, bad[i], "#c44") for i, a in enumerate(good))
    caption = f"{name} ({count}): {every.min():.3g} to {every.max():.3g}"
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{caption}">{bars}'
        f"</svg><figcaption>{caption}</figcaption></figure>"
    )


def _sheet(folder: Path, verdict: str, sheet: Sheet) -> str:
    """A contact sheet: three frames of each part, and why it was rejected."""
    shown = [f"<h2>{verdict.capitalize()} ({len(sheet.parts)} of {sheet.seen})</h2>"]
    for part in sheet.parts:
        strip = folder / STRIPS / f"{part.name}.jpg"
        if strip.is_file():
            data = base64.b64encode(strip.read_bytes()).decode()
            caption = html.escape("; ".join((part.name, *part.reasons)))
            shown.append(
                f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
    return "".join(shown)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>None.</p>"

    def cell(value: object) -> str:
        number = isinstance(value, int) or str(value).replace(".", "", 1).isdigit()
        return f"<td{' class=number' if number else ''}>{html.escape(str(value))}</td>"

    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"
