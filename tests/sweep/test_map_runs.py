"""The loop that has tasks done by executors: good ones, slow ones and those that break."""

import itertools
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

import pytest

from fnet.sweep import Failure, map_runs


def square(x: int) -> int:
    if x < 0:
        raise ArithmeticError(f"no {x}")
    return x * x


class Fake(Executor):
    """Has `backlog` tasks at a time, and finishes the newest first; breaks like a pool of processes on a deadly one."""

    def __init__(self, deadly: Callable[[int], bool] = lambda task: False, backlog: int = 3) -> None:
        self.deadly, self.backlog = deadly, backlog
        self.queue: list[tuple[Future[Any], Callable[..., Any], Any]] = []
        self.broken = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("the pool is broken")
        executor = self

        class Lazy(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                if not self.done():
                    executor.work()
                return super().result(timeout)

        future = Lazy()
        self.queue.append((future, fn, args[0]))
        return future

    def work(self) -> None:
        future, fn, task = self.queue.pop()
        if not self.deadly(task):
            future.set_result(fn(task))
            return
        self.broken = True
        for lost, _, _ in [(future, fn, task), *self.queue]:
            lost.set_exception(BrokenExecutor("a worker died"))
        self.queue.clear()


@pytest.mark.parametrize("in_flight", [1, 2, 5, 100])
def test_all_results_in_any_order(in_flight: int) -> None:
    results = list(map_runs(Fake, square, list(range(10)), in_flight=in_flight))
    assert dict(results) == {i: i * i for i in range(10)}
    if in_flight > 1:
        assert [i for i, _ in results] != list(range(10))


def test_an_exception_is_reported_and_the_rest_goes_on() -> None:
    results = dict(map_runs(Fake, square, [2, -1, 3], in_flight=2))
    assert results == {0: 4, 1: Failure("ArithmeticError: no -1", lost=False), 2: 9}


def test_tasks_of_a_broken_executor_are_tried_again() -> None:
    deaths = iter([True, False, True])
    made: list[Fake] = []

    def make() -> Fake:
        made.append(Fake(lambda task: task == 5 and next(deaths, False)))
        return made[-1]

    results = dict(map_runs(make, square, list(range(10)), in_flight=4))
    assert results == {i: i * i for i in range(10)}
    assert len(made) == 2


@pytest.mark.parametrize("in_flight", [1, 4])
def test_only_the_task_that_kills_its_worker_is_given_up(in_flight: int) -> None:
    tries: list[int] = []

    def deadly(task: int) -> bool:
        tries.append(task)
        return task == 5

    results = dict(map_runs(lambda: Fake(deadly), square, list(range(10)), in_flight=in_flight, retries=2))
    assert results.pop(5) == Failure("BrokenExecutor: a worker died", lost=True)
    assert results == {i: i * i for i in range(10) if i != 5}
    assert tries.count(5) == (3 if in_flight == 1 else 4)


def test_nothing_is_made_for_no_tasks() -> None:
    def make() -> Executor:
        raise AssertionError

    assert list(map_runs(make, square, [], in_flight=1)) == []


def test_an_executor_that_cannot_be_made_is_an_error() -> None:
    def make() -> Executor:
        raise OSError("no scheduler there")

    with pytest.raises(OSError, match="no scheduler there"):
        list(map_runs(make, square, [1], in_flight=1))


@pytest.mark.parametrize("numbers", [{"in_flight": 0}, {"in_flight": 1, "retries": -1}])
def test_wrong_numbers_are_errors(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="in_flight must be at least 1"):
        list(map_runs(Fake, square, [1], **numbers))


def test_a_loop_that_is_left_shuts_the_executor_down() -> None:
    closed: list[bool] = []

    class Watched(Fake):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            closed.append(wait)

    assert len(list(itertools.islice(map_runs(Watched, square, [1, 2, 3], in_flight=3), 1))) == 1
    assert closed == [False]
    assert len(list(map_runs(Watched, square, [1, 2, 3], in_flight=3))) == 3
    assert closed == [False, True]
