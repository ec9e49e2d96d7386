"""What Chen & Wu left for later: each activation with each optimizer, at equal training time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from findings import ERRORS, FAILED, UNDECIDED, Verdict, compare
from tables import DPI, Table

from fnet import plots
from fnet.cli.output import markdown, mean_and_deviation, write_csv
from fnet.cli.studies import SGD
from fnet.sweep import Failure, Outcome

STUDY, TITLE = "later", "What Chen & Wu left for later"
ACTIVATIONS = {
    "ReLU": "relu",
    "leaky ReLU": "leaky_relu",
    "tanh": "tanh",
    "GELU": "gelu",
    "SiLU": "silu",
    "ELU": "elu",
    "SELU": "selu",
}
# What each changes in the best model. L-BFGS needs a loss that is the same at each call, so neither batches nor noise;
# its batches are rows whose gradient is computed at a time, and decide nothing but the speed.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "SGD": SGD,
    "L-BFGS": {"optimizer": "lbfgs", "batch_norm": False, "dropout": 0.0, "batch_size": 512},
}
NAMED = ("tanh", "leaky ReLU")  # by Chen & Wu: compared with ReLU for each optimizer, the others for Adam
RATES = (5e-4, 2e-3, 1e-2, 5e-2)
WITHOUT_RATE = "L-BFGS"
FIRST = 0  # the seed that chooses; those that follow judge
UNLIMITED = 10**6  # epochs; the time is over before

Pair: TypeAlias = tuple[str, str]  # activation, optimizer
Array: TypeAlias = npt.NDArray[np.float64]

CRITERIA = f"""\
- X is better than Y: in the mean over the judging seeds its accuracy is higher. A difference counts if it is more than
  {ERRORS} standard errors from 0; otherwise it is undecided. The standard error is that of the findings above, with its
  variance pooled over all pairs, or over the optimizers in means over the activations. A lower loss is judged alike.
- X is the best: it is better than the rival with the highest accuracy at seed {FIRST}, which is not a judging seed."""


class Trial(NamedTuple):
    """A run: a pair, its learning rate if it has one, and the seed."""

    pair: Pair
    rate: float | None
    seed: int

    @property
    def label(self) -> str:
        return ", ".join([*self.pair, *([] if self.rate is None else [f"rate {self.rate:g}"])])

    @property
    def name(self) -> str:
        return f"{self.label}, seed {self.seed}"

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes in the best model."""
        activation, optimizer = self.pair
        rate = {} if self.rate is None else {"learning_rate": self.rate}
        return {"activation": ACTIVATIONS[activation], **OPTIMIZERS[optimizer], **rate, "epochs": UNLIMITED}


Trials: TypeAlias = Mapping[Trial, Outcome | Failure]


def seconds(rows: int) -> float:
    """The time of a run on so many rows, in seconds of the processor."""
    return max(1.0, rows / 3750)


def pairs() -> list[Pair]:
    return [(activation, optimizer) for activation in ACTIVATIONS for optimizer in OPTIMIZERS]


def first_trials() -> list[Trial]:
    """Each pair with each learning rate, with the seed that chooses."""
    return [Trial(pair, rate, FIRST) for pair in pairs() for rate in ([None] if pair[1] == WITHOUT_RATE else RATES)]


def judging_trials(first: Trials, seeds: int) -> list[Trial]:
    """Each pair with its learning rate, with the seeds that judge."""
    chosen = choose(first).values()  # seed after seed, so that a busy machine slows all pairs alike
    return [trial._replace(seed=FIRST + 1 + i) for i in range(seeds) for trial in chosen]


def choose(trials: Trials) -> dict[Pair, Trial]:
    """For each pair the trial with the lowest loss; one that failed where all did."""

    def loss(trial: Trial) -> float:
        outcome = trials[trial]
        return np.inf if isinstance(outcome, Failure) else outcome.loss

    first = [trial for trial in trials if trial.seed == FIRST]
    return {pair: min((trial for trial in first if trial.pair == pair), key=loss) for pair in pairs()}


class Chapter(NamedTuple):
    """The results; all but `chosen` of the pairs of which no run failed."""

    chosen: dict[Pair, Trial]
    first: dict[Pair, float]  # accuracy at the seed that chooses
    accuracy: dict[Pair, Array]  # [seeds]
    loss: dict[Pair, Array]  # [seeds]
    epochs: dict[Pair, float]  # mean over the seeds


def chapter(trials: Trials) -> Chapter:
    """The results of all trials, those that choose and those that judge."""
    results = Chapter(choose(trials), {}, {}, {}, {})
    for pair, chosen in results.chosen.items():
        outcomes = [trials[t] for t in trials if t.pair == pair and (t.seed != FIRST or t == chosen)]
        good = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
        if len(good) == len(outcomes):
            results.first[pair] = good[0].accuracy
            results.accuracy[pair] = np.array([outcome.accuracy for outcome in good[1:]])
            results.loss[pair] = np.array([outcome.loss for outcome in good[1:]])
            results.epochs[pair] = float(np.mean([len(outcome.records) for outcome in good[1:]]))
    return results


# Findings -------------------------------------------------------------------------------------------------------------


def find(results: Chapter) -> list[tuple[str, str, str]]:
    """Claims, each with what is measured here and the verdict."""
    theirs = ("ReLU", "Adam")
    checks: list[tuple[str, Verdict]] = [
        ("With Adam, ReLU is the best activation", best(results, theirs, [(a, "Adam") for a in ACTIVATIONS])),
        ("With ReLU, Adam is the best optimizer", best(results, theirs, [("ReLU", o) for o in OPTIMIZERS])),
    ]
    for activation in [a for a in ACTIVATIONS if a != "ReLU"]:
        for o in OPTIMIZERS if activation in NAMED else ["Adam"]:
            claim = f"With {o}, {activation} is better than ReLU"
            checks.append((claim, best(results, (activation, o), [("ReLU", o)])))
    for loss in (False, True):
        for o, other in (("Adam", "SGD"), ("Adam", "L-BFGS"), ("SGD", "L-BFGS")):
            claim = f"{o} {'has a lower loss' if loss else 'is better'} than {other}, mean over the activations"
            checks.append((claim, better(results, o, other, loss=loss)))
    if theirs in results.first:
        pair = max(results.first, key=lambda pair: results.first[pair])
        claim = f"The best pair at seed {FIRST}, {pair[0]} with {pair[1]}, is better than ReLU with Adam"
        checks.append((claim, ("it is that pair", UNDECIDED) if pair == theirs else best(results, pair, [theirs])))
    return [(claim, *verdict) for claim, verdict in checks]


def best(results: Chapter, claimed: Pair, others: Sequence[Pair]) -> Verdict:
    """Whether a pair is better than the one of the others that the first seed prefers."""
    if not {claimed, *others} <= set(results.accuracy):
        return FAILED
    rival = max((pair for pair in others if pair != claimed), key=lambda pair: results.first[pair])
    scores = {" with ".join(pair): values for pair, values in results.accuracy.items()}
    higher, lower = " with ".join(claimed), " with ".join(rival)
    return compare(f"{higher} - {lower}:", scores, higher, lower)


def better(results: Chapter, optimizer: str, other: str, *, loss: bool) -> Verdict:
    """Whether an optimizer is better than another, in the mean over the activations."""
    values = results.loss if loss else results.accuracy
    if set(values) != set(pairs()):
        return FAILED
    scores = {o: np.mean([values[a, o] for a in ACTIVATIONS], axis=0) for o in OPTIMIZERS}
    return compare(f"{optimizer} - {other}:", scores, optimizer, other, loss=loss)


# What is written ------------------------------------------------------------------------------------------------------


def text(out: Path, results: Chapter, name: str, limit: float) -> list[str]:
    """The paragraphs of the chapter, and all that it shows as CSV and PNG."""
    rates = [trial.rate for trial in results.chosen.values() if trial.rate is not None]
    ends = sum(rate in (RATES[0], RATES[-1]) for rate in rates)
    judged, (header, rows) = find(results), table(results)
    write_csv(out / "later_findings.csv", ("claim", "here", "verdict"), judged)
    write_csv(out / "later.csv", header, rows)
    paragraphs = [
        f"## {TITLE}",
        "Their conclusion names the next studies: other activations with other optimizers. Here every activation is "
        f"combined with every optimizer in the best model. Each run trains for {limit:g} s of processor time, with one "
        "thread. SGD has momentum 0.9 and weight decay 1e-4. L-BFGS computes the gradient of all rows and needs a loss "
        "that is the same at each call, so its networks have no batch norm and no dropout; its epochs are iterations.",
        f"For each activation, Adam and SGD use the learning rate from {', '.join(f'{rate:g}' for rate in RATES)} with "
        f"the lowest loss on the validation rows at seed {FIRST}; {ends} of the {len(rates)} chosen are at an end of "
        "this list. The results are of the seeds that follow, the judging seeds, on the same validation rows.",
        markdown(["", "here", ""], [(claim, here, f"**{verdict}**") for claim, here, verdict in judged]),
        "The criteria:",
        CRITERIA,
        markdown(header, rows),
        "Epochs: those begun in the time, mean over the seeds.",
    ]
    try:
        return paragraphs + draw(out, results, name)
    except ImportError:  # the figures above say so
        return paragraphs


def table(results: Chapter) -> Table:
    header = ["activation", "optimizer", "learning rate", "accuracy", "loss", "epochs"]
    rows: list[list[Any]] = []
    for pair, trial in results.chosen.items():
        row = [*pair, "" if trial.rate is None else f"{trial.rate:g}"]
        if pair in results.accuracy:
            means = [mean_and_deviation(values[pair].tolist(), 4) for values in (results.accuracy, results.loss)]
            rows.append([*row, *means, f"{results.epochs[pair]:.0f}"])
        else:
            rows.append([*row, "a run failed", "", ""])
    return header, rows


def draw(out: Path, results: Chapter, name: str) -> list[str]:
    """Draw the heat maps, and return the paragraphs that show them."""

    def cells(values: Mapping[Pair, Array], statistic: Callable[[Array], float]) -> Array:
        return np.array(
            [[statistic(values[a, o]) if (a, o) in values else np.nan for o in OPTIMIZERS] for a in ACTIVATIONS]
        )

    def mean(values: Array) -> float:
        return float(values.mean())

    def deviation(values: Array) -> float:
        return float(values.std(ddof=1)) if len(values) > 1 else np.nan

    scores = {"accuracy": results.accuracy, "loss": results.loss}
    pictures = {what: {what: cells(values, mean)} for what, values in scores.items()}
    pictures["spread"] = {f"spread of {what}": cells(values, deviation) for what, values in scores.items()}
    paragraphs: list[str] = []
    for what, panels in pictures.items():
        file, of = f"later_{what}.png", "standard deviation over the seeds" if what == "spread" else what
        title = f"{name}, validation rows: {of}"
        plots.heat_maps(panels, list(ACTIVATIONS), list(OPTIMIZERS), title=title).savefig(out / file, dpi=DPI)
        paragraphs += [f"{of[0].upper()}{of[1:]}:", f"![{of}]({file})"]
    return paragraphs
