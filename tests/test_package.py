"""What the package promises before it does anything: cheap imports, few needs, its public names."""

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest

import mien
from mien import _compat
from tests.tiny_nets import BOX, save_tiny_pair, voice, write_portrait, write_wav

OPTIONAL = (
    "torchvision",
    "torchaudio",
    "timm",
    "wandb",
    "mamba_ssm",
    "causal_conv1d",
    "h5py",
    "transformers",
    "triton",
    "hama",
)


def run(code: str) -> str:
    """The code in a fresh interpreter; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_importing_mien_imports_nothing_heavy():
    heavy = ("torch", "numpy", "lightning", "librosa", "av", "cv2", "PIL", "torchvision")
    code = f"import sys, mien, mien.infer; print([n for n in {heavy} if n in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize("name", mien.__all__)
def test_public_names_are_there(name):
    assert getattr(mien, name).__name__ == name


TRAINING = ("filelock", "jsonargparse", "lightning", "tensorboard", "torchmetrics")
WITHOUT_TRAINING = f"""
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAINING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
"""


def test_a_video_is_made_without_what_training_needs(tmp_path):
    weights = save_tiny_pair(tmp_path)
    given = [
        str(write_wav(tmp_path / "a.wav", voice(0.2))),
        str(write_portrait(tmp_path / "a.png")),
    ]
    given += ["-o", str(tmp_path / "a.mp4"), "--box", ",".join(map(str, BOX)), "--steps", "1"]
    given += ["--animator", str(weights[0]), "--speech", str(weights[1])]
    code = WITHOUT_TRAINING + f"from mien.cli import main; sys.exit(main(['infer', *{given}]))"
    assert "5 frames" in run(code)


@pytest.mark.parametrize("command", [["fit", "--config", "stage1.yaml"], ["prepare", "--help"]])
def test_what_needs_training_s_packages_says_what_to_install(command):
    code = WITHOUT_TRAINING + f"from mien.cli import main; sys.exit(main({command}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and 'pip install "mien[train]"' in done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="anymator"):
        mien.anymator  # noqa: B018


def test_the_core_works_without_any_optional_package():
    hidden = run(
        f"""
        import sys
        from importlib import metadata

        known = metadata.Distribution.from_name

        def from_name(name):
            if name.replace("-", "_").lower() in {OPTIONAL}:
                raise metadata.PackageNotFoundError(name)
            return known(name)

        class Hide:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {OPTIONAL}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        metadata.Distribution.from_name = from_name
        sys.meta_path.insert(0, Hide())
        import mien, mien.pipeline, mien.evaluation, mien.cli
        import mien.training.stage1, mien.training.stage2
        import mien.data.portrait_data, mien.data.speech_data
        print("ok", [name for name in {OPTIONAL} if name in sys.modules])
        """
    )
    assert hidden == "ok []"


# timm imports torchvision as well, and so does lightning, through torchmetrics.
@pytest.mark.parametrize("package", ["torchvision", "torchaudio"])
def test_mien_first_then_any_package_imports(package):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    assert run(f"import mien, {package}; print({package}.__name__)") == package


def test_importing_without_mien_is_what_the_repair_is_for():
    if find_spec("torchvision") is None or _compat.cuda_build("torchvision") is None:
        pytest.skip("torchvision is absent, or fits this torch")
    if _compat.cuda_build("torch") is not None:
        pytest.skip("this torch is a CUDA build")
    assert "operator torchvision::nms does not exist" in run(
        """
        try:
            import torchvision
        except RuntimeError as error:
            print(error)
        """
    )


def test_the_repair_is_installed_once():
    before = list(sys.meta_path)
    _compat.install()
    assert sys.meta_path == before


@pytest.mark.parametrize("given", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_waiting_threads_of_torch_sleep_soon_unless_the_environment_says_how(given, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(given, "7" if given == "GOMP_SPINCOUNT" else "ACTIVE")
    asked = "import os, mien, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    spins = {None: "10000", "OMP_WAIT_POLICY": None, "GOMP_SPINCOUNT": "7"}[given]
    assert run(asked) == f"{spins} False"


def test_both_commands_are_declared():
    scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
    assert scripts["mien"] == "mien.cli:main"
    assert scripts["lightning"].split() == ["mien.cli:main", "[train]"]
