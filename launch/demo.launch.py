# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recording, segmentation, monitor and, where wanted, RViz; arguments of both parts."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.actions import IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from seg_uncertainty_ros.resources import resource_file


def generate_launch_description():
    """Describe the launch."""
    here = Path(__file__).parent
    rviz_file = str(resource_file('rviz', 'seg_uncertainty.rviz'))

    def part(name, **arguments):
        source = PythonLaunchDescriptionSource(str(here / f'{name}.launch.py'))
        return IncludeLaunchDescription(source, launch_arguments=arguments.items())

    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'source', description="Bag, video, folder of images, or 'procedural:...'."
            ),
            DeclareLaunchArgument('rviz', default_value='false', description='Start RViz too.'),
            part('camera'),
            # A required argument is not inherited by an included file.
            part('replay', source=LaunchConfiguration('source')),
            Node(
                package='rviz2',
                executable='rviz2',
                name='rviz2',
                namespace=LaunchConfiguration('namespace'),
                arguments=['-d', rviz_file],
                remappings=[('image', LaunchConfiguration('image'))],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
        ]
    )
