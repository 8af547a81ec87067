"""On-disk state of a prepared data set: settings, per-source results, manifests.

    DATASET/clips/...        accepted clips (and those of files that turned out to be duplicates)
    DATASET/strips/...       three frames of every part, accepted or not
    DATASET/train.jsonl      manifests, as data_manifests/README.md says
    DATASET/valid.jsonl
    DATASET/split.json       who is in train and who in valid: people are added, never moved
    DATASET/records.jsonl    every part of every source, its measures, why it was rejected
    DATASET/prepare.yaml     the settings it was made with
    DATASET/.done/           one file per source: its outcome

A source is done when its file in .done exists, written last and atomically; so a run may be killed
at any moment, and the next one resumes. The manifests are written from .done and split.json alone,
in the order of the sources' names: a resumed run gives the same bytes as an uninterrupted one.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from mien.data.manifest import ClipRecord, write_manifest
from mien.errors import UserError
from mien.media.files import UNFINISHED, writable, written_whole
from mien.overlays import read_config
from mien.prepare.collections import (
    Collection,
    Listed,
    Source,
    chance_of,
    clip_names,
    is_valid,
    list_sources,
)
from mien.prepare.cutting import SourceCutter
from mien.prepare.engine import PATIENCE, Killed, run
from mien.prepare.outcome import (
    CLIPS,
    RECORDS,
    SPLITS,
    STRIPS,
    Outcome,
    Part,
    clip_record,
    read_outcome,
    read_records,
)
from mien.prepare.settings import Preparation
from mien.prepare.split import VALID, Candidate, Split, clip_key, read_split, source_key

DONE = ".done"
NO_EMBEDDING = "person unknown: no face was found in the clip's strip"


@dataclass(frozen=True)
class Job:
    """One source and the name of its clips."""

    source: Source
    name: str


class DataSet:
    """A folder that is being prepared.

    Raises:
        UserError: it was begun with other settings.
    """

    def __init__(
        self, folder: Path, footage: Path, collection: Collection, settings: Preparation
    ) -> None:
        self.folder, self.footage = folder.resolve(), footage.resolve()
        self.collection, self.settings = collection, settings
        if self.folder == self.footage:
            raise UserError(f"{folder} is the footage: give the data set a folder of its own")
        if self._by_face and collection.valid:
            raise UserError(
                f"{collection.title} lists by name who is held out for validation, and "
                "people=faces gives other names: keep people=layout"
            )
        self._open()

    def _open(self) -> None:
        settings = OmegaConf.to_yaml(OmegaConf.structured(self.settings))
        written = self.folder / "prepare.yaml"
        with writable(self.folder):
            (self.folder / DONE).mkdir(parents=True, exist_ok=True)
            if written.exists() and _settings_of(written) != settings:
                raise UserError(
                    f"{self.folder} was begun with other settings (see {written}): "
                    "take another folder, or the same settings"
                )
            with written_whole(written) as unfinished:
                unfinished.write_text(settings, encoding="utf-8")

    def prepare(self, workers: int | None, engine: str, patience: float = PATIENCE) -> Listed:
        """Process every source that is not done, with a progress bar, and write the manifests. A
        source whose decoder makes no progress for `patience` seconds is skipped.

        Raises:
            UserError: another run prepares the same folder, or there is no video.
        """
        try:
            alone = FileLock(self.folder / DONE / "lock").acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another run prepares {self.folder}: wait until it ends") from error
        except NotImplementedError:  # a file system without locks
            alone = nullcontext()
        with alone:
            self._remove_unfinished()
            return self._prepare(workers, engine, patience)

    def _remove_unfinished(self) -> None:
        """Remove the temporary files of a killed run."""
        own = [(self.folder / name).rglob(UNFINISHED) for name in (CLIPS, STRIPS, DONE)]
        for left_over in chain(self.folder.glob(UNFINISHED), *own):
            if left_over.is_file():
                left_over.unlink(missing_ok=True)

    def _prepare(self, workers: int | None, engine: str, patience: float) -> Listed:
        listed = list_sources(self.footage, self.collection, leave_out=self.folder)
        jobs = jobs_of(listed)
        missing = self._missing(jobs)
        make = partial(_Work, self.footage, self.folder, self.settings)
        with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="video") as bar:
            for job, outcome in run(engine, make, list(missing), workers, patience):
                if isinstance(outcome, Killed):
                    outcome = Outcome(job.source, [], [], str(outcome), None)
                self._keep(job, missing[job], outcome)
                bar.update()
        self._write_lists(jobs)
        return listed

    def _done_file(self, job: Job) -> Path:
        return self.folder / DONE / f"{sha256(job.source.path.encode()).hexdigest()[:24]}.json"

    def _mark(self, job: Job) -> list[Any]:
        """Changes when the source, its audio file or its description does."""
        stamps = []
        for name in (job.source.path, job.source.sound):
            try:
                stat = (self.footage / name).stat() if name else None
            except OSError:
                stat = None
            stamps.append(stat and [stat.st_size, stat.st_mtime_ns])
        return [job.name, asdict(job.source), *stamps]

    def _missing(self, jobs: Iterable[Job]) -> dict[Job, list[Any]]:
        """The jobs to do, with their marks; their earlier results are deleted."""
        missing = {}
        for job in jobs:
            mark = self._mark(job)
            known, parts = self._known(job)
            clips = [self.folder / CLIPS / part.clip for part in parts if not part.reasons]
            if known == mark and all(clip.is_file() for clip in clips):
                continue
            missing[job] = mark
            for old in (*clips, *(self.folder / STRIPS / f"{part.name}.jpg" for part in parts)):
                old.unlink(missing_ok=True)
        return missing

    def _known(self, job: Job) -> tuple[list[Any] | None, list[Part]]:
        """The mark that a source was done with, and its parts."""
        try:
            done = json.loads(self._done_file(job).read_text(encoding="utf-8"))
            return done["mark"], read_outcome(done["outcome"]).parts
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ):  # missing, truncated, or of another version
            return None, []

    def _keep(self, job: Job, mark: list[Any], outcome: Outcome) -> None:
        """Store the outcome; the next run repeats the source if reading failed or it changed."""
        final = outcome.content is not None and mark == self._mark(job)
        done = {"mark": mark if final else None, "outcome": outcome.as_record()}
        path = self._done_file(job)
        with writable(path), written_whole(path) as unfinished:
            unfinished.write_text(json.dumps(done), encoding="utf-8")

    def _outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        """The outcomes of all sources, duplicates rejected."""
        first: dict[str, str] = {}
        for job in sorted(jobs, key=lambda job: job.source.path):
            done = json.loads(self._done_file(job).read_text(encoding="utf-8"))
            outcome = read_outcome(done["outcome"])
            if outcome.content is not None:
                original = first.setdefault(outcome.content, job.source.path)
                if original != job.source.path:
                    outcome = _as_duplicate(outcome, original)
            yield job, outcome

    def _write_lists(self, jobs: Sequence[Job]) -> None:
        """Write split, records and manifests; only the person of each clip is kept in memory."""
        split = read_split(self.folder, self._by_face)
        candidates = list(self._candidates(jobs))
        known = split.by_face(candidates) if self._by_face else split.by_name(candidates)
        split.add(candidates, known, self._kept_for_validation(split, split.newcomers(known)))
        split.write(self.folder)
        records = self.folder / RECORDS
        with (
            writable(records),
            written_whole(records) as unfinished,
            unfinished.open("w", encoding="utf-8") as lines,
        ):
            for job, outcome in self._outcomes(jobs):
                parts = []
                for part in outcome.parts:
                    key = clip_key(outcome, part) if self._by_face else source_key(outcome)
                    if self._by_face and key not in known and not part.reasons:
                        part = replace(part, reasons=[NO_EMBEDDING])
                    name = known.get(key) or identity_of(job)
                    parts.append(replace(part, identity=name, split=split.side_of(name)))
                record = replace(outcome, parts=parts).as_record()
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        for side in SPLITS:
            write_manifest(self.folder / f"{side}.jsonl", self._clips_of(side))

    def _clips_of(self, split: str) -> Iterator[ClipRecord]:
        for outcome in read_records(self.folder):
            for part in outcome.parts:
                if part.split == split and not part.reasons:
                    yield clip_record(part, outcome.source.licence, self.settings.cut.framing)

    def _candidates(self, jobs: Sequence[Job]) -> Iterator[Candidate]:
        """The accepted clips if people are identified by face, else their sources."""
        for job, outcome in self._outcomes(jobs):
            accepted = [part for part in outcome.parts if not part.reasons]
            if self._by_face:
                for part in accepted:
                    if part.embedding is not None:
                        embedding = np.array(part.embedding, np.float32)
                        yield Candidate(clip_key(outcome, part), part.name, embedding)
            elif accepted:
                yield Candidate(source_key(outcome), identity_of(job))

    @property
    def _by_face(self) -> bool:
        return self.settings.people == "faces"

    def _kept_for_validation(self, split: Split, new: list[str]) -> set[str]:
        """Which new people go to validation; while it is empty at least one, if others remain for
        training.
        """
        share = self.settings.valid_share
        kept = {name for name in new if is_valid(name, self.collection, share)}
        sides = [person.split for person in split.people.values()]
        wanted = share > 0 and not self.collection.valid and not kept and VALID not in sides
        if wanted and new and len(new) + len(sides) > 1:
            kept = {min(new, key=chance_of)}
        return kept


class _Work:
    """The work of one worker process."""

    def __init__(self, footage: Path, folder: Path, settings: Preparation) -> None:
        self._cutter = SourceCutter(footage, folder, settings)

    def __call__(self, job: Job) -> Outcome:
        return self._cutter(job.source, job.name)


def _settings_of(written: Path) -> str:
    """The settings of a data set; those that an earlier version did not have take their default."""
    try:
        begun = OmegaConf.merge(OmegaConf.structured(Preparation), read_config(written))
        return OmegaConf.to_yaml(begun)
    except OmegaConfBaseException as error:
        raise UserError(f"{written} cannot be used ({error}): take another folder") from error


def jobs_of(listed: Listed) -> list[Job]:
    """A job for each source."""
    names = clip_names(listed.sources)
    return [Job(source, names[source.path]) for source in listed.sources]


def identity_of(job: Job) -> str:
    """Who speaks in a source, by its path: one person per folder, or per video outside of one."""
    return job.source.identity or job.name.split("/")[0]


def _as_duplicate(outcome: Outcome, original: str) -> Outcome:
    return Outcome(outcome.source, [], [], f"the same file as {original}", outcome.content)
