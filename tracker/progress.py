"""How far a work is, on stderr: a bar on a terminal; elsewhere, as in a log, a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Self

from tqdm import tqdm

EVERY = 5.0  # seconds between two lines


class Progress:
    """A context manager that counts what is done.

    name: of the work. total: None when unknown. unit: what is counted, in the plural. quiet: says nothing at all.
    """

    def __init__(self, name: str, total: int | None, unit: str = "frames", quiet: bool = False) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._lines = not quiet and not sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=name, unit=f" {unit}", disable=quiet or self._lines)
        self._count, self._begin = 0, time.monotonic()
        self._said = self._begin

    def update(self, count: int = 1) -> None:
        """Count some more."""
        self._bar.update(count)
        self._count += count
        now = time.monotonic()
        if self._lines and now - self._said >= EVERY:
            self._said = now
            of = "" if self._total is None else f" of {self._total}"
            rate = self._count / (now - self._begin)
            print(f"{self._name}: {self._count}{of} {self._unit}, {rate:.1f} a second", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
