#!/usr/bin/env python
"""Make a manifest of a folder of clips: identity, length, and mouth box.

    python tools/build_manifest.py FOLDER -o manifest.jsonl [--licence ccby,pd]

Clips are square videos of one face at 25 frames a second. Identities are from FOLDER/manifest.tsv
if there is one (columns file, ident, class), else from folders: FOLDER/<identity>/<clip>; each clip
directly in FOLDER is another person. The mouth box contains the lips in all frames.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mien.data.manifest import Box, ClipRecord, write_manifest
from mien.errors import UserError
from mien.face import FaceMesh, mouth_box
from mien.media import Frames, probe_video, read_video
from mien.types import FRAMINGS, Framing

FPS = 25
SAMPLED = 5  # landmarks are found in every fifth frame
MARGIN = 0.15  # of the box's size, on each side: lips between the sampled frames
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make a manifest of a folder of clips.")
    parser.add_argument("folder", type=Path, help="the data root: clip paths start from here")
    parser.add_argument("-o", "--output", type=Path, required=True, help="manifest to write")
    parser.add_argument("--licence", help="only these classes of manifest.tsv, such as ccby,pd")
    parser.add_argument("--framing", choices=FRAMINGS, default="face", help="what clips show")
    given = parser.parse_args(argv)
    licences = given.licence.split(",") if given.licence else None
    try:
        build(given.folder, given.output, licences, given.framing)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: nothing was written", file=sys.stderr)
        return 130
    return 0


def build(
    folder: Path, output: Path, licences: list[str] | None, framing: Framing = "face"
) -> None:
    """Analyse every clip of the folder and write the manifest.

    Raises:
        UserError: there is no clip, or one cannot be used.
    """
    clips = [c for c in list_clips(folder) if licences is None or c[2] in licences]
    if not clips:
        raise UserError(f"no clip to list in {folder}: check the folder and --licence")
    if not output.parent.is_dir():
        raise UserError(f"the folder {output.parent} does not exist: make it first")
    mesh = FaceMesh()
    with tqdm(clips, desc="clips", unit="clip") as bar:
        records = [replace(look_at(folder, *clip, mesh), framing=framing) for clip in bar]
    write_manifest(output, records)
    faceless = [record.path for record in records if record.mouth is None]
    people = len({record.identity for record in records})
    minutes = sum(record.seconds for record in records) / 60
    print(f"{output}: {len(records)} clips, {people} people, {minutes:.1f} minutes")
    if faceless:
        print(f"no face in {len(faceless)} of them, such as {faceless[0]}: they have no mouth box")


def list_clips(folder: Path) -> list[tuple[str, str, str]]:
    """(path, identity, licence) of every clip.

    Raises:
        UserError: no such folder, or a manifest.tsv without the columns file and ident.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give the folder of your clips")
    table = folder / "manifest.tsv"
    if not table.is_file():
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS)
        places = [path.relative_to(folder) for path in paths]
        return [
            (place.as_posix(), place.parts[0] if len(place.parts) > 1 else place.stem, "own")
            for place in places
        ]
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        if missing := {"file", "ident"} - set(rows.fieldnames or ()):
            raise UserError(f"{table} has no column {sorted(missing)[0]}: add it to the first line")
        return [(row["file"], row["ident"], row.get("class") or "own") for row in rows]


def look_at(folder: Path, path: str, identity: str, licence: str, mesh: FaceMesh) -> ClipRecord:
    """Decode one clip and find its mouth.

    Raises:
        UserError: it cannot be read, or does not have 25 frames a second.
    """
    info = probe_video(folder / path)
    if abs(info.fps - FPS) > 0.01:
        raise UserError(f"{folder / path} has {info.fps:g} frames a second: convert it to {FPS}")
    frames = read_video(folder / path)
    mouth = mouth_of(frames[::SAMPLED], mesh)
    return ClipRecord(path, identity, licence, len(frames) / FPS, len(frames), mouth)


def mouth_of(frames: Frames, mesh: FaceMesh) -> Box | None:
    """The box in [0, 1] around the lips of all frames, with a margin; None without a face."""
    boxes = []
    for picture in frames:
        if faces := mesh.faces(picture):
            boxes.append(mouth_box(mesh.landmarks(picture, faces[0])[0]))
    if not boxes:
        return None
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    margin = MARGIN * (high - low)
    height, width = frames.shape[1:3]
    x0, y0 = ((low - margin) / (width, height)).clip(0, 1).round(4)
    x1, y1 = ((high + margin) / (width, height)).clip(0, 1).round(4)
    return (float(x0), float(y0), float(x1), float(y1)) if x0 < x1 and y0 < y1 else None


if __name__ == "__main__":
    raise SystemExit(main())
