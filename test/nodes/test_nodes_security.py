# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The access control in security/ against what the real nodes publish, subscribe to and serve."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rclpy.node import NodeNameNonExistentError
from ros_graph import until
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_uncertainty_ros.nodes.conversions import image_message

FOLDER = Path(__file__).parents[2] / 'security'
INCLUDE = '{http://www.w3.org/2001/XInclude}include'
RULES = {'topics': ('publish', 'subscribe'), 'services': ('reply', 'request')}
QUERIES = {
    'publish': 'publisher',
    'subscribe': 'subscriber',
    'reply': 'service',
    'request': 'client',
}
OF_VISION_MSGS = {('publish', '~/label_info'), ('publish', '~/regions')}
DRIVE = 'procedural:seed=3,duration=600,rate=5,width=160,height=96'


def resolved(path):
    """Return the root of an XML file with what it includes, as an XInclude processor would."""
    root = ElementTree.parse(path).getroot()
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag == INCLUDE]:
            assert child.get('xpointer') == 'xpointer(/profile/*)'
            place = list(parent).index(child)
            parent.remove(child)
            for piece in reversed(resolved(FOLDER / child.get('href'))):
                parent.insert(place, piece)
    return root


def rules(profile):
    """Return the (qualifier, expression) pairs that a profile allows."""
    return [
        (qualifier, entry.text)
        for group in profile
        for qualifier in RULES[group.tag]
        if group.get(qualifier) == 'ALLOW'
        for entry in group
    ]


def full_name(expression, namespace, node):
    """Return the name that SROS 2 makes of an expression."""
    if expression.startswith('/'):
        return expression
    if expression.startswith('~'):
        return f'{namespace.rstrip("/")}/{node}{expression[1:]}'
    return f'{namespace.rstrip("/")}/{expression}'


def profiles():
    """Return the policy's rules by enclave, namespace and node."""
    return {
        (enclave.get('path'), profile.get('ns'), profile.get('node')): rules(profile)
        for enclave in resolved(FOLDER / 'policy.xml').iter('enclave')
        for profile in enclave.iter('profile')
    }


def endpoints(probe, namespace, node):
    """Return (qualifier, full name) of all that a node has in the ROS graph."""
    found = set()
    for qualifier, kind in QUERIES.items():
        query = getattr(probe, f'get_{kind}_names_and_types_by_node')
        try:
            found |= {(qualifier, name) for name, _ in query(node, namespace)}
        except NodeNameNonExistentError:
            return set()
    return found


def test_the_policy_has_the_form_of_sros2():
    """The schema of SROS 2's policies, 0.2.0, in short; expressions are exact names."""
    root = resolved(FOLDER / 'policy.xml')
    assert (root.tag, root.attrib) == ('policy', {'version': '0.2.0'})
    (enclaves,) = root
    for enclave in enclaves:
        assert (enclave.tag, list(enclave.attrib)) == ('enclave', ['path'])
        for profile in enclave.find('profiles'):
            assert (profile.tag, sorted(profile.attrib)) == ('profile', ['node', 'ns'])
            for group in profile:
                assert set(group.attrib) <= set(RULES[group.tag])
                assert set(group.attrib.values()) == {'ALLOW'}
                assert [entry.tag for entry in group] == [group.tag[:-1]] * len(group)
                assert not [entry.text for entry in group if '*' in entry.text]
            assert len(rules(profile)) == len(set(rules(profile)))


def test_no_node_may_call_services_or_set_the_time():
    for (_, _, node), allowed in profiles().items():
        assert 'request' not in dict(allowed)
        assert ('subscribe', '/clock') not in allowed
        assert (('publish', '/clock') in allowed) == (node == 'replay')


@pytest.fixture
def start(domain, tmp_path):
    """Start a node's process; all of them are interrupted in the end."""
    started = []

    def begin(module, *arguments):
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
        command = [sys.executable, '-m', f'seg_uncertainty_ros.nodes.{module}', *arguments]
        log = (tmp_path / f'{len(started)}.log').open('wb')
        started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    yield begin
    for process in started:
        process.send_signal(2)
    for process in started:
        process.wait(20)


def test_nodes_have_what_the_policy_allows_and_nothing_else(graph, start, tmp_path):
    """Several settings of a node together need all that the policy allows; none needs more."""
    compressed = ('-p', 'image_transport:=compressed')
    source = ('-p', f"source:='{DRIVE}'")
    start('cameras', 'front', 'rear')
    start('segmentation', '--ros-args', *compressed)
    start('monitor', '--ros-args', '-p', 'use_sim_time:=true')
    start('replay', '--ros-args', *source, '-p', 'clock:=true')
    start('replay', '--ros-args', '-r', '__ns:=/other', *source, *compressed)
    folder = ('-p', f"directory:='{tmp_path}'")
    start('recorder', '--ros-args', *folder)
    start('recorder', '--ros-args', '-r', '__ns:=/other', *folder, *compressed)
    allowed = {(namespace, node): found for (_, namespace, node), found in profiles().items()}
    for node in ('replay', 'recorder'):
        allowed['/other', node] = allowed['/', node]
    sim_time = set(rules(resolved(FOLDER / 'sim_time.xml')))

    def difference():
        """Return what a node has too much, and what no node of its kind has."""
        excess, unseen = {}, {}
        for (namespace, node), expressions in allowed.items():
            wanted = {*expressions, *(sim_time if (namespace, node) == ('/', 'monitor') else ())}
            full = {(kind, full_name(text, namespace, node)): text for kind, text in wanted}
            found = endpoints(graph.probe, namespace, node)
            excess[namespace, node] = found - set(full)
            missing = {(kind, full[kind, name]) for kind, name in set(full) - found}
            unseen[node] = unseen.get(node, missing) & missing
        if find_spec('vision_msgs') is None:
            unseen = {node: missing - OF_VISION_MSGS for node, missing in unseen.items()}
        return [{key: value for key, value in each.items() if value} for each in (excess, unseen)]

    def agrees():
        there = {names[::-1] for names in graph.probe.get_node_names_and_namespaces()}
        return set(allowed) <= there and difference() == [{}, {}]

    try:
        until(agrees, 'agreement of graph and policy', 90.0)
    finally:
        assert difference() == [{}, {}]
    # Nor does an image at work make other topics or services.
    masks = graph.subscribe(Image, '/front/segmentation/mask')
    overlays = graph.subscribe(Image, '/front/segmentation/overlay')
    images = graph.publisher(Image, '/front/image')
    image = image_message(np.zeros((96, 160, 3), np.uint8), Header())
    until(lambda: images.publish(image) or (masks and overlays), 'planes', 90.0)
    assert difference() == [{}, {}]
