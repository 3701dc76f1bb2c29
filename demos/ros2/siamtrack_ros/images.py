"""sensor_msgs images as frames of siamtrack: (H, W, 3) uint8 BGR. No ROS is imported here."""

import cv2
import numpy as np

CHANNELS_AND_CODE = {  # encoding -> channels, and what cv2 calls the way to BGR
    "bgr8": (3, None),
    "8UC3": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "8UC4": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
    "yuv422": (2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2BGR_YUY2),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2BGR),  # cv2 names a pattern by its second row
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2BGR),
}


def to_frame(image):
    """A sensor_msgs/Image. Raises ValueError: an encoding that is not known, or less data than it says."""
    width, height, step = image.width, image.height, image.step
    wide = image.encoding == "mono16"
    if not wide and image.encoding not in CHANNELS_AND_CODE:
        raise ValueError(f"image encoding {image.encoding!r}; allowed: {', '.join(CHANNELS_AND_CODE)}, mono16")
    channels, code = (2, cv2.COLOR_GRAY2BGR) if wide else CHANNELS_AND_CODE[image.encoding]
    data = np.frombuffer(image.data, np.uint8)
    if not (width and height and step >= width * channels and len(data) >= step * height):
        raise ValueError(f"an image of {width} x {height} {image.encoding} with {len(data)} bytes in rows of {step}")
    pixels = data[: step * height].reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if wide:
        pixels = pixels[:, :, 0 if image.is_bigendian else 1]  # the upper byte
    pixels = np.ascontiguousarray(pixels)
    try:
        return pixels if code is None else cv2.cvtColor(pixels, code)
    except cv2.error as error:  # of 4:2:2 in an odd width
        raise ValueError(f"an image of {width} x {height} {image.encoding} is none: {error.err}") from None


def decoded(image):
    """A sensor_msgs/CompressedImage (JPEG, PNG). Raises ValueError: no picture."""
    data = np.frombuffer(image.data, np.uint8)
    frame = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if frame is None:
        raise ValueError(f"a compressed image of {len(data)} bytes, format {image.format!r}, that is no picture")
    return frame
