"""What the use of numba does to a process: where it keeps compiled code, and what it imports."""

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


LINEAR_ALGEBRA = """
import sys
import numba
import numpy as np
from mien.ops.numba_compiler import compiled

assert compiled(lambda x: x + 1)(1) == 2
print("scipy.linalg" in sys.modules)


@numba.njit
def spread(x):
    return x @ np.cov(x)


x = np.arange(4.0).reshape(2, 2)
np.testing.assert_allclose(spread(x), x @ np.cov(x))
print("scipy.linalg" in sys.modules)
"""


def test_scipy_is_imported_only_where_compiled_code_multiplies_matrices(tmp_path):
    script = tmp_path / "linear_algebra.py"
    script.write_text(LINEAR_ALGEBRA)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
