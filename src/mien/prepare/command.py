"""`tools/prepare.py` and `mien prepare`: the command around DataSet."""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mien.command_line import Parser, positive, run_guarded
from mien.data.faces import FaceCache
from mien.data.manifest import read_manifest
from mien.errors import UserError, first_line
from mien.face import FaceIdentity
from mien.overlays import find_config, read_config, shared_folder
from mien.prepare.collections import Collection, Listed, list_sources, load_collection
from mien.prepare.dataset import DataSet
from mien.prepare.engine import ENGINES, PATIENCE, workers_of
from mien.prepare.outcome import SPLITS, read_records
from mien.prepare.settings import PEOPLE, SOUND, Preparation
from mien.prepare.tracking import load_face_finder
from mien.types import FPS

COLLECTIONS = shared_folder("data_manifests")
OWN = Collection(
    title="your own footage",
    licence="own",
    terms="yours to know: everybody in it must have agreed to it",
    obtain="record it",
)


def parser() -> Parser:
    """The arguments of `mien prepare`."""
    p = Parser(
        prog="mien prepare",
        description="Cut a folder of footage into checked clips of one face, and list them.",
    )
    p.add_argument("footage", type=Path, help="a folder with videos, in folders named by person")
    p.add_argument("-o", "--output", type=Path, required=True, help="folder of the data set")
    p.add_argument(
        "--collection", help="a public data set by name, such as hdtf, or a file that describes one"
    )
    p.add_argument("--config", default="prepare.yaml", help="all settings (default: prepare.yaml)")
    p.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE",
                   help="single settings, such as limits.min_face_size=60")  # fmt: skip
    p.add_argument("--workers", type=workers_of, metavar="N|all",
                   help="processes (default 1), or cores of the cluster (default all)")  # fmt: skip
    p.add_argument("--patience", type=positive(float), default=PATIENCE, metavar="SECONDS",
                   help="skip a video whose decoder stalls for so long (600)")  # fmt: skip
    p.add_argument("--engine", choices=ENGINES, default=ENGINES[0],
                   help="ray: on the cluster that RAY_ADDRESS names")  # fmt: skip
    p.add_argument("--fit-faces", type=Path, metavar="FOLDER",
                   help="also fit the face model to every clip, as loki.yaml needs it, and keep "
                   "the coefficients here (give the folder as data.faces)")  # fmt: skip
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_guarded(lambda: run(parser().parse_args(argv)), "the same command resumes")


def run(given: Namespace) -> None:
    """Prepare what is missing, then print a summary of the data set.

    Raises:
        UserError: a file or folder cannot be used.
    """
    collection = find_collection(given.collection) if given.collection else OWN
    settings = read_settings(given.config, given.set)
    load_face_finder(settings.face_finder)  # fail early
    if settings.people == "faces":
        FaceIdentity()
    dataset = DataSet(given.output, given.footage, collection, settings)
    warn_of_flat_footage(dataset)
    listed = dataset.prepare(given.workers, given.engine, given.patience)
    print_summary(dataset, listed)
    if given.fit_faces is not None:
        clips = [read_manifest(dataset.folder / f"{split}.jsonl") for split in SPLITS]
        FaceCache(dataset.folder, given.fit_faces).extract([*chain.from_iterable(clips)])


def warn_of_flat_footage(dataset: DataSet) -> None:
    """Warn if every file counts as a separate person because all are in one folder.

    Raises:
        UserError: there is no such folder, or no video in it.
    """
    collection, settings, footage = dataset.collection, dataset.settings, dataset.footage
    if collection.identity or settings.people != "layout" or settings.valid_share == 0:
        return
    sources = list_sources(footage, collection, leave_out=dataset.folder).sources
    beside = [source for source in sources if "/" not in source.path]
    if len(beside) > 1 and len(beside) == len(sources):
        print(
            f"WARNING: the {len(beside)} videos of {footage} are in one folder, so each counts as "
            "another person: one speaker can be in both train.jsonl and valid.jsonl, which makes "
            "scores meaningless. Stop now, put the videos of each person into a folder of their "
            "own or cluster by face (--set people=faces), and prepare into a new folder",
            file=sys.stderr,
        )


def find_collection(name: str) -> Collection:
    """The collection of that name in data_manifests/, or of that file.

    Raises:
        UserError: there is none.
    """
    for path in (Path(name), COLLECTIONS / f"{name}.yaml"):
        if path.is_file():
            return load_collection(path)
    known = ", ".join(sorted(path.stem for path in COLLECTIONS.glob("*.yaml")))
    raise UserError(f"no collection {name}: give the path of a file, or one of {known}")


def read_settings(name: str, changes: Sequence[str]) -> Preparation:
    """A config with single settings overridden.

    Raises:
        UserError: the file or a key is wrong.
    """
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Preparation),
            read_config(find_config(name)),
            OmegaConf.from_dotlist(list(changes)),
        )
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UserError(f"{name} cannot be used: {first_line(error)}") from error
    assert isinstance(settings, Preparation)
    if settings.people not in PEOPLE:
        raise UserError(f"people {settings.people} must be one of {', '.join(PEOPLE)}")
    if settings.sound not in SOUND:
        raise UserError(f"sound {settings.sound} must be one of {', '.join(SOUND)}")
    if settings.cut.size < 2 or settings.cut.size % 2:
        raise UserError(f"cut.size {settings.cut.size} must be even (H.264 requires it)")
    if not 0 < settings.cut.min_seconds <= settings.cut.max_seconds:
        raise UserError(
            f"cut.min_seconds {settings.cut.min_seconds} must be above 0 and at most "
            f"cut.max_seconds {settings.cut.max_seconds}"
        )
    return settings


def print_summary(dataset: DataSet, listed: Listed) -> None:
    """Print how much was accepted, how much was rejected, and why."""
    folder = dataset.folder
    clips, frames = Counter[str](), Counter[str]()
    people: dict[str, set[str | None]] = {split: set() for split in SPLITS}
    reasons = Counter[str]()
    for outcome in read_records(folder):
        if outcome.problem:
            problem = outcome.problem.replace(outcome.source.path, "").split(":")[0].strip()
            reasons[f"a whole video: {problem}"[:70]] += 1
        for part in outcome.parts:
            reasons.update(reason.split(":")[0] for reason in part.reasons)
            if part.split and not part.reasons:
                clips[part.split] += 1
                frames[part.split] += part.frames
                people[part.split].add(part.identity)
    for split in SPLITS:
        print(f"{folder / split}.jsonl: {clips[split]} clips, {len(people[split])} people, "
              f"{frames[split] / FPS / 3600:.2f} hours")  # fmt: skip
    if clips["train"] and not clips["valid"]:
        print("valid.jsonl is empty: one person cannot be in both; validate on another person's "
              "clips, or on the same with --data.valid " + str(folder / "train.jsonl"))  # fmt: skip
    for reason, count in reasons.most_common():
        print(f"  {count:7}  {reason}")
    expected = dataset.collection
    if expected.clips or expected.people:
        counts = ((len(listed.sources), expected.clips, "videos"),
                  (sum(map(len, people.values())), expected.people, "people"))  # fmt: skip
        found = ", ".join(f"{here} of {most} {what}" for here, most, what in counts if most)
        print(f"{expected.title}, of what its authors report: {found}")
    if dataset.collection is not OWN:
        print(f"terms: {expected.terms}")
    if not expected.verified:
        print(f"the layout of {expected.title} was never verified: check who was found")
    if listed.unknown:
        print(f"{len(listed.unknown)} videos do not match the collection's layout, such as "
              f"{listed.unknown[0]}: they were skipped")  # fmt: skip
