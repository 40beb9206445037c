# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recording in the place of a camera; ends when the recording ends."""

from seg_uncertainty_ros.nodes.launching import describe
from seg_uncertainty_ros.nodes.launching import flag
from seg_uncertainty_ros.nodes.launching import our_node

ARGUMENTS = (
    ('source', None, "Bag, video, folder of images, or 'procedural:...'."),
    ('topic', '', "The bag's image topic; empty where it has only one."),
    ('rate', '', 'Pace, times that of the recording.'),
    ('loop', '', "'true': begin again at the end."),
    ('clock', '', "'true': publish the time of the recording on /clock."),
    ('namespace', '', 'Namespace of the camera.'),
    ('image', 'image', 'Image topic, relative to the namespace or absolute.'),
    ('image_transport', '', "'raw', or 'compressed' for JPEG on <image>/compressed."),
    ('params_file', '', 'Parameter file for all nodes, on top of the defaults in config/.'),
)
CONVERSIONS = {
    'source': str,
    'topic': str,
    'rate': float,
    'loop': flag,
    'clock': flag,
    'image_transport': str,
}


def processes(given):
    """Return the process."""
    values = {name: convert(given[name]) for name, convert in CONVERSIONS.items() if given[name]}
    return [our_node('replay', given, values, ('image',))]


def generate_launch_description():
    """Describe the launch."""
    return describe(ARGUMENTS, processes)
