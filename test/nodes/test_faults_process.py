# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Faults of processes and of the system, on real processes over DDS.

Times are asserted as they are stated, times ``slack``. Each fault prints a line with what was said
and when (``pytest -s``). Whenever a vehicle has become well, its planes were right and every image
is accounted for.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from builtin_interfaces.msg import Time
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from ros_graph import Graph
from ros_graph import free_domain
from ros_graph import until
from rosgraph_msgs.msg import Clock
from vehicle import ERROR
from vehicle import NAMES
from vehicle import OK
from vehicle import STALE
from vehicle import WARN
from vehicle import Vehicle
from vehicle import slack

from seg_uncertainty_ros.nodes.monitor import CLOCK_STILL_S
from seg_uncertainty_ros.nodes.transport import SHARED_MEMORY

# Each process is killed this often: 10 for the figures in docs/safety.md.
ROUNDS = int(os.environ.get('FAULT_ROUNDS', '1'))
NAMED_S = 1.0
DEATH_NAMED_S = 2.0
RECOVERED_S = 3.0


@pytest.fixture(scope='module')
def clock_step(tmp_path_factory):
    """Return a library that sets the system clock of a process, and the file with its step."""
    folder = tmp_path_factory.mktemp('clock')
    step = folder / 'step'
    step.write_bytes(bytes(8))
    if (compiler := shutil.which('cc')) is None:
        return None, step
    library = folder / 'clock.so'
    source = Path(__file__).parents[1] / 'standin' / 'clock.c'
    subprocess.run([compiler, '-shared', '-fPIC', '-o', library, source, '-ldl'], check=True)
    return library, step


@pytest.fixture(scope='module')
def vehicle(tmp_path_factory, bundle_path, clock_step):
    """Yield a vehicle whose nodes are well; each test leaves them well, too."""
    library, step = clock_step
    environment = {'LD_PRELOAD': str(library), 'CLOCK_STEP': str(step)} if library else {}
    with free_domain() as domain:
        graph = Graph(domain)
        folder = tmp_path_factory.mktemp('vehicle')
        vehicle = Vehicle(graph, folder, bundle_path, environment)
        for name in NAMES:
            vehicle.start(name)
        vehicle.wait_until_well(0.0)
        yield vehicle
        vehicle.close()
        graph.close()
        assert vehicle.right, 'masks were compared'


def report(fault, status, named_s, recovered_s=None):
    print(
        f'\n{fault} | {status.name} | {status.message} | {named_s:.2f} s | '
        + ('' if recovered_s is None else f'{recovered_s:.2f} s')
    )


# Killed

DEATHS = {
    'segmentation': ('monitor: trust', STALE, 'segmentation: silent for'),
    'monitor': ('segmentation: node', ERROR, 'monitor says nothing'),
    'camera': ('segmentation: input', WARN, 'no image on /image'),
}


@pytest.mark.parametrize('name', NAMES)
def test_a_killed_process_is_named_by_another_and_all_are_well_when_it_is_back(vehicle, name):
    task, level, words = DEATHS[name]
    for _ in range(ROUNDS):
        vehicle.wait_until_well(time.time())
        killed = vehicle.kill(name)
        named, status = vehicle.first(task, lambda status: words in status.message, killed)
        started = time.time()
        vehicle.start(name)
        back = wait_for_return(vehicle, name, started)
        well = vehicle.wait_until_well(back)
        report(f'kill -9 of {name}', status, named - killed, well - back)
        assert status.level == level
        assert named - killed < DEATH_NAMED_S * slack()
        assert well - back < RECOVERED_S * slack()
        assert vehicle.segments_of_the_killed
        assert not [path for path in vehicle.segments_of_the_killed if path.exists()]
        # Three files a port, a port for each process and one for all of them.
        assert len(vehicle.port_files()) <= 3 * (len(NAMES) + 2)


def wait_for_return(vehicle, name, since):
    """Return when a process that was started is at work, as far as it is for it."""
    if name == 'camera':
        count = len(vehicle.images)
        vehicle.images.wait(count + 1, timeout_s=60.0)
        return time.time()
    return vehicle.first(f'{name}: node', lambda status: status.message == 'active', since)[0]


def test_a_process_that_hangs_is_named_and_all_are_well_when_it_goes_on(vehicle):
    stopped = vehicle.signal('segmentation', signal.SIGSTOP)
    named, status = vehicle.first(
        'monitor: trust', lambda status: 'segmentation: silent for' in status.message, stopped
    )
    back = vehicle.signal('segmentation', signal.SIGCONT)
    well = vehicle.wait_until_well(back)
    report('segmentation stands still', status, named - stopped, well - back)
    assert status.level == STALE
    assert named - stopped < DEATH_NAMED_S * slack()
    assert well - back < RECOVERED_S * slack()


# Signals and the order of starts


def test_processes_end_in_order_in_the_middle_of_a_frame_and_start_in_any(vehicle):
    vehicle.wait_for_mask(time.time())
    begun = time.time()
    vehicle.signal('segmentation', signal.SIGTERM)
    vehicle.signal('segmentation', signal.SIGINT)
    vehicle.signal('segmentation', signal.SIGINT)
    assert vehicle.wait_for_end('segmentation') == 0
    took = time.time() - begun
    named, status = vehicle.first(
        'monitor: trust', lambda status: 'segmentation: ended' in status.message, begun
    )
    report('SIGTERM and SIGINT twice', status, named - begun)
    assert named - begun < DEATH_NAMED_S * slack()
    _, status = vehicle.first('monitor: node', lambda status: True, time.time())
    assert status.level == OK, 'one that ended in order is not missed'
    for name in ('monitor', 'camera'):
        vehicle.signal(name, signal.SIGINT)
        vehicle.signal(name, signal.SIGINT)
        assert vehicle.wait_for_end(name) == 0
    assert took < 10.0
    for name in NAMES:
        assert 'Traceback' not in vehicle.said(name)

    begun = time.time()
    vehicle.start('monitor')
    _, status = vehicle.first('monitor: trust', lambda status: 'no image' in status.message, begun)
    assert status.level == STALE
    assert 'segmentation: not heard of' in status.message
    vehicle.start('camera')
    vehicle.start('segmentation')
    back = wait_for_return(vehicle, 'segmentation', begun)
    well = vehicle.wait_until_well(back)
    report('monitor started first', status, 0.0, well - back)
    assert well - back < RECOVERED_S * slack()


# The bundle on disk


def test_a_bundle_that_changes_on_disk_is_named_and_not_used(vehicle, bundle_path):
    graph = vehicle.bundle / 'graph.onnx'
    content = graph.read_bytes()
    damaged = time.time()
    graph.write_bytes(content[: len(content) // 2])
    named, status = vehicle.first(
        'segmentation: node', lambda status: 'graph.onnx changed' in status.message, damaged
    )
    assert status.level == WARN
    report('bundle damaged on disk', status, named - damaged)
    assert named - damaged < NAMED_S * slack()
    vehicle.wait_for_mask(time.time())

    # What is damaged is refused, and the node stays to be told again.
    for label in ('deactivate', 'cleanup'):
        assert vehicle.graph.transition('segmentation', label)
    asked = time.time()
    assert not vehicle.graph.transition('segmentation', 'configure')
    named, status = vehicle.first(
        'segmentation: frames', lambda status: 'graph.onnx' in status.message, asked
    )
    assert status.level == ERROR
    assert f'{len(content) // 2} bytes' in status.message
    report('bundle damaged when it is loaded', status, named - asked)
    assert named - asked < NAMED_S * slack()

    # Another version.
    graph.write_bytes(content)
    manifest = vehicle.bundle / 'bundle.json'
    original = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(original), 'version': '9.9.9'}))
    for label in ('configure', 'activate'):
        assert vehicle.graph.transition('segmentation', label)
    activated = time.time()
    vehicle.first(
        'segmentation: frames', lambda status: '9.9.9' in status.values['bundle'], activated
    )
    begin = time.time()
    assert vehicle.images_between(begin, vehicle.wait_for_mask(begin)) <= 2 * slack()
    # The monitor still works with the one before, and says so.
    _, status = vehicle.first(
        'monitor: node', lambda status: 'bundle.json' in status.message, activated
    )
    assert status.level == WARN

    gone = time.time()
    vehicle.bundle.rename(vehicle.bundle.with_suffix('.away'))
    named, status = vehicle.first(
        'segmentation: node', lambda status: 'is gone' in status.message, gone
    )
    report('bundle removed from disk', status, named - gone)
    assert named - gone < NAMED_S * slack()
    vehicle.wait_for_mask(time.time())
    vehicle.bundle.with_suffix('.away').rename(vehicle.bundle)
    for name in ('segmentation', 'monitor'):
        for label in ('deactivate', 'cleanup', 'configure', 'activate'):
            assert vehicle.graph.transition(name, label)
    vehicle.wait_until_well(time.time())


# Requests


def test_hundreds_of_parameters_a_second_good_and_bad(vehicle):
    client = vehicle.graph.probe.create_client(SetParameters, '/monitor/set_parameters')
    assert client.wait_for_service(20.0)
    refused = int(vehicle.listener.last('monitor: node').values['refused_requests'])
    before = vehicle.counts(time.time())
    begun = time.time()
    candidates = [
        *(('stale_input.enter', 1.0 + 0.001 * index, True) for index in range(150)),
        *(('stale_input.enter', -float(index + 1), False) for index in range(50)),
        *(('stale_input.level', f'PANIC{index}', False) for index in range(50)),
        *(('stale_input.enter', f'{index}', False) for index in range(50)),
        *((f'nothing.{index}', 1.0, False) for index in range(50)),
        *(('region.polygon', '0.1,0.2 0.3,0.4', False) for _ in range(50)),
    ]
    random.Random(7).shuffle(candidates)
    candidates.append(('stale_input.enter', 1.0, True))
    running = []
    for name, value, good in candidates:
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        running.append((client.call_async(request), name, value, good))
        # A service remembers the last ten requests.
        until(lambda: sum(not future.done() for future, *_ in running[-8:]) < 8, 'an answer')
    for future, name, value, good in running:
        until(future.done, f'an answer to {name} = {value}')
        (result,) = future.result().results
        assert result.successful == good, (name, value, result.reason)
        assert good or name in result.reason, result.reason
    took = time.time() - begun
    named, status = vehicle.first(
        'monitor: node', lambda status: 'stale_input' in status.message, begun
    )
    report('bad parameters', status, named - begun)
    assert status.level == WARN
    assert named - begun < NAMED_S * slack()
    refused += sum(not good for *_, good in candidates)
    vehicle.first(
        'monitor: node', lambda status: status.values['refused_requests'] == str(refused), begun
    )
    vehicle.wait_until_well(time.time())
    after = vehicle.counts(time.time())
    print(f'\n{len(candidates)} parameters in {took:.2f} s, {len(candidates) / took:.0f} a second')
    assert len(candidates) / took > 100.0 / slack()
    assert after['rejected'] == before['rejected']
    assert after['processed'] > before['processed']


POSSIBLE = {
    'unconfigured': {'configure': 'inactive'},
    'inactive': {'activate': 'active', 'cleanup': 'unconfigured'},
    'active': {'deactivate': 'inactive'},
}
LABELS = ('configure', 'activate', 'deactivate', 'cleanup', 'fly\n[FATAL]')


def test_transitions_in_any_order_while_images_arrive(vehicle):
    before = vehicle.counts(time.time())
    states = dict.fromkeys(('segmentation', 'monitor'), 'active')
    dice = random.Random(3)
    refused = []
    for _ in range(60):
        name = dice.choice(tuple(states))
        label = dice.choice(LABELS)
        goal = POSSIBLE[states[name]].get(label)
        asked = time.time()
        assert vehicle.graph.transition(name, label) == (goal is not None), (name, label)
        if goal is None:
            refused.append(
                (asked, name, f'transition {repr(label)[1:-1]} is not possible in state')
            )
        states[name] = goal or states[name]
    assert len(refused) > 20
    asked, name, words = refused[-1]
    named, status = vehicle.first(f'{name}: node', lambda status: words in status.message, asked)
    report('impossible transition', status, named - asked)
    assert status.level == WARN
    assert named - asked < NAMED_S * slack()
    for name, state in states.items():
        assert vehicle.graph.state(name) == state
        for label in {'unconfigured': ('configure', 'activate'), 'inactive': ('activate',)}.get(
            state, ()
        ):
            assert vehicle.graph.transition(name, label)
    begin = time.time()
    missed = vehicle.images_between(begin, vehicle.wait_for_mask(begin))
    print(f'\n{missed} images without planes after the last activation')
    assert missed <= 2 * slack()
    vehicle.wait_until_well(begin)
    after = vehicle.counts(time.time())
    assert after['rejected'] == before['rejected']
    assert after['received'] > before['received']


# Our own mistakes

BROKEN = """
from seg_uncertainty_ros.nodes import monitor

class Broken(monitor.MonitorNode):
    ticks = 0

    def _tick(self):
        self.ticks += 1
        if self.ticks % 5 == 0:
            raise ZeroDivisionError('one over none')
        super()._tick()

    def _tell(self, assessment, header):
        super()._tell(assessment, header)
        if header is not None and self._judged % 7 == 0:
            raise LookupError('no such listener')

monitor.exit_with(Broken)
"""


def test_callbacks_that_fail_are_in_diagnostics_and_the_node_goes_on(vehicle):
    vehicle.signal('monitor', signal.SIGINT)
    vehicle.wait_for_end('monitor')
    begun = time.time()
    vehicle.start('monitor', code=BROKEN)
    judges, status = vehicle.first('monitor: trust', lambda status: status.level == OK, begun)
    assert int(status.values['judged']) > 0
    for words in ('ZeroDivisionError: one over none', 'LookupError: no such listener'):
        named, status = vehicle.first(
            'monitor: node', lambda status, words=words: words in status.message, judges
        )
        report('a callback fails', status, named - judges)
        assert status.level == ERROR
        assert named - judges < NAMED_S * slack()
    _, status = vehicle.first(
        'monitor: node', lambda status: int(status.values['failures']) > 5, named
    )
    vehicle.signal('monitor', signal.SIGINT)
    assert vehicle.wait_for_end('monitor') == 0
    said = vehicle.said('monitor')
    assert said.count('one over none') == 1, 'said once'
    restarted = time.time()
    vehicle.start('monitor')
    vehicle.wait_until_well(restarted)


QOS = 'qos_overrides./monitor/state.publisher'
UNUSABLE = {
    'reliability': ('-p', f'{QOS}.reliability:=nonsense'),
    'depth': ('-p', f'{QOS}.depth:=lots'),
    '/nowhere.yaml': ('--params-file', '/nowhere.yaml'),
    '--nonsense': ('--nonsense',),
}


def test_arguments_that_cannot_be_used_are_named_in_one_line(domain):
    module = [sys.executable, '-m', 'seg_uncertainty_ros.nodes.monitor', '--ros-args']
    processes = {
        named: subprocess.Popen(
            [*module, *words],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for named, words in UNUSABLE.items()
    }
    for named, process in processes.items():
        output, _ = process.communicate(timeout=60.0)
        assert process.returncode == 1, output
        assert 'Traceback' not in output
        (line,) = [line for line in output.splitlines() if '[FATAL]' in line]
        assert named in line


# Time


def test_steps_of_the_system_clock(vehicle, clock_step):
    library, file = clock_step
    if library is None:
        pytest.skip('no C compiler')
    for step_s in (3600.0, -3600.0, 0.0):
        stepped = time.time()
        # In place: the processes have it mapped.
        with file.open('r+b') as step:
            step.write(struct.pack('<q', int(step_s * 1e9)))
        named, status = vehicle.first(
            'segmentation: input', lambda status: 'the stamp' in status.message, stepped
        )
        vehicle.wait_for_mask(stepped + step_s)
        well = vehicle.wait_until_well(stepped + 0.5)
        report(f'system clock {step_s:+.0f} s', status, named - stepped, well - stepped)
        assert named - stepped < NAMED_S * slack()
        assert well - stepped < RECOVERED_S * slack()
        # The beat is that of a steady clock, also where no message wakes the node.
        for task in ('segmentation: frames', 'monitor: trust', 'replay: recording'):
            later = vehicle.first(task, lambda status: True, stepped + 2.0)[0]
            beats = [said.moment for said in vehicle.listener.said[task]]
            beats = [moment for moment in beats if stepped < moment <= later]
            assert max(after - before for before, after in pairwise(beats)) < 1.5 * slack()
        assert abs(vehicle.assessment()['stamp_ns'] * 1e-9 - time.time() - step_s) < 5.0 * slack()


def test_a_simulated_clock_that_jumps_and_stops(vehicle):
    clock = vehicle.graph.probe.create_publisher(Clock, '/clock', 10)
    for name in ('segmentation', 'monitor'):
        assert vehicle.graph.set(name, 'use_sim_time', True).successful
    begun = time.time()
    named, status = vehicle.first(
        'monitor: trust', lambda status: '/clock' in status.message, begun
    )
    report('the simulated clock stands', status, named - begun)
    assert status.level == STALE
    assert named - begun < (CLOCK_STILL_S + NAMED_S) * slack()
    until(lambda: clock.get_subscription_count() >= 2, 'both at /clock')
    for second in (1000.0, 5000.0, 2000.0):
        jumped = time.time()
        for tick in range(10):
            clock.publish(Clock(clock=Time(sec=int(second), nanosec=tick * 10_000_000)))
            time.sleep(0.01)
        vehicle.wait_for_mask(jumped)
        vehicle.first('monitor: trust', lambda status: status.level == OK, jumped)
    stands = time.time()
    named, status = vehicle.first(
        'monitor: trust',
        lambda status: f'stands still at {second + 0.09:.3f} s' in status.message,
        stands,
    )
    assert status.level == STALE
    assert named - stands < (CLOCK_STILL_S + NAMED_S) * slack()
    vehicle.first('segmentation: frames', lambda status: status.level == OK, time.time())
    for name in ('segmentation', 'monitor'):
        assert vehicle.graph.set(name, 'use_sim_time', False).successful
    vehicle.wait_until_well(time.time())


# Memory and disk


def in_small_tmpfs(folder, size):
    """Return the command that runs another one with a small file system of its own at a folder."""
    if shutil.which('unshare') is None:
        pytest.skip('no unshare')
    mount = f'mount -t tmpfs -o size={size} tmpfs {folder} && exec "$@"'
    command = ('unshare', '--map-root-user', '--mount', 'sh', '-c', mount, 'sh')
    tried = subprocess.run([*command, 'true'], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f'no mount namespaces here: {tried.stderr.strip()}')
    return command


def test_dev_shm_that_fills_up_stops_nobody_and_a_newcomer_says_so(tmp_path, bundle_path):
    # Room for the segments of three processes and a probe, and little more.
    prefix = in_small_tmpfs(SHARED_MEMORY, '150m')
    script = Path(__file__).with_name('exhausted_shared_memory.py')
    done = subprocess.run(
        [*prefix, sys.executable, script, bundle_path, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print('\n' + done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_disk_that_fills_up_costs_a_snapshot_and_nobody_else_anything(vehicle, tmp_path):
    prefix = in_small_tmpfs(tmp_path, '1m')
    begun = time.time()
    vehicle.start('recorder', prefix=prefix, directory=tmp_path, after=0.0, min_interval=0.0)
    task = 'recorder: snapshots'
    vehicle.first(task, lambda status: float(status.values.get('held_mib', 0)) > 1.2, begun)
    asked = time.time()
    for name, value in (('exit', 0.001), ('enter', 0.01)):
        assert vehicle.graph.set('monitor', f'stale_input.{name}', value).successful
    warned, _ = vehicle.first(
        'monitor: trust', lambda status: 'input is silent' in status.message, asked
    )
    named, status = vehicle.first(task, lambda status: 'No space left' in status.message, warned)
    report('full disk while a snapshot is taken', status, named - warned)
    assert status.level == WARN
    assert named - warned < NAMED_S * slack()
    for name, value in (('enter', 1.0), ('exit', 0.5)):
        assert vehicle.graph.set('monitor', f'stale_input.{name}', value).successful
    vehicle.wait_until_well(time.time())
    vehicle.signal('recorder', signal.SIGINT)
    assert vehicle.wait_for_end('recorder') == 0


def test_a_disk_that_fills_up_ends_a_recording_with_the_reason(tmp_path):
    prefix = in_small_tmpfs(tmp_path, '2m')
    drive = 'procedural:seed=3,duration=60,rate=10,width=320,height=192'
    command = [sys.executable, '-m', 'seg_uncertainty_ros.cli', 'demo', drive]
    done = subprocess.run(
        [*prefix, *command, '--out', str(tmp_path / 'out')],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print('\n' + done.stderr)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if 'No space left' in line]
    assert 'out' in line
