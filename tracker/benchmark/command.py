"""The `bench` sub-command: measure trackers on a data set and write a report."""

import argparse
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from tracker.benchmark.judge.rules import RULE_OF, RULES, default_rules, table
from tracker.benchmark.peers import finished
from tracker.benchmark.peers.peers import load_tracker, split_spec, tracker_name
from tracker.benchmark.protocols import Protocol
from tracker.benchmark.report import submissions
from tracker.benchmark.run.jobs import load_runs, run_all
from tracker.errors import InputError
from tracker.footage import layouts
from tracker.footage.check import inspect
from tracker.footage.sequence import Sequence

EXAMPLES = """examples:
  siamtrack bench sequences/ --trackers swift,ncc,identity --out report/
  siamtrack bench OTB100/ --data otb100 --trackers swift,siamfc,opencv-mil --rule otb --workers 4 --out report/
  siamtrack bench sequences/ --trackers swift,nanotrack=onnx/,fear=onnx/ --protocol realtime --fps 30 --out report/
  siamtrack bench LaSOT/ --data lasot --trackers swift,ncc,mine:=trax='python mine.py' --ray auto --out report/
  siamtrack bench sequences/ --trackers swift,fear=onnx/ --events --out lost/
  siamtrack bench val.tsv --root data/ --trackers swift,fear=onnx/ --rule strict --against fear-xs --out report/
  siamtrack bench GOT-10k/val --data got10k --check
"""


EAO = {  # first and last fragment length over which the challenge of a year averages
    "2015": (108, 371), "2016": (108, 371), "2017": (100, 356), "2018": (100, 356), "2019": (46, 291),
    "2020": (115, 755), "2021": (115, 755), "2022": (115, 755),
}  # fmt: skip
EAO_HELP = (
    "fragment lengths over which the EAO is averaged: the year of the challenge, 2015 to 2022, or two numbers of \
frames (default: the quartiles of the lengths)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bench` to a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"{layouts.__doc__}\n{_peers_text()}\n{_protocols_text()}\n{EXAMPLES}"
    parser.add_argument("path", type=Path, help="the data set: a folder, or a list of clips")
    known = layouts.OF_SEQUENCES
    which = f"{', '.join(known)} (default: folder, and clips for a list)"
    parser.add_argument("--data", choices=known, metavar="LAYOUT", help=which)
    beside = "where the clips of a list lie (default: beside the list)"
    parser.add_argument("--root", type=Path, metavar="DIR", help=beside)
    parser.add_argument("--trackers", default="swift", metavar="A,B=FILES,..", help="what to measure (default swift)")
    parser.add_argument("--protocol", choices=get_args(Protocol), default="ope", help="default ope")
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="folder of results and report (default report)"
    )
    rule = f"how frames are judged: {', '.join(RULES)} (default: that of the data set, else inclusive)"
    parser.add_argument("--rule", choices=list(RULES), metavar="NAME", help=rule)
    parser.add_argument(
        "--rules", action=ShowRules, nargs=0, help="print the table of rules with their sources and end"
    )
    held = "hold every tracker against this one (default: the one that reads best)"
    parser.add_argument("--against", default="", metavar="NAME", help=held)
    base = parser.add_mutually_exclusive_group()
    one = "the boxes count the first pixel as 1 (default: as the layout's authors did)"
    base.add_argument("--one-based", dest="one_based", action="store_true", default=None, help=one)
    base.add_argument("--zero-based", dest="one_based", action="store_false", help="they count it as 0")
    parser.add_argument("--sequences", metavar="A,B,..", help="only these")
    parser.add_argument("--fps", type=float, help="frame rate of the videos, for realtime (default: the data's, or 30)")
    workers = "processes of one thread each; 1 (default) for honest latency, 0 runs in this process, without time-outs"
    parser.add_argument("--workers", type=int, help=workers)
    ray = (
        "spread the work over a Ray cluster: auto, HOST:PORT, ray://HOST:PORT or local; --workers then defaults to all \
its CPUs; data, weights and siamtrack must be in the same place on every machine"
    )
    parser.add_argument("--ray", default="", metavar="ADDRESS", help=ray)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds without an answer that end a run")
    parser.add_argument("--fresh", action="store_true", help="make results again that are there already")
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--strips", type=int, metavar="N", help="show at most N losses as pictures (default all)")
    bare = "leave all footage out of the report, so that it may be passed on"
    show.add_argument("--no-frames", dest="strips", action="store_const", const=0, help=bare)
    happen = (
        "judge what the trackers do when the target is painted out, cut away, copied .. (tracker/benchmark/events.py)"
    )
    parser.add_argument("--events", action="store_true", help=happen)
    parser.add_argument("--seed", type=int, default=0, help="of the events (default 0)")
    begin = "share of a sequence before its event, between 0 and 2/3 (default 1/3)"
    parser.add_argument("--begin", type=float, metavar="SHARE", help=begin)
    repeat = "make each run so often: for trackers that draw at random, and for latency (default 1)"
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help=repeat)
    given = "milliseconds an answer takes under streaming or realtime, for all or by name (default: measured)"
    parser.add_argument("--latency", default="", metavar="MS|NAME=MS,..", help=given)
    kinds = get_args(submissions.Kind)
    write = f"also write the runs as official submissions: {', '.join(kinds)}"
    parser.add_argument("--export", choices=kinds, metavar="KIND", help=write)
    parser.add_argument("--eao", nargs="+", metavar="YEAR|LOW HIGH", help=EAO_HELP)
    parser.add_argument("--check", action="store_true", help="only say what is missing or inconsistent in the data")


class ShowRules(argparse.Action):
    """Prints the table of rules and ends the program, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        """Print and end."""
        print(f"{table()}\n\n{default_rules()}")
        parser.exit()


def _peers_text() -> str:
    from tracker.benchmark.peers import peers

    return peers.__doc__ or ""


def _protocols_text() -> str:
    from tracker.benchmark import protocols

    return protocols.__doc__ or ""


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 done, 1 the check found something, 130 stopped (the same command goes on). Raises."""
    try:
        return _check(args) if args.check else _bench(args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _layout(args: argparse.Namespace) -> str:
    return args.data or ("clips" if args.path.is_file() else "folder")


def _check(args: argparse.Namespace) -> int:
    count = sequences = 0
    for found in inspect(args.path, _layout(args), args.one_based, root=args.root):
        print(f"{found.name}: {found.summary}" if found.summary else f"{found.name}: cannot be used")
        for problem in found.problems:
            print(f"    {problem}")
        sequences, count = sequences + 1, count + len(found.problems)
    print(f"{sequences} sequences, {f'{count} problems' if count else 'all well'}")
    return 1 if count else 0


def _bench(args: argparse.Namespace) -> int:
    from tracker.benchmark.report.pictures import need_matplotlib
    from tracker.benchmark.report.report import write_report
    from tracker.benchmark.report.tables import text_table

    specs = [spec.strip() for spec in args.trackers.split(",") if spec.strip()]
    if not specs:
        raise InputError("--trackers names no tracker")
    workers = (0 if args.ray else 1) if args.workers is None else args.workers
    if args.ray and args.workers is not None and args.workers < 1:
        raise InputError("--ray needs --workers of 1 or more, or none for all CPUs of the cluster")
    if workers < 0 or args.timeout <= 0 or (args.fps is not None and args.fps <= 0):
        raise InputError("--workers must be 0 or more, --timeout and --fps more than 0")
    if args.strips is not None and args.strips < 0:
        raise InputError(f"--strips must be 0 or more, got {args.strips}")
    eao = _eao(args.eao)
    _check_names(specs, args)
    latency = _latencies(specs, args)
    sequences, missing = _select(args)
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    for sequence in sequences:
        if sequence.note:
            print(f"note: {sequence.name}: {sequence.note}", file=sys.stderr)
    if args.events:
        return _bench_events(args, specs, sequences, workers) or int(bool(missing))
    need_matplotlib()  # what is missing is said before the long run, not after it
    _load_all(specs)
    problems = run_all(
        specs,
        sequences,
        args.protocol,
        args.out,
        workers,
        args.timeout,
        args.fresh,
        ray=args.ray,
        repeats=args.repeats,
        latency=latency,
    )
    for line in problems:
        print(f"failed: {line}")
    files = tuple(f"{tracker_name(spec)} on " for spec in specs if split_spec(spec)[1].startswith("results"))
    missing += [line for line in problems if files and line.startswith(files)]  # asked for, and not there
    name, command = args.path.resolve().name, shlex.join(["siamtrack", *sys.argv[1:]])
    rule = RULES[args.rule or RULE_OF.get(_layout(args), "inclusive")]
    found = write_report(
        args.out,
        specs,
        sequences,
        args.protocol,
        rule,
        name,
        args.strips,
        command,
        eao,
        args.against,
        missing,
        args.repeats,
    )
    for score in found.scores:
        for line in dict.fromkeys(row.note for row in score.sequences.values() if row.note):
            print(f"note: {score.name}: {line}")
    if args.export:
        base = layouts.starts_at_one(_layout(args), args.one_based)
        for spec in specs:
            runs = load_runs(args.out, args.protocol, spec, sequences, args.repeats)
            print(f"submission: {submissions.export(args.out, args.export, runs, args.protocol, base)}")
    print("\n".join(found.verdict))
    print(text_table(found.scores, found.measured, found.other))
    print(f"protocol {args.protocol}, rule {rule.name} ({rule.reads}); report: {args.out / 'report.html'}")
    return int(bool(missing))


def _bench_events(args: argparse.Namespace, specs: list[str], sequences: list[Sequence], workers: int) -> int:
    """Make events in the sequences, run the trackers over them, and say what became of each."""
    from tracker.benchmark import events
    from tracker.benchmark.judge import fates
    from tracker.benchmark.report.fates import table_of_all, write_fates
    from tracker.benchmark.report.pictures import need_matplotlib
    from tracker.benchmark.results import load
    from tracker.benchmark.run.jobs import result_path

    need_matplotlib()
    _load_all(specs)
    begin = events.BEGIN if args.begin is None else args.begin
    happened = events.all_events(sequences, seed=args.seed, begin=begin)
    if not happened:
        raise InputError(f"no sequence of {args.path} has room for an event ({events.SHORTEST} frames)")
    folder = args.out / f"events-{args.seed}-{begin}"
    events.write_events(happened, folder)
    names = {event.name for event in happened}
    written = [one for one in events.load_events(folder) if one.sequence.name in names]
    for line in run_all(
        specs, [one.sequence for one in written], "ope", args.out, workers, args.timeout, args.fresh, ray=args.ray
    ):
        print(f"failed: {line}")
    runs = {
        tracker_name(spec): [
            load(result_path(args.out, "ope", tracker_name(spec), one.sequence.name))[0] for one in written
        ]
        for spec in specs
    }
    judged = {name: fates.judge(written, some) for name, some in runs.items()}
    write_fates(args.out, judged, {name: fates.knowledge(written, some) for name, some in runs.items()})
    print(table_of_all(judged))
    print(f"{len(written)} events; by kind: {args.out / 'events.md'}; diagram: {args.out / 'reliability.png'}")
    return 0


def _eao(words: list[str] | None) -> tuple[int, int] | None:
    if not words:
        return None
    if len(words) == 1 and words[0] in EAO:
        return EAO[words[0]]
    numbers = [int(word) for word in words if word.isdigit()]
    if len(numbers) != 2 or len(words) != 2 or not 0 < numbers[0] < numbers[1]:
        raise InputError(f"--eao must be a year of {', '.join(EAO)}, or two numbers of frames, got {' '.join(words)}")
    return numbers[0], numbers[1]


def _check_names(specs: list[str], args: argparse.Namespace) -> None:
    """Say before the run what cannot be: --against of no tracker, result files under a clock, a wrong --export."""
    names = [tracker_name(spec) for spec in specs]
    if args.against and args.against not in names:
        raise InputError(f"--against {args.against}: no such tracker in this run; there are {', '.join(names)}")
    protocol = "events" if args.events else args.protocol
    files = [spec for spec in specs if split_spec(spec)[1].startswith("results")]
    if files and protocol not in finished.PROTOCOLS:
        raise InputError(
            f"{files[0]}: result files cannot answer {protocol}, in which a tracker sees other frames; they answer "
            f"{', '.join(finished.PROTOCOLS)}"
        )
    if args.export:
        submissions.check_kind(args.export, args.protocol)
    if args.repeats < 1:
        raise InputError(f"--repeats must be 1 or more, got {args.repeats}")


def _latencies(specs: list[str], args: argparse.Namespace) -> dict[str, float]:
    """Read --latency: milliseconds for all trackers, or by name."""
    names = [tracker_name(spec) for spec in specs]
    found: dict[str, float] = {}
    for word in filter(None, args.latency.split(",")):
        name, _, text = word.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not value > 0 or (name and name not in names):
            raise InputError(f"--latency {word}: expected milliseconds, or NAME=milliseconds of {', '.join(names)}")
        found |= {name: value} if name else dict.fromkeys(names, value)
    if found and args.protocol not in ("realtime", "streaming"):
        raise InputError(f"--latency has a meaning under realtime and streaming, not under {args.protocol}")
    return found


def _select(args: argparse.Namespace) -> tuple[list[Sequence], list[str]]:
    """Return the sequences that are asked for, and a line for each that cannot be used."""
    names = [name.strip() for name in args.sequences.split(",")] if args.sequences else None
    found = layouts.entries(args.path, _layout(args), args.one_based, args.root)
    sequences, missing = layouts.select(found, names)
    if not sequences:
        raise InputError(f"no sequence of {args.path} can be used: " + "; ".join(missing[:3]))
    return [replace(sequence, fps=args.fps) for sequence in sequences] if args.fps else sequences, missing


def _load_all(specs: list[str]) -> None:
    """Load every tracker once, so that all that is missing is said before the run."""
    missing = []
    for spec in specs:
        try:
            load_tracker(spec)
            print(f"{tracker_name(spec)}: {spec}")
        except (ValueError, OSError) as error:
            missing.append(str(error))
    if missing:
        raise InputError("; ".join(missing))
