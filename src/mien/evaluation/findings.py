"""The results of an evaluation, and their three formats: a table, JSON, and an HTML page.

Figures are sections (clips, people, medians ...) of named numbers or groups of them. Unknown
figures are null in JSON and a dash in tables.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from mien.errors import UserError
from mien.media import VideoWriter, save_strip

Figures = dict[str, Any]

SCORES, PAGE, STRIPS, VIDEOS = "scores.json", "index.html", "strips", "videos"
WIDTH = 100  # columns of text below the tables
SHOWN, SHOWN_SIZE = 8, 128  # frames of a contact strip, and their side in pixels


@dataclass(frozen=True)
class Curves:
    """Two series over the frames of a clip, to be drawn over one another."""

    title: str
    names: tuple[str, str]
    values: tuple[list[float], list[float]]


@dataclass
class Findings:
    """The figures of one command, their meaning, curves and image strips."""

    title: str
    meaning: str
    figures: Figures
    notes: list[str] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    strips: list[tuple[str, str]] = field(default_factory=list)  # caption and file in STRIPS
    videos: list[tuple[str, str]] = field(default_factory=list)  # caption and file in VIDEOS

    def __post_init__(self) -> None:
        self.figures = without_nan(self.figures)

    def text(self) -> str:
        """All sections as tables for a terminal, what rows and columns mean, and the notes."""
        parts = [f"{name}\n{text_table(section)}" for name, section in self.figures.items()]
        lines = [line for line in self.meaning.splitlines() if line]
        meaning = "\n".join(fill(line, WIDTH, subsequent_indent="    ") for line in lines)
        return "\n\n".join([*parts, meaning, *self.notes])

    def json(self) -> str:
        """The figures and notes, strictly JSON."""
        kept = {**self.figures, "notes": self.notes}
        return json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


class Output:
    """The output folder of JSON, page, strips and videos; with None, nothing is written.

    Raises:
        UserError: the folder cannot be made.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            with _writing(folder):
                (folder / STRIPS).mkdir(parents=True, exist_ok=True)

    def strip(self, name: str, *rows: Float[Tensor, "t 3 h w"]) -> str:
        """Keep some frames of clips of one length, one row each; returns the file's name."""
        file = f"{re.sub('[/ ]', '_', name)}.png"
        if self.folder is not None:
            chosen = torch.linspace(0, len(rows[0]) - 1, SHOWN).round().long().unique()
            small = [F.interpolate(row[chosen], SHOWN_SIZE, mode="area") for row in rows]
            with _writing(self.folder):
                save_strip(self.folder / STRIPS / file, torch.cat(small, dim=2))
        return file

    def video(self, name: str, *clips: UInt8[np.ndarray, "t h w 3"]) -> str:
        """Keep clips of one length and size, side by side, as an mp4; returns the file's name."""
        file = f"{re.sub('[/ ]', '_', name.removesuffix('.mp4'))}.mp4"
        if self.folder is not None:
            with _writing(self.folder):
                (self.folder / VIDEOS).mkdir(exist_ok=True)
                with VideoWriter(self.folder / VIDEOS / file, None) as writer:
                    writer.write(np.concatenate(clips, axis=2))
        return file

    def write(self, findings: Findings, page: str) -> None:
        """Keep the JSON and the page."""
        if self.folder is not None:
            with _writing(self.folder):
                (self.folder / SCORES).write_text(findings.json(), encoding="utf-8")
                (self.folder / PAGE).write_text(page, encoding="utf-8")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Failures to write become a sentence about the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written to ({error.strerror}): take another folder"
        ) from error


def without_nan(figures: Figures) -> Figures:
    """The same with None for what is not known."""

    def known(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: known(inner) for name, inner in value.items()}
        return None if value != value else value

    return known(figures)


def rows_of(section: Mapping[str, Any], *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The innermost groups of numbers, each with the names that lead to it."""
    if any(isinstance(value, Mapping) for value in section.values()):
        for name, inner in section.items():
            yield from rows_of(inner, *names, name)
    else:
        yield " ".join(names), dict(section)


def columns_of(section: Mapping[str, Any]) -> list[str]:
    """Names of the figures that are known somewhere in the section, in order."""
    rows = [figures for _, figures in rows_of(section)]
    every = dict.fromkeys(name for figures in rows for name in figures)
    return [name for name in every if any(row.get(name) is not None for row in rows)]


def shown(value: float | int | None) -> str:
    """A figure as tables give it."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def text_table(section: Mapping[str, Any]) -> str:
    """Rows of a section in columns."""
    columns = columns_of(section)
    table = [("", *columns)]
    for name, figures in rows_of(section):
        table.append((name, *(shown(figures.get(column)) for column in columns)))
    first, *widths = (max(map(len, cells)) for cells in zip(*table, strict=True))
    return "\n".join(
        f"{name:<{first}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, *cells in table
    )
