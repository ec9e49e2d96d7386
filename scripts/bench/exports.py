"""Time and size of a model as a Python file and as a C header, compared with ONNX Runtime and `fnet.model.predict`.

    python scripts/bench/exports.py --results scripts/bench/results.md

A network 64-64-64-10 with batch norm, in one thread. Time is per row: of 10,000 rows in one call (in C in a loop), and
of one row in a call of its own; the median of `--repeat` rounds, in turns. In C both are the same. What is measured is
printed as a section of Markdown, which --results FILE puts into that file; how C stands to the limits set for it is
written to the standard error.
"""

import argparse
import ctypes
import datetime
import functools
import importlib.metadata
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import KERNELS, THREADS, pin
from report import Report, machine

os.environ |= dict.fromkeys(THREADS, "1")
for name in KERNELS:
    os.environ.pop(name, None)
pin()

import numpy as np  # noqa: E402

import fnet  # noqa: E402
from fnet import MLPConfig, model  # noqa: E402
from fnet.data import Standardizer  # noqa: E402
from fnet.interop.c_source import save_c  # noqa: E402
from fnet.interop.python_source import save_python  # noqa: E402
from fnet.model import Model  # noqa: E402

ROWS = 10_000
PREDICT, ONNX = "fnet.model.predict", "ONNX Runtime"
FLAGS = ("-O2", "-O3 -march=native -ffp-contract=fast")
SOURCE = """
#include "{name}.h"
void predict(int rows, const double *x, int *classes)
{{
    float outputs[{upper}_OUTPUTS];
    for (; rows > 0; rows--, x += {upper}_FEATURES)
        *classes++ = {name}_predict(x, outputs);
}}
"""
Call = Callable[[Any], Any]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeat", type=int, default=31)
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the section into it, too")
    args = parser.parse_args(argv)
    config = MLPConfig(sizes=(64, 64, 64, 10))
    rng = np.random.default_rng(0)
    standardizer = Standardizer(rng.normal(size=64), rng.uniform(0.5, 2, 64))
    some = Model(config, (fnet.init(fnet.random.key(0), config),), standardizer, tuple(range(10)))
    x = rng.normal(size=(ROWS, 64)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        calls, sizes = prepare(Path(folder), some, x)
        whole = timed(calls, x, args.repeat)
        single = timed(
            {name: call for name, call in calls.items() if not name.startswith("C")}, x[:1], 10 * args.repeat
        )
    report = Report("A model as source code")
    versions = [machine(all_cores=False)]
    if ONNX in calls:
        versions.append(f"onnxruntime {importlib.metadata.version('onnxruntime')}")
    if shutil.which("cc"):
        cc = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout
        versions.append(cc.partition("\n")[0])
    report.text("", f"`python scripts/bench/exports.py`, {datetime.date.today()}: {', '.join(versions)}.")
    report.text("", "A network 64-64-64-10 with batch norm, in one thread:")
    report.table("kind", f"us per row of {ROWS:,}", "us of one row alone", "kB")
    for name in calls:
        alone = single.get(name, whole[name])
        report.row(name, f"{whole[name] * 1e6:.3f}", f"{alone * 1e6:.3g}", f"{sizes[name] / 1e3:.1f}")
    if (c := f"C header, {FLAGS[0]}") in calls:
        report.limit(f"{c}: us per row / {PREDICT}", whole[c] / whole[PREDICT], 1)
        if ONNX in calls:
            report.limit(f"{c}: us of one row / {ONNX}", whole[c] / single[ONNX], 1 / 20)
    if args.results is not None:
        report.write(args.results)
    print("\n".join(report.limits), file=sys.stderr)
    return 0


def prepare(folder: Path, some: Model, x: Any) -> tuple[dict[str, Call], dict[str, int]]:
    """The prediction function and the file size of each format."""
    model.save_model(folder / "whole.npz", some)
    calls: dict[str, Call] = {PREDICT: functools.partial(model.predict, some)}
    paths = {PREDICT: folder / "whole.npz", "Python file": folder / "written.py"}
    save_python(paths["Python file"], some)
    spec = importlib.util.spec_from_file_location("written", paths["Python file"])
    assert spec is not None
    assert spec.loader is not None
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    calls["Python file"] = written.predict
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        paths[ONNX] = folder / "some.onnx"
        calls[ONNX] = onnx_call(paths[ONNX], some)
    if shutil.which("cc") is None:
        print("there is no C compiler, cc", file=sys.stderr)
        return calls, {name: path.stat().st_size for name, path in paths.items()}
    save_c(folder / "some.h", some)
    save_c(folder / "small.h", some, int8=True, calibration=x)
    for header, kind in (("some", "C header"), ("small", "C header, 8 bits")):
        for flags in FLAGS:
            paths[f"{kind}, {flags}"] = folder / f"{header}.h"
            calls[f"{kind}, {flags}"] = c_call(folder, header, flags)
    expected = model.predict(some, x)
    for name, call in calls.items():
        same = float(np.mean(np.asarray(call(x)).ravel() == expected))
        if same < (0.9 if "8 bits" in name else 0.999):
            raise AssertionError(f"{name} predicts another class for {1 - same:.1%} of the rows")
    return calls, {name: path.stat().st_size for name, path in paths.items()}


def onnx_call(path: Path, some: Model) -> Call:
    import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

    from fnet.interop.onnx import save_onnx

    save_onnx(path, some)
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["label"], {"features": x})[0]


def c_call(folder: Path, name: str, flags: str) -> Call:
    source, library = folder / f"{name}.c", folder / f"{name}{flags}.so"
    source.write_text(SOURCE.format(name=name, upper=name.upper()))
    subprocess.run(
        ["cc", "-std=c99", "-shared", "-fPIC", *flags.split(), str(source), "-o", str(library), "-lm"], check=True
    )
    function = ctypes.CDLL(str(library)).predict

    @functools.lru_cache(maxsize=1)  # the rows are float64 already, as in a program in C
    def prepared(address: int, rows: int, features: int) -> tuple[Any, Any]:
        x = np.ctypeslib.as_array((ctypes.c_float * (rows * features)).from_address(address))
        return x.astype(np.float64), np.empty(rows, np.int32)

    def call(x: Any) -> Any:
        rows, classes = prepared(x.ctypes.data, *x.shape)
        function(len(classes), ctypes.c_void_p(rows.ctypes.data), ctypes.c_void_p(classes.ctypes.data))
        return classes

    return call


def timed(calls: dict[str, Call], x: Any, repeat: int) -> dict[str, float]:
    """The seconds per row of each, as the median of rounds in turns."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeat):
        for name, call in calls.items():
            call(x)  # caches are those of the contender
            begin = time.perf_counter()
            call(x)
            rounds[name].append((time.perf_counter() - begin) / len(x))
    return {name: statistics.median(seconds) for name, seconds in rounds.items()}


if __name__ == "__main__":
    raise SystemExit(main())
