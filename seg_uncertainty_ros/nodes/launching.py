# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: described arguments, the environment for images, our nodes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from typing import Any

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.actions import OpaqueFunction
from launch.actions import SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from seg_uncertainty_ros.nodes.transport import environment
from seg_uncertainty_ros.resources import config_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from launch import LaunchContext

Arguments = tuple[tuple[str, str | None, str], ...]
"""Name, default (None: required) and description of each launch argument."""


def text(value: str) -> ParameterValue:
    """Return a string that YAML must not read as a number."""
    return ParameterValue(value, value_type=str)


def flag(value: str) -> bool:
    """Return whether an argument says 'true'."""
    return value.lower() == 'true'


def our_node(
    name: str,
    given: Mapping[str, str],
    values: Mapping[str, Any],
    topics: Sequence[str],
) -> Node:
    """Return a node of this package with its parameter file, then the user's, then ``values``."""
    files = [str(config_file(f'{name}.yaml')), given['params_file']]
    return Node(
        package='seg_uncertainty_ros',
        executable=name,
        name=name,
        namespace=given['namespace'],
        parameters=[*filter(None, files), dict(values)],
        remappings=[(topic, given[topic]) for topic in topics],
        output='screen',
    )


def describe(
    arguments: Arguments, nodes: Callable[[Mapping[str, str]], list[Node]]
) -> LaunchDescription:
    """Describe a launch whose ``nodes`` are made from the values of its arguments.

    An empty argument leaves a parameter to the files. Variables that the user has set stay.
    """

    def make(context: LaunchContext) -> list[Node]:
        return nodes({name: LaunchConfiguration(name).perform(context) for name, *_ in arguments})

    settings = {key: value for key, value in environment().items() if key not in os.environ}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in arguments
            ),
            *(SetEnvironmentVariable(key, value) for key, value in settings.items()),
            OpaqueFunction(function=make),
        ]
    )
