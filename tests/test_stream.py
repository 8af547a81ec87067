"""What a session yields is made while what came before is used."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from mien.session.stream import prefetch

ON_CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_items_come_in_order_each_made_while_the_one_before_is_used():
    made: list[int] = []

    def items() -> Iterator[tuple[int, int]]:
        for number in range(4):
            made.append(number)
            yield number, threading.get_ident()

    got, makers = [], set()
    for number, maker in prefetch(items(), ON_CPU):
        deadline = time.monotonic() + 10
        while len(made) < min(number + 2, 4) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(made) == min(number + 2, 4)
        got.append(number)
        makers.add((number == 0, maker == threading.get_ident()))
    assert got == [0, 1, 2, 3] and makers == {(True, True), (False, False)}
    assert list(prefetch(iter(()), ON_CPU)) == []


def test_an_error_comes_where_its_item_would_and_leaving_waits_for_the_item_in_work():
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("out of memory")

    stream = prefetch(items(), ON_CPU)
    assert next(stream) == 1
    with pytest.raises(RuntimeError, match="out of memory"):
        next(stream)

    done = threading.Event()

    def slow() -> Iterator[int]:
        yield 0
        time.sleep(0.2)
        done.set()
        yield 1

    left = prefetch(slow(), ON_CPU)
    assert next(left) == 0 and not done.is_set()
    left.close()
    assert done.is_set()
