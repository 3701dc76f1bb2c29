"""The HTML page of a report: one file, nothing to fetch."""

import base64
import html
import math
from collections.abc import Callable
from typing import Any

from tracker.benchmark.judge.scores import PERCENTILES, STAGES, TrackerScore
from tracker.benchmark.protocols import Protocol
from tracker.benchmark.report.pictures import Strip
from tracker.benchmark.report.tables import (
    LOADED,
    SEQUENCE_MEASURES,
    TAG_HEADING,
    Column,
    Measure,
    against,
    by_attribute,
    by_tag,
    is_vot,
    number,
)
from tracker.footage.sequence import Sequence

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --lost: #c22; }
@media (prefers-color-scheme: dark) { :root { --lost: #f77; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .scroll { overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; font-weight: 600; }
th:first-child, td:first-child, td.text, th.text { text-align: left; } td.wrap { white-space: normal; }
table.sort th { cursor: pointer; user-select: none; } table.sort th[data-way]::after { content: " \\25be"; }
table.sort th[data-way=up]::after { content: " \\25b4"; } tbody tr:hover { background: var(--soft); }
.best { font-weight: 700; } td small { display: block; opacity: .7; font-weight: 400; }
.verdict { padding-left: 1.2rem; } .lost { color: var(--lost); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem; }
.plots img { width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
.strip { display: grid; grid-template-columns: repeat(6, 1fr); gap: .4rem; } figure { margin: 0; }
.loss { margin: 1rem 0; } .loss p { margin: .2rem 0; } .loss b { margin-right: .6rem; }
figcaption { font-size: .8rem; opacity: .75; } .strip img { display: block; width: 100%; border-radius: 4px; }
.key > span { margin-right: 1rem; white-space: nowrap; }
.key { position: sticky; top: 0; background: Canvas; padding: .3rem 0; z-index: 1; }
code { overflow-wrap: anywhere; } .note { opacity: .75; } [hidden] { display: none; } select { font: inherit; }
"""
SCRIPT = """
for (const head of document.querySelectorAll("table.sort th")) head.addEventListener("click", () => {
  const table = head.closest("table"), place = [...head.parentNode.children].indexOf(head);
  const way = head.dataset.way === "down" ? "up" : "down";
  for (const other of table.querySelectorAll("th")) delete other.dataset.way;
  head.dataset.way = way;
  const text = row => row.children[place].textContent.trim(), value = row => parseFloat(text(row));
  const rows = [...table.tBodies[0].rows], words = place === 0 || rows.every(row => isNaN(value(row)));
  rows.sort((a, b) => {
    if (words) return (way === "down" ? 1 : -1) * text(a).localeCompare(text(b), undefined, {numeric: true});
    if (isNaN(value(a)) || isNaN(value(b))) return isNaN(value(a)) - isNaN(value(b));  // nothing measured goes last
    return (way === "down" ? -1 : 1) * (value(a) - value(b));
  });
  table.tBodies[0].append(...rows);
});
for (const pick of document.querySelectorAll("select.pick")) pick.addEventListener("change", () => {
  for (const part of document.querySelectorAll(`[data-of="${pick.id}"]`)) part.hidden = part.dataset.is !== pick.value;
});
document.getElementById("who")?.addEventListener("change", event => {
  for (const loss of document.querySelectorAll(".loss"))
    loss.hidden = event.target.value !== "" && !loss.dataset.trackers.split("|").includes(event.target.value);
});
"""
Cell = str
safe = html.escape


def cell(text: str, kind: str = "") -> Cell:
    """Return a table cell; kind: its CSS classes."""
    return f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>"


def table(head: list[str], rows: list[list[Cell]], sort: bool = True) -> str:
    """Return a table that sorts by the heading clicked; head: heading cells, or their text."""
    top = "".join(text if text.startswith("<th") else f"<th>{text}</th>" for text in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    kind = ' class="sort"' if sort else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def page(
    scores: list[TrackerScore],
    sequences: list[Sequence],
    protocol: Protocol,
    measured: list[Column],
    other: str,
    verdict: list[str],
    about: dict[str, Any],
    machine: dict[str, str],
    plots: dict[str, bytes],
    strips: list[Strip],
    losses: int,
    colours: dict[str, str],
) -> str:
    """Return the page.

    measured: the measures of the table. other: the tracker that the others are held against, "" for none. verdict: the
    sentences at the top. about, machine: facts of the run and of the machine. plots: SVG by name. strips: the losses
    shown of so many.
    colours: by the name of the tracker.
    """

    def named(name: str) -> str:
        return f'<span class="swatch" style="background:{colours[name]}"></span>{safe(name)}'

    title = f"{about['data'] or 'Tracking benchmark'}: {len(sequences)} sequences, {about['frames']} frames"
    lost = "" if is_vot(protocol) else " A loss is an overlap of at most 0.1 for 10 frames; such sequences are red."
    timed = ", ".join(sorted({text for score in scores for text in score.at_once}))
    loaded = [score.name for score in scores if score.load > LOADED]
    busy = f" Latencies with ? are unreliable: more than one process wanted each core ({safe(', '.join(loaded))})."
    alone = "" if timed == "one" else f" Trackers ran {safe(timed)} at once, so latency is not that of a tracker alone."
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{safe(title)}</title><style>{STYLE}</style></head><body>
<h1>{safe(title)}</h1>
<ul class="verdict">{"".join(f"<li>{safe(line)}</li>" for line in verdict)}</ul>
{_overall(scores, measured, other, named)}
<p class="note">Small: 95 % interval over sequences (bootstrap). Bold: distinguishable from every other tracker here.
Protocol {protocol}; rule {about["rule"]}: {about["rule reads"]}; frames whose truth does not count are
{about["frames that do not count"]}.{lost} Milliseconds are of one update without
decoding.{alone}{busy if loaded else ""} Click a heading to sort, rest on it to read what it means.</p>
<h2>Plots</h2><div class="plots">{"".join(_image(name, "svg+xml", svg) for name, svg in plots.items())}</div>
{_problems(scores)}
<h2>By sequence</h2>{_choice("sequence", [_by_sequence(scores, sequences, m, named) for m in SEQUENCE_MEASURES])}
{_attributes(scores, sequences, named)}
{_tags(scores, named)}
<h2>Latency, ms</h2>{_latency(scores, named)}
{_losses(scores, strips, losses, named)}
<h2>How this was made</h2>{_facts({**about, **machine})}
<h2>Trackers and their files</h2>{_files(scores, named)}
<h2>Data fingerprints</h2><details><summary>{about["data fingerprint"]} over all</summary>
{table(["sequence", "fingerprint"], [[cell(safe(q.name)), cell(q.fingerprint(), "text")] for q in sequences], False)}
</details><script>{SCRIPT}</script></body></html>
"""


Named = Callable[[str], str]


def _image(name: str, kind: str, data: bytes) -> str:
    return f'<img alt="{safe(name)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def _overall(scores: list[TrackerScore], measured: list[Column], other: str, named: Named) -> str:
    rows = []
    for score in scores:
        cells = [cell(named(score.name))]
        for column in measured:
            interval = column.span(score)
            small = f"<small>{interval}</small>" if interval else ""
            cells.append(cell(column.show(score) + small, "best" if column.is_best(score) else ""))
        rows.append([*cells, *([cell(safe(against(score)))] if other else [])])
    head = [f'<th title="{safe(column.meaning)}">{safe(column.heading)}</th>' for column in measured]
    meaning = f"{measured[0].heading} above that of {other}, 95 % interval, sequences won and lost"
    head += [f'<th title="{safe(meaning)}">above {safe(other)}</th>'] if other else []
    return table(["tracker", *head], rows)


def _choice(name: str, tables: list[tuple[str, str]]) -> str:
    """Return tables of which one is shown, and what picks it; tables: heading and table."""
    options = "".join(f"<option>{safe(heading)}</option>" for heading, _ in tables)
    parts = "".join(
        f'<div data-of="{name}" data-is="{safe(heading)}"{" hidden" if index else ""}>{text}</div>'
        for index, (heading, text) in enumerate(tables)
    )
    return f'<p><select class="pick" id="{name}" aria-label="measure">{options}</select></p>{parts}'


def _by_sequence(
    scores: list[TrackerScore], sequences: list[Sequence], measure: Measure, named: Named
) -> tuple[str, str]:
    rows = []
    for sequence in sequences:
        found = [score.sequences[sequence.name] for score in scores]
        values = [float(getattr(row, measure.key)) for row in found]
        kinds = ["lost" if row.losses > 0 else "" for row in found]
        cells = [cell(number(value, measure.form), kind) for value, kind in zip(values, kinds, strict=True)]
        rows.append([cell(safe(sequence.name)), cell(str(len(sequence))), *cells])
    return measure.heading, table(["sequence", "frames", *(named(score.name) for score in scores)], rows)


def _attributes(scores: list[TrackerScore], sequences: list[Sequence], named: Named) -> str:
    head = ["attribute", "sequences", *(named(score.name) for score in scores)]
    tables = []
    for measure in SEQUENCE_MEASURES:
        rows = [
            [cell(safe(name)), cell(str(count))] + [cell(number(value, measure.form)) for value in values]
            for name, count, values in by_attribute(scores, sequences, measure.key)
        ]
        tables.append((measure.heading, table(head, rows)))
    known = any(sequence.attributes for sequence in sequences)
    return f"<h2>By attribute, mean over its sequences</h2>{_choice('attribute', tables)}" if known else ""


def _tags(scores: list[TrackerScore], named: Named) -> str:
    rows = [
        [cell(safe(name)), cell(str(count)), *(cell(text) for text in cells)] for name, count, cells in by_tag(scores)
    ]
    head = ["tag", "frames counted, at most", *(named(score.name) for score in scores)]
    return f"<h2>{TAG_HEADING}</h2>{table(head, rows)}" if rows else ""


def _latency(scores: list[TrackerScore], named: Named) -> str:
    stages = (*STAGES, "init")
    rows = [
        [cell(named(score.name))]
        + [
            cell(number(score.latency_ms.get(stage, {}).get(f"p{p}", math.nan), ".2f"))
            for stage in stages
            for p in PERCENTILES
        ]
        for score in scores
    ]
    return table(["tracker", *(f"{stage} p{p}" for stage in stages for p in PERCENTILES)], rows)


def _problems(scores: list[TrackerScore]) -> str:
    rows = [
        [
            cell(safe(score.name)),
            cell(safe(name), "text"),
            cell(str(row.no_box)),
            cell(safe(row.error or row.note), "text wrap"),
        ]
        for score in scores
        for name, row in score.sequences.items()
        if row.error or row.note or row.no_box
    ]
    head = ["tracker", '<th class="text">sequence</th>', "frames without a box", '<th class="text">what</th>']
    said = '<p class="note">Frames without a box count as failed.</p>'
    return f"<h2>What went wrong</h2>{said}{table(head, rows)}" if rows else ""


def _losses(scores: list[TrackerScore], strips: list[Strip], losses: int, named: Named) -> str:
    if not strips:
        return ""
    key = "".join(f"<span>{named(score.name)}</span>" for score in scores)
    count = f"All {losses}" if losses == len(strips) else f"{len(strips)} of {losses}"
    names = sorted({name for strip in strips for name in strip.trackers})
    options = "".join(f"<option>{safe(name)}</option>" for name in names)
    shown = []
    for strip in strips:
        frames = "".join(
            f"<figure>{_image(caption, 'jpeg', jpeg)}<figcaption>{caption}</figcaption></figure>"
            for caption, jpeg in strip.pictures
        )
        label = f" @{safe(strip.label)}" if strip.label else ""
        title = f"<p><b>{safe(strip.sequence)}{label}</b> {' '.join(named(name) for name in strip.trackers)}</p>"
        who = safe("|".join(strip.trackers))
        shown.append(f'<div class="loss" data-trackers="{who}">{title}<div class="strip">{frames}</div></div>')
    return f"""<h2>Losses</h2><p class="key">{key}<span>truth in white</span>
<select id="who" aria-label="tracker"><option value="">all trackers</option>{options}</select></p>
<p class="note">{count} places where a tracker lost its target. The boxes of all trackers are drawn, thick for those
that lost it there.</p>{"".join(shown)}"""


def _facts(facts: dict[str, Any]) -> str:
    rows = [[cell(safe(k)), cell(f"<code>{safe(str(v))}</code>", "text wrap")] for k, v in facts.items()]
    return table(["", ""], rows, sort=False)


def _files(scores: list[TrackerScore], named: Named) -> str:
    rows = [
        [cell(named(score.name)), cell(f"<code>{safe(score.spec)}</code>", "text wrap"),
         cell(" ".join(f"{safe(name)} {digest}" for name, digest in score.files.items()), "text wrap")]
        for score in scores
    ]  # fmt: skip
    return table(["tracker", '<th class="text">given as</th>', '<th class="text">SHA-256</th>'], rows, sort=False)
