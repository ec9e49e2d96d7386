"""A section of Markdown, printed during the measurement."""

import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import processes

PACKAGES = ("numpy", "numba", "jax", "optax", "torch", "scikit-learn")


class Report:
    """The section, the contenders that are left out, and the comparison of fnet with its limits."""

    def __init__(self, title: str) -> None:
        self.lines, self.limits = list[str](), list[str]()
        self.left_out = dict[str, str]()  # why
        self.text(f"## {title}")

    def text(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)
            self.lines.append(line)

    def table(self, *header: str) -> None:
        self.text("")
        self.row(*header)
        self.row(*["---"] * len(header))

    def row(self, *cells: str) -> None:
        self.text(f"| {' | '.join(cells)} |")

    def rows(self, rows: list[list[tuple[Any, ...]]]) -> None:
        """Rows, each with its limits."""
        for cells, *limits in rows:
            self.row(*cells)
            for limit in limits:
                self.limit(*limit)

    def limit(self, what: str, value: float, most: float) -> None:
        self.limits.append(f"{'kept' if value <= most else 'EXCEEDED':8} {value:6.3g} of {most:<4g}  {what}")

    def write(self, path: Path) -> None:
        """Write the section to a file, in place of the section with the same title."""
        content = path.read_text() if path.exists() else "# Measured speed\n"
        sections = {part.split("\n", 1)[0]: part for part in re.split(r"(?m)^(?=## )", content)}
        sections[self.lines[0]] = "\n".join(self.lines)
        path.write_text("\n\n".join(part.strip() for part in sections.values()) + "\n")


def ratios(a: list[float], b: list[float]) -> list[float]:
    """A ratio for each turn; none if one of the two was left out."""
    return [x / y for x, y in zip(a, b, strict=True)] if a and b else []


def spread(values: list[float]) -> str:
    """Median, minimum and maximum, to three digits of the median."""
    if not values:
        return "-"
    median = statistics.median(values)
    places = max(0, 2 - math.floor(math.log10(median)))
    return f"{median:.{places}f} ({min(values):.{places}f}-{max(values):.{places}f})"


def machine(*, all_cores: bool) -> str:
    """The processor, the versions, and the BLAS kernels of NumPy."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"(?m)^model name\s*: (.*)$", cpuinfo.read_text()) if cpuinfo.exists() else None
    found = [model[1] if model else platform.processor() or platform.machine()]
    found.append(f"{'all' if all_cores else 'one'} of {os.cpu_count()} cores; Python {platform.python_version()}")
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    command = [sys.executable, "-m", "threadpoolctl", "-i", "numpy"]
    result = subprocess.run(command, env=processes.environment(all_cores=all_cores), capture_output=True, text=True)
    for pool in json.loads(result.stdout or "[]"):
        found.append(f"{pool['internal_api']} {pool['version']} with its kernels for {pool.get('architecture')}")
    return ", ".join(found)
