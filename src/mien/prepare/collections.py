"""What a folder of footage holds: a small declarative file for each public data set.

A collection says where videos lie, who speaks in them, who is kept for validation, on what terms
they may be used and how to obtain them (data_manifests/*.yaml).
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

from mien.errors import UserError
from mien.overlays import read_config

VIDEOS = {
    *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".ts", ".mts"),
    *(".m2ts", ".vob", ".3gp", ".3g2", ".wmv", ".asf", ".ogv", ".mxf", ".divx", ".f4v"),
}
FIELD = re.compile(r"\{(\w+)\}")
LONGEST_NAME = 180  # bytes of a file's name; file systems take 255, and more is added to it
UNLIKELY = "_"  # a field of this name matches anything and tells nothing


@dataclass(frozen=True)
class Collection:
    """A data set's layout, rules and terms.

    Args:
        title: what it is called.
        licence: short word for the terms, as it goes into the records.
        terms: the licence in words, and what it forbids.
        obtain: how one gets it.
        certain: False where the layout is known neither from a disk nor from its makers' own words.
        videos: paths below the folder with {fields} for what varies, such as
            "{speaker}/video/{clip}.mp4"; a field holds no slash. The first that fits counts.
        sound: where the sound of a video lies if not in it, in the same fields.
        identity: who speaks, in the same fields; empty if the layout does not say.
        same: regular expression of what is taken out of an identity, so that its parts are one.
        skip: regular expressions of paths that are left out.
        valid: identities kept for validation; empty: `valid_share` of all people, drawn by name.
        people: how many identities the makers count, if they do.
        clips: how many clips the makers count, if they do.
    """

    title: str
    licence: str
    terms: str
    obtain: str
    certain: bool = True
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
    """One video of a folder: where it lies below it, who speaks (None: unknown), where its sound
    is (None: in it).
    """

    path: str
    identity: str | None
    licence: str
    sound: str | None = None


@dataclass(frozen=True)
class Listed:
    """The videos of a folder, and those that are left alone: no rule of the collection fits them,
    or their names are no UTF-8, or their folder cannot be read.
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
        reason = str(error).splitlines()[0]
        raise UserError(f"the collection {path} cannot be used: {reason}") from error
    assert isinstance(collection, Collection)
    return collection


def list_sources(folder: Path, collection: Collection, leave_out: Path | None = None) -> Listed:
    """All videos below the folder (but not below `leave_out`) in the order of their names, links
    followed.

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
        hint = f"; such as {listed.unknown[0]} does not fit its layout" if listed.unknown else ""
        raise UserError(f"no video of {collection.title} in {folder}{hint}")
    return listed


def _videos(folder: Path, leave_out: Path | None) -> tuple[list[str], list[str]]:
    """Paths of all videos below the folder, and names that cannot be written in UTF-8.

    No folder is looked into twice, however links lead to it.
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
        elif part == UNLIKELY:
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
    """Is this person kept for validation? By the collection's list, else by their chance."""
    if collection.valid:
        return identity in collection.valid
    return chance_of(identity) < share


def chance_of(identity: str) -> float:
    """A number in [0, 1) that depends on the name alone: it stays when people are added."""
    return int.from_bytes(sha256(identity.encode()).digest()[:6], "big") / 2**48


def clip_names(sources: Sequence[Source]) -> dict[str, str]:
    """A name for the clips of each source: its path without the suffix, shortened where it is very
    long; told apart by a mark where two sources differ in nothing else.
    """
    bare = {s.path: _short(PurePosixPath(s.path).with_suffix("")) for s in sources}
    count = Counter(bare.values())
    return {
        path: name if count[name] == 1 else f"{name}-{_mark(path)}" for path, name in bare.items()
    }


def _short(path: PurePosixPath) -> str:
    name = path.name
    if len(name.encode()) > LONGEST_NAME:
        name = name.encode()[:LONGEST_NAME].decode(errors="ignore") + "-" + _mark(path.name)
    return path.with_name(name).as_posix()


def _mark(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
