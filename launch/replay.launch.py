# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recording in the place of a camera; ends when the recording ends."""

import os

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.actions import OpaqueFunction
from launch.actions import SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from seg_uncertainty_ros.nodes.transport import environment
from seg_uncertainty_ros.resources import config_file

PACKAGE = 'seg_uncertainty_ros'
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


def text(value):
    """Return a string that YAML must not read as a number."""
    return ParameterValue(value, value_type=str)


CONVERSIONS = {
    'source': text,
    'topic': text,
    'rate': float,
    'loop': lambda value: value.lower() == 'true',
    'clock': lambda value: value.lower() == 'true',
    'image_transport': text,
}


def nodes(context):
    """Return the node; an empty argument leaves a parameter to the files."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    files = [str(config_file('replay.yaml')), given['params_file']]
    values = {name: convert(given[name]) for name, convert in CONVERSIONS.items() if given[name]}
    return [
        Node(
            package=PACKAGE,
            executable='replay',
            name='replay',
            namespace=given['namespace'],
            parameters=[*filter(None, files), values],
            remappings=[('image', given['image'])],
            output='screen',
        )
    ]


def generate_launch_description():
    """Describe the launch."""
    settings = {key: value for key, value in environment().items() if key not in os.environ}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            *(SetEnvironmentVariable(key, value) for key, value in settings.items()),
            OpaqueFunction(function=nodes),
        ]
    )
