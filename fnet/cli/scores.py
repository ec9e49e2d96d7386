"""The scores of predictions as numbers, text and pictures, for classification, regression and quantiles.

`predicted` are the outputs of `fnet.model.outputs`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fnet import losses, metrics
from fnet.cli.output import say, visible
from fnet.data import Classes
from fnet.interop.source_text import output_names
from fnet.nn import Array
from fnet.params import MLPConfig

__all__ = ["figures", "prediction_cells", "prediction_rows", "said", "score", "table", "unit", "warn_of_formulas"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNIT = re.compile(r"\s[\[(]([^\[\]()]+)[\])]$")
# The scores to print, by the score of an epoch: key in metrics.json, name, and whether it has the unit of the target.
_SAID = {
    "accuracy": (("loss", "loss", False), ("accuracy", "accuracy", False)),
    "rmse": (("rmse", "RMSE", True), ("mae", "MAE", True), ("r2", "R²", False)),
    "coverage": (("pinball_loss", "pinball loss", True), ("coverage", "coverage", False)),
}


def score(config: MLPConfig, predicted: Array, y: Array) -> dict[str, float]:
    """The scores of predictions in the unit of y, and the standard errors of scores that are means."""
    if config.loss == "cross_entropy":
        likelihood = predicted[np.arange(len(y)), y].astype(np.float64)
        each = {
            "loss": np.abs(np.log(np.maximum(likelihood, np.finfo(np.float32).tiny))),  # 0, not -0
            "accuracy": predicted.argmax(axis=1) == y,
        }
        means = {name: float(values.mean()) for name, values in each.items()}
        means["calibration_error"] = metrics.expected_calibration_error(predicted, y)
    elif config.loss == "pinball":
        each = {
            "pinball_loss": losses.pinball_fwd(predicted, y[:, None], config.quantiles)[0],
            "coverage": metrics.example_scores("pinball", predicted, y),
        }
        means = {name: float(values.mean()) for name, values in each.items()}
    else:
        error = y.reshape(len(y), -1) - predicted
        rmse = np.sqrt(np.square(error).mean(axis=0))
        # The square root of the mean m of s has the standard error of the mean of s / (2 sqrt(m)).
        each = {
            "rmse": np.divide(np.square(error), 2 * rmse, out=np.zeros_like(error), where=rmse > 0).mean(axis=1),
            "mae": np.abs(error).mean(axis=1),
        }
        targets = y.reshape(len(y), -1)
        means = {
            "rmse": metrics.root_mean_squared_error(targets, predicted),
            "mae": metrics.mean_absolute_error(targets, predicted),
            "r2": metrics.r2_score(targets, predicted),
        }
    root = np.sqrt(max(len(y) - 1, 1))
    return means | {f"{name}_standard_error": float(values.std() / root) for name, values in each.items()}


def said(config: MLPConfig, scores: Mapping[str, float], unit: str, *, errors: bool = False) -> list[str]:
    """The scores as text, optionally with standard errors."""
    words: list[str] = []
    for key, name, has_unit in _SAID[metrics.score_name(config.loss)]:
        error = f"{key}_standard_error"
        values = [scores[key], *([scores[error]] if errors and error in scores else [])]
        text = " ± ".join(short(value) if has_unit else f"{value:.4f}" for value in values)
        words.append(f"{name} {text}" + (f" {unit}" if has_unit and unit else ""))
    return words


def table(config: MLPConfig, predicted: Array, y: Array, classes: Classes, target: str | None) -> str:
    """The report, with a line for each class, target or quantile."""
    if config.loss == "cross_entropy":
        report = metrics.classification_report(y, predicted.argmax(axis=1), config.num_outputs)
        return metrics.format_report(report, tuple(map(visible, classes)))
    names = titles(config, target)
    targets = np.broadcast_to(y.reshape(len(y), -1), predicted.shape)
    pairs = list(zip(targets.T, predicted.T, strict=True))
    if config.loss == "pinball":
        lines: list[tuple[str, ...]] = [("", "share at or below", "pinball loss")]
        for name, level, (a, p) in zip(names, config.quantiles, pairs, strict=True):
            lines.append((name, f"{(a <= p).mean():.4f}", short(metrics.pinball_loss(a, p[:, None], (level,)))))
    else:
        lines = [("", "RMSE", "MAE", "R²")]
        if len(names) > 1:
            names, pairs = [*names, "mean"], [*pairs, (targets, predicted)]
        for name, pair in zip(names, pairs, strict=True):
            errors = metrics.root_mean_squared_error(*pair), metrics.mean_absolute_error(*pair)
            lines.append((visible(name), *map(short, errors), f"{metrics.r2_score(*pair):.4f}"))
    width = max(12, *(len(line[0]) for line in lines))
    return "\n".join(f"{name:<{width}}" + "".join(f"{cell:>18}" for cell in cells) for name, *cells in lines)


def short(value: float) -> str:
    """A number with about five significant digits.

    >>> short(0.00123456), short(1234567.8)
    ('0.0012346', '1234568')
    """
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:.5g}"


def titles(config: MLPConfig, target: str | None) -> list[str]:
    """The names of the outputs of a regression: targets or quantiles."""
    if config.loss == "pinball":
        return [f"quantile {q:g}" for q in config.quantiles]
    name = target or "target"
    return [name] if config.num_outputs == 1 else [f"{name} {i}" for i in range(1, config.num_outputs + 1)]


def unit(name: str | None) -> str:
    """The unit in the name of a column, or an empty string.

    >>> unit("price [EUR]"), unit("mass (g)"), unit("f(x)")
    ('EUR', 'g', '')
    """
    found = _UNIT.search(name or "")
    return visible(found[1]) if found else ""


# Files ----------------------------------------------------------------------------------------------------------------


def prediction_cells(predicted: Array) -> list[str]:
    """Format a row of numbers with 10 digits, more than the precision of float32."""
    return [f"{value:.10g}" for value in predicted.tolist()]


def prediction_rows(config: MLPConfig, predicted: Array, y: Array, classes: Classes) -> Iterator[list[Any]]:
    """The header and the rows of predictions.csv: true and predicted values."""
    if config.loss == "cross_entropy":
        yield ["row", "label", "prediction", "probability"]
        for row, (truth, guess) in enumerate(zip(y.tolist(), predicted.argmax(axis=1).tolist(), strict=True)):
            yield [row, classes[truth], classes[guess], f"{predicted[row, guess]:.6f}"]
        return
    targets = y.reshape(len(y), -1)
    count = targets.shape[1]
    truths = ["target"] if count == 1 else [f"target_{i}" for i in range(1, count + 1)]
    yield ["row", *truths, *output_names(config)]
    for row, (truth, own) in enumerate(zip(targets.tolist(), predicted, strict=True)):
        yield [row, *truth, *prediction_cells(own)]


def warn_of_formulas(classes: Classes) -> None:
    """Warn of class names that a spreadsheet would evaluate as formulas."""
    formulas = [name for name in classes if isinstance(name, str) and re.match(r"\s*[=+@-](?![\d.]+$)", name)]
    if formulas:
        say("warning", f"a spreadsheet evaluates cells such as {formulas[0]!r} as formulas; import them as text")


def figures(
    config: MLPConfig, predicted: Array, y: Array, classes: Sequence[Any], target: str | None, title: str
) -> "dict[str, Callable[[], Figure]]":
    """The pictures of predictions by name, as functions that draw them."""
    from fnet import plots

    if config.loss == "cross_entropy":

        def draw() -> "Figure":
            matrix = metrics.confusion_matrix(y, predicted.argmax(axis=1), config.num_outputs)
            return plots.confusion_matrix(matrix, classes, title=title)

        return {"confusion_matrix": draw}
    targets = np.broadcast_to(y.reshape(len(y), -1), predicted.shape)
    arguments, options = (targets, predicted, titles(config, target)), {"title": title, "unit": unit(target)}
    return {
        "predicted_against_true": lambda: plots.predicted_against_true(*arguments, **options),
        "residuals": lambda: plots.residuals(*arguments, **options),
    }
