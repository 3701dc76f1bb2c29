"""Files that are being written: they appear whole, one run writes each, and what a killed run left is found."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from tracker.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no locks, so what a killed run left is not found either
    fcntl = None  # type: ignore[assignment]

LEAST_FREE = 2**20  # bytes on the disk below which no work is begun


class OutputWarning(UserWarning):
    """What was found where a file is to be written."""


def check_output(path: str | Path, suffixes: tuple[str, ...], force: bool = False) -> Path:
    """Return path if a file can be written there; find out before the work, not after it.

    Raises ValueError for another suffix, FileExistsError without force, OSError for a folder that is not there, or not
    writable, or full.
    """
    path = Path(path)
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is no path")
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: suffix {path.suffix or 'missing'}; allowed: {', '.join(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; remove it, or overwrite it by --force (in Python force=True)")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: the folder {path.parent} is not writable")
    disk = shutil.disk_usage(path.parent)
    if not disk.total:  # /proc and its like
        raise PermissionError(f"{path}: no files can be made in {path.parent.resolve()}")
    if disk.free < LEAST_FREE:
        raise OSError(f"{path}: the disk of {path.parent.resolve()} is full")
    return path


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file that was being written, which those of a write do not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all; what stood there stays until the new one is on the disk.

    Of several that write it at once, one follows the other. A link is followed, and stays. Raises OSError.
    """
    if path.exists() and not path.is_file():  # a folder; a device, which would be replaced
        raise FileExistsError(f"{path} is there already, and no file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    end = Path(os.path.realpath(path))
    part = end.with_name(f".{end.name}.part")
    number = locked_file(part)
    try:
        with named(path), open(number, "wb", closefd=fcntl is None) as file:  # Windows moves no open file
            file.truncate()
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(number)
        os.replace(part, end)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        if fcntl:
            os.close(number)


def partial_path(path: Path) -> Path:
    """A temporary name in the folder of path, with its suffix; to be moved onto path by os.replace when whole."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


class Unfinished:
    """A file that gets its name when it is whole. Until then `part` beside it is locked for this process.

    part: .NAME.part.SUFFIX. One that a killed run left gets the name NAME.unfinished.SUFFIX, and an `OutputWarning`
    says so.
    Raises OSError: another run writes this file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.part = path, path.with_name(f".{path.stem}.part{path.suffix}")
        busy = f"{path}: another run is writing this file"
        self._lock: int | None = locked_file(self.part, busy)
        if fcntl and os.fstat(self._lock).st_size:
            self._put_aside()
            os.close(self._lock)
            self._lock = locked_file(self.part, busy)

    def _put_aside(self) -> None:
        """What a killed run left becomes a file with a name."""
        stem, suffix = self.path.stem, self.path.suffix
        names = (self.path.with_name(f"{stem}.unfinished{f'-{n}' if n else ''}{suffix}") for n in range(10**6))
        free = next(name for name in names if not name.exists())
        os.replace(self.part, free)
        warnings.warn(f"a run that was killed left {free.name} beside {self.path}", OutputWarning, stacklevel=4)

    def keep(self) -> None:
        """All of it is there: give it its name."""
        os.replace(self.part, self.path)
        self._unlock()

    def drop(self) -> None:
        """Leave nothing."""
        self.part.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Appended:
    """A file that grows by texts, each of which is written at once, and whole or not at all.

    path: made anew. name: what errors call it; None: its path. end: bytes that it has.
    """

    def __init__(self, path: Path, name: Path | None = None) -> None:
        self._name, self.end = name or path, 0
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (closed by `close`)

    def put(self, text: str) -> None:
        """Append a text. Raises OSError: the disk is full; then the file is as it was."""
        data = memoryview(text.encode())
        self._file.seek(self.end)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.truncate(self.end)
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise OSError(error.errno, f"{reason}: {self._name}") from None
        self.end = self._file.tell()

    def cut(self, end: int) -> None:
        """Take back what comes after `end` bytes; also of a text that Ctrl-C came into."""
        self.end = end
        self._file.truncate(end)

    def close(self) -> None:
        """Hand it to the disk."""
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()


def swap_folder(made: Path, folder: Path) -> None:
    """Give the whole folder `made`, which lies beside it, the name of `folder`; what stood there goes.

    On Linux a run that is killed leaves the one or the other, at any moment. Elsewhere there is one without either;
    what stood there is then called .NAME.before. Raises OSError: a file stands there, or what cannot be moved.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file")
    before = folder.with_name(f".{folder.name}.before")
    if not folder.exists():
        os.rename(made, folder)
        return
    shutil.copymode(folder, made)
    if _exchanged(made, folder):
        shutil.rmtree(made, ignore_errors=True)
    else:
        shutil.rmtree(before, ignore_errors=True)
        os.rename(folder, before)
        try:
            os.rename(made, folder)
        except BaseException:
            os.rename(before, folder)
            raise
    shutil.rmtree(before, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Give two paths each other's names at once; False: this system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if swap is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of the kernel
    return swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """While this lasts no other run works in `folder`, which is made. Raises OSError: one does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".running"
    lock = locked_file(file, f"{folder}: another run works in this folder; wait for it, or name another one")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(lock)


def locked_file(path: Path, busy: str | None = None) -> int:
    """The number of a file that is open and locked for its holder.

    busy: text of the OSError where another one holds it; None: wait for it.
    """
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is None:
            return number
        try:
            fcntl.flock(number, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except OSError:
            if busy is None:  # a disk without locks
                return number
            os.close(number)
            raise OSError(busy) from None
        if _is_open_as(path, number):
            return number
        os.close(number)  # whoever held it has just moved it away


def _is_open_as(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False
