"""`siamtrack serve` and `siamtrack label`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import InputError, MissingError
from tracker.extras import how_to_get

if TYPE_CHECKING:
    from tracker.web.app import House

TOKEN = "SIAMTRACK_TOKEN"
MEGABYTE = 10**6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamtrack serve`."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="what to open at once: a video, folder of images, camera, stream; or a flight log, NAME.siamlog",
    )
    parser.add_argument(
        "--folder",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder whose videos may be opened in the page; as often as you like [none]",
    )
    parser.add_argument("--weights", default="swift", metavar="NAME|FILE", help="shipped weights or a file [swift]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the network [1]")
    parser.add_argument("--upload-mb", type=int, default=2000, metavar="N", help="largest upload, MB; 0: none [2000]")
    add_server_arguments(parser)


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that all pages have."""
    parser.add_argument(
        "--detector", metavar="YOLO.onnx", help="a YOLO graph (version 8 and later): find objects, tap one to follow it"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 answers other machines, too [127.0.0.1]"
    )
    parser.add_argument("--port", type=int, default=8765, metavar="N", help="0 takes a free one [8765]")
    parser.add_argument(
        "--token",
        metavar="WORD",
        help=f"who comes must know it (or set {TOKEN}); beyond this machine one is made up where none is given",
    )


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamtrack label`."""
    parser.add_argument("source", metavar="CLIP", help="a video, or a folder of images")
    parser.add_argument(
        "--out", metavar="DIR", help="folder of the labels; goes on with those that are in it [CLIP-labels]"
    )
    parser.add_argument("--from", dest="known", metavar="PATH", help="take boxes over: boxes.csv, MOT, CVAT for video")
    parser.add_argument("--weights", default="swift", metavar="NAME|FILE", help="shipped weights or a file [swift]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps [auto]")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of the network [1]")
    add_server_arguments(parser)
    parser.set_defaults(folder=[], upload_mb=0)


def label(args: argparse.Namespace) -> int:
    """Serve the labelling of one clip; as `run`."""
    args.out = Path(args.out or f"{Path(args.source).stem}-labels")
    return run(args, args.out)


def run(args: argparse.Namespace, labels: Path | None = None) -> int:
    """Serve until Ctrl-C; returns the exit code. Raises ValueError, OSError: bad arguments, a port that is taken."""
    check_extra()
    from tracker.detections import YoloDetector
    from tracker.loading import weight_file
    from tracker.tracker import Tracker
    from tracker.web.access import Folders
    from tracker.web.app import open_house
    from tracker.web.session import Session

    if args.upload_mb < 0:
        raise InputError(f"--upload-mb must be 0 or more, got {args.upload_mb}")
    detect = YoloDetector(args.detector, threads=args.threads) if args.detector else None
    folders = Folders.of(args.folder)
    listening = listen(args.host, args.port)

    def load(name: str) -> Tracker:
        return Tracker.load(name, device=args.device, threads=args.threads)

    if args.source is not None:
        weight_file(args.weights)  # what is misspelt is said now
    session = Session(load, args.weights, labels, detect)
    with open_house(session, folders, args.upload_mb * MEGABYTE, "label" if labels else "serve") as house:
        if args.source is not None:
            print(f"siamtrack: loading {args.weights}, opening {args.source} ...", file=sys.stderr, flush=True)
            session.do("open", source=args.source).result()
            session.do("pause").result()
        if labels and args.known:
            session.do("take", path=args.known).result()
        return serve(house, listening, args)


def check_extra() -> None:
    """Raise ImportError, with the command that helps, where FastAPI is not installed."""
    for name in ("fastapi", "uvicorn", "websockets"):
        if importlib.util.find_spec(name) is None:
            raise MissingError(f"the page needs {name}: {how_to_get('web')}")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError: the port is taken, or no such address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except OverflowError as error:
        listening.close()
        raise InputError(f"port {port} must be in 0 .. 65535") from error
    except OSError as error:
        listening.close()
        other = "--host" if isinstance(error, socket.gaierror) else "--port"
        raise OSError(f"cannot listen at {host} port {port}: {error.strerror}; choose another {other}") from error
    return listening


def serve(house: House, listening: socket.socket, args: argparse.Namespace) -> int:
    """Run the server on a socket until Ctrl-C."""
    import uvicorn

    from tracker.web.access import is_loopback
    from tracker.web.app import LONGEST, make_app

    token = args.token or os.environ.get(TOKEN)
    beyond = not is_loopback(args.host)
    if token is None and beyond:
        token = secrets.token_urlsafe(16)
    port = listening.getsockname()[1]
    host = args.host if not beyond or args.host not in ("0.0.0.0", "::") else socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        make_app(house, token), log_level="warning", ws="websockets", ws_max_size=LONGEST, timeout_graceful_shutdown=2
    )
    print(f"siamtrack: open http://{shown}:{port}/{f'?token={token}' if token else ''}", flush=True)
    if beyond:
        print("siamtrack: the connection is not encrypted; on a net you do not trust, go through ssh -L", flush=True)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # how a server is ended
        pass
    finally:
        listening.close()
    return 0
