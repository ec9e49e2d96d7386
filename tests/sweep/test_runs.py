"""What a run is, what is kept of it, and that no run is trained twice."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fnet
from fnet import MLPConfig, TrainConfig, sweep
from fnet.sweep import Failure, Outcome, Run, Splits, runs
from fnet.sweep.runs import content_hash, estimate, train

CONFIG, TRAIN_CONFIG = MLPConfig(sizes=(4, 8, 3)), TrainConfig(epochs=2, batch_size=16)


def source() -> Splits:
    whole = fnet.data.synthetic(fnet.random.key(7), 90, 4, 3)
    rows, valid = fnet.data.train_test_split(fnet.random.key(8), whole, 30)
    return Splits(rows, valid, fnet.fit_standardizer(rows.x))


def whitened() -> Splits:
    splits = source()
    return splits._replace(standardizer=fnet.fit_standardizer(splits.train.x, whitening=0.5))


@pytest.fixture
def run() -> Run:
    return sweep.make_run(source, CONFIG, TRAIN_CONFIG)


@pytest.fixture
def run_all(tmp_path: Path) -> Callable[..., list[Outcome | Failure]]:
    """Have runs trained in this process, with their files in tmp_path."""

    def run_them(*them: Run, quiet: bool = True) -> list[Outcome | Failure]:
        with sweep.open_pool("serial") as pool:
            assert pool is not None
            return sweep.run_all(them, [f"run {i}" for i in range(len(them))], pool, tmp_path, quiet=quiet)

    return run_them


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that are trained, in their order."""
    calls: list[Run] = []

    def count(run: Run) -> Outcome:
        calls.append(run)
        return train(run)

    monkeypatch.setattr(runs, "train", count)
    return calls


def test_content_hash_is_of_the_content() -> None:
    assert content_hash({"a": 1, "b": [0.1]}) == content_hash({"b": [0.1], "a": 1}) == "9db07c1c542df6e3"
    assert content_hash({"a": 1}) != content_hash({"a": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        content_hash(float("nan"))


def test_an_outcome_is_that_of_run_and_evaluate(run: Run) -> None:
    rows, valid, standardizer, _ = source()

    def transform(x: Any) -> Any:
        return fnet.standardize(standardizer, x)

    params, state, records = fnet.run(CONFIG, TRAIN_CONFIG, rows, valid, key=fnet.random.key(0), transform=transform)
    expected = fnet.evaluate(CONFIG, params, state, valid, transform=transform)
    outcome = train(run)
    assert (outcome.loss, outcome.accuracy) == (expected.loss, expected.accuracy)
    assert [r._replace(seconds=0) for r in outcome.records] == [r._replace(seconds=0) for r in records]
    assert outcome.seconds == pytest.approx(sum(record.seconds for record in outcome.records))
    assert np.sum(outcome.confusion_matrix) == 30
    assert np.trace(outcome.confusion_matrix) == round(30 * outcome.accuracy)
    assert outcome.parameters == fnet.num_params(CONFIG)


def test_a_run_with_a_limit_ends_when_the_processor_has_worked_so_long(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()  # a second for each call: at the beginning, after each step and each epoch
    monkeypatch.setattr(runs.time, "process_time", lambda: float(next(clock)))
    outcome = train(run._replace(seconds=6.0, train_config=TrainConfig(epochs=1000, batch_size=16)))
    assert [(record.step, record.finished) for record in outcome.records] == [(4, True), (5, False)]
    assert all(record.valid_loss is None for record in outcome.records), "evaluation takes none of the time"
    assert 0 < outcome.accuracy <= 1
    assert len(train(run._replace(seconds=1e6)).records) == run.train_config.epochs


def test_the_file_of_a_run_is_named_by_all_that_decides_its_outcome(run: Run, tmp_path: Path) -> None:
    others = [
        sweep.make_run(source, MLPConfig(sizes=(4, 9, 3)), TRAIN_CONFIG),
        sweep.make_run(source, CONFIG, TrainConfig(epochs=3, batch_size=16)),
        sweep.make_run(source, CONFIG, TRAIN_CONFIG, seed=1),
        sweep.make_run(source, CONFIG, TRAIN_CONFIG, engine="numba"),
        sweep.make_run(whitened, CONFIG, TRAIN_CONFIG),
        run._replace(versions={**run.versions, "fnet": "other"}),
        run._replace(seconds=1.0),
        run._replace(seconds=2.0),
    ]
    assert len({other.path(tmp_path) for other in (run, *others)}) == 9
    assert sweep.make_run(source, CONFIG, TRAIN_CONFIG).path(tmp_path) == run.path(tmp_path)


def test_a_worker_with_other_data_or_versions_refuses(run: Run) -> None:
    with pytest.raises(RuntimeError, match="this worker reads other data"):
        train(run._replace(fingerprint="0" * 16))
    with pytest.raises(RuntimeError, match="but the sweep was started with"):
        train(run._replace(versions={"fnet": "0", "numpy": "0"}))


def test_finished_and_equal_runs_are_not_trained_again(
    run: Run, run_all: Callable[..., Any], trained: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    other = run._replace(seed=1)
    first = run_all(run, other, run)
    assert trained == [run, other]
    assert first[0] == first[2] != first[1]
    third = run._replace(seed=2)
    assert run_all(other, run, third)[:2] == [first[1], first[0]]
    assert trained == [run, other, third]
    assert capsys.readouterr() == ("", "")


def test_a_damaged_file_is_named_and_its_run_made_again(
    run: Run, run_all: Callable[..., Any], trained: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    them = [run, run._replace(seed=1)]
    first = run_all(*them)
    cut, forged = (one.path(tmp_path) for one in them)
    cut.write_bytes(cut.read_bytes()[:-9])
    forged.write_text(forged.read_text().replace('"score": 0.', '"score": 0.9'))
    again = run_all(*them)
    assert len(trained) == 4
    assert [outcome.loss for outcome in again] == [outcome.loss for outcome in first]
    errors = capsys.readouterr().err
    assert all(f"{path} is damaged" in errors for path in (cut, forged))


def test_a_run_that_fails_is_shown_and_not_kept(
    run: Run, run_all: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = run._replace(train_config=TrainConfig(epochs=2, batch_size=16, optimizer="sgd", learning_rate=1e30))
    failure, outcome = run_all(bad, run, quiet=False)
    assert failure.error.startswith(("NonFiniteLossError: ", "ValueError: the loss on the validation rows"))
    assert not failure.lost
    assert outcome.accuracy > 0.3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/2] run 0: failed, ")
    assert lines[1].startswith(f"[2/2] run 1: accuracy {outcome.accuracy:.4f}, loss ")
    assert [path.name for path in tmp_path.iterdir()] == [run.path(tmp_path).name]


def test_an_estimate_grows_with_the_epochs(run: Run) -> None:
    many = run._replace(train_config=TrainConfig(epochs=2000, batch_size=16))
    few_seconds, many_seconds = (estimate(each, key=fnet.random.key(0), limit=0.02) for each in (run, many))
    assert 0 < 10 * few_seconds < many_seconds < 1000
