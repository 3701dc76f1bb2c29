"""What a run has shown, in a few plain sentences: the first lines of a report."""

import math

from tracker.benchmark.judge.certainty import FEWEST, sentence
from tracker.benchmark.judge.scores import TrackerScore, compare
from tracker.benchmark.report.tables import LOADED, Column


def verdict(scores: list[TrackerScore], measured: list[Column], other: str, problems: list[str]) -> list[str]:
    """Return the sentences.

    scores: best first. other: the tracker that the others are held against. problems: what was asked for and left out.
    """
    column = measured[0]
    known = [score for score in scores if math.isfinite(column.read(score))]
    lines = []
    if not known:
        lines.append(f"No {column.heading}: the data set publishes no truth, or nothing could be run.")
    elif len(known) == 1:
        top = known[0]
        lines.append(f"{top.name}: {column.heading} {_value(top, column)}, {_on(top.judged)}.")
    else:
        lines.append(_top(known, column))
    for score in known:
        if score.name != other and score.difference:
            lines.append(f"{sentence(score.name, other, column.heading, score.difference, column.better)}.")
    lines += [_speed(scores)] if any(_median(score) > 0 for score in scores) else []
    if problems:
        lines.append(
            f"Left out: {len(problems)} of what was asked for ({problems[0]}{', ..' if problems[1:] else ''})."
        )
    return lines


def _value(score: TrackerScore, column: Column) -> str:
    return f"{column.show(score)} {column.span(score)}".strip()


def _on(count: int) -> str:
    return f"on {count} sequence{'s' if count != 1 else ''}"


def _top(known: list[TrackerScore], column: Column) -> str:
    first, *others = known
    text = f"{first.name} reads the best {column.heading}, {_value(first, column)}"
    where = _on(first.judged)
    if first.judged < FEWEST:
        return f"{text}, {where}: too few to tell trackers apart."
    same = [s.name for s in others if not compare(first, s, column.name).distinguishable]
    if not same:
        return f"{text}, {where}: better than every other one here."
    return f"{text}, {where}, and is not distinguishable from {', '.join(same)}."


def _median(score: TrackerScore) -> float:
    return score.latency_ms.get("update", {}).get("p50", math.nan)


def _speed(scores: list[TrackerScore]) -> str:
    timed = sorted((score for score in scores if _median(score) > 0), key=_median)
    text = ", ".join(f"{score.name} {_median(score):.1f}" for score in timed)
    loaded = [score.name for score in timed if score.load > LOADED]
    warn = f" Unreliable, more than one process wanted each core: {', '.join(loaded)}." if loaded else ""
    return f"Median milliseconds an update: {text}.{warn}"
