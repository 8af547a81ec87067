#!/usr/bin/env python
"""All tests and benchmarks that need a GPU, in one command and one report: `make test-gpu`.

    python tools/test_gpu.py [--device cuda] [-o gpu_report.md] [--parts kernels animate ...]

kernels     tests of kernels that need a GPU, against their definitions
presets     a training step of both stages of every preset in bf16-mixed, narrow and in full width
tests       all other tests that need a GPU
animate     the demo with the shipped weights, in both precisions, compared with the CPU
speed, speed-bf16, scan     the benchmarks

Each part is a separate process: one that fails or hangs stops neither the others nor the report.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from mien.command_line import Parser, positive, run_guarded
from mien.devices import FULL, MIXED, PRECISIONS, add_device_option, choose_device
from mien.errors import UserError

ROOT = Path(__file__).parents[1]
PARTS = "kernels", "presets", "tests", "animate", "speed", "speed-bf16", "scan"
SCANS = "--lengths", "250", "1000", "5000", "--widths", "256", "512"
TAIL = 40  # lines of output that the report keeps of a part that failed
# Tolerated mean difference to the CPU in grey levels: bfloat16 changes the motion a little.
APART = {FULL: 2.0, MIXED: 8.0}


@dataclass
class Outcome:
    """The result of a part: the error in one line or None; figures by name."""

    wrong: str | None
    seconds: float
    figures: dict[str, float | str] = field(default_factory=dict)
    output: str = ""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status, 0 where every part passed."""
    parser = Parser(description="Everything that only a GPU can show, in one report.")
    add_device_option(parser)
    parser.set_defaults(device="cuda")
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_report.md"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--timeout", type=positive(float), default=1800.0,
                        help="seconds that each part may take (default 1800)")  # fmt: skip
    parser.add_argument("--animator", type=Path, help="stage-1 weights (default: those that ship)")
    parser.add_argument("--speech", type=Path, help="stage-2 weights trained with that animator")
    parser.add_argument("--draw", type=Path, metavar="JSON", help=argparse.SUPPRESS)
    return run_guarded(lambda: run(parser.parse_args(argv)), "the report has what was done")


def run(given: argparse.Namespace) -> None:
    """Run the parts one after another, and rewrite the report after each.

    Raises:
        UserError: there is no such device, or a part failed.
    """
    device = choose_device(given.device)
    if given.draw is not None:
        given.draw.write_text(json.dumps(draw(given)), encoding="utf-8")
        return
    outcomes: dict[str, Outcome] = {}
    for name in given.parts:
        print(f"{name} ...", flush=True)
        outcomes[name] = run_part(name, given)
        print(f"{name}: {outcomes[name].wrong or 'passed'} ({outcomes[name].seconds:.0f} s)")
        given.output.write_text(report(outcomes, str(device)), encoding="utf-8")
    print(f"\n{given.output.resolve()}")
    if failed := [name for name, outcome in outcomes.items() if outcome.wrong]:
        raise UserError(f"{', '.join(failed)} failed: see {given.output}")


def run_part(name: str, given: argparse.Namespace) -> Outcome:
    """Run a part in a separate process, which is killed after the timeout."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        try:
            done = subprocess.run(
                command(name, given, results), cwd=ROOT, timeout=given.timeout, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            )  # fmt: skip
            output, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as late:
            seen = late.stdout or b""
            output = seen if isinstance(seen, str) else seen.decode(errors="replace")
            status = f"timeout after {given.timeout:g} s"
        figures = figures_of(results)
    wrong = None if status == 0 else status if isinstance(status, str) else f"exit status {status}"
    if wrong is None and not figures:
        wrong = "nothing was run"
    return Outcome(wrong, time.perf_counter() - begin, figures, output)


def command(name: str, given: argparse.Namespace, results: Path) -> list[str]:
    """The command of a part, which leaves its figures in `results`."""
    tests = {
        "kernels": ["tests/ops"],
        "presets": ["tests/test_presets.py"],
        "tests": ["tests", "--ignore=tests/ops", "--ignore=tests/test_presets.py"],
    }
    if name in tests:
        asked = ["-m", "cuda", "-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        return [sys.executable, "-m", "pytest", *asked, *tests[name]]
    where = ["--device", given.device]
    if name == "scan":
        return _tool("benchmark_scan.py", *where, *SCANS, "--json", results)
    for option in ("animator", "speech"):
        if (weights := getattr(given, option)) is not None:
            where += [f"--{option}", str(weights.resolve())]
    if name == "animate":
        return _tool("test_gpu.py", *where, "--draw", results)
    precision = MIXED if name == "speed-bf16" else FULL
    return _tool("benchmark.py", *where, "--precision", precision, "--json", results)


def _tool(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)]


def figures_of(results: Path) -> dict[str, float | str]:
    """Seconds of every test that ran and did not skip, or the figures of a benchmark."""
    if not results.exists():
        return {}
    text = results.read_text(encoding="utf-8")
    if text.startswith("<"):
        cases = ElementTree.fromstring(text).iter("testcase")
        ran = [case for case in cases if case.find("skipped") is None]
        return {f"{case.get('name')}, s": float(case.get("time") or 0) for case in ran}
    figures = json.loads(text)
    for row in figures.pop("rows", []):
        case = f"{row.pop('back_end')}, length {row.pop('length')}, width {row.pop('width')}"
        figures |= {f"{case}: {name}": value for name, value in row.items() if value is not None}
    return figures


def draw(given: argparse.Namespace) -> dict[str, float | str]:
    """The astronaut speaks the demo's sentence on the device, in each precision, and on the CPU.

    Raises:
        UserError: frames are too far from the CPU's.
    """
    from mien.media import read_video

    device, figures = choose_device(given.device), dict[str, float | str]()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.mp4") for name in ("cpu", *PRECISIONS)}
        speak(given, "cpu", FULL, paths["cpu"])
        wanted = read_video(paths["cpu"])
        for precision in PRECISIONS:
            if device.type == "cuda":
                speak(given, given.device, precision, paths[precision])  # compiles kernels
            speed = speak(given, given.device, precision, paths[precision])
            frames = read_video(paths[precision])
            apart = float(abs(frames.astype(float) - wanted).mean())
            figures[f"{precision}: seconds of work a second of video"] = speed
            figures[f"{precision}: grey levels from the CPU's frames, mean"] = apart
            if apart > APART[precision]:
                raise UserError(
                    f"in {precision} frames are {apart:.1f} grey levels from the CPU's, more "
                    f"than {APART[precision]}"
                )
    return figures


def speak(given: argparse.Namespace, device: str, precision: str, output: Path) -> float:
    """Write the demo; returns seconds of work for a second of video."""
    from importlib.resources import as_file, files

    from skimage import data

    from mien.pipeline import animate
    from mien.session import Session

    session = Session.load(given.animator, given.speech, device, precision)
    with as_file(files("mien") / "assets" / "demo.wav") as wav:
        done = animate(wav, data.astronaut(), output, session=session, overwrite=True)
    return done.work_per_second


def report(outcomes: dict[str, Outcome], device: str) -> str:
    """The whole report in markdown."""
    lines = ["# What a GPU showed", ""]
    lines += [f"- {name}: {value}" for name, value in surroundings(device).items()]
    lines += ["", "| part | outcome | seconds |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {outcome.wrong or 'passed'} | {outcome.seconds:.1f} |"
        for name, outcome in outcomes.items()
    ]
    for name, outcome in outcomes.items():
        lines += ["", f"## {name}", ""]
        if outcome.figures:
            lines += ["| figure | value |", "| --- | --- |"]
        lines += [
            f"| {key} | {value if isinstance(value, str) else f'{value:.6g}'} |"
            for key, value in outcome.figures.items()
        ]
        if outcome.wrong:
            lines += ["", f"{outcome.wrong}; the end of its output:", "", "```"]
            lines += [*outcome.output.rstrip().splitlines()[-TAIL:], "```"]
    return "\n".join(lines) + "\n"


def surroundings(device: str) -> dict[str, str]:
    """Machine, versions and source, by name."""
    import platform
    from importlib import metadata

    import torch

    from mien.report import machine

    where = torch.device(device)
    found = {"date": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "machine": machine(where)}
    if where.type == "cuda":
        gpu = torch.cuda.get_device_properties(where)
        found["GPU memory"] = f"{gpu.total_memory / 2**30:.0f} GiB"
        found["compute capability"] = f"{gpu.major}.{gpu.minor}"
        found["CUDA of torch"] = str(torch.version.cuda)
    found |= {"device": device, "system": platform.platform(), "Python": platform.python_version()}
    for package in ("mien", "torch", "lightning", "triton", "mamba-ssm", "numba"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if commit.returncode == 0:
        found["commit"] = commit.stdout.strip()
    return found


if __name__ == "__main__":
    sys.exit(main())
