"""`mien doctor`: which parts of inference and which back ends work on this machine, or why not."""

import argparse


def main(arguments: list[str]) -> int:
    """Run each back end on a small example and print the results; returns the exit status."""
    argparse.ArgumentParser("mien doctor", description=__doc__).parse_args(arguments)
    from mien.doctor.checks import check_all

    return 0 if check_all() else 1
