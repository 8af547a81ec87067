"""What all commands share: Python's garbage collector while they start and when they end."""

import gc
import subprocess
import sys

from mien.command_line import run_guarded, starting

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


def test_starting_leaves_the_collector_off_and_what_was_made_out_of_its_way():
    seen = []

    def work() -> None:
        with starting():
            seen.append(gc.isenabled())
            made = [[] for _ in range(1000)]
        seen.append((gc.isenabled(), gc.get_freeze_count() > len(made)))

    assert run_guarded(work) == 0
    assert seen == [False, (True, True)]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_command_that_ends_does_not_look_for_garbage():
    def printed(end: str) -> str:
        command = [sys.executable, "-c", _CYCLE.format(end=end)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert printed("work()") == "collected\n"
    assert printed("run_guarded(work)") == ""
