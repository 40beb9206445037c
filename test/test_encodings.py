# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bytes of ROS images to BGR, and the reasons for a refusal."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from seg_uncertainty_ros.encodings import ENCODINGS
from seg_uncertainty_ros.encodings import LAYOUTS
from seg_uncertainty_ros.encodings import MAX_PIXELS
from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.encodings import check_buffer
from seg_uncertainty_ros.encodings import decode_compressed
from seg_uncertainty_ros.encodings import decode_image
from seg_uncertainty_ros.encodings import decodes_without_cv_bridge

BGR = np.random.default_rng(7).integers(0, 256, (6, 8, 3), np.uint8)
GRAY = BGR[:, :, 0].copy()


def padded(pixels, padding=5):
    """Return the bytes of ``pixels`` with ``padding`` bytes of garbage behind each row."""
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    garbage = np.full((len(rows), padding), 0xA5, np.uint8)
    return np.hstack((rows, garbage)).tobytes(), rows.shape[1] + padding


def decode(pixels, encoding, *, padding=0, is_bigendian=False, shape=None):
    data, step = padded(pixels, padding)
    height, width = shape or pixels.shape[:2]
    return decode_image(
        data, height=height, width=width, encoding=encoding, step=step, is_bigendian=is_bigendian
    )


def gray_to_bgr(gray):
    return np.repeat(gray[:, :, None], 3, axis=2)


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'pixels', 'expected'),
    [
        ('bgr8', BGR, BGR),
        ('8UC3', BGR, BGR),
        ('rgb8', BGR[:, :, ::-1].copy(), BGR),
        ('bgra8', np.dstack((BGR, GRAY)), BGR),
        ('rgba8', np.dstack((BGR[:, :, ::-1], GRAY)), BGR),
        ('mono8', GRAY, gray_to_bgr(GRAY)),
        ('8UC1', GRAY, gray_to_bgr(GRAY)),
        ('mono16', GRAY.astype('<u2') * 257, gray_to_bgr(GRAY)),
        ('16UC1', GRAY.astype('<u2') * 257, gray_to_bgr(GRAY)),
        ('32FC1', (GRAY / 255).astype('<f4'), gray_to_bgr(GRAY)),
    ],
)
def test_direct_encodings_are_exact(encoding, pixels, expected, padding):
    image = decode(pixels, encoding, padding=padding)
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize(('encoding', 'dtype'), [('mono16', '>u2'), ('16UC1', '>u2')])
def test_big_endian_16_bit(encoding, dtype, padding):
    image = decode(GRAY.astype(dtype) * 257, encoding, padding=padding, is_bigendian=True)
    np.testing.assert_array_equal(image, gray_to_bgr(GRAY))


def test_big_endian_float():
    image = decode((GRAY / 255).astype('>f4'), '32FC1', is_bigendian=True)
    np.testing.assert_array_equal(image, gray_to_bgr(GRAY))


def test_mono16_rounds_to_nearest():
    values = np.array([[0, 128, 129, 65535, 32768, 385]], '<u2')
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(values, 'mono16')[:, :, 0], expected)


def test_float_is_clipped_to_its_range():
    image = decode(np.array([[-0.5, 0.0, 0.5, 1.0, 7.0]], '<f4'), '32FC1')
    assert image[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_unpadded_bgr8_is_not_copied():
    buffer = array('B', BGR.tobytes())
    image = decode_image(buffer, height=6, width=8, encoding='bgr8', step=24, is_bigendian=0)
    assert np.shares_memory(image, np.frombuffer(buffer, np.uint8))


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda x: array('B', x)])
def test_any_buffer_is_taken(kind):
    data = kind(BGR.tobytes())
    image = decode_image(data, height=6, width=8, encoding='rgb8', step=24, is_bigendian=0)
    np.testing.assert_array_equal(image, BGR[:, :, ::-1])


def yuv(rgb):
    """BT.601 with studio range, what the 4:2:2 encodings carry."""
    red, green, blue = (x / 255 for x in rgb)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        round(16 + 219 * luma),
        round(128 + 224 * (blue - luma) / 1.772),
        round(128 + 224 * (red - luma) / 1.402),
    )


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('rgb', [(200, 40, 60), (20, 180, 90), (30, 60, 220), (128, 128, 128)])
@pytest.mark.parametrize(
    ('encoding', 'order'),
    [
        ('yuv422', 'uyvy'),
        ('uyvy', 'uyvy'),
        ('yuv422_yuy2', 'yuyv'),
        ('yuyv', 'yuyv'),
    ],
)
def test_yuv422(encoding, order, rgb, padding):
    values = dict(zip('yuv', yuv(rgb), strict=True))
    pair = [values[x] for x in order]
    pixels = np.array([pair * 4] * 6, np.uint8)
    image = decode(pixels, encoding, padding=padding, shape=(6, 8))
    assert image.shape == (6, 8, 3)
    assert np.abs(image.astype(int) - rgb[::-1]).max() <= 3


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize(('encoding', 'order'), [('nv12', 'uv'), ('nv21', 'vu')])
def test_nv12_and_nv21(encoding, order, padding):
    values = dict(zip('yuv', yuv((200, 40, 60)), strict=True))
    luma = np.full((6, 8), values['y'], np.uint8)
    chroma = np.array([[values[x] for x in order] * 4] * 3, np.uint8)
    image = decode(np.vstack((luma, chroma)), encoding, padding=padding, shape=(6, 8))
    assert np.abs(image.astype(int) - (60, 40, 200)).max() <= 3


@pytest.mark.parametrize('padding', [0, 7])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_keeps_colours(pattern, padding):
    values = {'r': 210, 'g': 90, 'b': 30}
    mosaic = np.empty((12, 16), np.uint8)
    for index, letter in enumerate(pattern):
        mosaic[index // 2 :: 2, index % 2 :: 2] = values[letter]
    image = decode(mosaic, f'bayer_{pattern}8', padding=padding)
    np.testing.assert_array_equal(image, np.broadcast_to((30, 90, 210), (12, 16, 3)))


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_decodes_and_is_announced(encoding):
    layout = LAYOUTS[encoding]
    step = 8 * layout.pixel_bytes + 4
    data = bytes(6 * step * 3 // 2)
    image = decode_image(data, height=6, width=8, encoding=encoding, step=step, is_bigendian=0)
    assert image.shape == (6, 8, 3)
    assert decodes_without_cv_bridge(encoding)


def refusal(**changes):
    fields = {
        'data': BGR.tobytes(),
        'height': 6,
        'width': 8,
        'encoding': 'bgr8',
        'step': 24,
        'is_bigendian': 0,
        **changes,
    }
    with pytest.raises(FrameError) as caught:
        decode_image(fields.pop('data'), **fields)
    message = str(caught.value)
    assert '\n' not in message
    return message


def test_unknown_encoding_lists_the_valid_ones():
    message = refusal(encoding='bayer_rggb16')
    assert message.startswith("encoding: 'bayer_rggb16' is unknown")
    assert all(x in message for x in ENCODINGS)
    assert not decodes_without_cv_bridge('bayer_rggb16')


def test_hostile_encoding_stays_one_short_line():
    assert len(refusal(encoding='x\n' * 10_000)) < 600


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'data': bytes(143)}, 'data: 143 bytes, fewer than height x step = 6 x 24 = 144'),
        ({'data': b''}, 'data: 0 bytes, fewer than height x step = 6 x 24 = 144'),
        ({'step': 23}, 'step: 23 bytes, fewer than a row of bgr8 has: width x 3 = 24'),
        ({'height': 0}, 'height: 0, expected at least 1'),
        ({'width': 0}, 'width: 0, expected at least 1'),
        ({'height': -1}, 'height: -1, expected at least 1'),
        (
            {'encoding': 'yuv422', 'width': 7},
            'width: 7 is odd, yuv422 stores its columns in pairs',
        ),
        ({'encoding': 'nv12', 'height': 5}, 'height: 5 is odd, nv12 stores its rows in pairs'),
        (
            {'encoding': 'nv12'},
            'data: 144 bytes, fewer than nv12 has: height x 3 / 2 x step = 9 x 24 = 216',
        ),
    ],
)
def test_refusals_name_field_and_value(changes, message):
    assert refusal(**changes) == message


def test_absurd_size_is_refused_before_anything_else():
    message = refusal(height=2**32 - 1, width=2**32 - 1, step=2**32 - 1)
    assert message.startswith('height x width: 4294967295 x 4294967295')
    assert f'more than the {MAX_PIXELS} accepted' in message


def test_nan_and_infinity_are_counted_and_located():
    values = np.zeros((4, 5), '<f4')
    values[2, 3] = np.nan
    values[3, 0] = np.inf
    with pytest.raises(FrameError) as caught:
        decode(values, '32FC1', padding=8)
    assert str(caught.value) == (
        'data: 2 of 20 values of 32FC1 are NaN or infinite, the first (nan) at row 2, column 3'
    )


def test_check_buffer_serves_encodings_left_to_cv_bridge():
    check_buffer(60, height=3, width=4, step=20)
    with pytest.raises(FrameError, match='data: 59 bytes'):
        check_buffer(59, height=3, width=4, step=20)
    with pytest.raises(FrameError, match='step: 0'):
        check_buffer(60, height=3, width=4, step=0)


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=400),
    height=st.integers(-1, 40),
    width=st.integers(-1, 40),
    step=st.integers(-1, 100),
    encoding=st.sampled_from(ENCODINGS),
    is_bigendian=st.integers(0, 1),
)
def test_any_fields_decode_or_are_refused(data, height, width, step, encoding, is_bigendian):
    try:
        image = decode_image(
            data,
            height=height,
            width=width,
            encoding=encoding,
            step=step,
            is_bigendian=is_bigendian,
        )
    except FrameError:
        return
    assert image.shape == (height, width, 3)
    assert image.flags.c_contiguous


# Compressed images

SMOOTH = cv2.resize(BGR, (96, 64), interpolation=cv2.INTER_CUBIC)


def encode(suffix, image=SMOOTH, *parameters):
    done, data = cv2.imencode(suffix, image, list(parameters))
    assert done
    return data.tobytes()


@pytest.mark.parametrize('suffix', ['.png', '.bmp'])
def test_lossless_files_are_exact(suffix):
    np.testing.assert_array_equal(decode_compressed(encode(suffix), suffix[1:]), SMOOTH)


@pytest.mark.parametrize('kind', ['jpeg', 'jpg', '', 'bgr8; jpeg compressed bgr8', 'png'])
def test_jpeg_of_any_format_string(kind):
    image = decode_compressed(encode('.jpg'), kind)
    assert np.abs(image.astype(int) - SMOOTH).mean() < 4


def test_red_and_blue_follow_the_compressed_part_of_the_format():
    data = encode('.png')
    stays = decode_compressed(data, 'rgb8; png compressed bgr8')
    swapped = decode_compressed(data, 'rgb8; png compressed rgb8')
    np.testing.assert_array_equal(stays, SMOOTH)
    np.testing.assert_array_equal(swapped, SMOOTH[:, :, ::-1])


@pytest.mark.parametrize(
    'parameters',
    [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)],
)
def test_jpeg_variants_with_and_without_a_tail(parameters):
    data = encode('.jpg', SMOOTH, *parameters)
    assert decode_compressed(data, 'jpeg').shape == SMOOTH.shape
    assert decode_compressed(data + bytes(100), 'jpeg').shape == SMOOTH.shape
    with pytest.raises(FrameError, match='end-of-image marker is missing'):
        decode_compressed(data[:-2], 'jpeg')


def test_gray_jpeg_becomes_three_channels():
    assert decode_compressed(encode('.jpg', SMOOTH[:, :, 0]), 'mono8; jpeg compressed').ndim == 3


def compressed_refusal(data, kind='jpeg'):
    with pytest.raises(FrameError) as caught:
        decode_compressed(data, kind)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_empty_data():
    assert compressed_refusal(b'') == "data: empty, expected a JPEG or PNG file (format 'jpeg')"


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_file_cut_anywhere_is_refused(suffix):
    data = encode(suffix)
    for length in (1, 3, 9, 20, 30, 200, len(data) // 2, len(data) - 4):
        assert 'cut' in compressed_refusal(data[:length]) or length < 9


def test_thumbnail_does_not_hide_a_cut():
    whole = encode('.jpg')
    thumbnail = encode('.jpg', SMOOTH[:8, :8])
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    data = whole[:2] + segment + whole[2:]
    assert decode_compressed(data, 'jpeg').shape == SMOOTH.shape
    assert 'end-of-image marker' in compressed_refusal(data[:-50])


def test_other_content_is_named():
    message = compressed_refusal(b'II*\x00' + bytes(50), 'tiff')
    assert message == (
        "data: 54 bytes starting with 49 49 2a 00, neither JPEG nor PNG (format 'tiff')"
    )


def patched(data, position, values):
    return data[:position] + values + data[position + len(values) :]


def test_declared_size_is_checked_before_decoding():
    jpeg = encode('.jpg')
    frame_header = jpeg.index(b'\xff\xc0')
    bomb = patched(jpeg, frame_header + 5, b'\xff\xff\xff\xff')
    assert compressed_refusal(bomb).startswith('height x width: 65535 x 65535 = 4294836225 pixels')
    bomb = patched(encode('.png'), 16, b'\x00\x01\x00\x00\x00\x01\x00\x00')
    assert compressed_refusal(bomb).startswith('height x width: 65536 x 65536')
    assert compressed_refusal(patched(encode('.png'), 16, bytes(4))).startswith('width: 0')


def test_damaged_inside():
    png = encode('.png')
    middle = png.index(b'IDAT') + 10
    assert compressed_refusal(patched(png, middle, bytes(200))).endswith(
        "bytes with a damaged image (format 'jpeg')"
    )


@settings(max_examples=100, deadline=None)
@given(position=st.integers(0, 700), value=st.binary(min_size=1, max_size=4))
def test_any_damage_decodes_or_is_refused(position, value):
    data = patched(encode('.jpg'), position, value)
    try:
        image = decode_compressed(data, 'jpeg')
    except FrameError:
        return
    assert image.ndim == 3
