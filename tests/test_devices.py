"""The options --device and --precision, and waiting for a device."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from mien.command_line import Parser
from mien.devices import (
    FULL,
    MIXED,
    PRECISIONS,
    add_device_options,
    autocast,
    choose_device,
    synchronize,
    worker_threads,
)
from mien.errors import UserError
from mien.report import Stopwatch, best_time, machine
from tests.portrait.tiny import TINY, awake, tiny_animator

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch):
    """What torch says of GPUs on a machine with so many."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    return pretend


def test_auto_takes_the_gpu_where_there_is_one(gpus):
    gpus(0)
    assert choose_device() == choose_device("cpu") == CPU
    gpus(2)
    assert choose_device() == choose_device("auto") == torch.device("cuda:0")
    assert choose_device("cpu") == CPU
    assert choose_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("text", "count", "named"),
    [
        ("gpu", 2, "'gpu' is unknown"),
        ("cuda:", 2, "'cuda:' is unknown"),
        ("", 2, "'' is unknown"),
        ("meta", 0, "'meta' is unknown"),
        ("cuda", 0, "sees no GPU"),
        ("cuda:1", 1, "torch sees 1 GPU: give one of cuda:0"),
        ("cuda:2", 2, "torch sees 2 GPUs: give one of cuda:0, cuda:1"),
    ],
)
def test_a_device_that_cannot_be_used_is_one_sentence(gpus, text, count, named):
    gpus(count)
    with pytest.raises(UserError, match=named) as raised:
        choose_device(text)
    assert text in str(raised.value)


def test_options_have_defaults_and_refuse_other_precisions():
    parser = Parser()
    add_device_options(parser)
    given = parser.parse_args([])
    assert (given.device, given.precision) == ("auto", FULL)
    assert parser.parse_args(["--precision", MIXED]).precision == MIXED
    with pytest.raises(UserError, match="16-mixed"):
        parser.parse_args(["--precision", "16-mixed"])


def test_autocast_computes_in_bfloat16_where_asked_and_only_there():
    linear, x = torch.nn.Linear(4, 4), torch.randn(2, 4)
    with autocast(CPU, FULL):
        assert linear(x).dtype == torch.float32
    with autocast(CPU, MIXED):
        assert linear(x).dtype == torch.bfloat16
    assert linear(x).dtype == torch.float32
    with pytest.raises(UserError, match=r"'16-true' is unknown.*32-true or bf16-mixed"):
        autocast(CPU, "16-true")


def test_a_portrait_drawn_in_bfloat16_is_nearly_the_one_in_float32():
    animator = awake(tiny_animator())
    source, driving = torch.rand(2, 1, 3, TINY.image_size, TINY.image_size) * 2 - 1

    def draw(precision: str) -> torch.Tensor:
        with torch.inference_mode(), autocast(CPU, precision):
            motions = animator.encode_motion(source), animator.encode_motion(driving)
            appearance = animator.encode_appearance(source)
            return animator.render(appearance, motions[0], motions[1][:, None]).float()

    full, mixed = draw(FULL), draw(MIXED)
    assert not torch.equal(full, mixed)
    assert float((full - mixed).abs().mean()) < 0.01


def test_waiting_for_a_cpu_does_not_start_a_gpu():
    synchronize()
    synchronize(CPU)
    assert not torch.cuda.is_initialized() or torch.cuda.is_available()


class Later:
    """A device that takes work at once and does it afterwards, as a GPU does."""

    def __init__(self, monkeypatch):
        self.pending = 0.0
        monkeypatch.setattr("mien.report.synchronize", self.finish)

    def launch(self, seconds: float) -> None:
        self.pending += seconds

    def finish(self, device) -> None:
        assert device == CPU
        time.sleep(self.pending)
        self.pending = 0.0


def test_a_stopwatch_counts_work_that_was_only_launched_to_the_part_that_launched_it(monkeypatch):
    device, watch = Later(monkeypatch), Stopwatch(device=CPU)
    with watch.measure("render"):
        device.launch(0.05)
        with watch.measure("encode"):
            time.sleep(0.01)
    assert watch.seconds["render"] >= 0.05 > watch.seconds["encode"] >= 0.01
    parts = watch.measure_items("motion", map(device.launch, (0.02, 0.02)))
    for _ in parts:
        time.sleep(0.05)
    assert 0.04 <= watch.seconds["motion"] < 0.09


def test_the_best_time_ends_when_the_device_has_done_the_work(monkeypatch):
    device = Later(monkeypatch)
    device.launch(0.3)  # of somebody before
    assert 0.03 <= best_time(lambda: device.launch(0.03), CPU) < 0.3


def test_a_report_names_the_gpu_only_where_it_was_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert "GPU" not in machine(CPU)
    assert machine(torch.device("cuda:1")).endswith("GPU of cuda:1")


def test_the_module_needs_no_torch_to_read_a_command_line():
    code = "import sys, mien.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_clock_read_behind_a_synchronisation_counts_the_work(precision):
    device = choose_device("cuda")
    x = torch.randn(4096, 4096, device=device)
    with autocast(device, precision):
        x @ x
        synchronize(device)
        begin = time.perf_counter()
        for _ in range(50):
            x @ x
        launched = time.perf_counter() - begin
        synchronize(device)
        done = time.perf_counter() - begin
    assert done > 2 * launched


def test_worker_threads_have_their_own_number_of_torch_s_and_others_keep_theirs():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        pool, together = worker_threads(2, each=1), Barrier(2)
        with ThreadPoolExecutor(1) as later:
            inside = [pool.submit(lambda: (together.wait(), used_threads())[1]) for _ in range(2)]
            assert [each.result() for each in inside] == [1, 1]
            assert later.submit(used_threads).result() == used_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_threads_that_make_workers_at_once_leave_torch_s_number_as_it_was():
    code = """
import threading, torch
from mien.devices import worker_threads
torch.set_num_threads(4)
torch.ones(1) + 1
for each in range(1, 9):  # each a new pool, asked for by two threads that never used torch
    asking = [threading.Thread(target=worker_threads, args=(3, each)) for _ in range(2)]
    for thread in asking: thread.start()
    for thread in asking: thread.join()
    assert worker_threads(3, each) is worker_threads(3, each)
seen = []
last = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
last.start(); last.join()
assert seen == [4] == [torch.get_num_threads()], seen
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def used_threads() -> int:
    """torch's number in this thread, once it has computed."""
    torch.randn(64, 64) @ torch.randn(64, 64)
    return torch.get_num_threads()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_for_the_next_tensors():
    """In a process of its own: pieces that earlier tests left would lie between the tensors. Until
    the heap's pieces fit, which they did after four rounds at most, some are new.
    """
    code = """
import resource, torch
from mien.devices import keep_freed_memory
keep_freed_memory()
for _ in range(8):  # by default each round would touch 20,000 new pages; here the first ones do
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(5_000_000) for _ in range(4)]
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
assert found < 1000, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
