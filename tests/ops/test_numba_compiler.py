"""Without a home, numba keeps what it compiles in a folder of the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os
from pathlib import Path

import pytest
from mien.ops.numba_compiler import ensure_cache_folder
ensure_cache_folder()
from numba.core import config
assert (config.CACHE_DIR != "" and Path(config.CACHE_DIR).is_dir()) == {wanted}
print(config.CACHE_DIR)
"""


def run(home: Path, wanted: bool) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(wanted=wanted)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.real_world("read-only installations")
def test_without_a_home_there_is_a_folder_that_goes_with_the_process(tmp_path: Path):
    folder = run(tmp_path / "nobody", wanted=True)
    assert "mien-numba-" in folder and not Path(folder).exists()


def test_with_a_home_numba_is_left_alone(tmp_path: Path):
    assert run(tmp_path, wanted=False) == ""
