# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Event log and snapshots of real nodes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from ros_graph import until
from test_nodes_monitor import QUIET
from test_nodes_monitor import Camera

from seg_uncertainty_ros.nodes.conversions import image_message
from seg_uncertainty_ros.nodes.monitor import MonitorNode
from seg_uncertainty_ros.recordings.event_log import read_events

LOG = 'monitor: event log'


def show_until(camera, condition, *, unknown, what):
    def find():
        camera.show(unknown=unknown)
        time.sleep(0.02)
        return condition()

    return until(find, what)


def raised(node):
    return [warning.name for warning in node._assessment.warnings]


def test_events_of_a_drive(graph, bundle_path, bundle, tmp_path):
    node = graph.node(
        MonitorNode,
        bundle=str(bundle_path),
        event_log__directory=str(tmp_path),
        **QUIET,
    )
    camera = Camera(graph, bundle)
    show_until(camera, lambda: node._judged, unknown=False, what='planes')
    show_until(camera, lambda: raised(node), unknown=True, what='warning')
    show_until(camera, lambda: not raised(node), unknown=False, what='its end')
    assert graph.set('monitor', 'ood_area.enter', 0.9).successful
    camera.second += 0.1
    planes = camera.planes(unknown=False)
    planes['anomaly'] = image_message(np.zeros((5, 7), np.uint8), planes['mask'].header)
    camera.send(planes)
    until(lambda: node._complaints.count, 'rejection')
    camera.second -= 100.0
    camera.show()
    until(lambda: node._last_stamp_ns < (camera.second + 1) * 1e9, 'older planes')
    status, values = graph.status(LOG, lambda v: int(v.get('written', 0)) >= 5)
    assert status.level == b'\x00'
    assert values['lost'] == '0'
    assert graph.transition('monitor', 'deactivate')
    assert graph.transition('monitor', 'cleanup')
    read = read_events(tmp_path)
    assert (read.torn, read.faults) == ([], [])
    events = {event['kind']: event for event in read.events}
    kinds = [event['kind'] for event in read.events]
    assert kinds[0] == 'started'
    assert kinds[-1] == 'stopped'
    assert kinds.index('begin') < kinds.index('end') < kinds.index('thresholds')
    assert {'planes_rejected', 'time_jumped'} <= events.keys()
    assert events['started']['details']['parameters']['event_log.directory'] == str(tmp_path)
    begin = events['begin']
    assert begin['origin']['node'] == '/monitor'
    assert begin['frame']['frame_id'] == 'front'
    assert begin['model']['sha256'] == bundle.digest
    assert begin['reaction']['published'].keys() == {'/monitor/state', '/diagnostics'}
    assert begin['reaction']['published']['/diagnostics'] >= 1, 'the probe listens'
    assert abs(begin['time']['wall_ns'] - time.time_ns()) < 120e9
    assert events['thresholds']['details']['changed'] == {'ood_area.enter': 0.9}
    assert 'anomaly: shape (5, 7)' in events['planes_rejected']['message']
    assert 'stamps went back by 99.' in events['time_jumped']['message']


def test_a_disk_that_refuses_is_said_and_the_monitor_goes_on(
    graph, error_lines, bundle_path, bundle, tmp_path
):
    folder = tmp_path / 'log'
    folder.write_text('a file where a folder should be')
    node = graph.node(
        MonitorNode, bundle=str(bundle_path), event_log__directory=str(folder), **QUIET
    )
    camera = Camera(graph, bundle)
    show_until(camera, lambda: node._judged, unknown=False, what='planes')
    show_until(camera, lambda: raised(node), unknown=True, what='warning')
    status, values = graph.status(LOG, lambda v: v.get('waiting') == '2')
    assert status.level == b'\x01'
    assert status.message.startswith(f'{folder}: File exists; trying again every 5 s, 2 lines')
    assert error_lines.wait('monitor') == [f'event log in {folder}: File exists']
    folder.unlink()
    status, values = graph.status(LOG, lambda v: v.get('waiting') == '0')
    assert (status.level, values['lost']) == (b'\x00', '0')
    assert [event['kind'] for event in read_events(folder).events] == ['started', 'begin']


def test_contradicting_limits_are_refused(graph, error_lines, bundle_path):
    graph.node(
        MonitorNode,
        bundle=str(bundle_path),
        event_log__directory=str(Path('/nowhere')),
        event_log__file_mib=8,
        event_log__total_mib=9,
    )
    (line,) = error_lines.wait('monitor')
    assert 'expected two files of 8388608' in line
    assert graph.state('monitor') == 'unconfigured'
