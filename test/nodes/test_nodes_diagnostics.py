# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What nodes say on ``/diagnostics``: form, names, moments; and who groups it."""

from __future__ import annotations

import gc
import os
import re
import sys
import time
import weakref
from functools import partial
from importlib.util import find_spec

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from ros_graph import until
from vehicle import slack

from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.diagnostics import PERIOD_S
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.monitor import MonitorNode
from seg_uncertainty_ros.nodes.recorder import RecorderNode
from seg_uncertainty_ros.nodes.replay import ReplayNode
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode
from seg_uncertainty_ros.resources import config_file

# What diagnostic_aggregator reads as a list of strings; a plain string ends it.
LISTS = ('startswith', 'contains', 'expected', 'regex', 'remove_prefix', 'find_and_remove_prefix')


@pytest.fixture(scope='module')
def analyzers():
    content = yaml.safe_load(config_file('diagnostic_aggregator.yaml').read_text())
    # The name of aggregator_node's node.
    parameters = content['analyzers']['ros__parameters']
    return {name: each for name, each in parameters.items() if isinstance(each, dict)}


def matches(analyzer, name):
    """Tell what GenericAnalyzer::match of diagnostic_aggregator (Jazzy) tells."""
    prefixes = analyzer.get('startswith', analyzer.get('find_and_remove_prefix', []))
    return (
        any(re.fullmatch(pattern, name) for pattern in analyzer.get('regex', []))
        or name in analyzer.get('expected', [])
        or any(name.startswith(prefix) for prefix in prefixes)
        or any(part in name for part in analyzer.get('contains', []))
    )


def groups_of(analyzers, name):
    return {key for key, analyzer in analyzers.items() if matches(analyzer, name)}


def test_analyzers_are_what_the_aggregator_reads(analyzers):
    for analyzer in analyzers.values():
        assert analyzer['type'] == 'diagnostic_aggregator/GenericAnalyzer'
        assert isinstance(analyzer['path'], str)
        assert isinstance(analyzer['timeout'], float)
        assert analyzer['timeout'] > 2 * PERIOD_S
        assert set(analyzer) <= {'type', 'path', 'timeout', 'discard_stale', *LISTS}
        lists = [analyzer[key] for key in LISTS if key in analyzer]
        assert lists
        for values in lists:
            assert isinstance(values, list)
            assert all(isinstance(value, str) for value in values)


def test_every_status_has_a_group(graph, analyzers, tmp_path):
    """The names that the nodes really publish, alone and in the namespace of a camera."""
    source = 'procedural:seed=1,duration=1,rate=1'
    nodes = {
        'segmentation': (SegmentationNode, {'autostart': False}),
        'monitor': (MonitorNode, {'autostart': False}),
        'recorder': (RecorderNode, {'autostart': False, 'directory': str(tmp_path)}),
        'replay': (ReplayNode, {'source': source}),
    }
    wanted = set()
    in_namespace = [(name, 'car/rear') for name in ('segmentation', 'monitor')]
    for name, namespace in (*((name, '') for name in nodes), *in_namespace):
        create, parameters = nodes[name]
        node = graph.node(partial(create, namespace=namespace), **parameters)
        full = f'{namespace}/{name}'.lstrip('/')
        wanted |= {f'{full}: {task}' for task in node.diagnostics._tasks}

    def names():
        return {status.name for _, status in list(graph.statuses)}

    until(lambda: names() >= wanted, 'every status')
    assert names() == wanted
    assert {'segmentation: input', 'car/rear/monitor: trust', 'replay: process'} < wanted
    for name in wanted:
        node, task = name.rsplit('/', 1)[-1].split(': ')
        found = groups_of(analyzers, name)
        assert ('recordings' if node in ('recorder', 'replay') else node) in found, name
        assert ('cameras' in found) == (task == 'input'), name
        assert len(found) == 1 + (task == 'input'), name
    for other in ('my_segmentation: frames', 'segmentation_2: frames', 'joy: monitor: trust'):
        assert groups_of(analyzers, other) == set(), other
    assert all(status.hardware_id for _, status in graph.statuses)


def test_what_is_wrong_is_said_at_once_and_no_failure_ends_the_node(graph, error_lines):
    node = graph.node(SegmentationNode, autostart=False)
    name = 'segmentation: frames'
    graph.status(name)
    tasks = node.diagnostics._tasks
    was = tasks['frames']
    for function, words in (
        (lambda: Status(diagnostics.WARN, 'a fault'), 'a fault'),
        (lambda: {}['a mistake'], "no status: KeyError: 'a mistake'"),
    ):
        since = time.monotonic()
        tasks['frames'] = function
        until(lambda words=words: last(graph, name).message == words, words)
        assert time.monotonic() - since < PERIOD_S * slack()
    assert last(graph, name).level == diagnostics.ERROR
    (line,) = error_lines.wait('segmentation')
    assert "diagnostics of frames: no status: KeyError: 'a mistake'" in line
    tasks['frames'] = was
    until(lambda: last(graph, name).level == diagnostics.OK, 'all well again')
    assert graph.state('segmentation') == 'unconfigured'


def last(graph, name):
    return next(status for _, status in reversed(list(graph.statuses)) if status.name == name)


def test_process_says_what_it_takes(graph):
    graph.node(SegmentationNode, autostart=False)
    status, values = graph.status('segmentation: process')
    assert int(values['pid']) == os.getpid()
    assert 10.0 < float(values['rss_mib']) < 1e5
    assert int(values['python_blocks']) > 10_000
    assert int(values['threads']) >= 2
    assert int(values['descriptors']) > 3
    assert values['transport_profile'].endswith('fastdds.xml')
    assert status.hardware_id == '/image'


def test_to_ask_what_a_process_takes_leaves_no_garbage_and_no_new_texts(monkeypatch):
    diagnostics.process_status()
    interned = []
    monkeypatch.setattr(sys, 'intern', lambda text: interned.append(text) or text)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            diagnostics.process_status()
        found = gc.collect()
    finally:
        gc.enable()
    assert (found, interned) == (0, [])


def test_garbage_is_gone_after_a_beat(graph):
    graph.node(SegmentationNode, autostart=False)

    class Ring:
        def __init__(self):
            self.myself = self

    gone = []
    weakref.finalize(Ring(), gone.append, True)
    gc.disable()
    try:
        until(lambda: gone, 'garbage of a ring collected')
    finally:
        gc.enable()


def test_heap_in_use_follows_what_is_allocated():
    before = diagnostics.heap_in_use_bytes()
    if before is None:
        pytest.skip('no glibc, or one without mallinfo2')
    kept = [bytes(100_000) for _ in range(100)]
    assert 10_000_000 <= diagnostics.heap_in_use_bytes() - before < 11_000_000
    del kept
    assert abs(diagnostics.heap_in_use_bytes() - before) < 1_000_000


def test_what_is_missing_without_vision_msgs_is_said(graph):
    graph.node(SegmentationNode, autostart=False)
    _, values = graph.status('segmentation: outputs')
    said = 'published' if find_spec('vision_msgs') else 'vision_msgs is not installed'
    assert values['label_info'] == said


def test_a_neighbour_is_heard_among_the_many_of_a_vehicle(graph):
    node = graph.node(MonitorNode, autostart=False)
    publisher = graph.publisher(DiagnosticArray, '/diagnostics', 100)

    def burst():
        # In the executor's thread: it takes none of them before the last has come.
        timer.cancel()
        for name in ('segmentation: node', *(f'other_{index}: node' for index in range(50))):
            publisher.publish(DiagnosticArray(status=[DiagnosticStatus(name=name)]))

    timer = graph.probe.create_timer(0.01, burst)
    until(lambda: node.peers.describe()['segmentation'] == 'well', 'the neighbour')


@pytest.mark.parametrize(
    ('latency_s', 'judged_s'), [(0.2, 0.2), (-0.04, 0.0), (-0.06, None), (60.1, None)]
)
def test_a_latency_by_another_clock_is_none(latency_s, judged_s):
    assert diagnostics.plausible_latency_s(latency_s) == judged_s
