# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Segmentation and monitor beside a camera driver; one namespace a camera."""

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
    ('namespace', '', 'Namespace of the camera and of the nodes.'),
    ('image', 'image', 'Image topic, relative to the namespace or absolute.'),
    ('camera_info', 'camera_info', 'Camera info topic of the same camera.'),
    ('image_transport', '', "'raw', or 'compressed' for <image>/compressed."),
    ('bundle', '', 'Directory of the model bundle; empty: the one that ships.'),
    ('backend', '', 'What runs the graph: onnxruntime.'),
    ('monitor', 'true', 'Start the monitor too.'),
    ('params_file', '', 'Parameter file for all nodes, on top of the defaults in config/.'),
    ('use_sim_time', 'false', 'Take the time from /clock.'),
)


def nodes(context):
    """Return the nodes; an empty argument leaves a parameter to the files."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    sim_time = {'use_sim_time': given['use_sim_time'].lower() == 'true'}

    def node(name, chosen, **kwargs):
        files = [str(config_file(f'{name}.yaml')), given['params_file']]
        values = {key: ParameterValue(given[key], value_type=str) for key in chosen if given[key]}
        return Node(
            package=PACKAGE,
            executable=name,
            name=name,
            namespace=given['namespace'],
            parameters=[*filter(None, files), sim_time, values],
            output='screen',
            **kwargs,
        )

    topics = [(topic, given[topic]) for topic in ('image', 'camera_info')]
    started = [node('segmentation', ('bundle', 'backend', 'image_transport'), remappings=topics)]
    if given['monitor'].lower() == 'true':
        started.append(node('monitor', ('bundle',)))
    return started


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
