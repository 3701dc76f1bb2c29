"""What a run did, step by step: log.csv, a picture of its curves, and TensorBoard on demand."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tracker.errors import MissingError
from tracker.extras import how_to_get
from tracker.footage.files import as_table
from tracker.footage.output import write_whole

COLUMNS = ["step", "seconds", "lr", "loss", "score", "box", "swapped", "hit", "refine", "peak_iou", "refined_iou",
           "validation"]  # fmt: skip
PLOTS = {"loss": ("loss", "score", "box", "swapped", "refine"), "hit rate": ("hit",), "learning rate": ("lr",),
         "validation": ("validation",), "box of the peak": ("peak_iou", "refined_iou")}  # fmt: skip


class Log:
    """log.csv in the folder of a run, one row a record; rows after `step` (of a run that was killed) are dropped.

    tensorboard: write event files into folder/tensorboard, too. Raises ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False) -> None:
        self.path, self.picture = folder / "log.csv", folder / "curves.png"
        self._events: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingError(f"TensorBoard is not here: {how_to_get('tensorboard')}") from error
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        rows = [row for row in self.rows() if int(row["step"]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path, text.getvalue().encode())

    def rows(self) -> list[dict[str, str]]:
        """All whole rows; a row that was cut off is left out."""
        if not self.path.is_file():
            return []
        with open(self.path, newline="", encoding="utf-8") as file, as_table(self.path):
            rows = list(csv.DictReader(file))
        whole = [row for row in rows if None not in row.values() and row["step"].isdigit()]
        return [{k: row.get(k, "") for k in COLUMNS} for row in whole]

    def write(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Append one row; training goes on without it where the disk is full."""
        known = {k: v for k, v in values.items() if k in COLUMNS}
        row = {"step": step, "seconds": round(seconds, 1)} | {k: f"{v:.6g}" for k, v in known.items()}
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        except OSError as error:
            tqdm.write(f"{self.path}: {error.strerror}; training goes on")
        if self._events is not None:
            for name, value in known.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()

    def draw(self) -> None:
        """Write the curves as curves.png, whole or not at all; says what is in the way where it cannot."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            tqdm.write(f"no curves.png: {how_to_get('plots')}")
            return
        rows = self.rows()
        figure = Figure(figsize=(9, 6), layout="constrained")
        shown = {title: names for title, names in PLOTS.items() if any(r[name] for r in rows for name in names)}
        for k, (title, names) in enumerate((shown or PLOTS).items()):  # not every kind of run has all
            axes = figure.add_subplot(-(-len(shown or PLOTS) // 2), 2, k + 1)
            for name in names:
                points = [(float(r["seconds"]) / 60, float(r[name])) for r in rows if r[name]]
                if points:
                    few = len(points) < 20
                    axes.plot(*zip(*points, strict=True), marker="o" if few else None, markersize=3, label=name)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel("minutes")
            axes.grid(alpha=0.3)
            if title == "learning rate" and axes.lines:
                axes.set_yscale("log")
            if len(axes.lines) > 1:
                axes.legend(fontsize=8)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110)
        try:
            write_whole(self.picture, picture.getvalue())
        except OSError as error:
            tqdm.write(f"{self.picture}: {error.strerror}")

    def close(self) -> None:
        """Close the event files; a row more opens new ones."""
        if self._events is not None:
            self._events.close()
