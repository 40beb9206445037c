# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Several cameras in one process, on one engine: segmentation and monitor for each."""

from seg_uncertainty_ros.nodes.launching import Process
from seg_uncertainty_ros.nodes.launching import describe
from seg_uncertainty_ros.nodes.launching import flag
from seg_uncertainty_ros.nodes.launching import our_node
from seg_uncertainty_ros.resources import config_file

ARGUMENTS = (
    ('cameras', None, "Namespaces, 'front,rear' for images on front/image and rear/image."),
    ('image_transport', '', "'raw', or 'compressed' for <image>/compressed."),
    ('bundle', '', 'Directory of the model bundle; empty: the one that ships.'),
    ('backend', '', 'What runs the graph; empty: auto, the fastest that can.'),
    ('monitor', 'true', 'Start a monitor for each camera too.'),
    ('snapshots', '', 'Folder for event log and seconds around warnings; empty: neither is kept.'),
    ('params_file', '', 'Parameter file, on top of the defaults in config/.'),
    ('use_sim_time', 'false', 'Take the time from /clock.'),
)


def processes(given):
    """Return the process of all cameras, and a recorder for each where one is wanted."""
    names = [name.strip() for name in given['cameras'].split(',') if name.strip()]

    def values(*optional):
        chosen = {name: given[name] for name in optional if given[name]}
        return {'use_sim_time': flag(given['use_sim_time']), **chosen}

    files = [str(config_file(f'{name}.yaml')) for name in ('segmentation', 'monitor')]
    shared = values('bundle', 'backend', 'image_transport')
    if given['snapshots']:
        shared['event_log.directory'] = given['snapshots']
    cameras = Process(
        executable='cameras',
        files=(*files, *filter(None, [given['params_file']])),
        values=shared,
        arguments=(*names, *([] if flag(given['monitor']) else ['--no-monitor'])),
    )
    if not given['snapshots']:
        return [cameras]
    recorder = {'directory': given['snapshots'], **values('image_transport')}
    recorders = [
        our_node('recorder', {**given, 'namespace': name}, recorder, ()) for name in names
    ]
    return [cameras, *recorders]


def generate_launch_description():
    """Describe the launch."""
    return describe(ARGUMENTS, processes)
