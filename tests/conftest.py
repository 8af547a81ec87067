"""Shared by all tests: one thread a process, clips where there are any, mien before the rest."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Read when triton is first imported: its kernels then run on the CPU, step by step.
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).parents[1]

# Tests compare with torch's numbers; those of other engines name them. Graphs are kept here.
os.environ["MIEN_ENGINE"] = "torch"
os.environ["MIEN_CACHE"] = str(ROOT / ".pytest_cache" / "mien")

import mien  # noqa: E402, F401  first, so that a CPU torch beside CUDA torchvision is repaired in time

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", action="store_true", help="print a table of the real-world inputs")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """With --table: what the tests marked `real_world` tried, kind by kind (`make inputs`)."""
    if not config.getoption("--table"):
        return
    rows: dict[str, list[tuple[str, str]]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            kinds = [value for name, value in report.user_properties if name == "real_world"]
            test = report.nodeid.split("::")[-1].removeprefix("test_").replace("_", " ")
            for kind in kinds:
                rows.setdefault(kind, []).append((test, outcome))
    terminalreporter.section("real-world inputs")
    for kind, tried in rows.items():
        good = sum(outcome == "passed" for _, outcome in tried)
        terminalreporter.write_line(f"{kind}: {good} of {len(tried)}")
        for test, outcome in tried:
            terminalreporter.write_line(f"    {outcome:8}{test}")


@pytest.fixture(autouse=True)
def _real_world(request: pytest.FixtureRequest, record_property) -> None:
    """Carry the kind of input to the report, also out of another process."""
    for mark in request.node.iter_markers("real_world"):
        record_property("real_world", mark.args[0])


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random numbers, whatever ran before it in this process, and
    leaves no autocast behind that would change what the next one computes.
    """
    torch.manual_seed(0)
    yield
    assert not torch.is_autocast_enabled("cpu"), "a generator or context left autocast on"


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of real clips (train, valid, demo); without it, tests that ask are skipped."""
    folder = Path(os.environ.get("MIEN_FOOTAGE") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real clips: set MIEN_FOOTAGE to their folder")
    return folder


@pytest.fixture(scope="session")
def shipped() -> tuple[Path, Path]:
    """The weights inside the package."""
    from mien.checkpoint import default_weights

    weights = default_weights()
    if not all(path.exists() for path in weights):
        pytest.skip("this checkout carries no weights")
    return weights
