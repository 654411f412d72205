"""Limits, and the lock with a bounded queue."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip(
    "relkt.app", reason="its packages are not installed: pip install 'relkt[app]'", exc_type=ImportError
)

from relkt.app.limits import BoundedLock, BusyError, Limits


def test_the_queue_is_bounded() -> None:
    lock = BoundedLock(waiting=1)
    entered, leave, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with lock.hold():
            entered.set()
            leave.wait(10)
            order.append("first")

    def second() -> None:
        with lock.hold():
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    while lock._places._value:  # until the second thread waits
        pass
    with pytest.raises(BusyError, match="1 questions are already waiting"), lock.hold():
        order.append("third")
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


def test_an_error_releases_the_lock() -> None:
    lock = BoundedLock(waiting=1)
    for _ in range(3):
        with pytest.raises(KeyError), lock.hold():
            raise KeyError
    with lock.hold():
        pass


@pytest.mark.parametrize("name", ["question_characters", "results", "body_bytes", "waiting", "connections"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
        Limits(**{name: 0})
