# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Segmentation and monitor beside a camera driver; one namespace a camera."""

from seg_uncertainty_ros.nodes.launching import describe
from seg_uncertainty_ros.nodes.launching import flag
from seg_uncertainty_ros.nodes.launching import our_node

ARGUMENTS = (
    ('namespace', '', 'Namespace of the camera and of the nodes.'),
    ('image', 'image', 'Image topic, relative to the namespace or absolute.'),
    ('camera_info', 'camera_info', 'Camera info topic of the same camera.'),
    ('image_transport', '', "'raw', or 'compressed' for <image>/compressed."),
    ('bundle', '', 'Directory of the model bundle; empty: the one that ships.'),
    ('backend', '', 'What runs the graph; empty: auto, the fastest that can.'),
    ('monitor', 'true', 'Start the monitor too.'),
    ('snapshots', '', 'Folder for event log and seconds around warnings; empty: neither is kept.'),
    ('params_file', '', 'Parameter file for all nodes, on top of the defaults in config/.'),
    ('use_sim_time', 'false', 'Take the time from /clock.'),
)


def processes(given):
    """Return a process for each node."""

    def values(*names):
        chosen = {name: given[name] for name in names if given[name]}
        return {'use_sim_time': flag(given['use_sim_time']), **chosen}

    segmentation = values('bundle', 'backend', 'image_transport')
    started = [our_node('segmentation', given, segmentation, ('image', 'camera_info'))]
    if flag(given['monitor']):
        monitor = values('bundle')
        if given['snapshots']:
            monitor['event_log.directory'] = given['snapshots']
        started.append(our_node('monitor', given, monitor, ()))
    if given['snapshots']:
        recorder = {'directory': given['snapshots'], **values('image_transport')}
        started.append(our_node('recorder', given, recorder, ('image', 'camera_info')))
    return started


def generate_launch_description():
    """Describe the launch."""
    return describe(ARGUMENTS, processes)
