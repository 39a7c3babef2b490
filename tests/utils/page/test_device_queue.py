"""The queue of the page: one at a time, in order, and who leaves is forgotten."""

import threading

import pytest

from utils.errors import UserError
from utils.page.device_queue import DeviceQueue, QueueFullError, WorkCancelledError


@pytest.fixture
def busy():
    """A queue whose device works until `release` is set: (queue, its ticket, release)."""
    queue, begun, release = DeviceQueue(2), threading.Event(), threading.Event()

    def work(progress):
        begun.set()
        while not release.wait(0.01):
            progress("work", 1, 4)
        return "first"

    ticket = queue.submit(work)
    assert begun.wait(10)
    yield queue, ticket, release
    release.set()


def test_one_after_the_other(busy):
    queue, first, release = busy
    order = []
    others = [queue.submit(lambda progress, number=number: order.append(number)) for number in (2, 3)]
    assert [queue.before(ticket) for ticket in (first, *others)] == [0, 1, 2] and len(queue) == 3
    assert not order
    release.set()
    assert all(ticket.wait(10) for ticket in (first, *others))
    assert order == [2, 3] and first.result == "first" and queue.before(others[1]) == 0


def test_who_leaves_makes_room_and_is_never_run(busy):
    queue, _, release = busy
    ran, cleaned = [], []
    second = queue.submit(lambda progress: ran.append(2), cleaned.append)
    third = queue.submit(lambda progress: ran.append(3))
    with pytest.raises(QueueFullError):
        queue.submit(lambda progress: None)
    second.cancel()
    assert queue.before(third) == 1 and len(queue) == 2
    release.set()
    assert third.wait(10) and second.finished
    assert ran == [3] and cleaned == [False] and isinstance(second.error, WorkCancelledError)


def test_running_work_stops_at_its_next_report(busy):
    _, first, _ = busy
    assert first.running and not first.wait(0.05)
    first.cancel()
    assert first.wait(5) and isinstance(first.error, WorkCancelledError) and first.result is None


def test_an_error_is_the_owners_and_the_queue_goes_on():
    queue = DeviceQueue(2)

    def fail(progress):
        raise UserError("--crf: too high")

    failed, fine = queue.submit(fail), queue.submit(lambda progress: 1)
    assert fine.wait(10) and fine.result == 1 and str(failed.error) == "--crf: too high"


def test_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("utils.page.device_queue.time.monotonic", lambda: now[0])
    ticket = DeviceQueue(1).submit(lambda progress: None)
    ticket.wait(10)
    ticket.progress("dub", 0, 40)
    assert ticket.seconds_left(40) is None
    now[0] += 5
    ticket.progress("dub", 10, 40)
    assert ticket.seconds_left(40) == 15 and ticket.seconds_left(0) is None
