# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every launch file started for real: its processes always, by launch where that is installed.

By launch's own service in a process, as ``ros2 launch`` does: launch_testing and launch_pytest of
Jazzy do not run under pytest 9.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rcl_interfaces.srv import GetParameters
from ros_graph import until
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_msgs.msg import String

from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.processes import yaml_scalar
from seg_uncertainty_ros.recordings.event_log import read_events

FOLDER = Path(__file__).parents[2] / 'launch'
SHARED_MEMORY = Path('/dev/shm')
DRIVE = 'procedural:seed=3,duration=3,rate=10,width=160,height=96'
PARAMETERS = """
/**:
  ros__parameters:
    plane_size: network
    stale_input: {enter: 7.0}
"""
PATIENCE_S = 60.0

# What `ros2 launch FILE name:=value...` does. In the background of a shell, ctrl-C is ignored.
LAUNCH = """
import signal
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

signal.signal(signal.SIGINT, signal.default_int_handler)
file, *pairs = sys.argv[1:]
included = IncludeLaunchDescription(
    PythonLaunchDescriptionSource(file),
    launch_arguments=[tuple(pair.split(':=', 1)) for pair in pairs],
)
service = LaunchService()
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


class Running:
    """Processes of one launch file: what they have said, and how they end."""

    def __init__(self, processes, log, by_launch):
        self._processes = processes
        self._log = log
        self._by_launch = by_launch
        self._shared = set()

    def note_shared_memory(self):
        """Remember which files of /dev/shm the processes and their children use."""
        for process in self._processes:
            for pid in (process.pid, *children(process.pid)):
                self._shared |= mapped(pid)

    def leftovers(self):
        """Return the files that are still there though no process uses them any more."""
        assert self._shared
        pids = [int(folder.name) for folder in Path('/proc').glob('[0-9]*')]
        used = set().union(*map(mapped, pids))
        return {path for path in self._shared - used if path.exists()}

    def said(self):
        return self._log.read_text(errors='replace')

    def stop(self):
        """Interrupt what runs, as ctrl-C does, and return the exit statuses."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self):
        """Wait until all have ended, and return the exit statuses."""
        return [process.wait(PATIENCE_S) for process in self._processes]

    def kill(self):
        """End what still runs, and what it has started."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def ended_cleanly(self):
        """Return how many nodes have ended with status 0."""
        if self._by_launch:
            return self.said().count('process has finished cleanly')
        return sum(process.poll() == 0 for process in self._processes)


def children(pid):
    """Return the processes that a process has started."""
    text = ''.join(path.read_text() for path in Path(f'/proc/{pid}/task').glob('*/children'))
    return [int(word) for word in text.split()]


def mapped(pid):
    """Return the segments of DDS in a process's memory, with their locks; none where it ended.

    Not the small files of ports: their numbers are shared by all of a machine, and one that a
    killed process has used is never removed, but used again.
    """
    try:
        lines = Path(f'/proc/{pid}/maps').read_text().splitlines()
    except OSError:
        return set()
    names = {Path(line.split()[-1]).name for line in lines if str(SHARED_MEMORY) in line}
    segments = {name for name in names if re.fullmatch(r'fastrtps_[0-9a-f]{16}', name)}
    return {SHARED_MEMORY / f'{name}{end}' for name in segments for end in ('', '_el')}


def command(process):
    """Return the command line of a process without launch, with the same settings."""
    words = [sys.executable, '-m', f'seg_uncertainty_ros.nodes.{process.executable}']
    words += [*process.arguments, '--ros-args', '--enclave', process.enclave]
    if process.name:
        words += ['-r', f'__node:={process.name}']
    if process.namespace:
        words += ['-r', f'__ns:=/{process.namespace.strip("/")}']
    for file in process.files:
        words += ['--params-file', file]
    for key, value in process.values.items():
        words += ['-p', f'{key}:={yaml_scalar(value)}']
    for old, new in process.remappings:
        words += ['-r', f'{old}:={new}']
    return words


def commands(name, given):
    """Return the command lines of the processes of a launch file."""
    file = run_path(str(FOLDER / f'{name}.launch.py'))
    defaults = {argument: default for argument, default, _ in file['ARGUMENTS']}
    return [command(process) for process in file['processes']({**defaults, **given})]


def ament_prefix(folder):
    """Make what colcon installs for launch to find: a prefix with the package's scripts."""
    marker = folder / 'share/ament_index/resource_index/packages/seg_uncertainty_ros'
    scripts = folder / 'lib/seg_uncertainty_ros'
    marker.parent.mkdir(parents=True)
    marker.touch()
    scripts.mkdir(parents=True)
    for script in ('segmentation', 'monitor', 'cameras', 'replay', 'recorder'):
        (scripts / script).symlink_to(Path(sys.executable).with_name(script))
    return str(folder)


BY_LAUNCH = pytest.param(
    True,
    id='by_launch',
    marks=pytest.mark.skipif(
        find_spec('launch_ros') is None or find_spec('launch') is None,
        reason='launch_ros is not installed',
    ),
)


@pytest.fixture(params=[pytest.param(False, id='processes'), BY_LAUNCH])
def launch(request, domain, tmp_path):
    """Yield a context that starts a launch file with arguments; to be set up before ``graph``."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
    log = tmp_path / 'log'
    started = []

    @contextmanager
    def begin(name, **given):
        if request.param:
            prefixes = [ament_prefix(tmp_path / 'prefix'), os.environ.get('AMENT_PREFIX_PATH')]
            environment['AMENT_PREFIX_PATH'] = os.pathsep.join(filter(None, prefixes))
            words = [f'{key}:={value}' for key, value in given.items()]
            file = str(FOLDER / f'{name}.launch.py')
            starts = [[sys.executable, '-c', LAUNCH, file, *words]]
        else:
            starts = commands(name, given)
        with log.open('wb') as output:
            processes = [
                subprocess.Popen(
                    start, env=environment, stdout=output, stderr=output, start_new_session=True
                )
                for start in starts
            ]
        running = Running(processes, log, request.param)
        started.append(running)
        try:
            yield running
        except AssertionError:
            print(running.said())
            raise
        finally:
            running.stop()

    yield begin
    # After the test's own node is gone, which may hold what it shared with the others.
    (running,) = started
    assert running.leftovers() == set()


def nodes(graph):
    """Return the full names of the nodes but the probe's."""
    found = graph.probe.get_node_names_and_namespaces()
    return sorted(
        f'{namespace.rstrip("/")}/{name}' for name, namespace in found if name != 'probe'
    )


def parameters(graph, node, *names):
    """Return the values that a node has."""
    request = GetParameters.Request(names=names)
    values = graph.call(GetParameters, f'{node}/get_parameters', request).values
    kinds = {1: 'bool_value', 3: 'double_value', 4: 'string_value'}
    return [getattr(value, kinds[value.type]) for value in values]


def subscribed(graph, node):
    namespace, _, name = node.rpartition('/')
    found = graph.probe.get_subscriber_names_and_types_by_node(name, namespace or '/')
    return {topic for topic, _ in found}


def drive(graph, topic, mask_topics):
    """Publish images until a plane with the stamp of one has come on each topic."""
    masks = [graph.subscribe(Image, mask_topic) for mask_topic in mask_topics]
    images = graph.publisher(Image, topic)
    sent = []

    def planes():
        stamp = Time(sec=1000 + len(sent))
        sent.append(stamp)
        header = Header(stamp=stamp, frame_id='camera')
        images.publish(image_message(np.full((96, 160, 3), 90, np.uint8), header))
        return all(masks)

    until(planes, f'planes on {mask_topics}', PATIENCE_S)
    for came in masks:
        assert (came[0].encoding, came[0].header.frame_id) == ('mono8', 'camera')
        assert came[0].header.stamp in sent


def check_the_end(running, count):
    """Check that all end cleanly when interrupted."""
    running.note_shared_memory()
    assert set(running.stop()) == {0}
    assert running.ended_cleanly() == count, running.said()
    assert 'Traceback' not in running.said()


def test_camera(launch, graph, tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text(PARAMETERS)
    arguments = {
        'namespace': 'front',
        'image': '/driver/image_raw',
        'camera_info': 'info',
        'backend': 'onnxruntime-cpu',
        'snapshots': str(tmp_path / 'snapshots'),
        'params_file': str(file),
    }
    with launch('camera', **arguments) as running:
        names = ['/front/monitor', '/front/recorder', '/front/segmentation']
        until(lambda: nodes(graph) == names, 'nodes', PATIENCE_S)
        states = graph.subscribe(String, '/front/monitor/state')
        drive(graph, '/driver/image_raw', ['/front/segmentation/mask'])
        assert json.loads(states.wait().data)['state']
        monitor, recorder, segmentation = names
        wanted = {'/driver/image_raw', '/front/info'}
        for node in (segmentation, recorder):
            until(lambda node=node: wanted <= subscribed(graph, node), node, PATIENCE_S)
        assert parameters(graph, recorder, 'directory') == [arguments['snapshots']]
        assert parameters(graph, monitor, 'event_log.directory') == [arguments['snapshots']]
        values = parameters(graph, segmentation, 'plane_size', 'backend', 'use_sim_time')
        assert values == ['network', 'onnxruntime-cpu', False]
        assert parameters(graph, monitor, 'stale_input.enter') == [7.0]
        check_the_end(running, 3)


def test_cameras(launch, graph, tmp_path):
    with launch('cameras', cameras='front, rear', snapshots=str(tmp_path)) as running:
        names = [
            f'/{camera}/{name}'
            for camera in ('front', 'rear')
            for name in ('monitor', 'recorder', 'segmentation')
        ]
        until(lambda: nodes(graph) == names, 'nodes', PATIENCE_S)
        drive(graph, '/front/image', ['/front/segmentation/mask'])
        drive(graph, '/rear/image', ['/rear/segmentation/mask'])
        check_the_end(running, 3)
    logs = {event['origin']['node'] for event in read_events(tmp_path).events}
    assert logs >= {'/front/monitor', '/rear/monitor'}


def test_replay_ends_with_its_recording(launch, graph):
    images = graph.subscribe(Image, '/front/image', 50)
    with launch('replay', source=DRIVE, namespace='front', rate='4', clock='true') as running:
        until(lambda: nodes(graph) == ['/front/replay'], 'nodes', PATIENCE_S)
        assert parameters(graph, '/front/replay', 'rate', 'clock', 'source') == [4.0, True, DRIVE]
        running.note_shared_memory()
        assert set(running.wait()) == {0}
        assert running.ended_cleanly() == 1
        assert len(images) == 30


def test_demo(launch, graph):
    masks = graph.subscribe(Image, '/segmentation/mask', 50)
    states = graph.subscribe(String, '/monitor/state', 50)
    with launch('demo', source=DRIVE) as running:
        names = ['/monitor', '/replay', '/segmentation']
        until(lambda: nodes(graph) == names, 'nodes', PATIENCE_S)
        masks.wait(timeout_s=PATIENCE_S)
        states.wait(timeout_s=PATIENCE_S)
        running.note_shared_memory()
        until(lambda: running.ended_cleanly() == 1, 'the end of replay', PATIENCE_S)
        check_the_end(running, 3)
