# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The event log: what is told, how it is written, what a full disk or a crash leaves of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from stat import S_ISREG

import numpy as np
import pytest

from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.monitor.assessment import Observation
from seg_uncertainty_ros.monitor.config import WARNINGS
from seg_uncertainty_ros.monitor.config import MonitorConfig
from seg_uncertainty_ros.monitor.events import Event
from seg_uncertainty_ros.monitor.events import FrameId
from seg_uncertainty_ros.monitor.events import Judgement
from seg_uncertainty_ros.monitor.events import Model
from seg_uncertainty_ros.monitor.events import Moment
from seg_uncertainty_ros.monitor.events import Origin
from seg_uncertainty_ros.monitor.events import to_line
from seg_uncertainty_ros.monitor.monitor import Monitor
from seg_uncertainty_ros.monitor.narrator import Narrator
from seg_uncertainty_ros.monitor.narrator import Repeats
from seg_uncertainty_ros.recordings import SinkError
from seg_uncertainty_ros.recordings import SourceError
from seg_uncertainty_ros.recordings.event_log import EventLog
from seg_uncertainty_ros.recordings.event_log import RotatingFile
from seg_uncertainty_ros.recordings.event_log import read_events

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
ORIGIN = Origin('/front/monitor', 'run1')
# Only what the test shows can raise a warning.
QUIET = {
    'ood_area.enter': 0.05,
    'ood_area.exit': 0.02,
    'ood_area.hold_on_s': 0.0,
    'ood_area.hold_off_s': 0.0,
    'low_confidence.hold_on_s': 0.0,
    'domain_shift.enabled': False,
}


def until(condition, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Drive:
    """A monitor of the bundle that ships, on made-up planes, ten a second."""

    def __init__(self, bundle, **values):
        self.monitor = Monitor.of(bundle, MonitorConfig().with_values({**QUIET, **values}))
        self.narrator = Narrator(self.monitor, Model.of(bundle))
        self.stamp_ns = START
        self._road = [info.name for info in bundle.classes].index('road')

    def show(self, *, unknown=0, confidence=230):
        self.stamp_ns += SECOND // 10
        mask = np.full((90, 160), self._road, np.uint8)
        anomaly = np.zeros_like(mask)
        anomaly[40:80, 60 : 60 + unknown] = 255
        assessment = self.monitor.update(
            Observation(self.stamp_ns, mask, np.full_like(mask, confidence), anomaly)
        )
        return self.narrator.tell(assessment, 'front', lambda: {'/monitor/state': 2})


def written(events):
    """Return events as they are read."""
    lines = (to_line(event, ORIGIN, Moment(START, 5, 6), 1) for event in events)
    return [json.loads(line) for line in lines]


def test_a_warning_is_told_with_all_that_defends_it(bundle):
    drive = Drive(bundle)
    assert drive.show() == []
    (begin,) = written(drive.show(unknown=40))
    assert begin['kind'] == 'begin'
    assert begin['frame'] == {'stamp_ns': drive.stamp_ns, 'frame_id': 'front'}
    assert begin['model'] == {
        'bundle': f'{bundle.name} {bundle.version}',
        'sha256': bundle.digest,
        'graph': bundle.files['graph.onnx'],
        'reference': bundle.files['reference.npz'],
    }
    warning = begin['warning']
    assert warning['value'] == begin['measured']['ood_area'] > 0.05
    assert (warning['threshold'], warning['clears_at']) == (0.05, 0.02)
    assert warning['reason'] == 'parameter ood_area.enter; parameter ood_area.exit'
    assert warning['began_ns'] == drive.stamp_ns
    assert warning['box'] == begin['objects'][0]['box']
    assert begin['objects'][0]['predicted'] == 'road'
    assert begin['reaction'] == {
        'was': 'OK',
        'state': 'ERROR',
        'published': {'/monitor/state': 2},
    }
    assert drive.show(unknown=60) == []
    assert drive.show(unknown=20) == []
    (end,) = written(drive.show())
    assert end['kind'] == 'end'
    assert end['warning']['duration_s'] == pytest.approx(0.3)
    assert end['warning']['worst'] == pytest.approx(1.5 * warning['value'], rel=0.1)
    assert end['warning']['value'] == 0.0
    assert end['reaction']['state'] == 'OK'


def test_reasons_of_thresholds(bundle):
    assert 'bundle: ' in Drive(bundle).monitor.threshold('low_confidence').reason
    mixed = Drive(bundle, **{'low_confidence.enter': 0.1}).monitor.threshold('low_confidence')
    assert mixed.reason.startswith('parameter low_confidence.enter; bundle: ')
    assert (mixed.enter, mixed.exit) == (0.1, bundle.thresholds['low_confidence'].exit)
    assert Drive(bundle).monitor.threshold('latency').reason == 'default of the monitor'


def test_evidence_is_what_the_sequential_test_judges(bundle, shift_reference):
    monitor = Monitor(MonitorConfig(), bundle.classes, bundle.thresholds, shift_reference)
    threshold = monitor.threshold('domain_shift')
    assert (threshold.enter, threshold.exit) == (1.0, 0.0)
    assert threshold.reason.startswith('evidence of the sequential test: a false alarm every')


def test_a_second_worse_warning_escalates(bundle):
    drive = Drive(bundle)
    drive.show()
    assert [event.kind for event in drive.show(confidence=5)] == ['begin']
    events = drive.show(confidence=5, unknown=40)
    assert [event.kind for event in events] == ['begin', 'escalated']
    assert events[1].message == 'WARN became ERROR'
    assert drive.show(confidence=4, unknown=40) == []
    ended = [event for _ in range(20) for event in drive.show()]
    assert {(event.kind, event.warning.name) for event in ended} == {
        ('end', 'ood_area'),
        ('end', 'low_confidence'),
    }
    worst = {event.warning.name: event.warning.worst for event in ended}
    assert worst['low_confidence'] == pytest.approx(4 / 255), 'low is bad'


def test_reset_and_changed_parameters_are_told(bundle):
    drive = Drive(bundle)
    drive.show(unknown=40)
    drive.monitor.reset()
    end, begin = drive.show(unknown=40)
    assert (end.kind, end.message) == ('end', 'ood_area cleared: reset')
    assert begin.kind == 'begin'
    event = drive.narrator.reconfigured({'ood_area.enter': 0.05})
    assert event.message == 'changed by parameters: ood_area.enter = 0.05'
    assert event.details['thresholds']['ood_area']['threshold'] == 0.05
    started = drive.narrator.started({'jump': 10.0}, 'known drives')
    assert set(started.details['thresholds']) == set(WARNINGS)


def test_what_happens_with_every_image_is_told_at_once_and_then_now_and_then():
    repeats = Repeats()

    def told(total, second, kind='planes_missing'):
        return repeats.update(kind, total, 'a set of planes is incomplete', second * SECOND)

    assert told(0, 1) == []
    (event,) = told(1, 2)
    assert (event.kind, event.details) == ('planes_missing', {'count': 1})
    assert event.message == 'a set of planes is incomplete'
    assert told(50, 11) == []
    (event,) = told(60, 12)
    assert event.message == 'a set of planes is incomplete (59 times)'
    assert told(60, 100) == []
    assert len(told(3, 100, 'planes_rejected')) == 1


# Files


def event(text='x', kind='time_jumped'):
    return Event(kind, text)


class Clock:
    """Moments that go on by a second each."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return Moment(START + self.count * SECOND, self.count, 0)


def open_log(
    directory, *, max_bytes=100_000, max_total_bytes=1_000_000, origin=ORIGIN, clock=None, **kwargs
):
    stem = origin.node[1:].replace('/', '.')
    files = RotatingFile(directory, stem, max_bytes=max_bytes, max_total_bytes=max_total_bytes)
    return EventLog(files, origin, clock or Clock(), **kwargs)


def read_without_fault(path):
    read = read_events(path)
    assert (read.torn, read.faults) == ([], [])
    return read.events


def test_files_rotate_and_the_oldest_go(tmp_path):
    log = open_log(tmp_path, max_bytes=10_000, max_total_bytes=40_000)
    for index in range(500):
        log.write(event(f'{index:0100d}'))
    assert log.close().lost == 0
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files][-1] > 'front.monitor.000005.jsonl'
    assert all(path.stat().st_size <= 10_000 for path in files)
    assert 25_000 < sum(path.stat().st_size for path in files) <= 40_000
    numbers = [each['number'] for each in read_without_fault(tmp_path)]
    assert numbers == list(range(numbers[0], 501)), 'the newest, none missing'


def test_the_oldest_files_may_be_missing_and_no_others(tmp_path):
    for run in ('run1', 'run2', 'run3'):
        log = open_log(tmp_path, max_bytes=2_000, origin=Origin('/front/monitor', run))
        for _ in range(25):
            log.write(event())
        log.close()
    assert len(read_without_fault(tmp_path)) == 75
    files = sorted(tmp_path.iterdir())
    assert len(files) > 6
    for missing, after in pairwise(files[1:]):
        content = missing.read_bytes()
        missing.unlink()
        (fault,) = read_events(tmp_path).faults
        assert fault.startswith(f'{after.name}:1: number ')
        missing.write_bytes(content)
    for oldest in files[:-1]:
        oldest.unlink()
        read_without_fault(tmp_path)


def test_more_may_not_be_missing_than_the_log_says(tmp_path):
    log = open_log(tmp_path)
    log.write(event())
    log.write(Event('lost', 'lines 2 to 4', details={'first': 2, 'last': 4, 'lost': 3}))
    log.close()
    (path,) = tmp_path.iterdir()
    first, lost = path.read_bytes().splitlines()
    path.write_bytes(first + b'\n' + lost.replace(b'"number": 2', b'"number": 5'))
    assert len(read_without_fault(tmp_path)) == 2
    path.write_bytes(first + b'\n' + lost.replace(b'"first": 2', b'"first": 3'))
    assert read_events(tmp_path).faults == [f'{path.name}:2: number 3, expected 2']


def test_a_file_that_goes_while_others_are_read_is_no_fault(tmp_path):
    log = open_log(tmp_path, max_bytes=2_000)
    for _ in range(25):
        log.write(event())
    log.close()
    _, gone, *_ = sorted(tmp_path.iterdir())
    count = len(gone.read_bytes().splitlines())
    gone.unlink()
    gone.symlink_to('nowhere')  # is listed and cannot be opened
    assert len(read_without_fault(tmp_path)) == 25 - count


def test_a_log_is_in_the_order_of_its_numbers_beyond_six_digits(tmp_path):
    log = open_log(tmp_path, max_bytes=2_000)
    (tmp_path / 'front.monitor.999999.jsonl').touch()
    for _ in range(20):
        log.write(event())
    log.close()
    assert (tmp_path / 'front.monitor.1000000.jsonl').exists()
    assert [each['number'] for each in read_without_fault(tmp_path)] == [*range(1, 21)]


def test_a_log_goes_on_in_its_last_file(tmp_path):
    for _ in range(3):
        log = open_log(tmp_path)
        log.write(event())
        log.close()
    assert [path.name for path in tmp_path.iterdir()] == ['front.monitor.000001.jsonl']
    assert len(read_events(tmp_path).events) == 3


def file_of_events(folder, count):
    """Write events '0', '1', ... and return the file that has them."""
    log = open_log(folder)
    for index in range(count):
        log.write(event(str(index)))
    log.close()
    (path,) = folder.iterdir()
    return path


def test_a_line_torn_by_a_crash_costs_only_itself(tmp_path):
    path = file_of_events(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-20])
    read = read_events(tmp_path)
    assert [each['message'] for each in read.events] == ['0', '1']
    assert read.torn == ['front.monitor.000001.jsonl:3']
    log = open_log(tmp_path)
    log.write(event('after'))
    log.close()
    read = read_events(tmp_path)
    assert [each['message'] for each in read.events] == ['0', '1', 'after']
    assert read.torn == ['front.monitor.000001.jsonl:3']


def test_a_number_that_nothing_can_show_costs_only_its_line(tmp_path):
    path = file_of_events(tmp_path, 2)
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b'\n' + second[:-1] + b', "threshold": 1' + 400 * b'0' + b'}\n')
    read = read_events(tmp_path)
    assert [each['message'] for each in read.events] == ['0']
    assert read.torn == ['front.monitor.000001.jsonl:2']


def test_a_warning_is_on_the_disk_before_the_next_line(tmp_path, monkeypatch):
    fsync, lines = os.fsync, []

    def watched(descriptor):
        fsync(descriptor)
        if S_ISREG(os.fstat(descriptor).st_mode):
            lines.append(len(Path(f'/proc/self/fd/{descriptor}').read_bytes().splitlines()))

    monkeypatch.setattr(os, 'fsync', watched)
    log = open_log(tmp_path)
    for kind in ('time_jumped', 'begin', 'time_jumped', 'lost', 'time_jumped'):
        log.write(event(kind=kind))
    until(lambda: log.health.written == 5)
    assert lines == [2, 4]
    log.close()
    assert lines == [2, 4, 5]


WRITE_FOR_EVER = """
import sys
sys.path[:0] = sys.argv[2:]
from test_event_log import event, open_log
log = open_log(sys.argv[1], max_bytes=20_000, max_total_bytes=2_000_000)
while True:
    if log.health.waiting < 100:
        log.write(event('x' * 500, 'begin'))
"""


def test_a_killed_process_leaves_a_log_that_can_be_read(tmp_path):
    script = [sys.executable, '-c', WRITE_FOR_EVER, tmp_path, *sys.path]
    with subprocess.Popen(script) as process:
        until(lambda: len(list(tmp_path.iterdir())) > 3, 60.0)
        process.send_signal(signal.SIGKILL)
    read = read_events(tmp_path)
    assert read.faults == []
    assert len(read.torn) <= 1
    assert len(read.events) > 50


def test_a_line_is_never_longer_than_a_reader_takes(tmp_path, bundle):
    log = open_log(tmp_path, max_bytes=400_000)
    long = '😀' * 100_000  # 12 bytes each in JSON
    judgement = Judgement('ood_area', 'ERROR', 0.1, 0.05, 0.02, long, place=long)
    log.write(
        Event(
            'started',
            long,
            model=replace(Model.of(bundle), bundle=long),
            frame=FrameId(START, long),
            warning=judgement,
            details={'parameters': {'region.polygon': long}},
        )
    )
    log.write(event('after'))
    log.close()
    found, after = read_without_fault(tmp_path)
    assert after['message'] == 'after'
    assert found['details'].keys() == {'omitted'}
    warning = found['warning']
    for text in (
        found['message'],
        found['frame']['frame_id'],
        warning['reason'],
        warning['place'],
    ):
        assert text == long[:1000]
    assert found['model']['sha256'] == bundle.digest


def test_what_json_has_no_form_for_is_text_and_does_not_end_the_log(tmp_path):
    log = open_log(tmp_path)
    log.write(Event('started', 'x', details={'path': tmp_path, 'value': np.float32(0.5)}))
    log.write(event('after'))
    assert log.close().lost == 0
    found, after = read_without_fault(tmp_path)
    assert found['details'] == {'path': str(tmp_path), 'value': '0.5'}
    assert after['message'] == 'after'


def test_two_writers_of_one_name_have_files_of_their_own(tmp_path):
    origins = [Origin('/front/monitor', run) for run in 'ab']
    logs = [open_log(tmp_path, max_bytes=2_000, origin=origin) for origin in origins]
    for index in range(20):
        for log in logs:
            log.write(event(str(index)))
            until(lambda log=log: not log.health.waiting)
    assert [log.close().lost for log in logs] == [0, 0]
    files = sorted(tmp_path.iterdir())
    assert len(files) > 4
    assert len(read_without_fault(tmp_path)) == 40
    # Between lines of the one, what is missing of the other shows.
    lines = files[2].read_bytes().splitlines(keepends=True)
    files[2].write_bytes(b''.join(lines[1:]))
    (fault,) = read_events(tmp_path).faults
    assert fault.startswith(f'{files[2].name}:1: number ')


def test_a_deleted_folder_is_made_anew(tmp_path):
    log = open_log(tmp_path / 'log')
    log.write(event('gone'))
    until(lambda: log.health.written == 1)
    shutil.rmtree(tmp_path / 'log')
    log.write(event('here'))
    log.close()
    assert [each['message'] for each in read_events(tmp_path / 'log').events] == ['here']


@contextmanager
def files_no_larger_than(size):
    """Let the kernel refuse what grows beyond, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_waited_for_and_losses_are_counted(tmp_path):
    log = open_log(tmp_path, retry_s=0.02, max_waiting=5)
    with files_no_larger_than(1000):
        for index in range(20):
            log.write(event(f'{index:0100d}'))
            time.sleep(0.005)
        until(lambda: log.health.problem)
        health = log.health
        # The line that meets the limit is written in part, the next not at all.
        assert health.problem in {'File too large', 'No space left on device'}
        assert health.waiting == 5
        assert health.lost > 0
    until(lambda: not log.health.waiting)
    log.write(event('after'))
    lost = log.close().lost
    events = read_without_fault(tmp_path)  # a line is written whole or not at all
    *_, told, after = events
    assert (told['kind'], after['message']) == ('lost', 'after')
    assert told['details']['lost'] == lost == health.lost
    assert told['details']['last'] - told['details']['first'] + 1 == lost
    assert len(events) == 20 - lost + 2


FULL_DISK = """
import pathlib, shutil, sys, time
sys.path[:0] = sys.argv[2:]
from test_event_log import event, open_log, read_events
disk = pathlib.Path(sys.argv[1])
log = open_log(disk / 'log', max_bytes=20_000, max_total_bytes=2_000_000, retry_s=0.02)
(disk / 'other').write_bytes(bytes(100_000))
for index in range(300):
    log.write(event(f'{index:0500d}'))
while not log.health.problem:
    time.sleep(0.01)
print(log.health.problem)
(disk / 'other').unlink()
while log.health.waiting:
    time.sleep(0.01)
health = log.close()
read = read_events(disk / 'log')
print(len(read.events), health.lost, read.torn, read.faults)
"""


def test_a_disk_that_is_really_full(tmp_path):
    mount = f'mount -t tmpfs -o size=300k none {tmp_path} && exec "$@"'
    command = ['unshare', '-rm', 'sh', '-c']
    try:
        subprocess.run([*command, mount, 'sh', 'true'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('no file system can be mounted here')
    script = [sys.executable, '-c', FULL_DISK, tmp_path, *sys.path]
    done = subprocess.run(
        [*command, mount, 'sh', *script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ['No space left on device', '300 0 [] []']


def test_what_cannot_be_written_before_the_end_is_counted(tmp_path):
    (tmp_path / 'file').write_text('no folder')
    log = open_log(tmp_path / 'file', retry_s=60.0)
    log.write(event())
    until(lambda: log.health.problem)
    assert log.health.problem == 'File exists'
    start = time.monotonic()
    assert log.close().lost == 1
    assert time.monotonic() - start < 5.0, 'does not wait for the next attempt'


def test_limits_that_contradict_each_other(tmp_path):
    with pytest.raises(SinkError, match='199 bytes in all, expected two files of 100'):
        RotatingFile(tmp_path, 'x', max_bytes=100, max_total_bytes=199)


# Reading


def test_lines_that_are_no_events_are_named(tmp_path):
    good = json.loads(to_line(event(), ORIGIN, Moment(START, 0, 0), 1))
    bad = {
        'number: 0': {**good, 'number': 0},
        "kind: 'party'": {**good, 'kind': 'party'},
        'version: 1 was expected': {**good, 'version': 2},
        'event: [] is not': [],
        'time.wall_ns': {**good, 'time': {**good['time'], 'wall_ns': 'now'}},
        # Nothing that a terminal would obey.
        r'published.\x1b[2J': {
            **good,
            'reaction': {'was': None, 'state': 'OK', 'published': {'\x1b[2J': -1}},
        },
        "'details' is a required": {**good, 'kind': 'lost'},
        'number 9, expected 2': {**good, 'number': 9},
    }
    lines = [json.dumps(content) for content in (good, *bad.values())]
    path = tmp_path / 'front.monitor.000001.jsonl'
    path.write_text('\n'.join([*lines, 'torn{"']) + '\n')
    read = read_events(path)
    assert [each['number'] for each in read.events] == [1, 9]
    assert read.torn == ['front.monitor.000001.jsonl:10']
    for fault, words in zip(read.faults, bad, strict=True):
        assert words in fault


def test_a_line_without_end_is_not_taken_into_memory(tmp_path):
    path = tmp_path / 'x.000001.jsonl'
    with path.open('wb') as file:
        file.truncate(3 * 2**30)
    start = time.monotonic()
    (fault,) = read_events(path).faults
    assert 'more than 131072 bytes' in fault
    assert time.monotonic() - start < 2.0


def test_no_log_is_an_error(tmp_path):
    with pytest.raises(SourceError, match='no event log'):
        read_events(tmp_path)


def test_logs_of_several_nodes_are_merged_by_time(tmp_path):
    clock = Clock()
    logs = [open_log(tmp_path, origin=Origin(f'/{name}', name), clock=clock) for name in 'fr']
    for index in range(6):
        logs[index % 2].write(event(str(index)))
    clock.count = 0  # set back: what a node wrote last stays its last
    logs[0].write(event('6'))
    for log in logs:
        log.close()
    assert [each['message'] for each in read_without_fault(tmp_path)] == [*'0123465']


def test_the_command_prints_filters_and_checks(tmp_path, bundle, capsys):
    drive = Drive(bundle)
    log = open_log(tmp_path)
    for unknown in (0, 40, 0, 0, 50, 0):
        for each in drive.show(unknown=unknown):
            log.write(each)
    log.write(event('words \x1b[2J of a node', 'time_jumped'))
    log.close()
    assert main(['events', str(tmp_path)]) == 0
    shown = capsys.readouterr()
    begin, end, *_, last = shown.out.splitlines()
    assert begin.startswith('2023-11-14T22:13:21.000  /front/monitor')
    assert '/ 0.05      unknown object: ' in begin
    assert 'begin' in begin
    assert 'end' in end
    assert last.endswith('words \\x1b[2J of a node')
    assert shown.err == '5 of 5 events\n'
    assert main(['events', str(tmp_path), '--kind', 'begin', '--json', '--check']) == 0
    kinds = [json.loads(line)['kind'] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ['begin', 'begin']
    since = ['--since', '2023-11-14T22:13:23', '--until', '2023-11-14T23:13:24+01:00']
    assert main(['events', str(tmp_path), '--warning', 'ood_area', *since]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit):
        main(['events', str(tmp_path), '--until', 'noon'])
    assert "--until: Invalid isoformat string: 'noon', expected such" in capsys.readouterr().err
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join(lines[:1] + lines[2:]) + b'{"torn')
    assert main(['events', str(tmp_path)]) == 0
    assert main(['events', str(tmp_path), '--check']) == 1
    said = capsys.readouterr().err
    assert 'front.monitor.000001.jsonl:2: number 3, expected 2' in said
    assert 'front.monitor.000001.jsonl:5: torn by a crash, skipped' in said
