"""Search spaces, and the loop that has tasks done by executors: good ones, slow ones and those that break."""

import itertools
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

import pytest

import fnet
from fnet import sweep
from fnet.sweep import Failure, Range, map_runs

# Search spaces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=64,128", (64, 128)),
        ("a=0.5, 1e-3", (0.5, 1e-3)),
        ("a=true,none,relu,64x32", (True, None, "relu", "64x32")),
        ("a=7", (7,)),
        ("a=1e-4..1e-2:log:3", (1e-4, 1e-3, 1e-2)),
        ("a=0..0.5:3", (0.0, 0.25, 0.5)),
        ("a=1..4:4", (1, 2, 3, 4)),
        ("a=1..3:9", (1, 2, 3)),
        ("a=16..256:log:3", (16, 64, 256)),
        ("a=1e-4..1e-2:log", Range(1e-4, 1e-2, log=True)),
        ("a=1..5", Range(1, 5)),
        ("a=-1..1", Range(-1, 1)),
    ],
)
def test_parse_space(text: str, expected: Any) -> None:
    assert sweep.parse_space([text]) == {"a": expected}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["hidden"], "expected NAME=VALUES such as hidden=64,128,256, but got 'hidden'"),
        (["hidden="], "expected NAME=VALUES"),
        (["2=3"], "expected NAME=VALUES"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=1,,2"], "a=1,,2 has an empty value"),
        (["a=1,2,1"], "a=1,2,1 has a value twice"),
        (["a=1..2:3:4"], "expected a=LOW..HIGH"),
        (["a=1..2:lin"], "expected a=LOW..HIGH"),
        (["a=1..2:1"], "NUMBER of 2 or more"),
        (["a=1..2:log:x"], "NUMBER of 2 or more"),
        (["a=1..b"], "must be numbers"),
        (["a=1..inf"], "must be numbers"),
        (["a=2..1"], "from a smaller to a larger number"),
        (["a=0..1:log"], "above 0"),
    ],
)
def test_a_wrong_space_is_an_error(specs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep.parse_space(specs)


def test_grid_has_all_combinations() -> None:
    assert sweep.grid({"a": (1, 2), "b": (3,)}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    five = sweep.grid({"rate": Range(1e-4, 1e-2, log=True), "layers": Range(1, 3)})
    assert [c["rate"] for c in five[::3]] == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])
    assert [c["layers"] for c in five[:3]] == [1, 2, 3]
    assert len(five) == 15


def test_random_search_draws_from_the_whole_space() -> None:
    space = {"rate": Range(1e-4, 1e-2, log=True), "layers": Range(1, 3), "width": Range(8, 32, log=True), "x": ("a", 0)}
    drawn = sweep.random_search(fnet.random.key(0), space, 200)
    assert drawn == sweep.random_search(fnet.random.key(0), space, 200)
    assert drawn[:50] == sweep.random_search(fnet.random.key(0), space, 50)
    assert drawn != sweep.random_search(fnet.random.key(1), space, 200)
    rates = [d["rate"] for d in drawn]
    assert 1e-4 <= min(rates) < 1.3e-4
    assert 7e-3 < max(rates) <= 1e-2
    assert 60 < sum(rate < 1e-3 for rate in rates) < 140
    assert {d["layers"] for d in drawn} == {1, 2, 3}
    assert {d["x"] for d in drawn} == {"a", 0}
    assert all(isinstance(d["width"], int) and 8 <= d["width"] <= 32 for d in drawn)
    assert all(float(f"{rate:.4g}") == rate for rate in rates)


def test_random_combinations_are_different() -> None:
    space = {"a": (1, 2), "b": (1, 2, 3)}
    drawn = sweep.random_search(fnet.random.key(0), space, 6)
    assert sorted(drawn, key=str) == sorted(sweep.grid(space), key=str)
    with pytest.raises(ValueError, match="too few combinations for 7"):
        sweep.random_search(fnet.random.key(0), space, 7)


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values to draw rate from"):
        sweep.random_search(fnet.random.key(0), {"rate": ()}, 1)


def test_content_hash_is_of_the_content() -> None:
    assert sweep.content_hash({"a": 1, "b": [0.1]}) == sweep.content_hash({"b": [0.1], "a": 1}) == "9db07c1c542df6e3"
    assert sweep.content_hash({"a": 1}) != sweep.content_hash({"a": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        sweep.content_hash(float("nan"))


# Running --------------------------------------------------------------------------------------------------------------


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
    found = list(map_runs(Fake, square, list(range(10)), in_flight=in_flight))
    assert dict(found) == {i: i * i for i in range(10)}
    if in_flight > 1:
        assert [i for i, _ in found] != list(range(10))


def test_an_exception_is_reported_and_the_rest_goes_on() -> None:
    found = dict(map_runs(Fake, square, [2, -1, 3], in_flight=2))
    assert found == {0: 4, 1: Failure("ArithmeticError: no -1", lost=False), 2: 9}


def test_tasks_of_a_broken_executor_are_tried_again() -> None:
    deaths = iter([True, False, True])
    made: list[Fake] = []

    def make() -> Fake:
        made.append(Fake(lambda task: task == 5 and next(deaths, False)))
        return made[-1]

    found = dict(map_runs(make, square, list(range(10)), in_flight=4))
    assert found == {i: i * i for i in range(10)}
    assert len(made) == 2


@pytest.mark.parametrize("in_flight", [1, 4])
def test_only_the_task_that_kills_its_worker_is_given_up(in_flight: int) -> None:
    tries: list[int] = []

    def deadly(task: int) -> bool:
        tries.append(task)
        return task == 5

    found = dict(map_runs(lambda: Fake(deadly), square, list(range(10)), in_flight=in_flight, retries=2))
    assert found.pop(5) == Failure("BrokenExecutor: a worker died", lost=True)
    assert found == {i: i * i for i in range(10) if i != 5}
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
    with pytest.raises(ValueError, match="expected in_flight of 1 or more"):
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


def test_rounding_does_not_leave_the_range() -> None:
    space = {"rate": sweep.Range(0.12344, 0.12366)}
    drawn = [sweep.random_search(fnet.random.key(i), space, 1)[0]["rate"] for i in range(50)]
    assert all(0.12344 <= value <= 0.12366 for value in drawn)
