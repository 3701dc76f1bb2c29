"""The numbers of a report as tables: text for a terminal, CSV, LaTeX, Markdown."""

import csv
import io
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tracker.benchmark.judge.metrics import Rule
from tracker.benchmark.judge.scores import PERCENTILES, STAGES, SequenceScore, TrackerScore
from tracker.benchmark.protocols import Protocol
from tracker.footage.sequence import Sequence

Read = Callable[[TrackerScore], float]


class Column(NamedTuple):
    """One measure of a tracker: headings, how to read it, format, what it is; better: 1 more, -1 less, 0 neither."""

    heading: str
    latex: str
    read: Read
    form: str
    meaning: str
    better: int


class Measure(NamedTuple):
    """One measure of a tracker on a sequence: heading, field of `SequenceScore`, format; better: 1 more, -1 less, 0."""

    heading: str
    key: str
    form: str
    better: int


SEQUENCE_MEASURES = (
    Measure("success AUC", "success_auc", ".3f", 1),
    Measure("precision @20 px", "precision_20", ".3f", 1),
    Measure("norm. precision @0.2", "normalised_precision_20", ".3f", 1),
    Measure("average overlap", "average_overlap", ".3f", 1),
    Measure("losses", "losses", ".0f", -1),
    Measure("update ms, p50", "ms_p50", ".2f", 0),
)


def is_vot(protocol: Protocol) -> bool:
    """Return whether EAO, accuracy and robustness judge a protocol."""
    return protocol in ("supervised", "anchors")


def main_column(protocol: Protocol) -> Column:
    """Return the measure by which trackers are ranked."""
    return columns(protocol)[0]


def columns(protocol: Protocol) -> list[Column]:
    """Return the measures of a protocol, the one that ranks first."""

    def latency(percent: int) -> Column:
        key = f"p{percent}"
        return Column(
            f"ms {key}", f"ms {key}", lambda s: s.latency_ms.get("update", {}).get(key, math.nan), ".2f",
            f"milliseconds of one update without decoding, {percent}th percentile", 0,
        )  # fmt: skip

    common = [
        Column("score AUC", "score", lambda s: s.confidence_auc, ".3f",
               "chance that a frame on target (overlap > 0.5) has a higher score than one off target (at most 0.1, or "
               "the target absent): 1 tells them apart, 0.5 says nothing", 1),
        Column("losses", "losses", lambda s: s.losses, ".0f", "overlap at most 0.1 for 10 frames in a row", -1),
        latency(50),
        latency(95),
    ]  # fmt: skip
    if is_vot(protocol):
        fewer = protocol == "supervised"
        meaning = "failures a sequence, weighted by length" if fewer else "share of frames before the failure"
        return [
            Column("EAO", "EAO", lambda s: s.vot["eao"], ".3f", "expected average overlap", 1),
            Column("accuracy", "A", lambda s: s.vot["accuracy"], ".3f", "mean overlap while tracking", 1),
            Column("robustness", "R", lambda s: s.vot["robustness"], ".3f", meaning, -1 if fewer else 1),
            Column("failures", "failures", lambda s: s.vot["failures"], ".0f", "runs or restarts in all", -1),
            *common[2:],
        ]
    if protocol == "longterm":
        return [
            Column("F", "F", lambda s: s.long_term["f"], ".3f", "best F over the confidence thresholds", 1),
            Column("precision", "Pr", lambda s: s.long_term["precision"], ".3f", "there: mean overlap of its boxes", 1),
            Column("recall", "Re", lambda s: s.long_term["recall"], ".3f", "there: overlap a visible frame", 1),
            Column("threshold", "threshold", lambda s: s.long_term["threshold"], ".3f", "the score of that place", 0),
            *common,
        ]  # fmt: skip
    return [
        Column("success AUC", "AUC", lambda s: s.success_auc, ".3f", "mean of the success curve, 21 thresholds", 1),
        Column("success @0.5", r"SR$_{0.5}$", lambda s: s.success_rate_50, ".3f", "frames with overlap 0.5", 1),
        Column("precision @20 px", r"P$_{20}$", lambda s: s.precision_20, ".3f", "centre at most 20 px away", 1),
        Column("norm. precision @0.2", r"NP$_{0.2}$", lambda s: s.normalised_precision_20, ".3f", "LaSOT's", 1),
        Column("norm. precision AUC", "NP AUC", lambda s: s.normalised_precision_auc, ".3f", "TrackingNet's", 1),
        Column("AO", "AO", lambda s: s.average_overlap, ".3f", "GOT-10k: mean overlap of frames after the first", 1),
        Column("SR 0.5", r"SR$^{G}_{0.5}$", lambda s: s.got10k_sr50, ".3f", "GOT-10k: share of them above 0.5", 1),
        Column("SR 0.75", r"SR$^{G}_{0.75}$", lambda s: s.got10k_sr75, ".3f", "GOT-10k: share of them above 0.75", 1),
        *common,
    ]  # fmt: skip


def number(value: float, form: str) -> str:
    """Return a number as text, "-" for one that is not finite."""
    return format(value, form) if math.isfinite(value) else "-"


def best(values: list[float], better: int, form: str) -> list[bool]:
    """Return which values read as the best one, (N,); none when there is nothing to choose."""
    shown = [number(value, form) for value in values]
    finite = [value for value in values if math.isfinite(value)]
    if not better or len(finite) < 2 or len(set(shown)) < 2:
        return [False] * len(values)
    top = number(max(finite) if better > 0 else min(finite), form)
    return [text == top for text in shown]


def grid(scores: list[TrackerScore], protocol: Protocol, mark: Callable[[str], str] = str) -> Iterator[list[str]]:
    """Yield a row of text for each tracker: its name and its measures, the best of each marked."""
    measured = columns(protocol)
    marks = [best([column.read(score) for score in scores], column.better, column.form) for column in measured]
    for index, score in enumerate(scores):
        texts = [number(column.read(score), column.form) for column in measured]
        yield [score.name, *(mark(text) if top[index] else text for text, top in zip(texts, marks, strict=True))]


def text_table(scores: list[TrackerScore], protocol: Protocol) -> str:
    """Return the table for a terminal."""
    rows = [["tracker", *(column.heading for column in columns(protocol))], *grid(scores, protocol)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        lines.append("  ".join([name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]))
    return "\n".join(lines)


def latex_table(scores: list[TrackerScore], protocol: Protocol, rule: Rule) -> str:
    """Return the table as a LaTeX tabular, the best of each measure in bold."""
    measured = columns(protocol)
    lines = [f"% protocol {protocol}, success rule {rule}", rf"\begin{{tabular}}{{l{'r' * len(measured)}}}", r"\hline"]
    lines += [rf"{' & '.join(['Tracker', *(column.latex for column in measured)])} \\", r"\hline"]
    for name, *cells in grid(scores, protocol, lambda text: rf"\textbf{{{text}}}"):
        lines.append(rf"{' & '.join([_latex(name), *cells])} \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _latex(text: str) -> str:
    special = {character: "\\" + character for character in "&%$#_{}"} | {"\\": r"\textbackslash{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(character, character) for character in text)


def trackers_csv(scores: list[TrackerScore], protocol: Protocol) -> str:
    """Return the measures of each tracker as CSV, latency of every stage with them."""
    measured = columns(protocol)[:-2]
    stages = [(stage, f"p{p}") for stage in (*STAGES, "init") for p in PERCENTILES]
    rows: list[list[Any]] = [
        ["tracker", *(column.heading for column in measured), *(f"{stage} ms {p}" for stage, p in stages)]
    ]
    for score in scores:
        times = [score.latency_ms.get(stage, {}).get(p, math.nan) for stage, p in stages]
        rows.append([score.name, *(_cell(float(column.read(score))) for column in measured), *map(_cell, times)])
    return _csv(rows)


def sequences_csv(scores: list[TrackerScore]) -> str:
    """Return the measures of each tracker on each sequence as CSV."""
    names = list(SequenceScore.__dataclass_fields__)
    rows: list[list[Any]] = [["tracker", "sequence", *names]]
    for score in scores:
        rows += [
            [score.name, name, *(_cell(getattr(row, key)) for key in names)] for name, row in score.sequences.items()
        ]
    return _csv(rows)


def _csv(rows: list[list[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def by_attribute(
    scores: list[TrackerScore], sequences: list[Sequence], key: str
) -> Iterator[tuple[str, int, list[float]]]:
    """Yield each attribute, the number of sequences that have it, and the mean of a measure over them by tracker."""
    for attribute in sorted({name for sequence in sequences for name in sequence.attributes}):
        having = [sequence.name for sequence in sequences if attribute in sequence.attributes]
        rows = [np.array([getattr(score.sequences[name], key) for name in having], float) for score in scores]
        yield attribute, len(having), [float(row[np.isfinite(row)].mean()) if row.size else math.nan for row in rows]


def markdown(
    scores: list[TrackerScore], sequences: list[Sequence], protocol: Protocol, facts: dict[str, dict[str, Any]]
) -> str:
    """Return the tables for a document: measures, sequences, attributes, latency of each stage, how it was made.

    facts: what to say of the run and of the machine, a list each by its title.
    """
    measured = columns(protocol)
    names = [score.name for score in scores]
    parts = [_markdown(["tracker", *(c.heading for c in measured)], grid(scores, protocol, lambda text: f"**{text}**"))]
    measure = SEQUENCE_MEASURES[0]
    rows = []
    for sequence in sequences:
        values = [float(getattr(score.sequences[sequence.name], measure.key)) for score in scores]
        rows.append([sequence.name, str(len(sequence)), *_marked(values, measure)])
    parts += [f"{measure.heading} of each sequence:", _markdown(["sequence", "frames", *names], rows)]
    rows = [
        [name, str(count), *_marked(values, measure)]
        for name, count, values in by_attribute(scores, sequences, measure.key)
    ]
    if rows:
        parts += [f"{measure.heading} by attribute:", _markdown(["attribute", "sequences", *names], rows)]
    stages = list(STAGES)
    times = [
        [
            score.name,
            *(" / ".join(number(score.latency_ms.get(stage, {}).get(f"p{p}", math.nan), ".2f") for p in PERCENTILES)
              for stage in stages),
        ]
        for score in scores
    ]  # fmt: skip
    parts += ["Milliseconds of one update and of its stages, p50 / p95 / p99:", _markdown(["tracker", *stages], times)]
    for title, lines in facts.items():
        parts.append("\n".join([f"{title}:", "", *(f"- {key}: `{value}`" for key, value in lines.items())]))
    return "\n\n".join(parts) + "\n"


def _marked(values: list[float], measure: Measure) -> list[str]:
    tops = best(values, measure.better, measure.form)
    return [
        f"**{number(value, measure.form)}**" if top else number(value, measure.form)
        for value, top in zip(values, tops, strict=True)
    ]


def _markdown(head: list[str], rows: Any) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
