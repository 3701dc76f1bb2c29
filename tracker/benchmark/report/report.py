"""The report of a finished run: one offline HTML page, JSON, CSV, LaTeX, Markdown, plots as PNG and SVG.

Frames are judged by the rule that the run names (`rules`); the first lines are the verdict.
"""

import hashlib
import json
import math
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tracker.benchmark.judge import vot
from tracker.benchmark.judge.rules import RULES, Rule
from tracker.benchmark.judge.scores import TrackerScore, add_measure, compare, mark_best, rank, score_tracker
from tracker.benchmark.protocols import Protocol
from tracker.benchmark.report.page import page
from tracker.benchmark.report.pictures import draw_attributes, draw_plots, draw_strip, find_all, pick_colours, render
from tracker.benchmark.report.tables import (
    CLOCKED,
    Column,
    columns,
    is_vot,
    latex_table,
    markdown,
    sequences_csv,
    trackers_csv,
)
from tracker.benchmark.report.verdict import verdict
from tracker.benchmark.run.jobs import load_runs
from tracker.errors import InputError
from tracker.footage.output import write_whole
from tracker.footage.sequence import Sequence
from tracker.machine import describe_machine


class Report(NamedTuple):
    """What a report says: scores, best first; measures; the tracker held against, "" for none; the verdict."""

    scores: list[TrackerScore]
    measured: list[Column]
    other: str
    verdict: list[str]


def write_report(
    out: Path,
    specs: list[str],
    sequences: list[Sequence],
    protocol: Protocol,
    rule: Rule = RULES["inclusive"],
    data: str = "",
    strips: int | None = None,
    command: str = "",
    eao: tuple[int, int] | None = None,
    other: str = "",
    problems: list[str] | None = None,
    repeats: int = 1,
) -> Report:
    """Write report.html, report.json, trackers.csv, sequences.csv, table.tex, tables.md and plots/ into `out`.

    data: what to call the data set. strips: how many losses to show as pictures, None for all. command: how the run was
    started. eao: the interval of VOT's EAO, or None for the quartiles of the lengths. other: the name of the tracker
    that the others are held against, "" for the one that reads best. problems: what was asked for and left out.
    repeats: how often each run was made.
    ValueError: no tracker of that name. FileNotFoundError: a result is missing. ImportError: matplotlib is.
    """
    runs = {spec: load_runs(out, protocol, spec, sequences, repeats) for spec in specs}
    scores = [score_tracker(runs[spec], protocol, rule, eao) for spec in specs]
    if protocol in CLOCKED:
        _add_offline(out, scores, sequences, rule)
    colours = pick_colours([score.name for score in scores])
    named = {score.name: runs[score.spec] for score in scores}
    tried = {score.name: runs[score.spec] for score in scores if score.spec.rpartition(":=")[2] != "identity"}
    measured = columns(protocol, rule)
    other = _compare_all(scores, measured, other)
    losses = list(find_all(tried, sequences, protocol)) if tried else []
    place = {score.name: index for index, score in enumerate(scores)}
    losses.sort(key=lambda loss: min(place[name] for name in loss.trackers))  # those of the best tracker tell most
    pictures = [draw_strip(loss, named, colours) for loss in losses[:strips]]
    lines = verdict(scores, measured, other, problems or [])
    about = _about(sequences, protocol, rule, data, command, eao)
    machine = describe_machine()
    plots: dict[str, bytes] = {}
    figures = draw_plots(scores, protocol, rule, measured[0], colours)
    figures |= draw_attributes(scores, sequences, protocol, colours)
    (out / "plots").mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        plots[name] = render(figure, "svg")
        write_whole(out / "plots" / f"{name}.svg", plots[name])
        write_whole(out / "plots" / f"{name}.png", render(figure, "png"))
    document: dict[str, Any] = {"verdict": lines, "about": about, "machine": machine}
    document["held against"] = other
    document["trackers"] = [score.document() for score in scores]
    document["left out"] = problems or []
    document["fingerprints"] = {sequence.name: sequence.fingerprint() for sequence in sequences}
    write_whole(out / "report.json", json.dumps(_plain(document), indent=1) + "\n")
    write_whole(out / "trackers.csv", trackers_csv(scores, measured, other))
    write_whole(out / "sequences.csv", sequences_csv(scores))
    write_whole(out / "table.tex", latex_table(scores, measured, protocol, rule, other))
    facts = {"Run": about, "Machine": machine}
    write_whole(out / "tables.md", markdown(scores, sequences, measured, other, lines, facts))
    shown = page(
        scores, sequences, protocol, measured, other, lines, about, machine, plots, pictures, len(losses), colours
    )
    write_whole(out / "report.html", shown)
    return Report(scores, measured, other, lines)


def _add_offline(out: Path, scores: list[TrackerScore], sequences: list[Sequence], rule: Rule) -> None:
    """Add what each tracker reads without a clock, where such runs lie in the same folder; mutates scores."""
    for score in scores:
        try:
            offline = score_tracker(load_runs(out, "ope", score.spec, sequences), "ope", rule)
        except (FileNotFoundError, ValueError):
            continue
        add_measure(score, "offline_auc", offline.measures["success_auc"])


def _compare_all(scores: list[TrackerScore], measured: list[Column], other: str) -> str:
    """Put the best first, hold each against one, mark what is distinguishable; mutates scores, returns the one."""
    names = [score.name for score in scores]
    if other and other not in names:
        raise InputError(f"--against {other}: no such tracker in this run; there are {', '.join(names)}")
    main = measured[0]
    scores.sort(key=lambda s: -main.better * main.read(s) if math.isfinite(main.read(s)) else math.inf)
    if len(scores) > 1:
        rank(scores, main.name, main.better)
        other = other or scores[0].name
        one = next(score for score in scores if score.name == other)
        for score in scores:
            if score is not one:
                score.difference = compare(score, one, main.name, main.better)
    for column in measured:
        if column.better:
            mark_best(scores, column.name, column.better)
    return other if len(scores) > 1 else ""


def _about(
    sequences: list[Sequence], protocol: Protocol, rule: Rule, data: str, command: str, eao: tuple[int, int] | None
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "data": data,
        "sequences": len(sequences),
        "frames": sum(len(sequence) for sequence in sequences),
        "protocol": protocol,
        "rule": rule.name,
        "rule reads": rule.reads,
        "frames that do not count": rule.uncounted,
        "rule from": rule.source,
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
