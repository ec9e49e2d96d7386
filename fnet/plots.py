"""Pictures of runs with matplotlib (the extra `plots`): Chen & Wu's Fig. 5 to 14.

Each function returns a figure, which its `savefig` writes. Titles, names of classes and labels are plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fnet.interop import missing
from fnet.training import EpochRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_against_time",
    "confusion_matrix",
    "curves",
    "heat_maps",
    "history",
    "predicted_against_true",
    "residuals",
    "study",
]

DPI = 150
MAX_CLASSES = 100  # in a legible confusion matrix
PAIRS = 25  # pairs of classes shown if there are more classes
LONGEST = 32  # characters shown of a class name
PANELS = 6  # outputs of a regression that are drawn
DOTS = 2000  # rows drawn as dots; more rows are counted in hexagons


def history(records: Sequence[EpochRecord], metric: str, *, title: str = "", test: float | None = None) -> Figure:
    """Score or loss per epoch, training and validation; Chen & Wu's Fig. 5 and 6.

    Args:
        records: from `fnet.fit`, finished epochs.
        metric: "loss", or the name of the score, such as "accuracy" or "RMSE [EUR]".
        test: the value on the test set after training, drawn as a line.
    """
    figure, axes = _figure(6.4, 4.2)
    epochs = np.array([record.epoch for record in records])
    for split, label, color in (("train", "training", "C0"), ("valid", "validation", "C1")):
        values = [getattr(record, f"{split}_{'loss' if metric == 'loss' else 'score'}") for record in records]
        if any(value is not None for value in values):
            axes.plot(epochs, values, color=color, label=label, marker=".", markersize=4)
    if test is not None:
        axes.axhline(
            test, color="C2", linestyle="--", linewidth=1, label=f"test: {test:{'.4f' if test < 1 else '.5g'}}"
        )
    _label(axes, metric, title)
    _legend(axes)
    return figure


def curves(groups: Mapping[str, npt.ArrayLike], metric: str, *, title: str = "", legend: str = "") -> Figure:
    """One curve per group: the mean over runs, with a band of one standard deviation.

    Args:
        groups: maps labels to values `[runs, epochs]`.
    """
    figure, axes = _figure(6.4, 4.2)
    _draw_curves(axes, groups)
    _label(axes, f"validation {metric}", title)
    _legend(axes, title=legend or None)
    return figure


def study(
    accuracy: Mapping[str, npt.ArrayLike], loss: Mapping[str, npt.ArrayLike], *, title: str = "", legend: str = ""
) -> Figure:
    """Accuracy and loss side by side, each drawn like `curves`; Chen & Wu's Fig. 8 to 14.

    Args:
        accuracy, loss: map labels to values `[runs, epochs]`.
    """
    figure, both = _figure(9.6, 3.8, columns=2)
    for axes, metric, groups in zip(both, ("accuracy", "loss"), (accuracy, loss), strict=True):
        _draw_curves(axes, groups)
        _label(axes, metric, "")
    _legend(both[0], title=legend or None, fontsize="small")
    figure.suptitle(_printable(title), parse_math=False)  # pyright: ignore[reportUnknownMemberType]
    return figure


def accuracy_against_time(points: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, title: str = "") -> Figure:
    """Validation accuracy against training time: the runs of each label and, with a number, their mean.

    Args:
        points: maps labels to (seconds, accuracies) of their runs.
    """
    figure, axes = _figure(7.2, 5)
    for i, (label, (seconds, accuracies)) in enumerate(points.items()):
        color = f"C{i}"
        axes.plot(seconds, accuracies, ".", color=color, alpha=0.5)
        x, y = np.mean(seconds), np.mean(accuracies)
        axes.plot(x, y, "o", color=color, markersize=10, label=f"{i}. {label}")
        axes.annotate(str(i), (x, y), ha="center", va="center", color="white", fontsize=7, fontweight="bold")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("validation accuracy")
    axes.set_title(_printable(title), parse_math=False)
    axes.grid(alpha=0.3)
    _legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def confusion_matrix(matrix: npt.ArrayLike, classes: Sequence[Any], *, title: str = "") -> Figure:
    """The confusion matrix with its numbers, true classes in rows; Chen & Wu's Fig. 7.

    For more than 100 classes, it shows the pairs that are confused most often.

    Args:
        matrix: `[classes, classes]` counts, from `fnet.metrics.confusion_matrix`.
        classes: the names of the classes.
    """
    counts = np.asarray(matrix)
    if len(counts) > MAX_CLASSES:
        return _confused_pairs(counts, classes, title)
    side = min(max(4.5, 0.62 * len(counts) + 1.8), 16)
    figure, axes = _figure(side + 1.2, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(  # pyright: ignore[reportUnknownMemberType]
        image, ax=axes, fraction=0.046, pad=0.04, label="share of the true class"
    )
    names = [_shown(name) for name in classes]
    slant = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 3 else {}
    axes.set_xticks(range(len(names)), names, parse_math=False, **slant)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(_printable(title), parse_math=False)
    if len(counts) <= 25:
        for (i, j), count in np.ndenumerate(counts):
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(count), ha="center", va="center", color=color, fontsize=8)
    return figure


def heat_maps(
    panels: Mapping[str, npt.ArrayLike], rows: Sequence[str], columns: Sequence[str], *, title: str = ""
) -> Figure:
    """Tables of numbers side by side, each number on a color; what is not finite is left white.

    Args:
        panels: what the numbers are, to the `[rows, columns]` numbers.
        rows, columns: their names.
    """
    figure, axes = _figure((1.9 + 0.95 * len(columns)) * len(panels) + 0.6, 1.4 + 0.42 * len(rows), columns=len(panels))
    for ax, (label, values) in zip(np.ravel(axes).tolist(), panels.items(), strict=True):
        numbers = np.ma.masked_invalid(np.asarray(values, np.float64))
        image = ax.imshow(numbers, cmap="viridis", aspect="auto")
        figure.colorbar(image, ax=ax, label=_printable(label))  # pyright: ignore[reportUnknownMemberType]
        ax.set_xticks(range(len(columns)), [_shown(name) for name in columns], parse_math=False)
        ax.set_yticks(range(len(rows)), [_shown(name) for name in rows], parse_math=False)
        for (i, j), number in np.ndenumerate(numbers.filled(np.nan)):
            if np.isfinite(number):
                color = "black" if image.norm(number) > 0.6 else "white"
                ax.text(j, i, f"{number:.4f}", ha="center", va="center", color=color, fontsize=9)
    figure.suptitle(_printable(title), parse_math=False)  # pyright: ignore[reportUnknownMemberType]
    return figure


def _confused_pairs(counts: npt.NDArray[Any], classes: Sequence[Any], title: str) -> Figure:
    errors = np.array(counts)
    np.fill_diagonal(errors, 0)
    rows, columns = np.nonzero(errors)
    most = np.argsort(-errors[rows, columns], kind="stable")[:PAIRS]
    rows, columns = rows[most], columns[most]
    figure, axes = _figure(9.6, max(3.6, 1.8 + 0.26 * len(most)))
    names = [f"{_shown(classes[i])} → {_shown(classes[j])}" for i, j in zip(rows, columns, strict=True)]
    bars = axes.barh(range(len(most)), errors[rows, columns], color="C0")
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(range(len(most)), names, parse_math=False, fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("examples")
    axes.set_ylabel("true class → predicted class")
    axes.set_title(
        _printable(f"{title}\nthe most frequently confused pairs of {len(counts):,} classes"), parse_math=False
    )
    return figure


def predicted_against_true(
    targets: npt.ArrayLike, predictions: npt.ArrayLike, names: Sequence[str], *, title: str = "", unit: str = ""
) -> Figure:
    """Predicted against true numbers, with the line on which they are equal; a panel for each output.

    Args:
        targets, predictions: `[rows, outputs]`.
        names: the names of the outputs; the first 6 are drawn.
        unit: the unit of the targets, such as "EUR".
    """

    def draw(axes: Any, y: npt.NDArray[Any], p: npt.NDArray[Any]) -> None:
        ends = [min(y.min(), p.min()), max(y.max(), p.max())]
        axes.plot(ends, ends, color="C3", linewidth=1)
        _dots(axes, y, p)

    return _panels(draw, targets, predictions, names, title, [_with("true", unit), _with("predicted", unit)])


def residuals(
    targets: npt.ArrayLike, predictions: npt.ArrayLike, names: Sequence[str], *, title: str = "", unit: str = ""
) -> Figure:
    """Residuals, true minus predicted numbers; arguments as for `predicted_against_true`."""

    def draw(axes: Any, y: npt.NDArray[Any], p: npt.NDArray[Any]) -> None:
        axes.axhline(0, color="C3", linewidth=1)
        _dots(axes, p, y - p)

    return _panels(
        draw, targets, predictions, names, title, [_with("predicted", unit), _with("true - predicted", unit)]
    )


def _panels(
    draw: Callable[..., None],
    targets: npt.ArrayLike,
    predictions: npt.ArrayLike,
    names: Sequence[str],
    title: str,
    labels: Sequence[str],
) -> Figure:
    count = min(len(names), PANELS)
    columns = min(count, 3)
    rows = -(-count // columns)
    figure, panels = _figure((4.2 if columns > 1 else 5.6) * columns, 4.4 * rows + 0.4, rows=rows, columns=columns)
    each: list[Any] = np.atleast_1d(panels).ravel().tolist()
    for axes, y, p, name in zip(each, np.transpose(targets), np.transpose(predictions), names, strict=False):
        draw(axes, y, p)
        axes.set_xlabel(labels[0], parse_math=False)
        axes.set_ylabel(labels[1], parse_math=False)
        axes.set_title(_shown(name), parse_math=False)
        axes.grid(alpha=0.3)
    for axes in each[count:]:
        axes.set_axis_off()
    more = f"\nthe first {count} of {len(names):,}" if len(names) > count else ""
    figure.suptitle(_printable(title + more), parse_math=False)  # pyright: ignore[reportUnknownMemberType]
    return figure


def _dots(axes: Any, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
    """A dot for each pair; many pairs are counted in hexagons, darker for more pairs."""
    if len(x) <= DOTS:
        axes.plot(x, y, ".", color="C0", markersize=5, alpha=0.6, markeredgewidth=0)
    else:
        counts = axes.hexbin(x, y, gridsize=60, bins="log", mincnt=1, cmap="viridis", linewidths=0.1)
        axes.figure.colorbar(counts, ax=axes, label="rows")


def _with(label: str, unit: str) -> str:
    return f"{label} [{_printable(unit)}]" if unit else label


def _shown(name: Any) -> str:
    """A class name without characters that no font has, shortened if it is long."""
    text = _printable(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _printable(text: Any) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def _figure(width: float, height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing("a picture", "matplotlib", "plots") from None
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns)


def _draw_curves(axes: Any, groups: Mapping[str, npt.ArrayLike]) -> None:
    for label, runs in groups.items():
        values = np.asarray(runs, np.float64)
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(values) - 1))
        x = list(range(1, values.shape[1] + 1))
        (line,) = axes.plot(x, mean, label=label, linewidth=1.4)
        axes.fill_between(x, mean - spread, mean + spread, color=line.get_color(), alpha=0.2, linewidth=0)


def _legend(axes: Any, **options: Any) -> None:
    legend = axes.legend(**options)
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def _label(axes: Any, metric: str, title: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(_printable(metric), parse_math=False)
    axes.set_title(_printable(title), parse_math=False)
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
