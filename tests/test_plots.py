"""Pictures: that they show what they are given."""

import sys
import warnings

import numpy as np
import pytest

from fnet.training import EpochRecord

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from fnet import plots


def records(valid: bool) -> list[EpochRecord]:
    return [
        EpochRecord(i, 10 * i, True, 1e-3, 1 / i, 1 - 1 / i, 2 / i if valid else None, 0.5 if valid else None, 1.0)
        for i in (1, 2, 3)
    ]


@pytest.mark.parametrize("valid", [True, False])
def test_history_draws_what_there_is(valid: bool) -> None:
    axes = plots.history(records(valid), "loss", title="t", test=0.25 if valid else None).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]  # pyright: ignore[reportOptionalMemberAccess]
    assert labels == (["training", "validation", "test: 0.2500"] if valid else ["training"])
    assert list(np.asarray(axes.lines[0].get_ydata())) == [1.0, 0.5, 1 / 3]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("epoch", "loss", "t")


def test_curves_draws_the_mean() -> None:
    axes = plots.curves({"a": [[1.0, 2.0], [3.0, 4.0]]}, "accuracy").axes[0]
    assert list(np.asarray(axes.lines[0].get_ydata())) == [2.0, 3.0]


def test_study_draws_accuracy_and_loss_side_by_side() -> None:
    figure = plots.study({"a": [[1.0, 2.0], [3.0, 4.0]]}, {"a": [[5.0, 6.0]]}, title="t", legend="l")
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy", "loss"]
    assert [np.asarray(axes.lines[0].get_ydata()).tolist() for axes in figure.axes] == [[2.0, 3.0], [5.0, 6.0]]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert np.asarray(band)[:, 1].max() == pytest.approx(3 + 2**0.5)


def test_confusion_matrix_shows_counts_and_names() -> None:
    axes = plots.confusion_matrix([[3, 1], [0, 2]], ("cat", "dog")).axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_heat_maps_show_numbers_and_leave_out_what_is_none() -> None:
    panels = {"accuracy": [[0.25, 0.5], [np.nan, 1.0]], "loss": [[1.0, 2.0], [3.0, 4.0]]}
    figure = plots.heat_maps(panels, ["a", "b"], ["c", "d"], title="t")
    left, right = figure.axes[:2]
    assert [text.get_text() for text in left.texts] == ["0.2500", "0.5000", "1.0000"]
    assert [text.get_text() for text in right.texts] == ["1.0000", "2.0000", "3.0000", "4.0000"]
    assert [label.get_text() for label in left.get_xticklabels()] == ["c", "d"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["a", "b"]
    assert np.asarray(left.images[0].get_array()).shape == (2, 2)
    assert {axes.get_ylabel() for axes in figure.axes[2:]} == {"accuracy", "loss"}


def test_accuracy_against_time_draws_runs_and_means() -> None:
    axes = plots.accuracy_against_time({"a": ([1.0, 3.0], [0.5, 0.7])}).axes[0]
    assert np.asarray(axes.lines[1].get_xdata()).tolist() == [2.0]
    assert [text.get_text() for text in axes.texts] == ["0"]


def test_text_is_shown_as_it_is() -> None:
    names = ("$^$", "a\x1bb", "x" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.confusion_matrix(np.eye(3), names, title="$^$")
        figure.canvas.draw()
        plots.curves({"$^$": [[1.0, 2.0]]}, "accuracy", title="$^$", legend="$^$").canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["$^$", "a\N{REPLACEMENT CHARACTER}b", "x" * 31 + "…"]


def test_of_many_classes_the_pairs_confused_most_often_are_shown() -> None:
    counts = np.eye(5000, dtype=int)
    counts[7, 9], counts[4999, 0] = 3, 5
    figure = plots.confusion_matrix(counts, range(5000), title="t")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4999 → 0", "7 → 9"]
    assert [bar.get_width() for bar in axes.patches] == [5, 3]  # pyright: ignore[reportAttributeAccessIssue]
    assert axes.get_title() == "t\nthe most frequently confused pairs of 5,000 classes"


def test_many_classes_without_an_error_are_no_error() -> None:
    plots.confusion_matrix(np.eye(101), range(101)).canvas.draw()


def numbers(rows: int, outputs: int = 1) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(rows * outputs, dtype=float).reshape(rows, outputs)
    return y, y + np.where(y % 2, 1.0, -1.0)


def test_predicted_numbers_are_drawn_against_the_true_ones() -> None:
    y, p = numbers(10)
    (axes,) = plots.predicted_against_true(y, p, ["price [EUR]"], title="t", unit="EUR").axes
    line, dots = axes.lines
    assert np.asarray(line.get_xydata()).tolist() == [[-1, -1], [10, 10]]
    assert np.asarray(dots.get_xydata()).tolist() == np.column_stack([y, p]).tolist()
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("true [EUR]", "predicted [EUR]", "price [EUR]")


def test_residuals_are_drawn_against_predicted_numbers() -> None:
    y, p = numbers(10)
    (axes,) = plots.residuals(y, p, ["price"]).axes
    assert np.asarray(axes.lines[1].get_xydata()).tolist() == np.column_stack([p, y - p]).tolist()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true - predicted")


@pytest.mark.parametrize(("outputs", "drawn"), [(2, 2), (4, 4), (8, 6)])
def test_each_output_has_a_panel_up_to_six(outputs: int, drawn: int) -> None:
    figure = plots.residuals(*numbers(5, outputs), [f"$y_{i}" for i in range(outputs)], title="$t")
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes if axes.axison] == [f"$y_{i}" for i in range(drawn)]
    assert ("the first 6 of 8" in str(figure.get_suptitle())) == (outputs == 8)


def test_many_rows_are_counted() -> None:
    y, p = numbers(plots.DOTS + 1)
    axes, bar = plots.predicted_against_true(y, p, ["y"]).axes
    assert len(axes.lines) == 1
    assert axes.collections[0].get_array().sum() == plots.DOTS + 1  # pyright: ignore[reportOptionalMemberAccess]
    assert bar.get_ylabel() == "rows"


def test_numbers_that_are_all_the_same_are_drawn() -> None:
    y = np.zeros((plots.DOTS + 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.predicted_against_true(y, y, ["y"])
        plots.residuals(y[:1], y[:1], ["y"])


def test_history_draws_scores_of_any_name() -> None:
    axes = plots.history(records(True), "RMSE [$_$]", test=1234.5678).axes[0]
    assert list(np.asarray(axes.lines[1].get_ydata())) == [0.5, 0.5, 0.5]
    assert axes.get_ylabel() == "RMSE [$_$]"
    assert axes.get_legend().get_texts()[2].get_text() == "test: 1234.6"  # pyright: ignore[reportOptionalMemberAccess]


def test_a_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="python -m pip install matplotlib"):
        plots.confusion_matrix([[1, 0], [0, 1]], ("a", "b"))
