"""Videos that this OpenCV does not decode, by PyAV, an extra: `pip install "siamtrack[video]"`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np


class AvCapture:
    """What `VideoReader` uses of cv2.VideoCapture, by PyAV. Raises ImportError: not installed; OSError: no video."""

    def __init__(self, path: str) -> None:
        import av

        self._errors = (av.FFmpegError, ValueError)
        try:
            self._container: Any = av.open(path)
            self._stream = self._container.streams.video[0]
        except (*self._errors, IndexError) as error:
            raise OSError(f"{path}: {error}") from None
        self._stream.thread_type = "AUTO"
        self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._frame: Any = None
        self._begin = 0.0

    def isOpened(self) -> bool:
        """Whether it was not released yet."""
        return self._container is not None

    def grab(self) -> bool:
        """Decode the next frame; False at the end, or where the file is damaged."""
        try:
            frame = next(self._frames, None)
        except self._errors:
            frame = None
        if frame is None:
            return False
        if self._frame is None:
            self._begin = frame.time or 0.0
        self._frame = frame
        return True

    def retrieve(self) -> tuple[bool, Any]:
        """The frame, (H, W, 3) uint8 BGR, turned as the file says."""
        try:
            image = self._frame.to_ndarray(format="bgr24")
        except self._errors:
            return False, None
        turns = round(getattr(self._frame, "rotation", 0) / 90) % 4
        return True, np.ascontiguousarray(np.rot90(image, turns))

    def read(self) -> tuple[bool, Any]:
        """Grab and retrieve."""
        return self.retrieve() if self.grab() else (False, None)

    def get(self, prop: int) -> float:
        """The properties that `VideoReader` asks for; 0 for others."""
        rate = float(self._stream.average_rate or 0)
        if prop == cv2.CAP_PROP_FPS:
            return rate
        if prop == cv2.CAP_PROP_FRAME_COUNT:
            duration = self._container.duration or 0  # microseconds
            return float(self._stream.frames or round(duration / 1e6 * rate))
        if prop == cv2.CAP_PROP_POS_MSEC and self._frame is not None and self._frame.time is not None:
            return 1000 * (self._frame.time - self._begin)
        return 0.0

    def set(self, prop: int, value: float) -> bool:
        """Nothing can be set."""
        return False

    def release(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None
