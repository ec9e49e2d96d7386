"""The files of a finished run."""

import dataclasses
import io
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fnet
from fnet import TrainState, calibration, losses, model
from fnet.checkpoint import write_atomically
from fnet.cli import scores
from fnet.cli.job import Job, member_data, out_of_fold
from fnet.cli.output import json_like, say, write_csv, write_json
from fnet.model import Model
from fnet.nn import Array
from fnet.params import Params, State
from fnet.training import EpochRecord

__all__ = ["Trained", "make_model", "run_name", "write_results"]

MAX_SHOWN = 100  # classes listed in the terminal


class Trained(NamedTuple):
    """A trained network and the records of its training."""

    train_state: TrainState
    records: list[EpochRecord]


def write_results(
    job: Job, out: Path, trained: Sequence[Trained], *, pictures: bool, tensorboard_to: Path | None
) -> str:
    """Evaluate the trained networks on every split, write all results, and return the report to print."""
    classifier = make_model(job, trained)
    model.save_model(out / "model.npz", classifier)
    data, config = job.data, job.config
    splits = {"train": data.train, "valid": data.valid, "test": data.test}
    predicted = {split: model.outputs(classifier, d.x) for split, d in splits.items() if d is not None}
    if job.folds is not None:
        splits["valid"], predicted["valid"] = data.train, out_of_fold_outputs(job, classifier)
    if job.calibrate and data.scale is None:
        predicted["valid"] = cross_fitted(*held_out(job, classifier.members))
    results: dict[str, Any] = {
        split: None if d is None else scores.score(config, predicted[split], d.y) for split, d in splits.items()
    }
    results["epochs"] = [len(t.records) for t in trained]
    if job.train_config.optimizer == "lbfgs":
        results["converged"] = [t.records[-1].converged for t in trained]
    results["parameters"] = fnet.num_params(config) * job.networks
    results["seconds_per_epoch"] = statistics.median(record.seconds for t in trained for record in t.records)
    shown = next(split for split in ("test", "valid", "train") if split in predicted)
    dataset = splits[shown]
    assert dataset is not None
    table = scores.table(config, predicted[shown], dataset.y, data.classes, data.target)
    head, foot = f"{shown} data{how_judged(job, shown)}\n\n", f"\n\n{score_lines(job, results)}"
    write_history(out / "history.csv", job, trained)
    write_atomically(out / "report.txt", f"{head}{table}{foot}".encode())
    header, *rows = scores.prediction_rows(config, predicted[shown], dataset.y, data.classes)
    write_csv(out / "predictions.csv", header, rows)
    scores.warn_of_formulas(data.classes)
    write_json(out / "metrics.json", results)
    # Pictures come last, so that a failure loses no results.
    title = f"{data.name}: {shown} data, {', '.join(_said(job, results[shown]))}"
    figures = scores.figures(config, predicted[shown], dataset.y, data.classes, data.target, title)
    if pictures:
        draw(out, trained[0].records, results["test"], job, figures)
    if tensorboard_to is not None:
        from fnet.interop import tensorboard

        for name, figure in figures.items():
            tensorboard.add_figure(tensorboard_to, run_name(out), name, figure(), step=max(results["epochs"]))
    if len(data.classes) > MAX_SHOWN:
        header, averages = table.split("\n")[0], table.split("\n\n")[-1]
        table = f"{header}\n{averages}\n\nreport.txt lists all {len(data.classes):,} classes"
    return f"{head}{table}{foot}"


def make_model(job: Job, trained: Sequence[Trained]) -> Model:
    """The model of the trained networks, with calibrated probabilities or quantiles if the job asks for it."""
    data, config = job.data, job.config
    members = tuple(fnet.final_model(t.train_state, job.train_config) for t in trained)
    temperature = 1.0
    if job.calibrate:
        logits, y = held_out(job, members)
        if data.scale is None:
            temperature = calibration.safe_temperature(logits, y)
        else:
            quantiles = logits if job.folds is not None else logits.mean(axis=0)
            shifts = calibration.fit_quantile_shifts(quantiles, y[:, 0], config.quantiles)
            members = tuple((shifted(params, shifts), state) for params, state in members)
    provenance = {
        "training": json_like(dataclasses.asdict(job.train_config)),
        "seed": job.seed,
        "engine": job.engine,
        "epochs": [len(t.records) for t in trained],
        "data": {"name": data.name, "rows": len(data.train.y)},
        "versions": {"fnet": fnet.__version__, "numpy": np.__version__},
    }
    return Model(
        config,
        members,
        data.standardizer,
        data.classes,
        temperature=temperature,
        provenance=provenance,
        encoder=data.encoder,
        target=data.target,
        scale=data.scale,
    )


def how_judged(job: Job, split: str) -> str:
    """A note for the title of a split whose scores are not those of the model on new rows."""
    if split != "valid":
        return ""
    network = ", rows predicted by the network that did not see them" if job.folds is not None else ""
    quantiles = ", on which the quantiles were calibrated: see --test" if job.config.quantiles else ""
    return network + (quantiles if job.calibrate else "")


def held_out(job: Job, members: Sequence[tuple[Params, State]]) -> tuple[Array, Array]:
    """Logits of the rows that are not trained on, and their targets.

    The logits are `[networks, rows, outputs]` on the validation data; with folds `[rows, outputs]` of all rows, each
    by the network that leaves it out.
    """
    datasets = [dataset for i in range(job.networks) if (dataset := member_data(job, i)[1]) is not None]
    logits = [
        fnet.evaluate(job.config, *member, dataset, transform=job.data.transform).logits
        for member, dataset in zip(members, datasets, strict=True)
    ]
    if job.folds is None:
        return np.stack(logits), datasets[0].y
    order = np.argsort(np.argsort(job.folds, kind="stable"))  # from fold after fold to that of the rows
    return np.concatenate(logits)[order], np.concatenate([dataset.y for dataset in datasets])[order]


def cross_fitted(logits: Array, y: Array) -> Array:
    """The probabilities `[rows, classes]` of rows, each by the temperature that is fitted without it."""
    temperatures = calibration.cross_fitted_temperatures(logits, y).astype(logits.dtype)
    p = losses.softmax(logits / temperatures[:, None])
    return p if p.ndim == 2 else p.mean(axis=0)


def shifted(params: Params, shifts: Array) -> Params:
    """The network with shifted outputs."""
    linear = params[-1].linear
    assert linear.b is not None
    return (*params[:-1], params[-1]._replace(linear=linear._replace(b=(linear.b + shifts).astype(linear.b.dtype))))


def run_name(out: Path) -> str:
    """The name of a run in TensorBoard."""
    return out.resolve().name


def out_of_fold_outputs(job: Job, whole: Model) -> Array:
    """The outputs for the training rows, each from the network that did not see it."""
    dtype = job.config.dtype if job.data.scale is None else np.float64
    predicted = np.empty((len(job.data.train.y), job.config.num_outputs), dtype)
    for i, member in enumerate(whole.members):
        predicted[job.folds == i] = model.outputs(whole._replace(members=(member,)), out_of_fold(job, i).x)
    return predicted


def score_lines(job: Job, results: Mapping[str, Any]) -> str:
    """A line per split; with standard errors for out-of-fold predictions."""
    return "".join(
        f"{split:<6} {'   '.join(_said(job, results[split], errors=split == 'valid' and job.folds is not None))}\n"
        for split in ("train", "valid", "test")
        if results[split] is not None
    )


def _said(job: Job, values: Mapping[str, float], *, errors: bool = False) -> list[str]:
    return scores.said(job.config, values, scores.unit(job.data.target), errors=errors)


def write_history(path: Path, job: Job, trained: Sequence[Trained]) -> None:
    """Write the records without times, so that equal runs write equal bytes."""
    unused = "learning_rate" if job.train_config.optimizer == "lbfgs" else "gradient"
    names = [name for name in EpochRecord._fields if name not in ("finished", "seconds", "converged", unused)]
    header = [name.replace("score", job.score) for name in names]
    rows = [[i, *(getattr(record, name) for name in names)] for i, t in enumerate(trained) for record in t.records]
    write_csv(path, ["network", *header], rows)


def draw(
    out: Path,
    records: Sequence[EpochRecord],
    test: Mapping[str, float] | None,
    job: Job,
    figures: Mapping[str, Callable[[], Any]],
) -> None:
    """Draw the pictures; a failure is reported in one line."""
    from fnet import plots

    name = job.data.name
    label = f"RMSE [{unit}]" if job.score == "rmse" and (unit := scores.unit(job.data.target)) else job.score

    def save(metric: str, figure: Any) -> None:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_atomically(out / f"{metric}.png", png.getvalue())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for example about characters missing from the font
        try:
            for metric, text in ((job.score, label), ("loss", "loss")):
                line = None if test is None else test.get(metric)
                save(metric, plots.history(records, text, title=f"{name}: {metric}", test=line))
            for metric, drawn in figures.items():
                save(metric, drawn())
        except ImportError as error:
            say("note", f"no pictures: {error}")
        except Exception as error:
            say("warning", f"a picture could not be drawn: {type(error).__name__}: {error}")
