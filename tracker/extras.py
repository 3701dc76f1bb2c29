"""How to get the packages that only some of the work needs."""

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def how_to_get(extra: str) -> str:
    """The command that installs an extra of pyproject.toml into the Python that runs; also in a bare checkout."""
    try:
        distribution("siamtrack")
        what = f"siamtrack[{extra}]"  # pip takes the extra's packages from the siamtrack that is installed
    except PackageNotFoundError:
        what = f"{Path(__file__).resolve().parents[1]}[{extra}]"
    return f'{sys.executable} -m pip install "{what}"'
