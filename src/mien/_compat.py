"""What must be arranged before torch is imported.

Its waiting threads give the core away soon (`install`), and a CPU build of torch works with
torchvision and torchaudio wheels that were built for CUDA. Such a pair is common (registries hold
CUDA wheels only) and breaks other packages: torchvision's first import fails on operators that its
compiled extension would have registered, and with it lightning, torchmetrics and timm, merely
because torchvision is installed. The repair declares those operators without an implementation and
marks torchaudio's compiled extension as absent; what needs compiled code still fails, when called,
with torch's own message.

Nothing is imported here: an import hook runs the repair just before the first import of either
package.
"""

import importlib.util
import os
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}  # variables that say how threads wait
_SPINS = "10000"
_KEPT: list[Any] = []  # torch forgets operators when their library handle is collected


def cuda_build(package: str) -> str | None:
    """The CUDA version of a package's build ("130"), read from its version file, or None."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / "version.py"
    if not file.exists():
        return None
    found = re.search(r"\+cu(\d+)", file.read_text(encoding="utf-8"))
    return found.group(1) if found else None


def _declare_torchvision_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)


def _stand_in_for_torchaudio_extension() -> None:
    extension: Any = ModuleType("torchaudio._extension")

    def fail_if_no_align(function: Any) -> Any:
        """Replace a function that needs the compiled extension by one that says so."""

        def refuse(*_: Any, **__: Any) -> None:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension")

        return refuse

    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    extension.fail_if_no_align = fail_if_no_align
    extension._check_cuda_version = lambda: None
    sys.modules["torchaudio._extension"] = extension


class _RepairOnImport:
    """An import hook (meta path finder) that finds no module: it repairs just before an import."""

    def __init__(self) -> None:
        self.waiting = {
            "torchvision": _declare_torchvision_operators,
            "torchaudio": _stand_in_for_torchaudio_extension,
        }

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Repair the named package once if torch's build differs; always returns None."""
        repair = self.waiting.pop(name, None)
        if repair is not None and name not in sys.modules:
            built_for, torch_built_for = cuda_build(name), cuda_build("torch")
            # torchvision's operators are missing only under a CPU torch; torchaudio's extension
            # refuses any other CUDA version as well.
            strict = name == "torchaudio"
            if built_for and (torch_built_for is None or strict and built_for != torch_built_for):
                repair()
        return None


def install() -> None:
    """Install the import hook for torchvision and torchaudio, and let threads of OpenMP wait for a
    tenth of a millisecond instead of some milliseconds before they sleep, unless the environment
    says how they wait; idempotent.

    While they wait they keep a core busy. Where another program needs it, each operation then waits
    for a thread that the system has put aside: five times as long for a whole video.
    """
    if not _WAITING & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _SPINS
    if not any(isinstance(finder, _RepairOnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RepairOnImport())  # pyright: ignore[reportArgumentType]
