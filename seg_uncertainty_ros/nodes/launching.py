# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: described arguments, the environment for images, our processes.

``launch`` is in no wheel. It is imported where a launch is described, so that what a launch file
starts can be read, and started, without it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.nodes.transport import environment
from seg_uncertainty_ros.resources import config_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from launch import LaunchContext
    from launch import LaunchDescription
    from launch_ros.actions import Node

PACKAGE = 'seg_uncertainty_ros'

Arguments = tuple[tuple[str, str | None, str], ...]
"""Name, default (None: required) and description of each launch argument."""


@dataclass(frozen=True)
class Process:
    """A process to start: parameter files, then ``values``; later ones win.

    ``name`` and ``namespace`` are those of all its nodes; None where each has its own.
    """

    executable: str
    name: str | None = None
    namespace: str | None = None
    files: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    package: str = PACKAGE

    @property
    def enclave(self) -> str:
        """The enclave of SROS 2: the full name of the node. Without security it has no effect."""
        parts = ((self.namespace or '').strip('/'), self.name or self.executable)
        return '/' + '/'.join(filter(None, parts))


def flag(value: str) -> bool:
    """Return whether an argument says 'true'."""
    return value.lower() == 'true'


def our_node(
    name: str,
    given: Mapping[str, str],
    values: Mapping[str, Any],
    topics: Sequence[str],
) -> Process:
    """Return a node of this package with its parameter file, then the user's, then ``values``."""
    return Process(
        executable=name,
        name=name,
        namespace=given['namespace'],
        files=(str(config_file(f'{name}.yaml')), *filter(None, [given['params_file']])),
        values=values,
        remappings=tuple((topic, given[topic]) for topic in topics),
    )


def describe(
    arguments: Arguments, processes: Callable[[Mapping[str, str]], list[Process]]
) -> LaunchDescription:
    """Describe a launch whose ``processes`` are made from the values of its arguments.

    An empty argument leaves a parameter to the files. Variables that the user has set stay.
    """
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument
    from launch.actions import OpaqueFunction
    from launch.actions import SetEnvironmentVariable
    from launch.substitutions import LaunchConfiguration

    def make(context: LaunchContext) -> list[Node]:
        given = {name: LaunchConfiguration(name).perform(context) for name, *_ in arguments}
        return [_action(process) for process in processes(given)]

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


def _action(process: Process) -> Node:
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    # YAML must not read a string as a number.
    values = {
        key: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for key, value in process.values.items()
    }
    return Node(
        package=process.package,
        executable=process.executable,
        name=process.name,
        namespace=process.namespace,
        parameters=[*process.files, *filter(None, [values])],
        remappings=list(process.remappings),
        arguments=list(process.arguments),
        ros_arguments=['--enclave', process.enclave],
        output='screen',
    )
