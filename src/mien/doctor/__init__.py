"""`mien doctor`: which parts of inference and which back ends work on this machine, or why not."""

from mien.command_line import Parser


def main(arguments: list[str]) -> int:
    """Run each back end on a small example and print the results; returns the exit status."""
    Parser("mien doctor", description=__doc__).parse_args(arguments)
    from mien.doctor.checks import check_all

    return 0 if check_all() else 1
