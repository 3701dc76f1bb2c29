"""What a tracker did on one sequence, in memory and as one text file."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.protocols import Part
from tracker.config import parse_json
from tracker.errors import InputError
from tracker.footage.output import write_whole

COLUMNS = ("x", "y", "w", "h", "score", "ms", "crop_ms", "network_ms", "post_ms", "state")
TRACKED, STARTED, FAILED, SKIPPED, LOST, CUT = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Run:
    """One run over N frames.

    rows: (N, 10) float64, the COLUMNS: box x, y, w, h in 0-based px (NaN where the tracker gave none), score (NaN where
        it gives none), milliseconds of the whole call without decoding, of crop, network and post (NaN unknown), state
        (0 tracked, 1 started here, 2 failed, 3 skipped, 4 tracked, but the tracker says that the target is lost, 5 a
        frame behind the end of a result file, which is not judged).
    error: what went wrong, or "". note: what was put right, or "".
    """

    rows: NDArray[np.float64]
    error: str = ""
    note: str = ""

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) boxes."""
        return self.rows[:, :4]

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N,) confidence."""
        return self.rows[:, 4]

    @property
    def states(self) -> NDArray[np.int64]:
        """(N,) state codes."""
        return self.rows[:, 9].astype(np.int64)

    def milliseconds(self, column: str = "ms") -> NDArray[np.float64]:
        """Return the times of `update` calls, (M,) ms, without starts and frames that were not processed."""
        times = self.rows[:, COLUMNS.index(column)][np.isin(self.states, (TRACKED, LOST))]
        return times[np.isfinite(times)]


@dataclass(frozen=True)
class Runs:
    """The runs of one tracker by sequence.

    at_once: how many ran at once when they were timed; load: the highest load a core then, NaN where it is not known.
    name, spec, files: of the tracker, see `peers`.
    """

    name: str
    spec: str
    files: dict[str, str]
    by_sequence: dict[str, list[tuple[Part, Run]]]
    at_once: list[str]
    load: float = math.nan


def new_rows(count: int) -> NDArray[np.float64]:
    """Return rows that say nothing happened: NaN everywhere, state skipped."""
    rows = np.full((count, len(COLUMNS)), np.nan)
    rows[:, 9] = SKIPPED
    return rows


def save(path: Path, run: Run, about: dict[str, Any]) -> None:
    """Write a run as text: one comment line of JSON, one of column names, a line a frame that reads back to the bit."""
    head = json.dumps({**about, "error": run.error, "note": run.note}, sort_keys=True)
    lines = [",".join(repr(float(v)) for v in row[:-1]) + f",{int(row[-1])}" for row in run.rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join([f"# {head}", ",".join(COLUMNS), *lines]) + "\n")


def load(path: Path) -> tuple[Run, dict[str, Any]]:
    """Read what `save` wrote; ValueError names a file that is not one."""
    try:
        first, names, *lines = path.read_text(encoding="utf-8").splitlines()
        about = parse_json(first.removeprefix("# "))
        rows = np.array([[float(word) for word in line.split(",")] for line in lines])
        if names != ",".join(COLUMNS) or rows.shape[1:] != (len(COLUMNS),):
            raise InputError("other columns")
        return Run(rows, str(about["error"]), str(about.get("note", ""))), about
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: not a result of this program ({error})") from error
