# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ROS messages without ROS: the Jazzy types of rosbags, and frames out of image messages."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from rosbags.typesys import Stores
from rosbags.typesys import get_typestore

from seg_uncertainty_ros.encodings import FrameError
from seg_uncertainty_ros.encodings import decode_compressed
from seg_uncertainty_ros.encodings import decode_message
from seg_uncertainty_ros.frames import Frame
from seg_uncertainty_ros.recordings.errors import one_line

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
MAX_STAMP_NS = 2**31 * 10**9
"""builtin_interfaces/Time counts seconds in 32 bits, with a sign."""
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)


@cache
def typestore() -> Typestore:
    """Return the message types of ROS 2 Jazzy."""
    return get_typestore(Stores.ROS2_JAZZY)


def decode_frame(data: bytes, msgtype: str, received_ns: int) -> Frame:
    """Return the frame of a serialized Image or CompressedImage.

    Its stamp is the header's, or ``received_ns`` where the driver left that zero. Raises
    FrameError.
    """
    try:
        message = typestore().deserialize_cdr(data, msgtype)
    except Exception as error:  # whatever the code that rosbags generates comes upon
        msg = f'{len(data)} bytes are no {msgtype}: {type(error).__name__} {one_line(error)}'
        raise FrameError(msg) from None
    if msgtype == IMAGE:
        image = decode_message(message)
    else:
        image = decode_compressed(message.data, message.format)
    stamp = message.header.stamp
    stamp_ns = stamp.sec * 10**9 + stamp.nanosec or received_ns
    if stamp_ns >= MAX_STAMP_NS:
        msg = f'time of reception: {stamp_ns} ns, beyond what a stamp can hold'
        raise FrameError(msg)
    return Frame(image, stamp_ns, message.header.frame_id)
