"""Who is in the clips of a data set and on which side: `split.json`, which only grows.

A person who was once put into train or valid stays there, and a clip keeps its person, whatever is
added to the footage or renamed in it: both are looked up before they are decided. Clips are known
by the content of their source, so that new names of files and folders change nothing.
Axes: d numbers of an embedding.
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
BLOCK = 1000  # embeddings that are compared with all people in one go
AT_ONCE = 4000  # embeddings that are clustered in one go: 64 MB of distances
TRAIN, VALID = SPLITS


@dataclass(frozen=True)
class Sighting:
    """A clip, or all clips of a source, whose person is sought.

    Args:
        key: what it is known by, however files are called.
        name: what the person is called if nobody knows them yet.
        look: mean embedding of the face, where faces decide.
    """

    key: str
    name: str
    look: Float[np.ndarray, " d"] | None = None


@dataclass
class Person:
    """Somebody's side; the mean embedding of their clips, and of how many, where faces decide."""

    split: str
    look: list[float] | None = None
    clips: int = 0

    def add(self, look: Float[np.ndarray, " d"]) -> None:
        """Take one more clip into the mean."""
        mean = np.zeros(len(look)) if self.look is None else np.array(self.look)
        self.clips += 1
        self.look = (mean + (look - mean) / self.clips).round(6).tolist()


@dataclass
class Split:
    """All people of a data set, and whose each clip is."""

    people: dict[str, Person] = field(default_factory=dict)
    clips: dict[str, str] = field(default_factory=dict)

    def by_name(self, sightings: Sequence[Sighting]) -> dict[str, str]:
        """The person of each key, where the names of folders decide: nothing is added.

        A known source keeps its person. A folder that nobody knows but that holds known sources was
        renamed: what is new in it belongs to the person of most of these.
        """
        votes: dict[str, Counter[str]] = {}
        for seen in sightings:
            if seen.key in self.clips:
                votes.setdefault(seen.name, Counter())[self.clips[seen.key]] += 1
        renamed = {
            name: max(sorted(counts), key=lambda who, counts=counts: counts[who])
            for name, counts in votes.items()
            if name not in self.people
        }
        return {
            seen.key: self.clips.get(seen.key) or renamed.get(seen.name, seen.name)
            for seen in sightings
        }

    def by_face(self, sightings: Sequence[Sighting]) -> dict[str, str]:
        """The person of each key, where embeddings decide: nothing is added.

        A known clip keeps its person; others join the known person whose mean is nearest, if it is
        near enough, and the rest are clustered into new people, each named after its first clip.
        The order and the names of the files decide nothing but what new people are called.
        """
        found = {seen.key: self.clips[seen.key] for seen in sightings if seen.key in self.clips}
        fresh = sorted((s for s in sightings if s.key not in found), key=lambda seen: seen.key)
        known = [name for name, person in self.people.items() if person.look is not None]
        looks = [person.look for person in self.people.values() if person.look is not None]
        nearest = _nearest(_looks(fresh), [np.array(look) for look in looks])
        strangers = []
        for seen, person in zip(fresh, nearest, strict=True):
            if person is None:
                strangers.append(seen)
            else:
                found[seen.key] = known[person]
        for cluster in _clusters(strangers):
            first = min(cluster, key=lambda seen: seen.name)
            name = first.name if first.name not in self.people else f"{first.name}-{first.key[:8]}"
            found |= {seen.key: name for seen in cluster}
        return found

    def newcomers(self, found: dict[str, str]) -> list[str]:
        """The people who were found and are not known yet, in the order of their names."""
        return sorted(set(found.values()) - self.people.keys())

    def add(self, sightings: Iterable[Sighting], found: dict[str, str], valid: set[str]) -> None:
        """Write down the people and clips that are new; of the people, `valid` go to validation."""
        for name in self.newcomers(found):
            self.people[name] = Person(VALID if name in valid else TRAIN)
        for seen in sorted(sightings, key=lambda seen: seen.key):
            if seen.key not in self.clips:
                self.clips[seen.key] = found[seen.key]
                if seen.look is not None:
                    self.people[found[seen.key]].add(seen.look)

    def side_of(self, name: str) -> str:
        """The side of a person; of somebody without an accepted clip, the training's."""
        return self.people[name].split if name in self.people else TRAIN

    def write(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        people = _lines((name, asdict(self.people[name])) for name in sorted(self.people))
        clips = _lines((key, self.clips[key]) for key in sorted(self.clips))
        with writable(folder / FILE), written_whole(folder / FILE) as unfinished:
            text = f'{{"people": {{\n{people}\n}}, "clips": {{\n{clips}\n}}}}\n'
            unfinished.write_text(text, encoding="utf-8")


def read_split(folder: Path, by_face: bool) -> Split:
    """The split of a data set; of one that an earlier version prepared, as its records tell it.

    Raises:
        UserError: the file cannot be read: without it people would change sides.
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
            f"{path} cannot be read ({error}): it keeps people on their side of the split, so put "
            "an earlier copy in its place, or prepare into another folder"
        ) from error


def source_key(outcome: Outcome) -> str:
    """What all clips of a source are known by."""
    return (outcome.content or outcome.source.path)[:16]


def clip_key(outcome: Outcome, part: Part) -> str:
    """What a clip is known by: its source, and where in it the clip begins."""
    begin = f"-{part.first:06d}"
    return source_key(outcome) + begin + part.name.rpartition(begin)[2]


def _lines(entries: Iterable[tuple[str, Any]]) -> str:
    """An entry of a JSON object a line, so that a difference of two files can be read."""
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
            if part.look is not None:
                person.add(np.array(part.look, np.float32))
    return split


def _nearest(
    looks: Float[np.ndarray, "n d"], means: Sequence[Float[np.ndarray, " d"]]
) -> list[int | None]:
    """For each embedding the number of the nearest mean; None where that is another person's."""
    if not len(means):
        return [None] * len(looks)
    table = np.stack(means)
    found: list[int | None] = []
    for begin in range(0, len(looks), BLOCK):
        distances = cdist(looks[begin : begin + BLOCK], table)
        best = distances.argmin(axis=1)
        least = distances[np.arange(len(best)), best]
        pairs = zip(best.tolist(), (least <= SAME_PERSON).tolist(), strict=True)
        found += [person if near else None for person, near in pairs]
    return found


def _clusters(sightings: Sequence[Sighting]) -> list[list[Sighting]]:
    """The clips of each person. Many are clustered piece by piece, in the order of their keys; the
    people of a later piece who are in an earlier one are found by their means.
    """
    clusters: list[list[Sighting]] = []
    means: list[Float[np.ndarray, " d"]] = []
    for begin in range(0, len(sightings), AT_ONCE):
        piece = sightings[begin : begin + AT_ONCE]
        here: dict[int, list[Sighting]] = {}
        for seen, person in zip(piece, cluster_people(list(_looks(piece))), strict=True):
            here.setdefault(int(person), []).append(seen)
        new = [_looks(cluster).mean(axis=0) for cluster in here.values()]
        matched = _nearest(np.stack(new), means)
        for cluster, mean, person in zip(here.values(), new, matched, strict=True):
            if person is None:
                clusters.append(cluster)
                means.append(mean)
            else:
                clusters[person].extend(cluster)
                means[person] = _looks(clusters[person]).mean(axis=0)
    return clusters


def _looks(sightings: Sequence[Sighting]) -> Float[np.ndarray, "n d"]:
    looks = [seen.look for seen in sightings if seen.look is not None]
    return np.array(looks, np.float32) if looks else np.zeros((0, 0), np.float32)
