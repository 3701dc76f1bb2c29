"""One tracker at work in a thread of its own: it obeys commands, and shows its newest moment to whoever looks."""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.crop import Image
from tracker.detections import Detection, inside
from tracker.errors import InputError
from tracker.footage.boxes import STATES, Row
from tracker.footage.video import Frame
from tracker.recorder import SUFFIX, read_log
from tracker.tracker import Tracker
from tracker.web.following import Following
from tracker.web.labelling import Labelling
from tracker.web.played import Played
from tracker.web.reel import Live, Recording, open_reel

SPEEDS = (0.25, 0.5, 1.0, 2.0, 0.0)  # times the rate of the recording; 0: as fast as the tracker can
SMOOTH = 0.1  # share of the newest frame in the frames per second that are shown
LONGEST_LOG = 2_000_000  # rows; then it is written anew, without those of a live source that were given up
SHOWN_EVERY = 0.1  # seconds, while proposals are tracked
Load = Callable[[str], Tracker]
Detect = Callable[[Image], Sequence[Detection]]
Boxed = Sequence[float]
Follower = Following | Labelling | Played


@dataclass(frozen=True, eq=False)
class Moment:
    """What there is to see at one time.

    version: one more with each moment. image: (H, W, 3) uint8 BGR; None: nothing is open. facts: as JSON, see
    `Session._facts`. epoch: how often boxes were taken back. log: of all boxes of this epoch, which only grows; it had
    `rows` of them. A row: id, frame, x, y, w, h, score, place of the state in `STATES`.
    """

    version: int
    image: Image | None
    facts: dict[str, Any]
    epoch: int
    log: list[tuple[float, ...]]
    rows: int


class Session:
    """What a server does: it opens sources, follows targets and keeps their boxes.

    Everything happens in one thread; `do` hands it a command and returns at once. Nobody who looks at `moment`
    can hold it up.
    load: gives the tracker of a name. weights: name or file to begin with. labels: the folder for labels, where the
    session is for labelling. detect: finds objects in an image, for who would rather tap than draw.
    """

    def __init__(
        self, load: Load, weights: str = "swift", labels: Path | None = None, detect: Detect | None = None
    ) -> None:
        self._load, self._weights, self._labels, self._detect = load, weights, labels, detect
        self._found: tuple[int, list[Detection]] = (-1, [])  # frame, and what was detected in it
        self._log: list[tuple[float, ...]] = []
        self.moment = Moment(0, None, {}, 0, self._log, 0)
        self.watch: Callable[[], None] = lambda: None  # called in the session's thread after each moment
        self._epoch = 0
        self._commands: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._tracker: Tracker | None = None
        self._following: Follower | None = None
        self._reel: Recording | Live | None = None
        self._frame: Frame | None = None  # that is shown
        self._held: Frame | None = None  # of a live source, for the box that is being drawn
        self._title, self._problem, self._work = "", "", ""
        self._opened: dict[str, Any] = {}
        self._playing, self._ended, self._speed = False, False, 1.0
        self._proposing, self._shown = False, 0.0
        self._begun: tuple[float, float] = (0.0, 0.0)  # clock and time stamp when playing began
        self._fps, self._last_step = 0.0, 0.0
        self._thread = threading.Thread(target=self._run, name="siamtrack session", daemon=True)
        self._thread.start()

    def do(self, name: str, /, **arguments: Any) -> Future[Any]:
        """Run a command (a method `on_<name>`) in the session's thread.

        The future raises ValueError or OSError with words for people: no such command, or it cannot be done.
        """
        command = getattr(self, f"on_{name}", None) if name.isidentifier() else None
        future: Future[Any] = Future()
        if command is None:
            future.set_exception(ValueError(f"there is no command {name!r}"))
        else:
            self._commands.put((future, lambda: command(**arguments)))
        return future

    @property
    def detects(self) -> bool:
        """Whether there is a detector."""
        return self._detect is not None

    def close(self) -> None:
        """End the thread and release the source."""
        self._commands.put(None)
        self._thread.join(timeout=15)

    # --- commands

    def on_open(self, source: str | int, title: str = "", start: int = 0, stop: int | None = None) -> None:
        """Open a source as `frames` takes it, or a flight log, which is shown; what was open before is forgotten."""
        self._say_work(f"opening {title or source} ...")
        try:
            played = Played(read_log(str(source))) if str(source).endswith(SUFFIX) and self._labels is None else None
            if played:
                title = title or Path(str(source)).name
                source, start, stop = played.source, played.start, played.stop
            reel = open_reel(source, start, stop)
            try:
                frame = reel.next() if isinstance(reel, Live) else reel.frame(reel.start)
                following = played or self._make_follower(reel, Path(str(source)))
            except BaseException:
                reel.close()
                raise
        finally:
            self._say_work("")
        self.on_close()
        self._reel, self._frame, self._following = reel, frame, following
        self._title, self._opened = title or Path(str(source)).name, {"source": source}
        self._write_log_anew()
        self._set_playing(reel.live)

    def _make_follower(self, reel: Recording | Live, path: Path) -> Follower:
        if self._labels is None:
            return Following(self._need_tracker(), reel.live)
        if isinstance(reel, Live):
            raise InputError("only a recording can be labelled, no camera or stream")
        return Labelling(self._need_tracker(), reel, path, self._labels)

    def on_close(self) -> None:
        """Close the source and forget its targets."""
        if self._reel:
            self._reel.close()
        self._reel = self._following = self._frame = self._held = None
        self._title, self._problem, self._fps, self._ended = "", "", 0.0, False
        self._found = (-1, [])
        self._set_playing(False)
        self._forget_log()

    def on_play(self) -> None:
        """Go on by itself."""
        self._need_reel()
        if self._ended and isinstance(self._reel, Recording):
            self._show(self._reel.frame(self._reel.start))
        self._problem, self._ended = "", False
        self._set_playing(True)

    def on_pause(self) -> None:
        """Stand still."""
        self._set_playing(False)

    def on_step(self, count: int = 1) -> None:
        """Go some frames on, or back (below 0)."""
        reel = self._need_reel()
        if isinstance(reel, Live):
            self._advance()
            return
        self._set_playing(False)
        if count < 0:
            self.on_seek((self._frame.index if self._frame else reel.start) + count)
            return
        for _ in range(min(int(count), 100)):
            self._advance()

    def on_seek(self, frame: int) -> None:
        """Show another frame of a recording, with what was found in it; the tracker follows when it goes on."""
        reel = self._need_reel()
        if isinstance(reel, Live):
            raise InputError("a camera or stream has no frames to go to; it shows its newest one")
        last = frame if reel.stop is None else min(frame, reel.stop - 1)
        found = reel.frame(max(int(last), reel.start))
        if found is None and reel.stop:
            found = reel.frame(max(reel.stop - 1, reel.start))
        self._show(found)
        self._ended = False
        self._set_playing(self._playing)

    def on_speed(self, speed: float) -> None:
        """How fast a recording plays, see `SPEEDS`."""
        if speed not in SPEEDS:
            raise InputError(f"speed {speed} is none of {', '.join(map(str, SPEEDS))}")
        self._speed = speed
        self._set_playing(self._playing)

    def on_hold(self, frame: int) -> None:
        """Keep a frame of a live source, because somebody begins to draw on it."""
        if isinstance(self._reel, Live):
            self._held = self._reel.frame(frame) or self._held

    def on_add(self, box: Boxed, frame: int | None = None) -> int:
        """Follow what is in a box of the frame that is shown; returns the id of the target."""
        following, shown = self._frame_for_box(frame)
        number = following.add(shown, box)
        self._held = None
        self._note([number], shown.index)
        if isinstance(following, Labelling):
            self._write_log_anew()
        return number

    def on_detect(self) -> int:
        """Stand still, and find objects in the frame that is shown; returns how many."""
        self._need_reel()
        if self._detect is None:
            raise InputError("there is no detector; start the server with --detector FILE.onnx")
        if self._frame is None:
            raise InputError("there is no frame to look at")
        self._set_playing(False)
        self._say_work("looking for objects ...")
        try:
            found = inside(self._detect(self._frame.image), self._frame.image)
        except Exception as error:  # a detector may be anybody's
            raise InputError(f"the detector failed: {type(error).__name__}: {error}") from error
        finally:
            self._say_work("")
        self._found = self._frame.index, found
        return len(found)

    def on_redraw(self, id: int, box: Boxed, frame: int | None = None) -> None:
        """Correct the box of a target in the frame that is shown."""
        following, shown = self._frame_for_box(frame)
        following.redraw(shown, id, box)
        self._held = None
        self._write_log_anew()

    def on_remove(self, id: int) -> None:
        """Forget a target and all its boxes."""
        self._need_following().remove(id)
        self._write_log_anew()

    def on_weights(self, name: str) -> None:
        """Go on with other weights."""
        self._say_work(f"loading {name} ...")
        try:
            self._tracker = self._load(name)
        finally:
            self._say_work("")
        self._weights = name
        if self._following and self._frame:
            self._following.go_to(self._frame.index, self._read)
            self._following.use(self._tracker, self._frame)

    # --- commands of labelling

    def on_gone(self, id: int) -> None:
        """Say that a target is not in the picture from the shown frame on, until its next box."""
        labelling = self._need_labelling()
        assert self._frame
        labelling.gone(id, self._frame)
        self._write_log_anew()

    def on_drop_key(self, id: int) -> None:
        """Take back what was said of a target in the shown frame."""
        labelling = self._need_labelling()
        assert self._frame
        labelling.drop_key(id, self._frame.index)
        self._write_log_anew()

    def on_rename(self, id: int, name: str) -> None:
        """Say what a target is."""
        self._need_labelling().rename(id, name)

    def on_undo(self) -> bool:
        """Take the last change back; False: there is none."""
        undone = self._need_labelling().undo()
        self._write_log_anew()
        return undone

    def on_write(self, layout: str) -> str:
        """Write the labels as a data set; returns its folder. What is still to be tracked is tracked first."""
        labelling = self._need_labelling()
        self._say_work(f"writing {layout} ...")
        try:
            labelling.labeller.finish()
            return str(labelling.write(layout))
        finally:
            self._say_work("")
            self._write_log_anew()

    def on_take(self, path: str) -> None:
        """Take the boxes of a data set over as labels."""
        self._need_labelling().take(Path(path))
        self._write_log_anew()

    # --- what is kept

    def on_rows(self) -> tuple[list[Row], dict[str, Any]]:
        """All boxes, by frame and id, and what is to be known of them."""
        following, reel = self._following, self._reel
        if not following or not reel:
            return [], {}
        rows = [row for rows in following.rows.values() for row in rows.values()]
        rows.sort(key=lambda row: (row.frame, row.id))
        meta = {
            "source": self._title,
            "weights": self._weights,
            "coordinates": "x, y, w, h in frame pixels, 0-based: pixel i covers [i, i+1)",
            "size": list(reel.size),
            "fps": reel.fps,
            "dropped": reel.dropped if isinstance(reel, Live) else 0,
        }
        return rows, meta

    def on_source(self) -> dict[str, Any] | None:
        """Arguments of `frames` that open the recording once more; None: it is live, or nothing is open."""
        return None if self._reel is None or self._reel.live else self._opened

    # --- the thread

    def _run(self) -> None:
        warnings.simplefilter("ignore")  # of damaged frames: what is skipped is seen on the time line
        try:
            self.on_weights(self._weights)
        except Exception as error:  # told, and other weights may be chosen
            self._problem = str(error)
        self._publish()
        while True:
            try:
                item = self._commands.get(timeout=self._patience())
            except queue.Empty:
                if self._due() == 0:
                    self._advance()
                    self._publish()
                else:
                    self._propose()
                continue
            if item is None:
                self.on_close()
                return
            future, command = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = command()
            except (ValueError, OSError, ImportError, TypeError) as error:
                future.set_exception(error)
            except Exception as error:  # of a network or a codec: told, and the session lives on
                future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
            else:
                future.set_result(answer)
            self._publish()

    def _patience(self) -> float | None:
        """Seconds until there is something to do; None: nothing happens by itself."""
        return 0.0 if self._proposing else self._due()

    def _propose(self) -> None:
        """Track a frame of what is to be labelled."""
        assert isinstance(self._following, Labelling)
        changed = self._following.work()
        self._proposing = changed is not None
        for number, frame in changed or ():
            self._note([number], frame)
        if not self._proposing or time.monotonic() - self._shown > SHOWN_EVERY:
            self._publish()

    def _due(self) -> float | None:
        """Seconds until the next frame is due; None: it is not going on."""
        if not self._playing or not self._reel:
            return None
        if self._reel.live or not self._speed or not self._frame:
            return 0.0
        clock, stamp = self._begun
        due = clock + (self._frame.time + 1 / self._reel.fps - stamp) / self._speed
        return max(0.0, due - time.monotonic())

    def _advance(self) -> None:
        """Follow the targets into the next frame."""
        reel, following = self._reel, self._following
        if not reel or not following:
            return
        try:
            if isinstance(reel, Live):
                frame = reel.next()
            else:
                frame = reel.frame(self._frame.index + 1 if self._frame else reel.start)
        except OSError as error:
            self._problem = f"{error}; boxes so far are kept"
            self._set_playing(False)
            return
        if frame is None:
            self._ended = True
            self._set_playing(False)
            return
        if self._frame:
            following.go_to(self._frame.index, self._read)
        following.step(frame)
        self._show(frame)
        self._note(following.ids, frame.index)
        now = time.monotonic()
        if now - self._last_step < 1:
            fps = 1 / max(now - self._last_step, 1e-4)
            self._fps = fps if not self._fps else self._fps + SMOOTH * (fps - self._fps)
        self._last_step = now

    def _show(self, frame: Frame | None) -> None:
        self._frame = frame or self._frame

    def _set_playing(self, playing: bool) -> None:
        self._playing = playing
        self._begun = (time.monotonic(), self._frame.time if self._frame else 0.0)

    def _read(self, index: int) -> Frame | None:
        return self._reel.frame(index) if self._reel else None

    def _need_tracker(self) -> Tracker:
        if self._tracker is None:
            raise InputError("no weights are loaded; choose some")
        return self._tracker

    def _need_reel(self) -> Recording | Live:
        if self._reel is None:
            raise InputError("nothing is open; open a video or a camera first")
        return self._reel

    def _need_following(self) -> Follower:
        self._need_reel()
        assert self._following
        return self._following

    def _frame_for_box(self, index: int | None) -> tuple[Follower, Frame]:
        """The frame that a person drew on, and the targets as they were in it."""
        following = self._need_following()
        frame = self._frame
        if index is not None and frame and index != frame.index:
            held = self._held if self._held and self._held.index == index else None
            frame = held or self._read(index)
            if frame is None:
                raise InputError(f"frame {index} is gone; draw again")
        if frame is None:
            raise InputError("there is no frame to draw on")
        following.go_to(frame.index, self._read)
        return following, frame

    # --- what others see

    def _note(self, ids: Sequence[int], index: int) -> None:
        """Put the rows of a frame into the log."""
        assert self._following
        if len(self._log) > LONGEST_LOG:
            self._write_log_anew()
        for number in ids:
            row = self._following.rows[number].get(index)
            if row is not None:
                self._log.append(_compact(row))

    def _need_labelling(self) -> Labelling:
        following = self._need_following()
        if not isinstance(following, Labelling):
            raise InputError("this page follows; for labels start `siamtrack label`")
        return following

    def _forget_log(self) -> None:
        self._log, self._epoch = [], self._epoch + 1

    def _write_log_anew(self) -> None:
        self._forget_log()
        self._proposing = isinstance(self._following, Labelling)
        if self._following:
            self._log = [_compact(row) for rows in self._following.rows.values() for row in rows.values()]

    def _say_work(self, work: str) -> None:
        self._work = work
        self._publish()

    def _publish(self) -> None:
        image, self._shown = self._frame.image if self._frame else None, time.monotonic()
        self.moment = Moment(self.moment.version + 1, image, self._facts(), self._epoch, self._log, len(self._log))
        self.watch()

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "title": self._title,
            "weights": self._weights,
            "ready": self._tracker is not None,
            "work": self._work,
            "problem": self._problem,
            "open": self._reel is not None,
            "playing": self._playing,
            "ended": self._ended,
            "speed": self._speed,
        }
        reel, frame, following = self._reel, self._frame, self._following
        if reel and frame and following:
            results = following.results.values() if following.at == frame.index else ()
            facts |= {
                "live": reel.live,
                "start": reel.start,
                "stop": reel.stop,
                "fps": round(reel.fps, 3),
                "size": list(frame.image.shape[1::-1]),
                "frame": frame.index,
                "time": round(frame.time, 3),
                "ids": following.ids,
                "given": {n: sorted(boxes) for n, boxes in following.given.items()},
                "rate": round(self._fps, 1),
                "dropped": reel.dropped if isinstance(reel, Live) else 0,
                "ms": next(([round(ms, 2) for ms in (r.crop_ms, r.network_ms, r.post_ms)] for r in results), None),
            }
            if self._found[0] == frame.index:
                facts["found"] = [[*(round(v, 2) for v in d.box), round(d.score, 3), d.label] for d in self._found[1]]
            if isinstance(following, Labelling):
                labeller = following.labeller
                facts |= {
                    "names": following.names,
                    "gone": {n: [f for f, box in keys.items() if box is None] for n, keys in following.given.items()},
                    "doubts": {n: [labeller.worst(n, span) for span in labeller.doubts(n)] for n in following.ids},
                    "proposing": self._proposing,
                    "folder": str(self._labels),
                }
        return facts


def _compact(row: Row) -> tuple[float, ...]:
    box = (round(v, 2) for v in row.box)
    return (row.id, row.frame, *box, round(row.score, 3), STATES.index(row.state))
