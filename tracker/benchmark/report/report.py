"""The report of a finished run: one offline HTML page, JSON, CSV, LaTeX, Markdown, plots as PNG and SVG.

Success follows the rule that the run names (`metrics`): "inclusive", where a perfect run reads 1.0, or "otb".
"""

import hashlib
import json
import math
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracker.benchmark.judge import vot
from tracker.benchmark.judge.metrics import Rule
from tracker.benchmark.judge.scores import TrackerScore, score_tracker
from tracker.benchmark.protocols import Protocol
from tracker.benchmark.report.page import page
from tracker.benchmark.report.pictures import draw_plots, draw_strip, find_all, pick_colours, render
from tracker.benchmark.report.tables import is_vot, latex_table, main_column, markdown, sequences_csv, trackers_csv
from tracker.benchmark.results import write_bytes, write_text
from tracker.benchmark.run.jobs import load_runs
from tracker.benchmark.run.machine import describe_machine
from tracker.footage.sequence import Sequence


def write_report(
    out: Path,
    specs: list[str],
    sequences: list[Sequence],
    protocol: Protocol,
    rule: Rule = "inclusive",
    data: str = "",
    strips: int | None = None,
    command: str = "",
    eao: tuple[int, int] | None = None,
) -> list[TrackerScore]:
    """Write report.html, report.json, trackers.csv, sequences.csv, table.tex, tables.md and plots/ into `out`.

    data: what to call the data set. strips: how many losses to show as pictures, None for all. command: how the run was
    started. eao: the interval of VOT's EAO, or None for the quartiles of the lengths.
    Returns the scores, best first. FileNotFoundError: a result is missing. ImportError: matplotlib is.
    """
    runs = {spec: load_runs(out, protocol, spec, sequences) for spec in specs}
    scores = [score_tracker(runs[spec], protocol, rule, eao) for spec in specs]
    colours = pick_colours([score.name for score in scores])
    named = {score.name: runs[score.spec] for score in scores}
    tried = {score.name: runs[score.spec] for score in scores if score.spec.rpartition(":=")[2] != "identity"}
    rank = main_column(protocol).read
    scores.sort(key=lambda score: -rank(score) if math.isfinite(rank(score)) else math.inf)
    losses = list(find_all(tried, sequences, protocol)) if tried else []
    place = {score.name: index for index, score in enumerate(scores)}
    losses.sort(key=lambda loss: min(place[name] for name in loss.trackers))  # those of the best tracker tell most
    pictures = [draw_strip(loss, named, colours) for loss in losses[:strips]]
    about = _about(sequences, protocol, rule, data, command, eao)
    machine = describe_machine()
    plots: dict[str, bytes] = {}
    for name, figure in draw_plots(scores, protocol, rule, colours).items():
        plots[name] = render(figure, "svg")
        write_bytes(out / "plots" / f"{name}.svg", plots[name])
        write_bytes(out / "plots" / f"{name}.png", render(figure, "png"))
    document: dict[str, Any] = {"about": about, "machine": machine, "trackers": [asdict(score) for score in scores]}
    document["fingerprints"] = {sequence.name: sequence.fingerprint() for sequence in sequences}
    write_text(out / "report.json", json.dumps(_plain(document), indent=1) + "\n")
    write_text(out / "trackers.csv", trackers_csv(scores, protocol))
    write_text(out / "sequences.csv", sequences_csv(scores))
    write_text(out / "table.tex", latex_table(scores, protocol, rule))
    write_text(out / "tables.md", markdown(scores, sequences, protocol, {"Run": about, "Machine": machine}))
    shown = page(scores, sequences, protocol, about, machine, plots, pictures, len(losses), colours)
    write_text(out / "report.html", shown)
    return scores


def _about(
    sequences: list[Sequence], protocol: Protocol, rule: Rule, data: str, command: str, eao: tuple[int, int] | None
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "data": data,
        "sequences": len(sequences),
        "frames": sum(len(sequence) for sequence in sequences),
        "protocol": protocol,
        "rule": rule,
        "rule reads": "a perfect run reads 1.0" if rule == "inclusive" else "strict >, a perfect run reads 0.952",
        "data fingerprint": combined_fingerprint(sequences),
        "made": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": command or shlex.join(sys.argv),
    }
    if is_vot(protocol):
        low, high = eao or vot.eao_interval([len(sequence) for sequence in sequences])
        about["EAO interval"] = f"{low} to {high} frames" + ("" if eao else " (quartiles of the lengths)")
    return about


def combined_fingerprint(sequences: list[Sequence]) -> str:
    """Return 16 hex digits over the fingerprints of all sequences."""
    return hashlib.sha256("".join(sequence.fingerprint() for sequence in sequences).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """JSON has no NaN: null instead."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
