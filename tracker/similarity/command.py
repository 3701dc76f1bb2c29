"""`siamtrack similarity compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from tracker.errors import InputError, plain
from tracker.similarity.likeness import Match, Similarity
from tracker.similarity.network import FARS, SHIPPED, load_similarity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare_command`."""
    shipped = "; ".join(f"{name}: {load_similarity(name).config.about}" for name in SHIPPED)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="two images, or queries for the gallery")
    parser.add_argument(
        "--weights", default="photos", metavar="NAME|FILE", help=f"of `siamtrack similarity fit`, or {shipped} [photos]"
    )
    parser.add_argument("--gallery", metavar="DIR|FILE", help="rank its images by likeness to each IMAGE")
    parser.add_argument("--save", metavar="FILE", help="write the gallery to a file, which opens at once as --gallery")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="lines for each query [5]")
    parser.add_argument(
        "--threshold", type=float, metavar="S", help="similarity from which it is the same [of the weights]"
    )
    parser.add_argument(
        "--far", type=float, choices=FARS, help="threshold at which at most this share of different pairs passes"
    )


def compare_command(args: argparse.Namespace) -> int:
    """Do two images show the same thing? Or: what in a gallery shows what these do?"""
    if not args.gallery and len(args.images) != 2:
        raise InputError(f"give two images, or --gallery; got {len(args.images)} image(s)")
    if args.top < 1:
        raise InputError(f"--top must be >= 1, got {args.top}")
    if args.threshold is not None and not -1 <= args.threshold <= 1:
        raise InputError(f"--threshold is a similarity, at most 1; got {args.threshold:g}")
    if args.save and not args.gallery:
        raise InputError("--save writes a gallery: name its folder by --gallery")
    engine: Literal["auto", "torch"] = (
        "auto" if args.gallery and Path(args.gallery).is_dir() else "torch"
    )  # a graph takes time to make
    similarity = Similarity.load(args.weights, args.threshold, args.far, engine)
    if similarity.net.config.about:
        print(f"{args.weights}: {similarity.net.config.about}")
    print(f"threshold {similarity.threshold:.4f}")

    def say(query: str, found: Match) -> None:
        print(f"{found.probability:.4f}  {'same' if found.same else 'different':9s}  {query}  {plain(found.name)}")

    if not args.gallery:
        first, second = args.images
        value = similarity(first, second)
        say(first, Match(second, value, value >= similarity.threshold))
        return 0
    gallery = similarity.gallery(args.gallery)
    if args.save:
        gallery.save(args.save)
    for query, matches in zip(args.images, gallery.nearest_of(args.images, args.top), strict=True):
        for match in matches:
            say(query, match)
    return 0
