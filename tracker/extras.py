"""How to get the packages that only some of the work needs."""

import sys
import tomllib
from importlib.metadata import distributions, requires
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]  # of the package: a checkout, or where pip has put it
PROJECT = HOME / "pyproject.toml"


def how_to_get(extra: str) -> str:
    """The command that installs an extra of pyproject.toml into the Python that runs.

    Also in a bare checkout; and where PyTorch was left out, it stays out.
    """
    if find_spec("torch") is None:  # which pip would bring along with siamtrack
        wanted = packages_of(extra)
    elif PROJECT.is_file() and all(place == HOME for place in _installed()):
        wanted = [f"{HOME}[{extra}]"]
    else:
        wanted = [f"siamtrack[{extra}]"]  # pip takes the packages of the extra from the siamtrack that is installed
    return f"{sys.executable} -m pip install " + " ".join(f'"{one}"' for one in wanted)


def packages_of(extra: str) -> list[str]:
    """What an extra consists of, as pip takes it."""
    if PROJECT.is_file():
        extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        return list(extras[extra])
    known = (text.partition(";") for text in requires("siamtrack") or ())
    return [text.strip() for text, _, condition in known if f'extra == "{extra}"' in condition.replace("'", '"')]


def _installed() -> list[Path]:
    """Where siamtrack is installed; what a build has left in a checkout counts as the checkout."""
    return [Path(str(one.locate_file(""))).resolve() for one in distributions(name="siamtrack")]
