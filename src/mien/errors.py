"""The error that is shown to the user: entry points print one sentence and exit with 1."""

# The extra of mien that installs an optional package.
EXTRAS = {
    "diffusers": "loki",
    "filelock": "train",
    "jsonargparse": "train",
    "lightning": "train",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "openvino": "fast",
    "tensorboard": "train",
    "torchmetrics": "train",
}


class UserError(Exception):
    """Bad input: one sentence that names the file or key, its value, and what to do."""


def first_line(error: Exception) -> str:
    """The first line of a foreign error's message, for a sentence; its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def missing_package(error: ModuleNotFoundError) -> UserError | None:
    """The error that names the extra to install; None for a package that no extra installs."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return None
    extra = EXTRAS[package]
    return UserError(
        f'this needs the package {package}: install it with pip install "mien[{extra}]"'
    )
