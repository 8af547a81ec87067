"""Every item is done once, whoever is killed on the way."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest

from mien.errors import UserError
from mien.prepare.command import main
from mien.prepare.engine import HUNG, Killed, progress, run, run_in_processes, run_on_ray
from tests.conftest import ROOT
from tests.prepare.footage import LAMP_FINDER, LIMITS_OFF, film


class Squares:
    """Squares numbers; some kill the process that works on them."""

    def __init__(self, deadly: tuple[int, ...] = ()) -> None:
        self.deadly = deadly

    def __call__(self) -> Callable[[int], int]:
        return self.work

    def work(self, item: int) -> int:
        if item in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


class Stillborn:
    """Cannot even begin."""

    def __call__(self) -> Callable[[int], int]:
        raise MemoryError


@pytest.mark.parametrize("workers", [None, 2])
def test_every_item_is_done_once(workers: int | None):
    assert dict(run("processes", Squares(), range(30), workers)) == {i: i * i for i in range(30)}


def test_the_only_item_may_kill_its_worker():
    [(item, result)] = run("processes", Squares(deadly=(3,)), [3], None)
    assert item == 3 and isinstance(result, Killed)


def test_a_killed_worker_costs_its_item_and_nothing_else():
    done = dict(run_in_processes(Squares(deadly=(3, 17)), range(30), 2))
    assert set(done) == set(range(30))
    assert {i for i, result in done.items() if isinstance(result, Killed)} == {3, 17}
    assert all(result == i * i for i, result in done.items() if i not in (3, 17))


class Environment:
    """Reads a variable of the environment."""

    def __call__(self) -> Callable[[str], str | None]:
        return os.environ.get


def test_workers_see_the_environment_of_their_start(monkeypatch: pytest.MonkeyPatch):
    for value in ("one", "two"):
        monkeypatch.setenv("MIEN_TEST", value)
        assert list(run_in_processes(Environment(), ["MIEN_TEST"], 1)) == [("MIEN_TEST", value)]
    monkeypatch.delenv("MIEN_TEST")
    assert list(run_in_processes(Environment(), ["MIEN_TEST"], 1)) == [("MIEN_TEST", None)]


IN_ANOTHER_FOLDER = """
from mien.prepare.engine import run_in_processes
from tests.prepare.test_engine import Squares

if __name__ == "__main__":
    print(list(run_in_processes(Squares(), [3], 1)))
"""


def test_files_of_the_working_folder_are_not_imported(tmp_path: Path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "cv2.py").write_text("open('imported', 'w')")
    script = tmp_path / "script.py"
    script.write_text(IN_ANOTHER_FOLDER)
    command, paths = [sys.executable, str(script)], [str(ROOT), str(ROOT / "src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    where = tmp_path / "here"
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert done.stdout == "[(3, 9)]\n", done.stderr[-2000:]
    assert not (where / "imported").exists()


class Sleeps:
    """Passes numbers on; some never come back, asleep in C with Python's lock held, as a decoder
    may; others take long and say that they go on.
    """

    def __init__(self, asleep: tuple[int, ...] = (), slow: tuple[int, ...] = ()) -> None:
        self.asleep, self.slow = asleep, slow

    def __call__(self) -> Callable[[int], int]:
        return self.work

    def work(self, item: int) -> int:
        if item in self.asleep:
            ctypes.PyDLL(None).sleep(1000)
        for _ in range(5 if item in self.slow else 0):
            time.sleep(1.1)
            progress()
        return item


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_work_that_hangs_costs_its_item_and_nothing_else(engine: str, request):
    if engine == "ray":
        request.getfixturevalue("ray_here")
    begin = time.monotonic()
    done = dict(run(engine, Sleeps(asleep=(3,), slow=(5,)), range(8), 2, patience=3.0))
    assert time.monotonic() - begin < 100
    hung = done.pop(3)
    assert isinstance(hung, Killed) and done == {i: i for i in range(8) if i != 3}
    assert engine == "ray" or str(hung) == HUNG.format(patience=3)


def test_a_run_that_is_left_ends_its_own_processes_alone():
    other = get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    try:
        running = run_in_processes(Sleeps(slow=tuple(range(2, 40))), range(40), 2)
        next(running)
        own = [process for process in active_children() if process.pid != other.pid]
        assert len(own) == 2
        running.close()
        assert not any(process.is_alive() for process in own)
        time.sleep(0.5)
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_workers_that_cannot_begin_end_the_run():
    with pytest.raises(UserError, match="no worker process can start"):
        list(run_in_processes(Stillborn(), range(3), 2))


class Intervals:
    """Says when and in which process it worked."""

    def __call__(self) -> Callable[[int], tuple[int, float, float]]:
        return self.work

    def work(self, item: int) -> tuple[int, float, float]:
        begin = time.monotonic()
        time.sleep(0.3)
        return os.getpid(), begin, time.monotonic()


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray cluster of two cores on this machine."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray_here")
def test_two_workers_of_ray_work_at_the_same_time():
    spans: dict[int, list[tuple[float, float]]] = {}
    # The second may need long to begin; the first does not wait for it.
    for _, (process, begin, end) in run_on_ray(Intervals(), range(500), 2):
        spans.setdefault(process, []).append((begin, end))
        if len(spans) == 2 and min(map(len, spans.values())) >= 4:
            break
    one, other = spans.values()
    assert sum(b0 < e1 and b1 < e0 for b0, e0 in one for b1, e1 in other) >= 3


@pytest.mark.usefixtures("ray_here")
def test_a_killed_worker_of_ray_costs_its_item_and_nothing_else():
    done = dict(run_on_ray(Squares(deadly=(17,)), range(30), 2))
    assert set(done) == set(range(30))
    assert {i for i, result in done.items() if isinstance(result, Killed)} == {17}
    assert all(result == i * i for i, result in done.items() if i != 17)


@pytest.mark.usefixtures("ray_here")
def test_a_data_set_of_rays_is_the_same_to_the_byte(tmp_path: Path):
    for number, name in enumerate(("ann", "bob", "eve")):
        film(tmp_path / "f" / name / "1.mp4", 1.2 + 0.04 * number, ())
    (tmp_path / "f" / "eve" / "2.mp4").write_bytes(b"no video")
    made = []
    for engine in ("processes", "ray"):
        asked = [str(tmp_path / "f"), "-o", str(tmp_path / engine), "--engine", engine]
        assert main([*asked, "--set", "cut.min_seconds=1", LAMP_FINDER, *LIMITS_OFF]) == 0
        files = (path for path in (tmp_path / engine).rglob("*") if path.is_file())
        shown = (path for path in files if ".done" not in path.parts)
        made.append({p.relative_to(tmp_path / engine): p.read_bytes() for p in shown})
    assert made[0] == made[1] and sum(path.suffix == ".mp4" for path in made[0]) == 3


@pytest.mark.usefixtures("ray_here")
def test_ray_works_with_the_cores_that_are_free():
    """One of two cores is somebody else's for good."""
    import ray

    holder = ray.remote(num_cpus=1)(Idle).remote()
    ray.get(holder.ready.remote())
    done = dict(run("ray", Squares(), range(5), None))
    assert done == {i: i * i for i in range(5)}
    ray.kill(holder)


class Idle:
    """Holds a core."""

    def ready(self) -> bool:
        """It does."""
        return True


def test_without_ray_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"mien\[ray\]"):
        list(run_on_ray(Squares(), range(3), 2))
