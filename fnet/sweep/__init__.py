"""Sweeps: search spaces, runs, and what executes them."""

from fnet.sweep.space import Failure, Range, content_hash, grid, map_runs, parse_space, parse_values, random_search

__all__ = ["Failure", "Range", "content_hash", "grid", "map_runs", "parse_space", "parse_values", "random_search"]
