"""Shared by all tests: one thread a process, clips where there are any, mien before the rest."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Read when triton is first imported: its kernels then run on the CPU, step by step.
    os.environ.setdefault("TRITON_INTERPRET", "1")

import mien  # noqa: F401  first, so that a CPU torch beside CUDA torchvision is repaired in time

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random numbers, whatever ran before it in this process."""
    torch.manual_seed(0)


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
