"""Many runs: search spaces, runs and their outcomes, and executors.

The command is `fnet sweep`. In a script, `grid` or `random_search` lists combinations, `make_run` turns each into a
run, and `run_all` trains them in the pool that `open_pool` opens. `map_runs` does the same for any function.
"""

from fnet.sweep.executors import Failure, Pool, map_runs, open_pool
from fnet.sweep.runs import Outcome, Run, Source, Splits, make_run, run_all
from fnet.sweep.space import Range, grid, parse_space, random_search

__all__ = [
    "Failure",
    "Outcome",
    "Pool",
    "Range",
    "Run",
    "Source",
    "Splits",
    "grid",
    "make_run",
    "map_runs",
    "open_pool",
    "parse_space",
    "random_search",
    "run_all",
]
