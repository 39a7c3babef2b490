import threading
import time

import pytest

from utils.pipeline import StageTimer, batched, in_background


def test_order_is_kept_through_several_threads():
    clock = StageTimer()
    items = in_background(batched(iter(range(10)), 3), 1)
    items = in_background(clock.apply("double", lambda batch: [2 * i for i in batch], items), 1)
    assert list(items) == [[0, 2, 4], [6, 8, 10], [12, 14, 16], [18]]
    assert clock.seconds["double"] >= 0


def test_the_queue_is_bounded():
    made = []
    items = in_background((made.append(i) or i for i in range(100)), 3)
    assert next(items) == 0
    time.sleep(0.2)
    assert len(made) <= 6
    items.close()


def test_an_error_arrives_at_its_place():
    def source():
        yield 1
        raise OSError("broken")

    items = in_background(source(), 4)
    assert next(items) == 1
    with pytest.raises(OSError, match="broken"):
        next(items)


@pytest.mark.parametrize("how", ["close", "error in a stage"])
def test_all_threads_end_when_the_work_is_given_up(how):
    before = threading.active_count()
    closed = []

    def source():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    def stage(item):
        if how != "close" and item == 5:
            raise ValueError("stage")
        return item

    items = in_background(source(), 2)
    items = in_background(StageTimer().apply("a", stage, items), 2)
    items = in_background(StageTimer().apply("b", lambda item: item, items), 2)
    if how == "close":
        next(items)
        items.close()
    else:
        with pytest.raises(ValueError, match="stage"):
            list(items)
    deadline = time.time() + 5
    while threading.active_count() > before and time.time() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before
    assert closed == [True]
