# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Messages to frames and planes, and back; headers go through untouched."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CameraInfo
from sensor_msgs.msg import Image

from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.encodings import check_buffer
from seg_uncertainty_ros.encodings import check_step
from seg_uncertainty_ros.encodings import decode_compressed
from seg_uncertainty_ros.encodings import decode_message
from seg_uncertainty_ros.encodings import decodes_without_cv_bridge
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.frames import scale_intrinsics
from seg_uncertainty_ros.shift.image_statistics import ImageStatistics

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from numpy.typing import NDArray
    from sensor_msgs.msg import CompressedImage
    from std_msgs.msg import Header

try:
    from cv_bridge import CvBridge
except Exception:
    CvBridge = None

_ENCODINGS = {
    (np.dtype('u1'), 2): 'mono8',
    (np.dtype('u1'), 3): 'bgr8',
    (np.dtype('f4'), 2): '32FC1',
    (np.dtype('f4'), 3): '32FC3',
}
_PLANES = {
    'mono8': np.dtype('u1'),
    '8UC1': np.dtype('u1'),
    '32FC1': np.dtype('f4'),
}


def stamp_ns(stamp: Time) -> int:
    """Return a stamp in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def frame_from_image(message: Image) -> Frame:
    """Return the frame of a sensor_msgs/Image; cv_bridge helps where it is installed.

    Raises ``FrameError`` naming field and value.
    """
    if decodes_without_cv_bridge(message.encoding) or CvBridge is None:
        image = decode_message(message)
    else:
        image = _with_cv_bridge(message)
    return Frame(image, stamp_ns(message.header.stamp), message.header.frame_id)


def _with_cv_bridge(message: Image) -> NDArray[np.uint8]:
    bridge = CvBridge()
    try:
        dtype, channels = bridge.encoding_to_dtype_with_channels(message.encoding)
        image = bridge.imgmsg_to_cv2(_without_padding(message, dtype, channels), 'bgr8')
    except FrameError:
        raise
    except Exception as error:
        reason = ' '.join(str(error).split())
        msg = f'encoding: {message.encoding[:40]!r} is not known to cv_bridge either: {reason}'
        raise FrameError(msg) from error
    return np.ascontiguousarray(image)


def _without_padding(message: Image, dtype: str, channels: int) -> Image:
    """Return an image whose rows end with their last pixel.

    cv_bridge skews rows padded by part of a pixel, and narrows an image whose step is too small.
    """
    height, width, step = message.height, message.width, message.step
    pixel_bytes = np.dtype(dtype).itemsize * channels
    check_buffer(len(message.data), height=height, width=width, step=step)
    check_step(step, width=width, encoding=message.encoding, pixel_bytes=pixel_bytes)
    rows = np.frombuffer(message.data, np.uint8)[: height * step].reshape(height, step)
    return Image(
        height=height,
        width=width,
        encoding=message.encoding,
        is_bigendian=message.is_bigendian,
        step=width * pixel_bytes,
        data=array('B', rows[:, : width * pixel_bytes].tobytes()),
    )


def frame_from_compressed(message: CompressedImage) -> Frame:
    """Return the frame of a sensor_msgs/CompressedImage; raises ``FrameError``."""
    image = decode_compressed(message.data, message.format)
    return Frame(image, stamp_ns(message.header.stamp), message.header.frame_id)


def image_message(
    pixels: NDArray[np.uint8] | NDArray[np.float32], header: Header, into: Image | None = None
) -> Image:
    """Return uint8 HxW as mono8, HxWx3 as bgr8, float32 as 32FC1 or 32FC3; header as it is.

    ``into``: a message that this function made, to be filled instead of a new one, which takes as
    long as to copy a plane of 640x360.
    """
    pixels = np.ascontiguousarray(pixels)
    # An array of bytes is the one type that the setter takes without looking at each byte; it
    # copies it unless fields are checked.
    message = Image(check_fields=True) if into is None else into
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = _ENCODINGS[pixels.dtype, pixels.ndim]
    message.step = pixels[0].nbytes  # not the stride: of a single row NumPy keeps any
    data = array('B')
    data.frombytes(memoryview(pixels).cast('B'))
    message.data = data
    return message


def plane_from_image(message: Image) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Return the HxW plane of a mono8 (uint8) or 32FC1 (float32) image, a view where possible.

    Raises ``FrameError`` naming field and value.
    """
    dtype = _PLANES.get(message.encoding)
    if dtype is None:
        expected = ', '.join(_PLANES)
        msg = f'encoding: {message.encoding[:40]!r} is no plane, expected one of {expected}'
        raise FrameError(msg)
    return _samples(message, dtype, 1)


def dispersion_from_image(message: Image) -> NDArray[np.float32]:
    """Return the (H, W, 3) scores of a 32FC3 image; raises ``FrameError``."""
    if message.encoding != '32FC3':
        msg = f'dispersion: {message.encoding[:40]!r}, expected 32FC3'
        raise FrameError(msg)
    return _samples(message, np.dtype('f4'), 3).reshape(message.height, message.width, 3)


def _samples(message: Image, dtype: np.dtype, channels: int) -> NDArray[np.generic]:
    """Return the samples, H x (W * channels), without the padding of the rows."""
    pixel_bytes = dtype.itemsize * channels
    check_buffer(len(message.data), height=message.height, width=message.width, step=message.step)
    check_step(
        message.step,
        width=message.width,
        encoding=message.encoding,
        pixel_bytes=pixel_bytes,
    )
    row_bytes = message.width * pixel_bytes
    grid = np.frombuffer(message.data, np.uint8)[: message.height * message.step]
    rows = np.ascontiguousarray(grid.reshape(message.height, message.step)[:, :row_bytes])
    stored = dtype.newbyteorder('>' if message.is_bigendian else '<')
    return rows.view(stored).astype(dtype, copy=False)


def unit_plane_from_image(message: Image) -> NDArray[np.uint8]:
    """Return a plane of values 0-1 as uint8 HxW, 0-255, whichever encoding carries it.

    Raises ``FrameError``, also for a value that is no number: none of 0-1 could stand for it.
    """
    plane = plane_from_image(message)
    if plane.dtype == np.uint8:
        return plane
    if bad := np.count_nonzero(np.isnan(plane)):
        msg = f'data: {bad} of {plane.size} values of {message.encoding} are NaN'
        raise FrameError(msg)
    return np.rint(np.clip(plane, 0.0, 1.0) * 255.0).astype(np.uint8)


def embedding_message(
    embedding: NDArray[np.float32], header: Header, into: Image | None = None
) -> Image:
    """Return a vector as a 32FC1 image of one row; ``into`` as in ``image_message``.

    An image because it is the standard message that carries both a header and an array of
    floats: Float32MultiArray has no stamp, so nothing could be matched with the planes.
    """
    return image_message(np.asarray(embedding, np.float32).reshape(1, -1), header, into)


def embedding_from_image(message: Image) -> NDArray[np.float32]:
    """Return the (D,) vector of ``embedding_message``; raises ``FrameError``."""
    if message.encoding != '32FC1' or message.height != 1:
        msg = (
            f'embedding: {message.height} row(s) of {message.encoding[:40]!r}, '
            'expected 1 row of 32FC1'
        )
        raise FrameError(msg)
    return plane_from_image(message)[0]


def image_statistics_message(
    statistics: ImageStatistics, header: Header, into: Image | None = None
) -> Image:
    """Return the fields in their order, as ``embedding_message`` does."""
    return embedding_message(np.array(statistics, np.float32), header, into)


def image_statistics_from_image(message: Image) -> ImageStatistics:
    """Return the statistics of ``image_statistics_message``; raises ``FrameError``."""
    size = len(ImageStatistics._fields)
    if (message.encoding, message.height, message.width) != ('32FC1', 1, size):
        msg = (
            f'image_statistics: {message.height} x {message.width} of '
            f'{message.encoding[:40]!r}, expected 1 x {size} of 32FC1'
        )
        raise FrameError(msg)
    return ImageStatistics(*plane_from_image(message)[0].tolist())


MOST_PIXELS = 1e9
"""Of a focal length: no lens has a longer one. Much larger ones overflow when they are scaled."""


def camera_info_problem(info: CameraInfo, frame: Frame) -> str:
    """Return why ``info`` cannot be that of a frame, or an empty string."""
    height, width = frame.image.shape[:2]
    roi = info.roi
    columns = (roi.width or info.width) // (info.binning_x or 1)
    rows = (roi.height or info.height) // (info.binning_y or 1)
    if (columns, rows) != (width, height):
        return f'camera_info: {columns} x {rows} pixels, the image has {width} x {height}'
    if info.header.frame_id != frame.frame_id:
        return (
            f'camera_info: frame_id {info.header.frame_id[:80]!r}, '
            f'that of the image is {frame.frame_id[:80]!r}'
        )
    # Of no number as well: it compares false.
    if not (np.abs([*info.k, *info.p]) < MOST_PIXELS).all():
        return f'camera_info: k or p is not finite, or beyond {MOST_PIXELS:g} pixels'
    if not info.k[0]:
        return 'camera_info: k is zero, the camera is not calibrated'
    return ''


def scaled_camera_info(info: CameraInfo, header: Header, height: int, width: int) -> CameraInfo:
    """Return the camera info of planes of ``height`` x ``width`` with the header of their image.

    The region of interest of ``info`` (all of the image where unset) is what the planes show.
    Raises ``FrameError`` where ``info`` has no size.
    """
    roi = info.roi
    source_width = roi.width or info.width
    source_height = roi.height or info.height
    if not source_width or not source_height:
        msg = f'camera_info: size {info.width} x {info.height}, expected that of the sensor'
        raise FrameError(msg)
    k, p = scale_intrinsics(
        np.asarray(info.k),
        np.asarray(info.p),
        scale=(width / source_width, height / source_height),
        offset=(roi.x_offset, roi.y_offset),
    )
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model=info.distortion_model,
        d=info.d,
        r=info.r,
        k=k,
        p=p,
    )
