# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The launch files, where ROS 2 brings launch: it is in no wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('launch_ros.actions', reason='launch_ros is not installed')

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

FOLDER = Path(__file__).parents[1] / 'launch'
FILES = {path.name.removesuffix('.launch.py') for path in FOLDER.glob('*.launch.py')}
REQUIRED = {
    'camera': set(),
    'cameras': {'cameras'},
    'replay': {'source'},
    'demo': {'source'},
}
NODES = {
    'cameras': ['cameras'],
    'camera': ['segmentation', 'monitor'],
    'replay': ['replay'],
    'demo': ['segmentation', 'monitor', 'replay'],
}


def load(name):
    context = LaunchContext()
    source = PythonLaunchDescriptionSource(str(FOLDER / f'{name}.launch.py'))
    return source.get_launch_description(context), context


def started(entities, context):
    """Yield the nodes that a launch would start."""
    for entity in entities:
        if isinstance(entity, Node):
            if entity.condition is None or entity.condition.evaluate(context):
                yield entity
        else:
            yield from started(entity.visit(context) or (), context)


def test_every_launch_file_is_tested():
    assert set(REQUIRED) == set(NODES) == FILES


@pytest.mark.parametrize('name', sorted(REQUIRED))
def test_arguments_are_described(name):
    description, _ = load(name)
    arguments = description.get_launch_arguments()
    assert all(argument.description for argument in arguments)
    assert {item.name for item in arguments if item.default_value is None} == REQUIRED[name]


@pytest.mark.parametrize('name', sorted(NODES))
def test_nodes_start_in_the_namespace_of_the_camera(name):
    description, context = load(name)
    given = {
        'source': 'procedural:demo',
        'namespace': 'front',
        'rate': '2',
        'clock': 'true',
        'cameras': 'front',
    }
    context.launch_configurations.update(given)
    nodes = list(started(description.entities, context))
    assert [node.node_executable for node in nodes] == NODES[name]
    for node in nodes:
        node._perform_substitutions(context)
        # The process of several cameras has a namespace for each.
        assert node.node_name.startswith('/front/') or name == 'cameras'


def test_the_monitor_can_be_left_out():
    description, context = load('camera')
    context.launch_configurations['monitor'] = 'false'
    (node,) = started(description.entities, context)
    assert node.node_executable == 'segmentation'


def test_several_cameras_are_one_process():
    description, context = load('cameras')
    context.launch_configurations.update({'cameras': 'front, rear', 'monitor': 'false'})
    (node,) = started(description.entities, context)
    node._perform_substitutions(context)
    assert node.node_executable == 'cameras'
    arguments = [''.join(part.perform(context) for part in word) for word in node.cmd[1:]]
    assert arguments[:3] == ['front', 'rear', '--no-monitor']
    # Neither a name nor a namespace, which would be those of all nodes of the process.
    assert not [word for word in arguments if word.startswith(('__node', '__ns'))]
