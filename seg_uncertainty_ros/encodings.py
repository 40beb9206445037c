# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The bytes of a ROS image, raw or compressed, to BGR; and why not, in one line."""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from
from typing import TYPE_CHECKING
from typing import Any

import cv2
import numpy as np

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable
    from collections.abc import Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    Buffer: TypeAlias = 'bytes | bytearray | memoryview | array[int] | NDArray[np.uint8]'

MAX_PIXELS = 2**25
"""Images above this are refused before anything is allocated for them.

8K (7680x4320) is below. A file of 500 bytes may state this size, and decoding it takes up to a
second.
"""
MAX_SCANS = 100
"""Of a JPEG file; progressive ones have about ten. Each costs a walk over all pixels."""


PNG = b'\x89PNG\r\n\x1a\n'
PIXELS = frozenset((b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND'))


class FrameError(SegUncertaintyError):
    """An image that cannot be decoded; the message names the field and its value."""


@dataclass(frozen=True)
class Layout:
    """How an encoding lies in memory: ``channels`` samples of ``dtype`` a pixel."""

    dtype: str
    channels: int
    convert: Callable[[NDArray[np.generic]], NDArray[np.uint8]]

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel; of a luma sample in planar encodings."""
        return np.dtype(self.dtype).itemsize * self.channels


def _color(code: int) -> Callable[[NDArray[np.generic]], NDArray[np.uint8]]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _from_mono16(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    # The scale of cv_bridge: 65535 becomes 255.
    return cv2.cvtColor(cv2.convertScaleAbs(pixels, alpha=255 / 65535), cv2.COLOR_GRAY2BGR)


def _from_float(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    finite = np.isfinite(pixels)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        row, column = divmod(int(bad[0]), pixels.shape[1])
        msg = (
            f'data: {bad.size} of {pixels.size} values of 32FC1 are NaN or infinite, '
            f'the first ({pixels[row, column]}) at row {row}, column {column}'
        )
        raise FrameError(msg)
    gray = np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)


_BGR = Layout('u1', 3, np.ascontiguousarray)
_MONO = Layout('u1', 1, _color(cv2.COLOR_GRAY2BGR))
_MONO16 = Layout('u2', 1, _from_mono16)
_UYVY = Layout('u1', 2, _color(cv2.COLOR_YUV2BGR_UYVY))
_YUYV = Layout('u1', 2, _color(cv2.COLOR_YUV2BGR_YUY2))

# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's
# first two: ROS rggb is OpenCV BG.
LAYOUTS = {
    'bgr8': _BGR,
    '8UC3': _BGR,
    'rgb8': Layout('u1', 3, _color(cv2.COLOR_RGB2BGR)),
    'bgra8': Layout('u1', 4, _color(cv2.COLOR_BGRA2BGR)),
    'rgba8': Layout('u1', 4, _color(cv2.COLOR_RGBA2BGR)),
    'mono8': _MONO,
    '8UC1': _MONO,
    'mono16': _MONO16,
    '16UC1': _MONO16,
    '32FC1': Layout('f4', 1, _from_float),
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    'nv12': Layout('u1', 1, _color(cv2.COLOR_YUV2BGR_NV12)),
    'nv21': Layout('u1', 1, _color(cv2.COLOR_YUV2BGR_NV21)),
    'bayer_rggb8': Layout('u1', 1, _color(cv2.COLOR_BayerBG2BGR)),
    'bayer_bggr8': Layout('u1', 1, _color(cv2.COLOR_BayerRG2BGR)),
    'bayer_gbrg8': Layout('u1', 1, _color(cv2.COLOR_BayerGR2BGR)),
    'bayer_grbg8': Layout('u1', 1, _color(cv2.COLOR_BayerGB2BGR)),
}
ENCODINGS = tuple(LAYOUTS)
"""What ``decode_image`` decodes by itself, without cv_bridge."""

_PAIRED_COLUMNS = frozenset(('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21'))
_PLANAR = frozenset(('nv12', 'nv21'))


def decodes_without_cv_bridge(encoding: str) -> bool:
    """Return whether ``decode_image`` takes ``encoding``; leave any other to cv_bridge."""
    return encoding in LAYOUTS


def check_size(height: int, width: int) -> None:
    """Raise FrameError unless an image of ``height`` x ``width`` pixels may be decoded."""
    for name, value in (('height', height), ('width', width)):
        if value <= 0:
            msg = f'{name}: {value}, expected at least 1'
            raise FrameError(msg)
    if height * width > MAX_PIXELS:
        msg = (
            f'height x width: {height} x {width} = {height * width} pixels, '
            f'more than the {MAX_PIXELS} accepted'
        )
        raise FrameError(msg)


def check_buffer(length: int, *, height: int, width: int, step: int) -> None:
    """Raise FrameError unless ``length`` bytes hold ``height`` rows of ``step`` bytes.

    Holds for every encoding: call it before an image goes to cv_bridge too.
    """
    check_size(height, width)
    if step <= 0:
        msg = f'step: {step}, expected at least 1'
        raise FrameError(msg)
    if length < height * step:
        msg = (
            f'data: {length} bytes, fewer than height x step = {height} x {step} = {height * step}'
        )
        raise FrameError(msg)


def check_step(step: int, *, width: int, encoding: str, pixel_bytes: int) -> None:
    """Raise FrameError unless ``step`` bytes hold a row of ``width`` pixels."""
    if step < width * pixel_bytes:
        msg = (
            f'step: {step} bytes, fewer than a row of {encoding} has: '
            f'width x {pixel_bytes} = {width * pixel_bytes}'
        )
        raise FrameError(msg)


def decode_image(
    data: Buffer,
    *,
    height: int,
    width: int,
    encoding: str,
    step: int,
    is_bigendian: bool | int,
) -> NDArray[np.uint8]:
    """Return the BGR uint8 HxWx3 image of a sensor_msgs/Image's fields, C-contiguous.

    ``bgr8`` without padding is a view of ``data`` (read-only where ``data`` is); everything else
    is a new array. 16-bit gray is scaled as cv_bridge scales mono16 (65535 to 255), ``32FC1`` is
    taken as 0 to 1 and clipped to it, ``nv12`` and ``nv21`` have ``height`` rows of luma followed
    by ``height / 2`` rows of chroma. Raises FrameError.
    """
    layout = LAYOUTS.get(encoding)
    if layout is None:
        msg = f'encoding: {encoding[:40]!r} is unknown, expected one of {", ".join(ENCODINGS)}'
        raise FrameError(msg)
    check_size(height, width)
    if encoding in _PAIRED_COLUMNS and width % 2:
        msg = f'width: {width} is odd, {encoding} stores its columns in pairs'
        raise FrameError(msg)
    check_step(step, width=width, encoding=encoding, pixel_bytes=layout.pixel_bytes)
    flat = np.frombuffer(data, np.uint8)
    check_buffer(flat.size, height=height, width=width, step=step)
    rows = _rows_with_chroma(flat.size, height, step, encoding) if encoding in _PLANAR else height
    pixels = _pixels(flat, rows, width, step, layout, is_bigendian=bool(is_bigendian))
    return layout.convert(pixels)


def decode_message(message: Any) -> NDArray[np.uint8]:
    """Return ``decode_image`` of a sensor_msgs/Image, be it rclpy's or rosbags'."""
    return decode_image(
        message.data,
        height=message.height,
        width=message.width,
        encoding=message.encoding,
        step=message.step,
        is_bigendian=message.is_bigendian,
    )


def _rows_with_chroma(length: int, height: int, step: int, encoding: str) -> int:
    if height % 2:
        msg = f'height: {height} is odd, {encoding} stores its rows in pairs'
        raise FrameError(msg)
    rows = height * 3 // 2
    if length < rows * step:
        msg = (
            f'data: {length} bytes, fewer than {encoding} has: '
            f'height x 3 / 2 x step = {rows} x {step} = {rows * step}'
        )
        raise FrameError(msg)
    return rows


def _pixels(
    flat: NDArray[np.uint8],
    rows: int,
    width: int,
    step: int,
    layout: Layout,
    *,
    is_bigendian: bool,
) -> NDArray[np.generic]:
    """Return ``rows`` x ``width`` (x channels) native-endian samples, without the padding."""
    grid = flat[: rows * step].reshape(rows, step)[:, : width * layout.pixel_bytes]
    dtype = np.dtype(layout.dtype)
    if dtype.itemsize > 1:
        stored = dtype.newbyteorder('>' if is_bigendian else '<')
        samples = np.ascontiguousarray(grid).view(stored).astype(dtype, copy=False)
    else:
        samples = np.ascontiguousarray(grid)
    shape = (rows, width) if layout.channels == 1 else (rows, width, layout.channels)
    return samples.reshape(shape)


def decode_compressed(data: Buffer, format: str) -> NDArray[np.uint8]:  # noqa: A002  the field
    """Return the BGR uint8 HxWx3 image of a sensor_msgs/CompressedImage's fields.

    JPEG, PNG and BMP are told by their content; ``format`` ('jpeg', 'png',
    'rgb8; jpeg compressed bgr8') only tells whether red and blue were swapped before the
    compression, as compressed_image_transport does it. The size is read from the file's header
    and checked before anything is decoded. Orientation tags are ignored: pixels stay where the
    camera put them. Raises FrameError.
    """
    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        msg = f'data: empty, expected a JPEG or PNG file (format {format[:40]!r})'
        raise FrameError(msg)
    file = raw.tobytes()
    check_size(*declared_size(file, format))
    if file.startswith(PNG):
        raw = np.frombuffer(_png_of_pixels(file), np.uint8)
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        msg = f'data: {raw.size} bytes that OpenCV does not decode: {error.err}'
        raise FrameError(msg) from None
    if image is None:
        msg = f'data: {raw.size} bytes with a damaged image (format {format[:40]!r})'
        raise FrameError(msg)
    return image[:, :, ::-1].copy() if 'compressed rgb' in format else image


def declared_size(data: bytes, format: str = '') -> tuple[int, int]:  # noqa: A002
    """Return (height, width) from the header of a JPEG, PNG or BMP file; refuse a cut file."""
    if data.startswith(b'\xff\xd8'):
        return _jpeg_size(data)
    if data.startswith(PNG):
        return _png_size(data)
    if data.startswith(b'BM') and len(data) >= 26:
        width, height = unpack_from('<ii', data, 18)
        return abs(height), width
    msg = (
        f'data: {len(data)} bytes starting with {data[:4].hex(" ")}, '
        f'neither JPEG nor PNG (format {format[:40]!r})'
    )
    raise FrameError(msg)


def _png_size(data: bytes) -> tuple[int, int]:
    if len(data) < 33 or not any(kind == b'IEND' for kind, _, _ in _png_chunks(data)):
        msg = f'data: PNG of {len(data)} bytes is cut, its IEND chunk is missing'
        raise FrameError(msg)
    width, height = unpack_from('>II', data, 16)
    return height, width


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, beginning and end of the whole chunks of a PNG file."""
    position = len(PNG)
    while position + 12 <= len(data):
        length, kind = unpack_from('>I4s', data, position)
        end = position + 12 + length
        if end > len(data):
            return
        yield kind, position, end
        position = end


def _png_of_pixels(data: bytes) -> bytes:
    """Return a PNG file without what is no pixel.

    A kilobyte of compressed text, of which there may be any number, unpacks to megabytes.
    """
    chunks = [*_png_chunks(data)]
    if all(kind in PIXELS for kind, _, _ in chunks):
        return data
    return PNG + b''.join(data[start:end] for kind, start, end in chunks if kind in PIXELS)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments to the frame header and to the scan; see ITU-T T.81, annex B.

    The end marker is looked for behind the start of the scan: a thumbnail has one of its own.
    In a scan 0xff is followed by 0x00, so 0xffd9 is nothing else. Decoders fill a scan that
    ends early with gray.
    """
    size = None
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = unpack_from('>BH', data, position + 1)
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        # C4, C8 and CC share the range of the frame headers.
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            if position + 9 > len(data):
                break
            size = unpack_from('>HH', data, position + 5)
        elif marker == 0xDA:
            if size is None:
                break
            # In a scan 0xff is followed by 0x00: this marker is nothing else.
            if (scans := data.count(b'\xff\xda')) > MAX_SCANS:
                msg = f'data: JPEG of {scans} scans, more than the {MAX_SCANS} accepted'
                raise FrameError(msg)
            if data.find(b'\xff\xd9', position + 2 + length) < 0:
                msg = f'data: JPEG of {len(data)} bytes is cut, its end-of-image marker is missing'
                raise FrameError(msg)
            return size
        position += 2 + length
    msg = f'data: JPEG of {len(data)} bytes is cut or damaged in its header'
    raise FrameError(msg)
