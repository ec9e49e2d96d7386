"""The command line: `fnet COMMAND`, which is the same as `python -m fnet COMMAND`."""
