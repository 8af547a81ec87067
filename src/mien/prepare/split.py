"""The train/valid split by person, and the person of each clip: `split.json`, which only grows.

A person who was once assigned to train or valid stays there, and a clip keeps its person, whatever
footage is added or renamed: both are looked up before they are decided. Clips are identified by a
hash of their source's content, so that renamed files and folders change nothing.
Axes: n embeddings, d dimensions of an embedding.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from mien.errors import UserError
from mien.face import SAME_PERSON, cluster_people
from mien.media.files import writable, written_whole
from mien.prepare.outcome import RECORDS, SPLITS, Outcome, Part, read_records

FILE = "split.json"
BLOCK = 1000  # embeddings that are compared with all people at once
AT_ONCE = 4000  # embeddings that are clustered at once: 64 MB of distances
TRAIN, VALID = SPLITS


@dataclass(frozen=True)
class Candidate:
    """A clip, or all clips of a source, whose person is to be determined.

    Args:
        key: identifies it, independent of file names.
        name: of the person, if they are new.
        embedding: mean face embedding, where people are identified by face.
    """

    key: str
    name: str
    embedding: Float[np.ndarray, " d"] | None = None


@dataclass
class Person:
    """A person's split; the mean embedding and number of their clips, if identified by face."""

    split: str
    embedding: list[float] | None = None
    clips: int = 0

    def add(self, embedding: Float[np.ndarray, " d"]) -> None:
        """Update the mean with one more clip."""
        mean = np.zeros(len(embedding)) if self.embedding is None else np.array(self.embedding)
        self.clips += 1
        self.embedding = (mean + (embedding - mean) / self.clips).round(6).tolist()


@dataclass
class Split:
    """All people of a data set, and the person of each clip."""

    people: dict[str, Person] = field(default_factory=dict)
    clips: dict[str, str] = field(default_factory=dict)

    def by_name(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """The person of each key by folder name; nothing is stored.

        A known source keeps its person. An unknown folder with known sources was renamed: new
        sources in it belong to the person of most of the known ones.
        """
        votes: dict[str, Counter[str]] = {}
        for seen in candidates:
            if seen.key in self.clips:
                votes.setdefault(seen.name, Counter())[self.clips[seen.key]] += 1
        renamed = {
            name: max(sorted(counts), key=lambda who, counts=counts: counts[who])
            for name, counts in votes.items()
            if name not in self.people
        }
        return {
            seen.key: self.clips.get(seen.key) or renamed.get(seen.name, seen.name)
            for seen in candidates
        }

    def by_face(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        """The person of each key by face embedding; nothing is stored.

        A known clip keeps its person; others join the known person with the nearest mean, if within
        SAME_PERSON, and the rest are clustered into new people, each named after its first clip.
        The order and names of files only affect the names of new people.
        """
        found = {seen.key: self.clips[seen.key] for seen in candidates if seen.key in self.clips}
        fresh = sorted((s for s in candidates if s.key not in found), key=lambda seen: seen.key)
        known = [name for name, person in self.people.items() if person.embedding is not None]
        means = [
            person.embedding for person in self.people.values() if person.embedding is not None
        ]
        nearest = _nearest(_embeddings(fresh), [np.array(mean) for mean in means])
        unmatched = []
        for seen, person in zip(fresh, nearest, strict=True):
            if person is None:
                unmatched.append(seen)
            else:
                found[seen.key] = known[person]
        for cluster in _clusters(unmatched):
            first = min(cluster, key=lambda seen: seen.name)
            name = first.name if first.name not in self.people else f"{first.name}-{first.key[:8]}"
            found |= {seen.key: name for seen in cluster}
        return found

    def newcomers(self, found: dict[str, str]) -> list[str]:
        """The people who are not in the split yet, sorted by name."""
        return sorted(set(found.values()) - self.people.keys())

    def add(self, candidates: Iterable[Candidate], found: dict[str, str], valid: set[str]) -> None:
        """Add the new people and clips; of the people, `valid` go to validation."""
        for name in self.newcomers(found):
            self.people[name] = Person(VALID if name in valid else TRAIN)
        for seen in sorted(candidates, key=lambda seen: seen.key):
            if seen.key not in self.clips:
                self.clips[seen.key] = found[seen.key]
                if seen.embedding is not None:
                    self.people[found[seen.key]].add(seen.embedding)

    def side_of(self, name: str) -> str:
        """The split of a person; "train" for somebody without an accepted clip."""
        return self.people[name].split if name in self.people else TRAIN

    def write(self, folder: Path) -> None:
        """Write the file atomically."""
        people = _lines((name, asdict(self.people[name])) for name in sorted(self.people))
        clips = _lines((key, self.clips[key]) for key in sorted(self.clips))
        with writable(folder / FILE), written_whole(folder / FILE) as unfinished:
            text = f'{{"people": {{\n{people}\n}}, "clips": {{\n{clips}\n}}}}\n'
            unfinished.write_text(text, encoding="utf-8")


def read_split(folder: Path, by_face: bool) -> Split:
    """The split of a data set; if an earlier version prepared it, rebuilt from its records.

    Raises:
        UserError: the file cannot be read: without it people would change splits.
    """
    path = folder / FILE
    if not path.exists():
        return _split_of_records(folder, by_face) if (folder / RECORDS).exists() else Split()
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        people = {name: Person(**person) for name, person in saved["people"].items()}
        return Split(people, dict(saved["clips"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): it keeps people in train or valid, so restore an "
            "earlier copy, or prepare into another folder"
        ) from error


def source_key(outcome: Outcome) -> str:
    """The key of all clips of a source."""
    return (outcome.content or outcome.source.path)[:16]


def clip_key(outcome: Outcome, part: Part) -> str:
    """The key of a clip: its source, and its first frame in it."""
    begin = f"-{part.first:06d}"
    return source_key(outcome) + begin + part.name.rpartition(begin)[2]


def _lines(entries: Iterable[tuple[str, Any]]) -> str:
    """The entries of a JSON object, one per line, so that diffs are readable."""
    both = ((json.dumps(part, ensure_ascii=False) for part in entry) for entry in entries)
    return ",\n".join(": ".join(entry) for entry in both)


def _split_of_records(folder: Path, by_face: bool) -> Split:
    split = Split()
    for outcome in read_records(folder):
        for part in outcome.parts:
            if part.reasons or part.identity is None or part.split is None:
                continue
            person = split.people.setdefault(part.identity, Person(part.split))
            key = clip_key(outcome, part) if by_face else source_key(outcome)
            split.clips[key] = part.identity
            if part.embedding is not None:
                person.add(np.array(part.embedding, np.float32))
    return split


def _nearest(
    embeddings: Float[np.ndarray, "n d"], means: Sequence[Float[np.ndarray, " d"]]
) -> list[int | None]:
    """For each embedding the index of the nearest mean; None if farther away than SAME_PERSON."""
    if not len(means):
        return [None] * len(embeddings)
    table = np.stack(means)
    found: list[int | None] = []
    for begin in range(0, len(embeddings), BLOCK):
        distances = cdist(embeddings[begin : begin + BLOCK], table)
        best = distances.argmin(axis=1)
        least = distances[np.arange(len(best)), best]
        pairs = zip(best.tolist(), (least <= SAME_PERSON).tolist(), strict=True)
        found += [person if near else None for person, near in pairs]
    return found


def _clusters(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The clips of each person. Large sets are clustered in pieces, in the order of their keys;
    clusters of a later piece are merged with earlier ones by their means.
    """
    clusters: list[list[Candidate]] = []
    means: list[Float[np.ndarray, " d"]] = []
    for begin in range(0, len(candidates), AT_ONCE):
        piece = candidates[begin : begin + AT_ONCE]
        here: dict[int, list[Candidate]] = {}
        for seen, person in zip(piece, cluster_people(list(_embeddings(piece))), strict=True):
            here.setdefault(int(person), []).append(seen)
        new = [_embeddings(cluster).mean(axis=0) for cluster in here.values()]
        matched = _nearest(np.stack(new), means)
        for cluster, mean, person in zip(here.values(), new, matched, strict=True):
            if person is None:
                clusters.append(cluster)
                means.append(mean)
            else:
                clusters[person].extend(cluster)
                means[person] = _embeddings(clusters[person]).mean(axis=0)
    return clusters


def _embeddings(candidates: Sequence[Candidate]) -> Float[np.ndarray, "n d"]:
    known = [seen.embedding for seen in candidates if seen.embedding is not None]
    return np.array(known, np.float32) if known else np.zeros((0, 0), np.float32)
