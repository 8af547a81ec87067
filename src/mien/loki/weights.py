"""The kind of weights that Loki's are (`mien.kinds`)."""

from pathlib import Path

from mien.kinds import Kind, load, register
from mien.loki.config import LokiConfig
from mien.loki.net import Loki

LOKI = register(Kind("loki", LokiConfig, Loki, "loki"))


def load_loki(path: Path) -> Loki:
    """Rebuild Loki's net, ready for use (evaluation mode, on the CPU, float32).

    Raises:
        UserError: the file is missing, damaged, of another kind, or does not fit this version.
    """
    return load(path, LOKI)
