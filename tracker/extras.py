"""How to get the packages that only some of the work needs."""

import sys
from importlib.metadata import distributions
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]  # of the package: a checkout, or where pip has put it


def how_to_get(extra: str) -> str:
    """The command that installs an extra of pyproject.toml into the Python that runs; also in a bare checkout."""
    what = "siamtrack"  # pip takes the packages of the extra from the siamtrack that is installed
    if (HOME / "pyproject.toml").is_file():
        # what a build has left in the checkout is no installation
        found = (Path(str(one.locate_file(""))).resolve() for one in distributions(name="siamtrack"))
        if all(place == HOME for place in found):
            what = str(HOME)
    return f'{sys.executable} -m pip install "{what}[{extra}]"'
