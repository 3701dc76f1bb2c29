"""Who may come in, and what may be read: hosts, origins, tokens, folders, uploads."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tracker.errors import InputError
from tracker.footage.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, natural_key

COOKIE = "siamtrack"
LISTED = 500  # files of a folder that are offered
DEEP = 3  # folders below a declared one that are looked into
SPARE = 512 * 2**20  # bytes that an upload leaves free on the disk
SCHEMES = ("rtsp", "rtsps", "http", "https")
HEAD = 64  # bytes of an upload that say what it is
MAGIC = {  # what a video begins with; a playlist, which could name other files, does not
    "mp4, mov": rb"....(ftyp|moov|mdat|wide|free|skip)",
    "webm, mkv": rb"\x1a\x45\xdf\xa3",
    "avi": rb"RIFF....AVI ",
    "mpeg": rb"\x00\x00\x01[\xba\xb3]",
    "ts": rb"\x47.{3}",
}
HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets in, before anything else happens, only requests of our own pages from where they may come.

    Without a token only hosts that mean this machine are answered, which keeps out pages of others that let their own
    name point to it. Another site's requests are refused, those for a WebSocket too. With a token, it is wanted in a
    cookie, in the header Authorization, or once in the address, from where it moves into the cookie.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._problem(scope, headers)
        if problem:
            await self._refuse(scope, receive, send, problem)
            return
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self.token and scope["type"] == "http" and scope["path"] == "/" and self._is_token(asked):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, asked, httponly=True, samesite="lax", max_age=30 * 24 * 3600)
            await answer(scope, receive, send)
            return

        async def send_guarded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, send_guarded)  # type: ignore[arg-type]

    def _problem(self, scope: Scope, headers: Headers) -> str:
        host = headers.get("host", "")
        name = _split(f"//{host}").hostname or ""
        if self.token is None and not is_loopback(name):
            return f"the host {host!r} is not this machine"
        origin = headers.get("origin")
        if origin is not None and _split(origin).netloc != host:
            return "requests of other sites are refused"
        arrives = scope["type"] == "http" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not arrives:
            return "requests of other sites are refused"
        if self.token and not self._knows_token(scope, headers):
            return "a token is wanted: open the address that the server printed, with ?token=... at its end"
        return ""

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        given = [bearer if kind.lower() == "bearer" else "", cookie.value if cookie else ""]
        if scope["path"] == "/":
            given += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(map(self._is_token, given))

    def _is_token(self, given: str) -> bool:
        return bool(self.token) and hmac.compare_digest(given.encode(), str(self.token).encode())

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, problem: str) -> None:
        if scope["type"] == "websocket":
            await receive()  # the connect that is answered
            await send({"type": "websocket.close", "code": 1008, "reason": problem[:120]})
            return
        await PlainTextResponse(f"{problem}\n", 403)(scope, receive, send)


def _split(address: str) -> SplitResult:
    """The parts of an address; none of one that is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


@dataclass(frozen=True)
class Folders:
    """The folders of the server whose videos may be opened. roots: as they were declared, made absolute."""

    roots: tuple[Path, ...]

    @staticmethod
    def of(declared: Sequence[str | Path]) -> Folders:
        """Raises NotADirectoryError: one is not a folder."""
        for path in declared:
            if not Path(path).is_dir():
                raise NotADirectoryError(f"{path} is not a folder")
        return Folders(tuple(Path(path).resolve() for path in declared))

    def find(self, root: int, name: str) -> Path:
        """A file or folder below a declared folder. Raises PermissionError: it lies elsewhere, or is not there."""
        if not isinstance(root, int) or not 0 <= root < len(self.roots) or not isinstance(name, str):
            raise PermissionError("there is no such folder")
        base = self.roots[root]
        try:
            path = (base / name).resolve(strict=True)  # with links followed
        except (OSError, ValueError):
            raise PermissionError(f"{name!r} is not in the folder {base.name}") from None
        if not path.is_relative_to(base) or not (path.is_file() or path.is_dir()):
            raise PermissionError(f"{name!r} is not in the folder {base.name}")
        return path

    def listing(self) -> list[dict[str, object]]:
        """The videos and folders of images of each declared folder: {"root", "folder", "name"}."""
        found: list[dict[str, object]] = []
        for number, base in enumerate(self.roots):
            names = sorted(_videos(base, base, DEEP), key=lambda name: natural_key(Path(name)))
            found += [{"root": number, "folder": base.name, "name": name} for name in names[:LISTED]]
        return found


def _videos(base: Path, folder: Path, deep: int) -> list[str]:
    """Names, relative to `base`, of the videos and image folders in `folder` and below."""
    names, images = [], False
    try:
        with os.scandir(folder) as entries:
            inside = [e for e in entries if not e.name.startswith(".")]
    except OSError:
        return []
    for entry in inside:
        suffix = Path(entry.name).suffix.lower()
        images = images or suffix in IMAGE_SUFFIXES
        if suffix in VIDEO_SUFFIXES and Path(entry.path).resolve().is_relative_to(base):
            names.append(Path(entry.path).relative_to(base).as_posix())
        elif deep and entry.is_dir(follow_symlinks=False):
            names += _videos(base, Path(entry.path), deep - 1)
    if images:
        names.append(folder.relative_to(base).as_posix())
    return names


def check_address(address: str) -> str:
    """A stream's address, which may not be a file's. Raises ValueError: another scheme."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InputError(f"{address!r} is no stream: {error}") from None
    if parts.scheme.lower() not in SCHEMES or not parts.netloc:
        raise InputError(f"{address!r} is no stream; allowed: {', '.join(f'{s}://' for s in SCHEMES)}")
    return address


async def receive_upload(
    chunks: AsyncIterator[bytes], announced: int | None, folder: Path, name: str, most: int
) -> Path:
    """Write an upload into a folder and return its path.

    announced: bytes, as the browser says. most: bytes allowed.
    Raises ValueError: it is too large, not a video, or there is no room on the disk; then nothing is kept.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise InputError(f"{Path(name).name[:80]!r} is not a video file ({', '.join(VIDEO_SUFFIXES)})")
    room = min(most, shutil.disk_usage(folder).free - SPARE)
    if announced is not None and announced > most:
        raise InputError(f"the file has {announced / 1e6:,.0f} MB; at most {most / 1e6:,.0f} MB may be uploaded")
    if (announced or 0) > room:
        raise InputError("the server has no room on its disk for this file")
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem)[:60].lstrip(".") or "video"
    number = len(list(folder.iterdir()))
    path = folder / f"{number:03d}-{stem}{suffix}"
    size, head = 0, b""
    try:
        with path.open("xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > room:
                    raise InputError(f"the upload was stopped at {room / 1e6:,.0f} MB, more is not allowed")
                if len(head) < HEAD:
                    head += chunk[: HEAD - len(head)]
                    if len(head) == HEAD and not _is_video(head):
                        break
                file.write(chunk)
        if not _is_video(head):
            raise InputError(f"{Path(name).name[:80]!r} holds no video ({', '.join(MAGIC)})")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _is_video(head: bytes) -> bool:
    return any(re.match(pattern, head, re.DOTALL) for pattern in MAGIC.values())
