"""The error that a person is meant to read: entry points print one sentence and exit with 1."""

# The extra of mien that brings a package, for those that the core does without.
EXTRAS = {
    "filelock": "train",
    "jsonargparse": "train",
    "lightning": "train",
    "tensorboard": "train",
    "torchmetrics": "train",
}


class UserError(Exception):
    """Bad input: one sentence that names the file or key, its value, and what to do."""


def missing_package(error: ModuleNotFoundError) -> UserError | None:
    """What to install for a package that is not there; None for one that no extra brings."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return None
    extra = EXTRAS[package]
    return UserError(
        f'this needs the package {package}: install it with pip install "mien[{extra}]"'
    )
