"""Collections: a small declarative file for the layout of each public data set.

A collection says where the videos are, who speaks in them, who is held out for validation, on what
terms they may be used and how to obtain them (data_manifests/*.yaml).
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mien.errors import UserError, first_line
from mien.overlays import read_config

VIDEOS = {
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".mts"),
    *(".m2ts", ".vob", ".3gp", ".3g2", ".wmv", ".asf", ".ogv", ".mxf", ".divx", ".f4v"),
}
FIELD = re.compile(r"\{(\w+)\}")
LONGEST_NAME = 180  # bytes of a file's name; file systems allow 255, and suffixes are added to it
WILDCARD = "_"  # matches any text and is not captured


@dataclass(frozen=True)
class Collection:
    """A data set's layout, rules and terms.

    Args:
        title: what it is called.
        licence: short word for the terms, as it goes into the records.
        terms: the licence in words, and what it forbids.
        obtain: how one gets it.
        verified: False if the layout was verified neither on the data nor in its documentation.
        videos: paths below the folder with {fields} for what varies, such as
            "{speaker}/video/{clip}.mp4"; a field holds no slash. The first that fits counts.
        sound: path of a video's separate audio file, if there is one, in the same fields.
        identity: who speaks, in the same fields; empty if the layout does not say.
        same: regular expression that is removed from an identity, to merge variants of one person.
        skip: regular expressions of paths that are left out.
        valid: identities held out for validation; empty: `valid_share` of all people, by a hash of
            their names.
        people: number of identities that the authors report, if they do.
        clips: number of clips that the authors report, if they do.
    """

    title: str
    licence: str
    terms: str
    obtain: str
    verified: bool = True
    videos: tuple[str, ...] = ()
    sound: str | None = None
    identity: str = ""
    same: str = ""
    skip: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    people: int | None = None
    clips: int | None = None


@dataclass(frozen=True)
class Source:
    """One video: its path relative to the folder, who speaks (None: unknown), and the path of its
    audio file (None: the audio is in the video).
    """

    path: str
    identity: str | None
    licence: str
    sound: str | None = None


@dataclass(frozen=True)
class Listed:
    """The videos of a folder, and the skipped ones: no pattern of the collection matches them,
    their names are not UTF-8, or their folder cannot be read.
    """

    sources: list[Source] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def load_collection(path: Path) -> Collection:
    """Read a collection's file.

    Raises:
        UserError: it cannot be read, or a key is unknown or missing.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Collection), read_config(path))
        collection = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UserError(f"the collection {path} cannot be used: {first_line(error)}") from error
    assert isinstance(collection, Collection)
    return collection


def list_sources(folder: Path, collection: Collection, leave_out: Path | None = None) -> Listed:
    """All videos below the folder (but not below `leave_out`), sorted by path; links are followed.

    Raises:
        UserError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give the folder of your footage")
    patterns = [_pattern(template) for template in collection.videos]
    left_out = [re.compile(expression) for expression in collection.skip]
    found, nameless = _videos(folder, leave_out)
    listed = Listed(unknown=nameless)
    for path in found:
        if any(expression.search(path) for expression in left_out):
            continue
        fit = next((m for pattern in patterns if (m := pattern.fullmatch(path))), None)
        if patterns and fit is None:
            listed.unknown.append(path)
            continue
        fields = fit.groupdict() if fit else {}
        identity = _filled(collection.identity, fields) if collection.identity else None
        if identity is not None and collection.same:
            identity = re.sub(collection.same, "", identity)
        sound = _filled(collection.sound, fields) if collection.sound else None
        listed.sources.append(Source(path, identity, collection.licence, sound))
    if not listed.sources:
        hint = (
            f"; {listed.unknown[0]}, for one, does not match its layout" if listed.unknown else ""
        )
        raise UserError(f"no video of {collection.title} in {folder}{hint}")
    return listed


def _videos(folder: Path, leave_out: Path | None) -> tuple[list[str], list[str]]:
    """Paths of all videos below the folder, and names that cannot be written in UTF-8.

    No folder is visited twice, whatever links point to it.
    """
    found: list[str] = []
    nameless: list[str] = []
    seen = {os.path.realpath(leave_out)} if leave_out else set()

    def unreadable(error: OSError) -> None:
        nameless.append(f"{os.path.relpath(str(error.filename), folder)} ({error.strerror})")

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        seen.add(os.path.realpath(parent))
        shown = sorted(name for name in folders if not name.startswith("."))
        ways = {name: os.path.realpath(os.path.join(parent, name)) for name in shown}
        folders[:] = [n for n, way in ways.items() if way not in seen and not seen.add(way)]
        for name in names:
            if Path(name).suffix.lower() not in VIDEOS or name.startswith("."):
                continue
            path = Path(parent, name).relative_to(folder).as_posix()
            try:
                path.encode()
                found.append(path)
            except UnicodeEncodeError:
                nameless.append(path.encode(errors="backslashreplace").decode())
    return sorted(found), sorted(nameless)


def _pattern(template: str) -> re.Pattern[str]:
    """A template such as "{speaker}/{clip}.mp4" as a regular expression with named groups."""
    seen: set[str] = set()
    parts = []
    for index, part in enumerate(FIELD.split(template)):
        if index % 2 == 0:
            parts.append(re.escape(part))
        elif part == WILDCARD:
            parts.append("[^/]+")
        elif part in seen:
            parts.append(f"(?P={part})")
        else:
            seen.add(part)
            parts.append(f"(?P<{part}>[^/]+?)")
    return re.compile("".join(parts))


def _filled(template: str, fields: dict[str, str]) -> str:
    return FIELD.sub(lambda match: fields[match[1]], template)


def is_valid(identity: str, collection: Collection, share: float) -> bool:
    """Is this person held out for validation? By the collection's list, else by `chance_of`."""
    if collection.valid:
        return identity in collection.valid
    return chance_of(identity) < share


def chance_of(identity: str) -> float:
    """A hash of the name in [0, 1): it does not change when people are added."""
    return int.from_bytes(sha256(identity.encode()).digest()[:6], "big") / 2**48


def clip_names(sources: Sequence[Source]) -> dict[str, str]:
    """A name for the clips of each source: its path without the suffix, shortened if it is very
    long, with a hash appended where two sources would have the same name.
    """
    bare = {s.path: _short(PurePosixPath(s.path).with_suffix("")) for s in sources}
    count = Counter(bare.values())
    return {
        path: name if count[name] == 1 else f"{name}-{_short_hash(path)}"
        for path, name in bare.items()
    }


def _short(path: PurePosixPath) -> str:
    name = path.name
    if len(name.encode()) > LONGEST_NAME:
        name = name.encode()[:LONGEST_NAME].decode(errors="ignore") + "-" + _short_hash(path.name)
    return path.with_name(name).as_posix()


def _short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
