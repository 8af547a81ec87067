"""The error that a person is meant to read: entry points print one sentence and exit with 1."""


class UserError(Exception):
    """Bad input: one sentence that names the file or key, its value, and what to do."""
