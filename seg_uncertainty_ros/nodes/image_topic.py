# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Where a camera's images are: by the convention of image_transport, behind the base topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from seg_uncertainty_ros.nodes.parameters import Parameter

if TYPE_CHECKING:
    from rclpy.node import Node

IMAGE_TRANSPORT = Parameter(
    'image_transport',
    'raw',
    'raw: sensor_msgs/Image on image; compressed: CompressedImage on image/compressed.',
    choices=('raw', 'compressed'),
)
_COMPRESSED = '/compressed'


def image_topic(node: Node, transport: str) -> tuple[type, str]:
    """Return the message type and the resolved name of ``image``, one of ``IMAGE_TRANSPORT``.

    A topic that was remapped to the compressed one itself is meant, too.
    """
    topic = node.resolve_topic_name('image')
    if transport == 'raw':
        return Image, topic
    return CompressedImage, topic.removesuffix(_COMPRESSED) + _COMPRESSED
