"""How many threads the BLAS of NumPy uses: the one place where the scripts decide it. Import it before NumPy.

`--threads N` on the command line, or else the variables below where they are set, or else 1: at the sizes of these
networks a second thread gains about a tenth on an idle machine and costs a multiple beside another process
(`python scripts/bench.py --threads 2`).
"""

import os
import sys

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def _from_command_line(argv: list[str]) -> str | None:
    for i, argument in enumerate(argv):
        if argument.startswith("--threads="):
            return argument.removeprefix("--threads=")
        if argument == "--threads" and i + 1 < len(argv):
            return argv[i + 1]
    return None


_number = _from_command_line(sys.argv[1:])
for _variable in VARIABLES:
    if _number is not None and _number.isdecimal():
        os.environ[_variable] = _number
    else:
        os.environ.setdefault(_variable, "1")
