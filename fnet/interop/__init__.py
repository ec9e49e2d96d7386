"""Other formats and libraries: one module for each, which imports its library only when it is used."""

__all__ = ["missing"]


def missing(what: str, packages: str, extra: str) -> ImportError:
    """The error for packages that are not installed; `extra` is the extra of fnet that installs them."""
    return ImportError(
        f"{what} needs {packages}: python -m pip install {packages.replace(' and ', ' ')}; "
        f'or in a clone of fnet: python -m pip install -e ".[{extra}]"'
    )
