"""Who computes: the choice by device, by name and by what is installed, and what is reported."""

import logging
import subprocess
import sys
import warnings

import pytest
import torch

from mien.errors import UserError
from mien.ops import back_ends
from mien.ops.back_ends import loaded
from mien.ops.causal_conv1d import CAUSAL_CONV1D
from mien.ops.selective_scan import SELECTIVE_SCAN, selective_scan
from tests.ops.scan_cases import draw


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("MIEN_SCAN", raising=False)
    monkeypatch.delenv("MIEN_CONV1D", raising=False)
    monkeypatch.setattr(back_ends, "_outcomes", {})
    SELECTIVE_SCAN._logged.clear()


def anything(name: str) -> None:
    return None


def chosen(device: str = "cpu") -> str:
    return SELECTIVE_SCAN.choose(device, anything)[0]


class _Hidden:
    """A finder that finds one package missing."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def forget(monkeypatch, package: str) -> None:
    """Let the next import of a package, and of our file that needs it, be the first."""
    for name in [n for n in sys.modules if n.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"mien.ops.selective_scan_{package}", raising=False)


def hide(monkeypatch, package: str) -> None:
    forget(monkeypatch, package)
    monkeypatch.setattr(sys, "meta_path", [_Hidden(package), *sys.meta_path])


def break_(monkeypatch, tmp_path, package: str, statement: str) -> None:
    """Install a package whose import fails like one that was built for another torch."""
    forget(monkeypatch, package)
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(statement)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_cpu_takes_numba_and_any_other_device_without_kernels_the_reference():
    assert chosen("cpu") == "numba"
    assert chosen("mps") == "reference"


def test_without_numba_the_reference_runs_and_the_reason_is_told(monkeypatch, caplog):
    hide(monkeypatch, "numba")
    with caplog.at_level(logging.INFO, "mien"), warnings.catch_warnings(action="error"):
        assert chosen() == "reference"
        assert chosen() == "reference"
    printed = [record.getMessage() for record in caplog.records]
    assert printed == [
        "the selective scan: numba is skipped: numba is not installed",
        "the selective scan on cpu: reference",
    ]


@pytest.mark.parametrize(
    ("package", "device"), [("numba", "cpu"), ("mamba_ssm", "cuda"), ("triton", "cuda")]
)
@pytest.mark.parametrize(
    ("statement", "printed"),
    [
        ("raise RuntimeError('undefined symbol: _ZN3c10')", "undefined symbol: _ZN3c10"),
        ("import selective_scan_cuda_of_old", "selective_scan_cuda_of_old"),
    ],
)
def test_a_broken_install_is_passed_over_with_one_warning(
    monkeypatch, tmp_path, package, device, statement, printed
):
    break_(monkeypatch, tmp_path, package, statement)
    names = [b.name for b in SELECTIVE_SCAN.back_ends]
    others = {n for n in names if n != package and n != "reference"}
    with pytest.warns(UserWarning, match=f"{package} is skipped.*{printed}") as caught:
        _, problem = loaded(next(b for b in SELECTIVE_SCAN.back_ends if b.name == package))
    assert len([w for w in caught if str(w.message).startswith(package)]) == 1
    assert printed in str(problem)
    with warnings.catch_warnings(action="error"):
        refuse = {name: "not in this test" for name in others}.get
        assert SELECTIVE_SCAN.choose(device, refuse)[0] == "reference"


def test_an_argument_and_the_environment_force_a_back_end(monkeypatch, caplog):
    inputs = {n: t.detach() for n, t in draw().items()}
    with caplog.at_level(logging.INFO, "mien"):
        selective_scan(**inputs, back_end="reference")
    assert "the selective scan on cpu: reference, as asked" in caplog.text
    monkeypatch.setenv("MIEN_SCAN", "reference")
    assert chosen() == "reference"
    monkeypatch.setenv("MIEN_SCAN", "auto")
    assert chosen() == "numba"


def test_a_forced_back_end_that_cannot_work_is_refused_with_its_reason(monkeypatch):
    inputs = {n: t.detach() for n, t in draw().items()}
    hide(monkeypatch, "mamba_ssm")
    with pytest.raises(UserError, match="cannot run on mamba_ssm: mamba_ssm is not installed"):
        selective_scan(**inputs, back_end="mamba_ssm")
    monkeypatch.setenv("MIEN_SCAN", "cuda")
    with pytest.raises(UserError, match="no back end 'cuda'.*auto, mamba_ssm, triton, numba"):
        selective_scan(**inputs)
    monkeypatch.setenv("MIEN_CONV1D", "numba")
    with pytest.raises(UserError, match="no back end 'numba' for the causal convolution"):
        CAUSAL_CONV1D.choose("cpu", anything)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_triton_without_a_device_says_what_it_lacks(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    _, problem = loaded(next(b for b in SELECTIVE_SCAN.back_ends if b.name == "triton"))
    assert problem is not None and "no CUDA device" in problem


def test_importing_mien_imports_no_back_end():
    """Lightning is left out: with it comes what it likes, and torch's own use of triton."""
    code = """
import importlib, pkgutil, sys, mien
for module in pkgutil.walk_packages(mien.__path__, "mien."):
    own = module.name.startswith("mien.ops.selective_scan_") and "reference" not in module.name
    own |= module.name.endswith(("_numba", "numba_compiler"))
    late = module.name.startswith(("mien.training", "mien.__main__"))
    data = ("portrait_data", "speech_data", "loki_data", "loading")
    late |= module.name in [f"mien.data.{name}" for name in data]
    if not own and not late:
        importlib.import_module(module.name)
assert "lightning" not in sys.modules
heavy = {"triton", "numba", "mamba_ssm", "causal_conv1d"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
