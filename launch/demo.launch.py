# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recording, segmentation, monitor and, where wanted, RViz; arguments of both parts."""

from pathlib import Path
from runpy import run_path

from seg_uncertainty_ros.nodes.launching import Process
from seg_uncertainty_ros.nodes.launching import describe
from seg_uncertainty_ros.nodes.launching import flag
from seg_uncertainty_ros.resources import resource_file

PARTS = [
    run_path(str(Path(__file__).with_name(f'{name}.launch.py'))) for name in ('camera', 'replay')
]
ARGUMENTS = (
    *{row[0]: row for part in PARTS for row in part['ARGUMENTS']}.values(),
    ('rviz', 'false', 'Start RViz too.'),
)


def processes(given):
    """Return those of both parts, and RViz."""
    started = [process for part in PARTS for process in part['processes'](given)]
    if flag(given['rviz']):
        rviz = Process(
            package='rviz2',
            executable='rviz2',
            name='rviz2',
            namespace=given['namespace'],
            remappings=(('image', given['image']),),
            arguments=('-d', str(resource_file('rviz', 'seg_uncertainty.rviz'))),
        )
        started.append(rviz)
    return started


def generate_launch_description():
    """Describe the launch."""
    return describe(ARGUMENTS, processes)
