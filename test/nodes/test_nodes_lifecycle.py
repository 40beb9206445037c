# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Lifecycle of both managed nodes: every transition, the wrong ones too."""

from __future__ import annotations

import threading

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from seg_uncertainty_ros.nodes.monitor import MonitorNode
from seg_uncertainty_ros.nodes.segmentation import SegmentationNode

WALK = (
    ('configure', 'inactive'),
    ('activate', 'active'),
    ('deactivate', 'inactive'),
    ('activate', 'active'),
    ('deactivate', 'inactive'),
    ('cleanup', 'unconfigured'),
    ('configure', 'inactive'),
    ('activate', 'active'),
    ('shutdown', 'finalized'),
)
POSSIBLE = {
    'unconfigured': {'configure', 'shutdown'},
    'inactive': {'activate', 'cleanup', 'shutdown'},
    'active': {'deactivate', 'shutdown'},
    'finalized': set(),
}
LABELS = {'configure', 'activate', 'deactivate', 'cleanup', 'shutdown', 'fly'}


@pytest.mark.parametrize('create', [SegmentationNode, MonitorNode])
def test_walks_every_transition_and_refuses_the_others(graph, bundle_path, create):
    node = graph.node(create, bundle=str(bundle_path), autostart=False)
    name = node.get_name()
    assert graph.state(name) == 'unconfigured'
    for label, state in WALK:
        before = graph.state(name)
        for wrong in sorted(LABELS - POSSIBLE[before]):
            assert not graph.transition(name, wrong), f'{wrong} from {before}'
        assert graph.state(name) == before
        assert graph.transition(name, label), f'{label} from {before}'
        assert graph.state(name) == state
    assert not graph.transition(name, 'configure')
    assert graph.state(name) == 'finalized'


def test_refuses_a_transition_by_its_number_and_says_what_is_possible(
    graph, error_lines, bundle_path
):
    graph.node(SegmentationNode, bundle=str(bundle_path), autostart=False)
    request = ChangeState.Request()
    request.transition.id = Transition.TRANSITION_ACTIVATE
    answer = graph.call(ChangeState, '/segmentation/change_state', request)
    assert not answer.success
    (line,) = error_lines.wait('segmentation')
    text = 'transition 3 is not possible in state unconfigured; possible: configure, shutdown'
    assert line.startswith(text)
    status, values = graph.status('segmentation: node', lambda v: v['refused_requests'] == '1')
    assert (status.level, status.message) == (b'\x01', text)
    assert values['last_refused_request'] == text


@pytest.mark.parametrize('create', [SegmentationNode, MonitorNode])
def test_entities_of_earlier_activations_leave_no_trace(graph, bundle_path, create):
    node = graph.node(create, bundle=str(bundle_path))
    counts = []
    for _ in range(6):
        assert graph.transition(node.get_name(), 'deactivate')
        assert graph.transition(node.get_name(), 'activate')
        counts.append(len(node.default_callback_group.entities))
    # What the last deactivation ended may still be in the hands of the executor.
    assert max(counts[3:]) <= max(counts[:3])


def test_autostart_can_be_left_to_a_manager(graph, bundle_path):
    graph.node(SegmentationNode, bundle=str(bundle_path))
    graph.node(MonitorNode, bundle=str(bundle_path), autostart=False)
    assert graph.state('segmentation') == 'active'
    assert graph.state('monitor') == 'unconfigured'


def test_our_own_mistake_in_a_transition_is_told_and_survived(graph, error_lines, bundle_path):
    node = graph.node(SegmentationNode, bundle=str(bundle_path), autostart=False)

    def broken():
        raise ZeroDivisionError('one over none')

    node.configure = broken
    assert not graph.transition('segmentation', 'configure')
    assert graph.state('segmentation') == 'unconfigured'
    (entry,) = error_lines.wait('segmentation')
    assert 'Traceback' in entry
    assert 'ZeroDivisionError: one over none' in entry
    status, _ = graph.status('segmentation: frames')
    assert status.message == 'ZeroDivisionError: one over none'
    del node.configure
    assert graph.transition('segmentation', 'configure')


@pytest.mark.parametrize('create', [SegmentationNode, MonitorNode])
def test_an_activation_that_fails_half_way_is_undone(graph, bundle_path, create):
    node = graph.node(create, bundle=str(bundle_path), autostart=False)
    name = node.get_name()
    assert graph.transition(name, 'configure')
    subscribe = node.create_subscription
    left = [1]

    def only_one(*arguments, **options):
        if not left:
            raise ZeroDivisionError('no more subscriptions')
        left.pop()
        return subscribe(*arguments, **options)

    node.create_subscription = only_one
    threads = threading.active_count()
    topics = len(list(node.subscriptions))
    assert not graph.transition(name, 'activate')
    assert graph.state(name) == 'unconfigured'
    assert threading.active_count() == threads
    assert len(list(node.subscriptions)) == topics
    del node.create_subscription
    for label in ('configure', 'activate', 'deactivate'):
        assert graph.transition(name, label)
    assert threading.active_count() == threads
