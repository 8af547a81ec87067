"""A recipe: the training phases from scratch to weights, each an overlay in configs/.

Each phase is one `mien fit` in a process of its own, in a folder of its own. Finished phases are
skipped, a stopped one is resumed, and a phase's duration is added up over all its runs.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mien.command_line import STOPS
from mien.errors import UserError
from mien.kinds import read_weights, save_weights, to_float16
from mien.media.files import written_whole

CHECKPOINT, HOURS = "last.ckpt", "hours.json"
MADE = "made"  # folder of generated pairs in the data root, as named in the phases' data.mix


@dataclass(frozen=True)
class Phase:
    """One training run: of stage 1 or 2, with the overlay of that name."""

    name: str
    stage: int

    @property
    def overlay(self) -> str:
        """Its file in configs/."""
        return f"small_{self.name}.yaml"


SMALL = (Phase("1_field", 1), Phase("2_guide", 1), Phase("3_made", 1), Phase("4_speech", 2))


@dataclass(frozen=True)
class Recipe:
    """All phases on one data set.

    Args:
        root: the data set, with train.jsonl and valid.jsonl.
        output: folder of the runs and of the weights.
        overlays: config files laid over every phase, such as tiny.yaml.
        more: options of `mien fit` for every phase, which override all files.
        phases: in order.
    """

    root: Path
    output: Path
    overlays: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = SMALL

    @property
    def meshes(self) -> Path:
        """The cache of face meshes; in runs/, where `mien make-pairs` has it too."""
        return self.output.parent / "meshes"

    def run(self) -> tuple[Path, Path]:
        """Run or resume what is missing; returns the animator's and the speech's weights.

        Raises:
            UserError: a phase could not be finished; its output precedes the message.
        """
        animator: Path | None = None
        for phase in self.phases:
            folder = self.output / phase.name
            if not _is_done(folder):
                self._train(phase, folder, animator)
            print(f"{phase.name}: {_hours(folder):.2f} hours, {folder / CHECKPOINT}", flush=True)
            animator = folder / CHECKPOINT if phase.stage == 1 else animator
        assert animator is not None
        speech = self.output / self.phases[-1].name / CHECKPOINT
        return self._export(animator, "animator"), self._export(speech, "speech_to_motion")

    def _train(self, phase: Phase, folder: Path, animator: Path | None) -> None:
        command = [sys.executable, "-m", "mien", "fit", *self._options(phase, folder, animator)]
        began = time.monotonic()
        status = _run_to_its_end(command)
        spent = _hours(folder) + (time.monotonic() - began) / 3600
        folder.mkdir(parents=True, exist_ok=True)
        _note(folder, spent, done=status == 0)
        if status in STOPS:
            raise STOPS[status]
        if status:
            raise UserError(f"phase {phase.name} ended before its last step; see its output above")

    def _options(self, phase: Phase, folder: Path, animator: Path | None) -> Sequence[str]:
        files = f"stage{phase.stage}.yaml", phase.overlay, *self.overlays
        options = [word for file in files for word in ("--config", file)]
        options += ["--data.root", str(self.root), "--trainer.default_root_dir", str(folder)]
        if phase.stage == 1:
            options += ["--data.meshes", str(self.meshes)]
            resumed = folder / CHECKPOINT
            if animator is not None and not resumed.is_file():
                options += ["--model.initial_weights", str(animator)]
        else:
            options += [
                "--data.animator",
                str(animator),
                "--data.cache",
                str(self.output / "motion"),
            ]
        if (folder / CHECKPOINT).is_file():
            options += ["--ckpt_path", str(folder / CHECKPOINT)]
        return [*options, *self.more]

    def _export(self, checkpoint: Path, name: str) -> Path:
        path = self.output / f"{name}.safetensors"
        save_weights(path, to_float16(read_weights(checkpoint)))
        return path


def _run_to_its_end(command: Sequence[str]) -> int:
    """Run a training and wait for it, since it saves a checkpoint first when it is asked to stop;
    returns its exit status, 128 + the number of a signal that ended it.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    process = subprocess.Popen(command)
    try:

        def stop(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGTERM:  # Ctrl-C reaches the training by itself
                process.terminate()

        for number in before:
            signal.signal(number, stop)
        status = process.wait()
        return status if status >= 0 else 128 - status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_done(folder: Path) -> bool:
    return _noted(folder).get("done", False)


def _hours(folder: Path) -> float:
    return float(_noted(folder).get("hours", 0.0))


def _noted(folder: Path) -> dict:
    path = folder / HOURS
    return json.loads(path.read_text()) if path.is_file() else {}


def _note(folder: Path, hours: float, done: bool) -> None:
    with written_whole(folder / HOURS) as unfinished:
        unfinished.write_text(json.dumps({"hours": hours, "done": done}))
