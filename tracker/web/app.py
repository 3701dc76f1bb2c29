"""The web application: pages, uploads, downloads, and a WebSocket on which a session is shown and steered."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tracker.config import parse_json
from tracker.draw import as_jpeg
from tracker.errors import DataError, InputError, plain
from tracker.footage import boxes as formats
from tracker.footage.dataset import WRITTEN
from tracker.footage.files import VIDEO_SUFFIXES
from tracker.footage.output import partial_path
from tracker.loading import weight_names
from tracker.samples import sample
from tracker.web.access import Folders, Guard, check_address, receive_upload
from tracker.web.overlay import Overlay
from tracker.web.session import SPEEDS, Moment, Session

STATIC = Path(__file__).parent / "static"
AHEAD = 2  # moments that a client may have in the post before it has confirmed one
WIDTHS = (320, 3840)  # px, least and most that a client may ask for
WIDTH = 1280
LONGEST = 64 * 1024  # bytes of a message that a client may send
Obey = Callable[[dict[str, Any]], Awaitable[Any]]
BAD_REQUEST = (ValueError, OSError, TypeError, RuntimeError, ImportError)


@dataclass
class House:
    """What a server shares out. folder: of uploads and overlays, removed by who made it. most: bytes of an upload."""

    session: Session
    folders: Folders
    folder: Path
    most: int
    mode: str = "serve"
    uploads: list[Path] = field(default_factory=list)
    overlay: Overlay | None = None


class Post:
    """Hands the newest moment of a session to every client, each at its own pace; a picture is encoded once."""

    def __init__(self, session: Session) -> None:
        self._session, self._loop = session, asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._pictures: dict[int, tuple[int, asyncio.Future[bytes]]] = {}  # width -> version, JPEG
        self.clients = 0
        session.watch = self._ring

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the server is closing
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def newer(self, version: int) -> Moment:
        """Wait for a moment after `version`."""
        while self._session.moment.version <= version:
            await self._news.wait()
        return self._session.moment

    async def picture(self, moment: Moment, width: int) -> bytes:
        """The picture of a moment as JPEG, at most `width` px wide."""
        if moment.image is None:
            return b""
        version, picture = self._pictures.get(width, (-1, None))
        if picture is None or version != moment.version:
            picture = asyncio.ensure_future(asyncio.to_thread(as_jpeg, moment.image, width))
            self._pictures[width] = moment.version, picture
        return await picture


def pack(facts: dict[str, Any], picture: bytes) -> bytes:
    """A message: the length of the facts as 4 bytes, little endian; the facts as JSON; the picture as JPEG."""
    head = json.dumps(facts, separators=(",", ":")).encode()
    return struct.pack("<I", len(head)) + head + picture


def make_app(house: House, token: str | None = None) -> ASGIApp:
    """The application behind its guard. token: see `access.Guard`."""
    session = house.session

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.post = Post(session)
        yield
        session.watch = lambda: None

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)

    async def ask(name: str, /, **arguments: Any) -> Any:
        return await asyncio.wrap_future(session.do(name, **arguments))

    @app.get("/")
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/api/choices")
    async def choices() -> dict[str, Any]:
        """What can be opened and used."""
        files = await asyncio.to_thread(house.folders.listing)
        return {
            "files": files,
            "uploads": [path.name for path in house.uploads],
            "weights": weight_names(),
            "speeds": SPEEDS,
            "most": house.most,
            "mode": house.mode,
            "detector": session.detects,
            "layouts": WRITTEN,
        }

    @app.post("/api/upload")
    async def upload(request: Request, name: str) -> dict[str, Any]:
        size = request.headers.get("content-length", "")
        announced = int(size) if size.isascii() and size.isdigit() else None
        try:
            path = await receive_upload(request.stream(), announced, house.folder, name, house.most)
            try:
                await ask("open", source=str(path), title=Path(name).name)
            except BAD_REQUEST:
                path.unlink()
                raise
        except BAD_REQUEST as error:
            raise HTTPException(400, str(error)) from None
        house.uploads.append(path)
        return {"upload": len(house.uploads) - 1}

    @app.get("/api/boxes/{kind}")
    async def boxes(kind: str) -> Response:
        rows, meta = await ask("rows")
        if not rows:
            raise HTTPException(404, "there are no boxes yet")
        try:
            name, content = download(kind, rows, meta)
        except ValueError as error:
            raise HTTPException(404, str(error)) from None
        disposition = f'attachment; filename="{name}"'
        return Response(content, media_type=_media(name), headers={"content-disposition": disposition})

    @app.post("/api/overlay")
    async def overlay() -> dict[str, Any]:
        """Begin to draw the video with its boxes, or say how far that is."""
        rows, _ = await ask("rows")
        if not rows:
            raise HTTPException(404, "there are no boxes yet")
        if house.overlay and not house.overlay.is_of(rows):
            await asyncio.to_thread(house.overlay.close)
            house.overlay = None
        if house.overlay is None:
            source = await ask("source")
            if source is None:
                raise HTTPException(400, "a camera or stream cannot be played again; its boxes can be had")
            house.overlay = Overlay(source, rows, partial_path(house.folder / "overlay.webm"))
        return house.overlay.progress()

    @app.get("/api/overlay.webm")
    async def overlay_file() -> Response:
        if not house.overlay or not house.overlay.done:
            raise HTTPException(404, "the video is not drawn yet")
        return FileResponse(house.overlay.path, media_type="video/webm", filename="tracked.webm")

    @app.websocket("/ws")
    async def connect(socket: WebSocket, width: int = WIDTH) -> None:
        await socket.accept()
        client = Client(socket, app.state.post, min(max(width, WIDTHS[0]), WIDTHS[1]))
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await client.serve(lambda command: obey(house, command))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return Guard(app, token)


class Client:
    """One browser: what it sees, at its own pace, and what it asks for."""

    def __init__(self, socket: WebSocket, post: Post, width: int) -> None:
        self._socket, self._post, self._width = socket, post, width
        self._free = asyncio.Semaphore(AHEAD)
        self._writing = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()

    async def serve(self, obey: Obey) -> None:
        """Until the client goes."""
        self._post.clients += 1
        sender = asyncio.create_task(self._send())
        try:
            while True:
                text = await self._socket.receive_text()
                await self._receive(text, obey)
        finally:
            self._post.clients -= 1
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sender

    async def _send(self) -> None:
        version, epoch, sent = 0, -1, 0
        while True:
            await self._free.acquire()
            moment = await self._post.newer(version)
            if moment.epoch != epoch:
                epoch, sent = moment.epoch, 0
            rows = moment.log[sent : moment.rows]
            facts = moment.facts | {
                "version": moment.version, "epoch": epoch, "rows": rows, "clients": self._post.clients
            }  # fmt: skip
            picture = await self._post.picture(moment, self._width)
            version, sent = moment.version, moment.rows
            async with self._writing:
                await self._socket.send_bytes(pack(facts, picture))

    async def _receive(self, text: str, obey: Obey) -> None:
        try:
            if len(text) > LONGEST:
                raise InputError("the message is too long")
            command = parse_json(text)
            if not isinstance(command, dict):
                raise InputError("a command is a JSON object")
        except ValueError as error:
            await self._answer({"error": f"not a command: {error}"})
            return
        if command.get("do") == "seen":  # a moment has arrived
            if self._free._value < AHEAD:
                self._free.release()
            return
        task = asyncio.create_task(self._run(command, obey))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, command: dict[str, Any], obey: Obey) -> None:
        answer: dict[str, Any] = {"answer": command.get("number")}
        try:
            answer["value"] = await obey(command)
        except BAD_REQUEST as error:
            answer["error"] = str(error)
        except Exception as error:  # a fault of ours: who asked is told, and the page goes on
            answer["error"] = f"internal error: {type(error).__name__}: {plain(error)[:300]}"
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._answer(answer)

    async def _answer(self, answer: dict[str, Any]) -> None:
        async with self._writing:
            await self._socket.send_text(json.dumps(answer))


async def obey(house: House, command: dict[str, Any]) -> Any:
    """Hand a client's command to the session; ValueError, TypeError or PermissionError where it may not be."""
    words = {key: value for key, value in command.items() if key not in ("do", "number")}
    name = str(command.get("do"))
    if name not in ARGUMENTS:
        raise InputError(f"there is no command {name!r}; there are {', '.join(ARGUMENTS)}")
    for key, value in words.items():
        wanted = ARGUMENTS[name].get(key)
        if wanted is None or not isinstance(value, wanted) or isinstance(value, bool):
            raise InputError(f"command {name}: {key} = {str(value)[:40]!r} does not fit")
    if name == "open":
        words = await asyncio.to_thread(found_source, house, words)
    return await asyncio.wrap_future(house.session.do(name, **words))


ARGUMENTS: dict[str, dict[str, Any]] = {
    "open": {"kind": str, "root": int, "name": str, "upload": int, "camera": int, "address": str},
    "close": {},
    "play": {},
    "pause": {},
    "step": {"count": int},
    "seek": {"frame": int},
    "speed": {"speed": (int, float)},
    "hold": {"frame": int},
    "detect": {},
    "add": {"box": list, "frame": int},
    "redraw": {"id": int, "box": list, "frame": int},
    "remove": {"id": int},
    "weights": {"name": str},
    "gone": {"id": int},
    "drop_key": {"id": int},
    "rename": {"id": int, "name": str},
    "undo": {},
    "write": {"layout": str},
}


def found_source(house: House, asked: dict[str, Any]) -> dict[str, Any]:
    """What a client may open, as arguments of the session's command. Raises ValueError, PermissionError, DataError."""
    kind = asked.get("kind")
    if kind == "sample":
        clip = sample()
        return {"source": str(clip.path), "title": f"sample: {clip.name}", "start": clip.start, "stop": clip.stop}
    if kind == "file":
        path = house.folders.find(asked.get("root", -1), asked.get("name", ""))
        if path.is_file() and path.suffix.lower() not in VIDEO_SUFFIXES:  # a flight log names files elsewhere
            raise PermissionError(f"{path.name!r} is not a video file ({', '.join(VIDEO_SUFFIXES)})")
        return {"source": str(path), "title": path.name}
    if kind == "upload":
        number = asked.get("upload", -1)
        if not 0 <= number < len(house.uploads):
            raise InputError("there is no such upload")
        path = house.uploads[number]
        return {"source": str(path), "title": path.name}
    if kind == "camera":
        number = asked.get("camera", -1)
        if not 0 <= number < 100:
            raise DataError("cameras count from 0")
        return {"source": number, "title": f"camera {number}"}
    if kind == "stream":
        return {"source": check_address(asked.get("address", "")), "title": "stream"}
    raise InputError(f"nothing to open: {kind!r}; there are sample, file, upload, camera, stream")


def download(kind: str, rows: list[formats.Row], meta: dict[str, Any]) -> tuple[str, bytes]:
    """The name and the content of a file of boxes. Raises ValueError: no such format."""
    if kind == "csv":
        return "boxes.csv", formats.as_csv(rows).encode()
    if kind == "json":
        return "boxes.json", formats.as_json(rows, meta).encode()
    if kind == "mot":
        return "boxes.mot.txt", formats.as_mot(rows).encode()
    if kind == "coco":
        return "coco.json", formats.as_coco(rows, meta["size"]).encode()
    if kind == "otb":
        length = rows[-1].frame + 1
        texts = {n: formats.as_otb(of_one, length) for n, of_one in formats.by_target(rows).items()}
        if len(texts) == 1:
            return "groundtruth_rect.txt", next(iter(texts.values())).encode()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, text in texts.items():
                archive.writestr(f"groundtruth_rect.{number + 1}.txt", text)
        return "otb.zip", packed.getvalue()
    raise InputError(f"no format {kind!r}; there are csv, json, mot, otb, coco")


def _media(name: str) -> str:
    kinds = {".csv": "text/csv", ".json": "application/json", ".txt": "text/plain", ".zip": "application/zip"}
    return kinds[Path(name).suffix]


@contextlib.contextmanager
def open_house(session: Session, folders: Folders, most: int, mode: str = "serve") -> Iterator[House]:
    """A house with a folder for uploads, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="siamtrack-") as folder:
        house = House(session, folders, Path(folder), most, mode)
        try:
            yield house
        finally:
            if house.overlay:
                house.overlay.close()
            session.close()
