"""C headers in tests: compiled without a warning, and called from Python."""

import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnet.interop.c_source import save_c
from fnet.model import Model

CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler, cc")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiled(folder: Path, source: str, *options: str, name: str = "program") -> Path:
    """A program, or with `-shared` a library, of that source."""
    if set(options) & set(SANITIZED) and not _has_sanitizers():
        pytest.skip("the C compiler has no sanitizers")
    path, made = folder / f"{name}.c", folder / name
    path.write_text(source, encoding="utf-8")
    command = [str(CC), *STRICT, *options, str(path), "-o", str(made), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return made


@functools.cache
def _has_sanitizers() -> bool:
    command = [str(CC), *SANITIZED, "-x", "c", "-", "-o", os.devnull]
    return subprocess.run(command, input=b"int main(void) { return 0; }", capture_output=True).returncode == 0


Predict = Callable[[Any], tuple[Any, Any]]


def loaded(folder: Path, models: dict[str, Model], **options: Any) -> dict[str, Predict]:
    """The function of each model, all of whose headers are in one library: it returns positions and outputs."""
    text = ""
    for prefix, some in models.items():
        save_c(folder / f"{prefix}.h", some, **options)
        kind = "float" if some.scale is None else "double"
        text += f'#include "{prefix}.h"\nint call_{prefix}(const double *x, {kind} *y)\n'
        text += f"{{\n    return {prefix}_predict(x, y);\n}}\n"
    library = ctypes.CDLL(str(compiled(folder, text, "-shared", "-fPIC", name="library")))
    return {prefix: _caller(library[f"call_{prefix}"], some) for prefix, some in models.items()}


def _caller(function: Any, some: Model) -> Predict:
    def call(x: Any) -> tuple[Any, Any]:
        rows = np.ascontiguousarray(x, np.float64)
        dtype = np.float32 if some.scale is None else np.float64
        outputs = np.empty((len(rows), some.config.num_outputs), dtype)
        positions = [
            function(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(out.ctypes.data))
            for row, out in zip(rows, outputs, strict=True)
        ]
        return np.array(positions), outputs

    return call


def c_rows(rows: Iterable[str]) -> str:
    return "".join(f"    {{{row}}},\n" for row in rows)


def c_number(value: float) -> str:
    return "NAN" if np.isnan(value) else "INFINITY" if np.isinf(value) else repr(value)
