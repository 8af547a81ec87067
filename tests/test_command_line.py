"""What all commands share: Python's garbage collector while they start and when they end."""

import gc
import subprocess
import sys

from mien.command_line import run_guarded, starting
from mien.errors import UserError

# What is in a cycle when Python ends says so, unless the collector leaves it out.
_CYCLE = """
from mien.command_line import run_guarded

class Cycle:
    def __del__(self):
        print("collected")

def work():
    cycle = Cycle()
    cycle.own = cycle

{end}
"""


def collected(made: object) -> bool:
    """Whether the collector looks at it."""
    return any(each is made for each in gc.get_objects())


def test_starting_leaves_the_collector_off_and_what_was_made_out_of_its_way():
    made: list[object] = []

    def work() -> None:
        before: list[object] = []
        with starting():
            assert not gc.isenabled()
            with starting():
                made.append([])
            assert not gc.isenabled()
        after: list[object] = []
        assert gc.isenabled()
        assert not collected(made[0]) and not collected(before) and collected(after)

    assert run_guarded(work) == 0
    assert collected(made[0])


def test_the_collector_is_on_again_after_an_error():
    def work() -> None:
        with starting():
            raise UserError("no such file")

    assert run_guarded(work) == 1
    assert gc.isenabled()


def test_a_command_that_ends_does_not_look_for_garbage():
    def printed(end: str) -> str:
        command = [sys.executable, "-c", _CYCLE.format(end=end)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert printed("work()") == "collected\n"
    assert printed("run_guarded(work)") == ""
