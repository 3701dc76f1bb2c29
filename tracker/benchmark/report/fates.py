"""What became of the targets of `bench --events`: tables, JSON and a reliability diagram."""

import json
from pathlib import Path

import numpy as np

from tracker.benchmark.judge.fates import BINS, Knowledge
from tracker.benchmark.report.pictures import need_matplotlib, plain, render
from tracker.footage.output import write_whole

MEASURES = {  # key: title and form
    "absent_called_lost": ("absent frames called lost", "{:.3f}"),
    "false_alarms": ("false alarms", "{:.3f}"),
    "wrong": ("followed something else", "{:.3f}"),
    "wrong_adoptions": ("wrong adoptions", "{:.3f}"),
    "came_back": ("came back", "{:.2f}"),
    "frames_to_come_back": ("median frames to come back", "{:.0f}"),
    "ece": ("calibration error", "{:.3f}"),
    "auroc_present": ("AUROC present / absent", "{:.3f}"),
    "auroc_right": ("AUROC right / wrong", "{:.3f}"),
}


def table(judged: dict[str, dict[str, float]], what: str) -> str:
    """A Markdown table with a row for each name; `what` the names are heads their column."""
    lines = [f"| {what} | " + " | ".join(title for title, _ in MEASURES.values()) + " |"]
    lines.append("|" + "---|" * (len(MEASURES) + 1))
    for name, found in judged.items():
        cells = [form.format(found[key]) for key, (_, form) in MEASURES.items()]
        lines.append(f"| {name} | " + " | ".join(cells).replace("nan", "–").replace("inf", "never") + " |")
    return "\n".join(lines)


def table_of_all(judged: dict[str, dict[str, dict[str, float]]]) -> str:
    """A Markdown table over all events, a row a tracker."""
    return table({name: groups["all"] for name, groups in judged.items()}, "tracker")


def draw_reliability(known: dict[str, Knowledge]) -> dict[str, bytes]:
    """The reliability diagram of each tracker with scores, all in one picture: {"png": ..., "svg": ...}."""
    known = {name: one for name, one in known.items() if np.isfinite(one.scores).any()}
    figure = need_matplotlib()(figsize=(3.2 * max(len(known), 1), 3.4))
    every = figure.subplots(1, max(len(known), 1), squeeze=False)
    for axes, (name, one) in zip(every[0], known.items(), strict=False):
        finite = np.isfinite(one.scores)
        scores, right = np.clip(one.scores[finite], 0, 1), one.right[finite]
        place = np.minimum((scores * BINS).astype(int), BINS - 1)
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        filled = [b for b in range(BINS) if (place == b).any()]
        axes.bar([(b + 0.5) / BINS for b in filled], [right[place == b].mean() for b in filled], 0.9 / BINS, alpha=0.35)
        axes.plot([scores[place == b].mean() for b in filled], [right[place == b].mean() for b in filled], "o-")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", title=f"{plain(name)}, error {one.summary['ece']:.3f}")
    every[0][0].set_ylabel("share of boxes with IoU ≥ 0.5")
    figure.tight_layout()
    return {kind: render(figure, kind) for kind in ("png", "svg")}


def write_fates(out: Path, judged: dict[str, dict[str, dict[str, float]]], known: dict[str, Knowledge]) -> None:
    """Write events.json, events.md and reliability.png / .svg into `out`, each whole."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "events.json", json.dumps(judged, indent=1) + "\n")
    parts = [table_of_all(judged), *(f"{name}:\n\n{table(groups, 'event')}" for name, groups in judged.items())]
    write_whole(out / "events.md", "\n\n".join(parts) + "\n")
    for kind, picture in draw_reliability(known).items():
        write_whole(out / f"reliability.{kind}", picture)
