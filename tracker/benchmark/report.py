"""Scores of a finished run, as one offline HTML page, JSON, CSV, LaTeX, PNG and SVG.

Success follows the rule that the run names (`metrics`): "inclusive", where a perfect run reads 1.0, or "otb". A
sequence counts once: its runs (TRE, SRE) are averaged first. AO, SR0.5 and SR0.75 pool the frames of all sequences, as
GOT-10k does. Latency is the time of `update` without decoding.
"""

import base64
import csv
import hashlib
import html
import importlib.metadata
import io
import json
import math
import os
import platform
import shlex
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.benchmark import metrics, results
from tracker.benchmark.peers import file_fingerprints, tracker_name
from tracker.benchmark.protocols import Part, Protocol, plan
from tracker.benchmark.results import Run, write_bytes, write_text
from tracker.benchmark.runner import result_path
from tracker.benchmark.sequences import Sequence

Floats = NDArray[np.float64]
# Colours that stay apart in print and for colour-blind readers (Okabe and Ito), first tracker first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#000000", "#bcbd22")
LOST_OVERLAP, LOST_FRAMES = 0.1, 10
STRIP_OFFSETS = (-10, -3, 0, 5, 10, 20)
STRIP_WIDTH = 260  # px of one frame of a strip


@dataclass
class SequenceScore:
    """Scores of one tracker on one sequence, averaged over its runs; lost_at: frame of its first loss, or None."""

    success_auc: float
    precision_20: float
    normalised_precision_20: float
    average_overlap: float
    ms_p50: float
    lost_at: int | None
    error: str


@dataclass
class TrackerScore:
    """Scores of one tracker over all sequences; NaN where a measure does not apply to the protocol."""

    name: str
    spec: str
    success_auc: float
    success_rate_50: float
    precision_20: float
    normalised_precision_20: float
    normalised_precision_auc: float
    average_overlap: float
    got10k_sr50: float
    got10k_sr75: float
    long_term: dict[str, float]
    vot: dict[str, float]
    latency_ms: dict[str, dict[str, float]]
    files: dict[str, str]
    sequences: dict[str, SequenceScore] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)


Runs = dict[str, list[tuple[Part, Run]]]  # by sequence


def load_runs(out: Path, protocol: Protocol, spec: str, sequences: list[Sequence]) -> Runs:
    """Read the results of one tracker; FileNotFoundError names the first that is not there."""
    runs: Runs = {}
    for sequence in sequences:
        runs[sequence.name] = []
        for part in plan(protocol, sequence):
            path = result_path(out, protocol, tracker_name(spec), sequence.name, part.label)
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no result; run the benchmark to its end first")
            runs[sequence.name].append((part, results.load(path)[0]))
    return runs


def score_tracker(spec: str, runs: Runs, protocol: Protocol, rule: metrics.Rule) -> TrackerScore:
    """Score one tracker from its runs."""
    curves: dict[str, list[Floats]] = defaultdict(list)
    pooled: list[Floats] = []
    by_sequence: dict[str, SequenceScore] = {}
    for name, parts in runs.items():
        success, precision, normalised, overlaps, lost = [], [], [], [], []
        for part, run in parts:
            truth = part.sequence.boxes
            ious = metrics.iou(run.boxes, truth)
            success.append(metrics.success_curve(ious, rule))
            precision.append(metrics.precision_curve(metrics.center_error(run.boxes, truth)))
            normalised.append(metrics.normalised_precision_curve(metrics.normalised_center_error(run.boxes, truth)))
            overlaps.append(metrics.iou(run.boxes, truth, bound=part.sequence.bound)[1:])
            lost.append(first_loss(ious))
        for key, found in (("success", success), ("precision", precision), ("normalised_precision", normalised)):
            curves[key].append(np.mean(found, axis=0))
        pooled += overlaps
        times = np.concatenate([run.milliseconds() for _, run in parts])
        by_sequence[name] = SequenceScore(
            float(curves["success"][-1].mean()),
            float(curves["precision"][-1][20]),
            float(curves["normalised_precision"][-1][20]),
            float(np.mean([_mean(part[np.isfinite(part)]) for part in overlaps])),
            _percentile(times, 50),
            lost[0],
            next((run.error for _, run in parts if run.error), ""),
        )
    mean = {key: np.nanmean(np.array(found), axis=0) for key, found in curves.items()}
    frames = np.concatenate(pooled)
    frames = frames[np.isfinite(frames)]
    every = [pair for parts in runs.values() for pair in parts]
    vot = _vot(runs, protocol)
    long = metrics.long_term(
        [r.boxes for _, r in every], [r.scores for _, r in every], [p.sequence.boxes for p, _ in every]
    )
    return TrackerScore(
        tracker_name(spec),
        spec,
        float(mean["success"].mean()),
        float(mean["success"][10]),
        float(mean["precision"][20]),
        float(mean["normalised_precision"][20]),
        float(mean["normalised_precision"].mean()),
        _mean(frames),
        _mean(frames > 0.5),
        _mean(frames > 0.75),
        long._asdict(),
        vot._asdict() if vot else {},
        _latency([run for _, run in every]),
        file_fingerprints(spec),
        by_sequence,
        {key: value.tolist() for key, value in mean.items()},
    )


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _percentile(values: Floats, percent: float) -> float:
    return float(np.percentile(values, percent)) if values.size else math.nan


def _latency(runs: list[Run]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = {}
    for column, name in (("ms", "update"), ("crop_ms", "crop"), ("network_ms", "network"), ("post_ms", "post")):
        times = np.concatenate([run.milliseconds(column) for run in runs])
        if times.size:
            stages[name] = {f"p{p}": _percentile(times, p) for p in (50, 95, 99)}
    starts = np.concatenate([run.rows[run.states == results.STARTED, 5] for run in runs])
    stages["init"] = {f"p{p}": _percentile(starts[np.isfinite(starts)], p) for p in (50, 95, 99)}
    return stages


def _vot(runs: Runs, protocol: Protocol) -> metrics.VotScore | None:
    if protocol == "supervised":
        pairs = [parts[0] for parts in runs.values()]
        boxes, states = [run.boxes for _, run in pairs], [run.states for _, run in pairs]
        return metrics.vot_supervised(boxes, states, [part.sequence.boxes for part, _ in pairs])
    if protocol == "anchors":
        truths = [[part.sequence.boxes for part, _ in parts] for parts in runs.values()]
        return metrics.vot_anchors([[run.boxes for _, run in parts] for parts in runs.values()], truths)
    return None


def first_loss(ious: Floats) -> int | None:
    """Return the first frame from which the overlap stays at or below 0.1 for 10 judged frames (or to the end)."""
    judged = np.flatnonzero(np.isfinite(ious))
    low = ious[judged] <= LOST_OVERLAP
    run = 0
    for place, is_low in enumerate(low):
        run = run + 1 if is_low else 0
        if run == LOST_FRAMES or (run and place == len(low) - 1 and run >= 3):
            return int(judged[place - run + 1])
    return None


def describe_machine() -> dict[str, str]:
    """Return what a latency depends on: processor, cores, load, system, versions."""
    cpu = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    about = {
        "processor": cpu or platform.machine(),
        "cores": str(os.cpu_count()),
        "load before the report": ", ".join(f"{v:.2f}" for v in os.getloadavg()) if hasattr(os, "getloadavg") else "",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in ("siamtrack", "numpy", "opencv-python", "opencv-contrib-python", "torch", "onnxruntime", "numba"):
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return about


def write_report(
    out: Path,
    specs: list[str],
    sequences: list[Sequence],
    protocol: Protocol,
    rule: metrics.Rule = "inclusive",
    data: str = "",
    strips: int = 24,
    command: str = "",
) -> list[TrackerScore]:
    """Write report.html, report.json, sequences.csv, table.tex and plots/ into `out`; return the scores, best first.

    data: what to call the data set. strips: how many losses to show as pictures. command: how the run was started.
    FileNotFoundError: a result is missing. ImportError: matplotlib is.
    """
    runs = {spec: load_runs(out, protocol, spec, sequences) for spec in specs}
    scores = [score_tracker(spec, runs[spec], protocol, rule) for spec in specs]
    colours = {score.name: COLOURS[index % len(COLOURS)] for index, score in enumerate(scores)}
    pictures = draw_strips(runs, scores, sequences, protocol, colours, strips)
    scores.sort(key=lambda score: -score.success_auc)
    about = {
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
    machine = describe_machine()
    plots: dict[str, bytes] = {}
    for name, figure in draw_plots(scores, protocol, rule, colours).items():
        plots[name] = _render(figure, "svg")
        write_bytes(out / "plots" / f"{name}.svg", plots[name])
        write_bytes(out / "plots" / f"{name}.png", _render(figure, "png"))
    document = {"about": about, "machine": machine, "trackers": [asdict(score) for score in scores]}
    document["fingerprints"] = {sequence.name: sequence.fingerprint() for sequence in sequences}
    write_text(out / "report.json", json.dumps(_plain(document), indent=1) + "\n")
    write_text(out / "sequences.csv", _csv(scores))
    write_text(out / "table.tex", latex_table(scores, protocol, rule))
    page = _page(scores, sequences, protocol, about, machine, plots, pictures, colours)
    write_text(out / "report.html", page)
    return scores


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


def _csv(scores: list[TrackerScore]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(SequenceScore.__dataclass_fields__)
    writer.writerow(["tracker", "sequence", *names])
    for score in scores:
        for name, row in score.sequences.items():
            writer.writerow([score.name, name, *(_cell(getattr(row, key)) for key in names)])
    return file.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


# --- tables ----------------------------------------------------------------------------------------------------------

Column = tuple[str, str, Any, str]  # heading, LaTeX heading, how to read it from a score, format


def _columns(protocol: Protocol) -> list[Column]:
    latency: list[Column] = [
        ("ms p50", "ms p50", lambda s: s.latency_ms.get("update", {}).get("p50", math.nan), ".2f"),
        ("ms p95", "ms p95", lambda s: s.latency_ms.get("update", {}).get("p95", math.nan), ".2f"),
    ]
    if protocol in ("supervised", "anchors"):
        return [
            ("EAO", "EAO", lambda s: s.vot["eao"], ".3f"),
            ("accuracy", "A", lambda s: s.vot["accuracy"], ".3f"),
            ("robustness", "R", lambda s: s.vot["robustness"], ".3f"),
            ("failures", "failures", lambda s: s.vot["failures"], ".0f"),
            *latency,
        ]
    return [
        ("success AUC", "AUC", lambda s: s.success_auc, ".3f"),
        ("success @0.5", r"SR$_{0.5}$", lambda s: s.success_rate_50, ".3f"),
        ("precision @20 px", r"P$_{20}$", lambda s: s.precision_20, ".3f"),
        ("norm. precision @0.2", r"NP$_{0.2}$", lambda s: s.normalised_precision_20, ".3f"),
        ("norm. precision AUC", "NP AUC", lambda s: s.normalised_precision_auc, ".3f"),
        ("AO", "AO", lambda s: s.average_overlap, ".3f"),
        ("GOT SR 0.5", r"SR$^{G}_{0.5}$", lambda s: s.got10k_sr50, ".3f"),
        ("GOT SR 0.75", r"SR$^{G}_{0.75}$", lambda s: s.got10k_sr75, ".3f"),
        ("long-term F", "F", lambda s: s.long_term["f"], ".3f"),
        ("lost in", "lost", lambda s: sum(row.lost_at is not None for row in s.sequences.values()), ".0f"),
        *latency,
    ]


def text_table(scores: list[TrackerScore], protocol: Protocol) -> str:
    """Return the table for a terminal."""
    columns = _columns(protocol)
    rows = [["tracker", *(column[0] for column in columns)]]
    rows += [[score.name, *(_number(read(score), form) for _, _, read, form in columns)] for score in scores]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        lines.append("  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]))
    return "\n".join(lines)


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def latex_table(scores: list[TrackerScore], protocol: Protocol, rule: metrics.Rule) -> str:
    """Return the table as a LaTeX tabular."""
    columns = _columns(protocol)
    head = " & ".join(["Tracker", *(column[1] for column in columns)])
    lines = [f"% protocol {protocol}, success rule {rule}", rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\hline"]
    lines += [rf"{head} \\", r"\hline"]
    for score in scores:
        cells = [score.name.replace("_", r"\_"), *(_number(read(score), form) for _, _, read, form in columns)]
        lines.append(rf"{' & '.join(cells)} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


# --- pictures --------------------------------------------------------------------------------------------------------


def need_matplotlib() -> Any:
    """Return matplotlib's Figure; ImportError says how to install it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the report draws with matplotlib: pip install 'siamtrack[plots]'") from error
    return Figure


def draw_plots(
    scores: list[TrackerScore], protocol: Protocol, rule: metrics.Rule, colours: dict[str, str]
) -> dict[str, Any]:
    """Return matplotlib figures by name: success, precision, normalised precision (not for VOT), speed and accuracy."""
    Figure = need_matplotlib()
    figures: dict[str, Any] = {}

    def axes(name: str, title: str, x: str, y: str) -> Any:
        figures[name] = Figure(figsize=(5.2, 4.0), layout="constrained")
        axis = figures[name].add_subplot()
        axis.set(title=title, xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
        return axis

    kinds = (
        ("success", f"Success ({protocol}, {rule})", "overlap threshold", metrics.SUCCESS_THRESHOLDS, "success_auc"),
        ("precision", f"Precision ({protocol})", "centre error, px", metrics.PRECISION_THRESHOLDS, "precision_20"),
        ("normalised_precision", f"Normalised precision ({protocol})", "centre error / target size",
         metrics.NORMALISED_THRESHOLDS, "normalised_precision_20"),
    )  # fmt: skip
    if protocol not in ("supervised", "anchors"):
        for key, title, label, thresholds, field_name in kinds:
            axis = axes(key, title, label, "share of frames")
            for score in sorted(scores, key=lambda s, f=field_name: -getattr(s, f)):  # type: ignore[misc]
                text = f"{score.name} [{getattr(score, field_name):.3f}]"
                axis.plot(thresholds, score.curves[key], label=text, color=colours[score.name], linewidth=1.8)
            axis.set(ylim=(0, 1), xlim=(0, thresholds[-1]))
            axis.legend(fontsize=7, loc="lower left" if key == "success" else "lower right")
    measure = "EAO" if protocol in ("supervised", "anchors") else "success AUC"
    axis = axes("speed", "Speed and accuracy", "median milliseconds a frame, one core", measure)
    place = -math.inf  # of the last name, so that names do not cover each other

    def height(score: TrackerScore) -> float:
        return float(score.vot.get("eao", score.success_auc))

    for score in sorted(scores, key=height):
        x, y = score.latency_ms.get("update", {}).get("p50", math.nan), height(score)
        if math.isfinite(x) and x > 0 and math.isfinite(y) and score.spec != "identity":
            place = max(y, place + 0.03)
            axis.scatter([x], [y], color=colours[score.name], s=50, zorder=3)
            axis.annotate(score.name, (x, y), xytext=(x * 1.12, place), va="center", fontsize=7)
    axis.set_xscale("log")
    axis.margins(x=0.25)
    axis.set_ylim(0, 1)
    return figures


def _render(figure: Any, kind: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


@dataclass(frozen=True)
class Strip:
    """Pictures around one loss."""

    tracker: str
    sequence: str
    frame: int
    pictures: list[tuple[str, bytes]]  # caption, JPEG


def draw_strips(
    runs: dict[str, Runs],
    scores: list[TrackerScore],
    sequences: list[Sequence],
    protocol: Protocol,
    colours: dict[str, str],
    limit: int,
) -> list[Strip]:
    """Draw the frames around the losses, the boxes of all trackers and the truth in white; first tracker first.

    Losses of the identity, which does not try, are left out.
    """
    if protocol not in ("ope", "realtime"):
        return []
    losses = [
        (score, sequence, lost)
        for score in scores
        if score.spec != "identity"
        for sequence in sequences
        if (lost := score.sequences[sequence.name].lost_at) is not None
    ]
    strips = []
    for score, sequence, lost in losses[:limit]:
        pictures = []
        for index in sorted({min(max(lost + offset, 0), len(sequence) - 1) for offset in STRIP_OFFSETS}):
            image = sequence.image(index).copy()
            thick = max(1, round(image.shape[1] / 320))
            boxes = [(runs[s.spec][sequence.name][0][1].boxes[index], colours[s.name]) for s in scores]
            for box, colour in [*boxes, (sequence.boxes[index], "#ffffff")]:
                _rectangle(image, box, colour, thick)
            size = (STRIP_WIDTH, max(1, round(image.shape[0] * STRIP_WIDTH / image.shape[1])))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
            pictures.append((f"frame {index}" + (" lost" if index == lost else ""), jpeg))
        strips.append(Strip(score.name, sequence.name, lost, pictures))
    return strips


def _rectangle(image: NDArray[np.uint8], box: Floats, colour: str, thick: int) -> None:
    if not np.isfinite(box).all():
        return
    x, y, w, h = np.clip(box, -1e5, 1e5)
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    cv2.rectangle(image, (round(x), round(y)), (round(x + w), round(y + h)), (blue, green, red), thick)


# --- the page --------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .scroll { overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child, td.text, th.text { text-align: left; } td.wrap { white-space: normal; }
table.sort th { cursor: pointer; user-select: none; } table.sort th[data-way]::after { content: " \\25be"; }
table.sort th[data-way=up]::after { content: " \\25b4"; }
tbody tr:hover { background: var(--soft); } .lost { color: #d33; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
.plots img { width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.strip { display: grid; grid-template-columns: repeat(6, 1fr); gap: .4rem; } figure { margin: 0; }
figcaption { font-size: .8rem; opacity: .75; }
.strip img { display: block; width: 100%; border-radius: 4px; }
.key span { margin-right: 1rem; } code { overflow-wrap: anywhere; }
"""
SCRIPT = """
for (const head of document.querySelectorAll("table.sort th")) head.addEventListener("click", () => {
  const table = head.closest("table"), place = [...head.parentNode.children].indexOf(head);
  const way = head.dataset.way === "down" ? "up" : "down";
  for (const other of table.querySelectorAll("th")) delete other.dataset.way;
  head.dataset.way = way;
  const value = row => { const cell = row.children[place], n = parseFloat(cell.dataset.value ?? cell.textContent);
    return isNaN(n) ? cell.textContent : n; };
  const rows = [...table.tBodies[0].rows].sort((a, b) => { const x = value(a), y = value(b);
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return way === "up" ? order : -order; });
  table.tBodies[0].append(...rows);
});
"""


def _page(
    scores: list[TrackerScore],
    sequences: list[Sequence],
    protocol: Protocol,
    about: dict[str, Any],
    machine: dict[str, str],
    plots: dict[str, bytes],
    strips: list[Strip],
    colours: dict[str, str],
) -> str:
    safe = html.escape

    def named(name: str) -> str:
        return f'<span class="swatch" style="background:{colours[name]}"></span>{safe(name)}'

    def table(head: list[str], rows: list[list[str]], sort: bool = True) -> str:
        top = "".join(f"<th>{cell}</th>" for cell in head)
        body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
        kind = ' class="sort"' if sort else ""
        return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'

    def cell(text: str, kind: str = "") -> str:
        return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"

    columns = _columns(protocol)
    overall = table(
        ["tracker", *(column[0] for column in columns)],
        [[cell(named(s.name)), *(cell(_number(read(s), form)) for _, _, read, form in columns)] for s in scores],
    )
    images = "".join(
        f'<img alt="{name} plot" src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
        for name, svg in plots.items()
    )
    by_sequence = table(
        ["sequence", "frames", *(named(s.name) for s in scores)],
        [
            [cell(safe(q.name)), cell(str(len(q)))]
            + [
                cell(
                    f"{s.sequences[q.name].success_auc:.3f}", "lost" if s.sequences[q.name].lost_at is not None else ""
                )
                for s in scores
            ]
            for q in sequences
        ],
    )
    attributes = sorted({name for q in sequences for name in q.attributes})
    by_attribute = ""
    if attributes:
        rows = []
        for attribute in attributes:
            having = [q.name for q in sequences if attribute in q.attributes]
            means = [cell(f"{np.nanmean([s.sequences[n].success_auc for n in having]):.3f}") for s in scores]
            rows.append([cell(safe(attribute)), cell(str(len(having))), *means])
        head = ["attribute", "sequences", *(named(s.name) for s in scores)]
        by_attribute = f"<h2>Success AUC by attribute</h2>{table(head, rows)}"
    stages = ("update", "crop", "network", "post", "init")
    latency = table(
        ["tracker", *(f"{stage} p{p}" for stage in stages for p in (50, 95, 99))],
        [
            [cell(named(s.name))]
            + [
                cell(_number(s.latency_ms.get(g, {}).get(f"p{p}", math.nan), ".2f"))
                for g in stages
                for p in (50, 95, 99)
            ]
            for s in scores
        ],
    )
    problems = [(s.name, q, row.error) for s in scores for q, row in s.sequences.items() if row.error]
    errors = ""
    if problems:
        rows = [[cell(safe(a)), cell(safe(b), "text"), cell(safe(c), "text wrap")] for a, b, c in problems]
        errors = f"<h2>What went wrong</h2>{table(['tracker', 'sequence', 'what'], rows, sort=False)}"
    shown = ""
    if strips:
        key = "".join(f"<span>{named(s.name)}</span>" for s in scores)
        shown = f'<h2>Losses</h2><p class="key">{key}<span>truth in white</span></p>'
        for strip in strips:
            frames = "".join(
                f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
                f"<figcaption>{caption}</figcaption></figure>"
                for caption, jpeg in strip.pictures
            )
            title = f"<p>{named(strip.tracker)} on {safe(strip.sequence)}, lost at frame {strip.frame}</p>"
            shown += f'{title}<div class="strip">{frames}</div>'
        tried = [s for s in scores if s.spec != "identity"]
        total = sum(row.lost_at is not None for s in tried for row in s.sequences.values())
        shown += f"<p>{len(strips)} of {total} losses shown.</p>" if total > len(strips) else ""
    facts = [
        [cell(safe(k)), cell(f"<code>{safe(str(v))}</code>", "text wrap")] for k, v in {**about, **machine}.items()
    ]
    weights = [
        [cell(safe(s.name)), cell(f"<code>{safe(s.spec)}</code>", "text wrap"),
         cell(" ".join(f"{safe(n)} {d}" for n, d in s.files.items()), "text wrap")]
        for s in scores
    ]  # fmt: skip
    prints = [[cell(safe(q.name)), cell(q.fingerprint(), "text")] for q in sequences]
    title = f"{about['data'] or 'Tracking benchmark'}: {len(sequences)} sequences, {about['frames']} frames"
    note = "" if protocol in ("supervised", "anchors") else (
        "Lost: overlap at most 0.1 for 10 frames, shown red below. "
    )  # fmt: skip
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{safe(title)}</title><style>{STYLE}</style></head><body>
<h1>{safe(title)}</h1>
<p>Protocol {protocol}; success rule {about["rule"]}: {about["rule reads"]}. {note}Times are of one update, without
decoding. Click a heading to sort.</p>
{overall}
<h2>Plots</h2><div class="plots">{images}</div>
{errors}
<h2>Success AUC by sequence</h2>{by_sequence}
{by_attribute}
<h2>Latency, ms</h2>{latency}
{shown}
<h2>How this was made</h2>{table(["", ""], facts, sort=False)}
<h2>Trackers and their files</h2>{table(["tracker", "given as", "SHA-256"], weights, sort=False)}
<h2>Data fingerprints</h2><details><summary>{about["data fingerprint"]} over all</summary>
{table(["sequence", "fingerprint"], prints, sort=False)}</details>
<script>{SCRIPT}</script></body></html>
"""
