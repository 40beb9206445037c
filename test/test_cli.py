# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The commands, run as a person runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.cli import main
from seg_uncertainty_ros.cli.demo import judge_demo
from seg_uncertainty_ros.pipeline import network_input
from seg_uncertainty_ros.procedural.spec import DEMO_FOG
from seg_uncertainty_ros.procedural.spec import DEMO_UNKNOWN
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.segments.meta import LinearModel
from seg_uncertainty_ros.segments.meta import MetaModel
from seg_uncertainty_ros.shift.image_statistics import image_statistics

DRIVE = 'procedural:seed=3,width=160,height=96,duration=1,rate=5'


def command(*arguments, timeout=120):
    return subprocess.run(
        [sys.executable, '-m', 'seg_uncertainty_ros.cli', *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_version():
    assert command('--version').stdout == f'seg-uncertainty {__version__}\n'


def test_help_has_examples():
    text = command('--help').stdout
    for name in ('demo', 'infer', 'replay', 'info', 'examples:'):
        assert name in text


@pytest.mark.parametrize('name', ['demo', 'infer', 'replay', 'info', 'train', 'bundle'])
def test_help_of_a_command_has_an_example(name):
    assert f'example:\n  seg-uncertainty {name}' in command(name, '--help').stdout


def test_info_shows_the_bundle(bundle, capsys):
    assert main(['info']) == 0
    text = capsys.readouterr().out
    assert f'{bundle.name} {bundle.version}' in text
    for name in (*bundle.score_names, *bundle.thresholds):
        assert name in text


def test_info_says_what_a_reference_rests_on(bundle, shift_reference, tmp_path, capsys):
    path = shutil.copytree(bundle.path, tmp_path / 'bundle')
    for reference, words in (
        (shift_reference, 'domains town; windows of 2 s, 0.0439 h of drives; a false alarm every'),
        (replace(shift_reference, test=None), '0.0439 h of drives; no sequential test'),
        (None, 'none: no domain shift can be told'),
    ):
        replace(bundle, path=path, reference=reference).write()
        assert main(['info', str(path)]) == 0
        assert words in capsys.readouterr().out


def test_infer_writes_masks_and_raw_scores(bundle, tmp_path, capsys):
    names = 'entropy,pgn_uniform'
    assert main(['infer', DRIVE, '--out', str(tmp_path / 'out'), '--scores', names]) == 0
    assert '5 frames' in capsys.readouterr().out
    masks = sorted((tmp_path / 'out').glob('*_mask.png'))
    assert len(masks) == 5
    for path in masks:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (96, 160)
        assert mask.dtype == np.uint8
        assert mask.max() < len(bundle.classes)
        with np.load(path.with_name(path.name.replace('_mask.png', '_scores.npz'))) as scores:
            assert sorted(scores) == ['entropy', 'pgn_uniform']
            assert all(plane.dtype == np.float16 for plane in scores.values())
            assert all(plane.shape == mask.shape for plane in scores.values())
            assert all(np.isfinite(plane).all() for plane in scores.values())
            assert 0 <= scores['entropy'].min() <= scores['entropy'].max() <= 1


def test_infer_keeps_the_names_of_a_folder(tmp_path):
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in' / 'left turn.png'), np.zeros((40, 60, 3), np.uint8))
    assert main(['infer', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 0
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['left turn_mask.png']


def test_skipped_frames_are_said_even_if_none_is_left(tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.png').write_bytes(b'no image')
    assert main(['infer', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 1
    said = capsys.readouterr().err
    assert 'skipped: a.png: data: 8 bytes' in said
    assert 'none of 1 images could be decoded' in said


def test_infer_says_what_it_cannot_write(tmp_path, capsys):
    (tmp_path / 'in').mkdir()
    name = 'x' * 250
    cv2.imwrite(str(tmp_path / 'in' / f'{name}.png'), np.zeros((40, 60, 3), np.uint8))
    assert main(['infer', str(tmp_path / 'in'), '--out', str(tmp_path / 'out')]) == 1
    assert f'{name}_mask.png cannot be written' in capsys.readouterr().err


def test_summary_lies_in_the_bag_or_beside_the_single_file(tmp_path):
    drive = 'procedural:seed=3,width=64,height=48,duration=0.2,rate=5'
    for name, summary in (('bag.v2', 'bag.v2/summary.json'), ('one.mcap', 'summary.json')):
        assert main(['replay', drive, '--out', str(tmp_path / name)]) == 0
        assert json.loads((tmp_path / summary).read_text())['frames']['processed'] == 1


def test_replay_writes_every_frame(bundle, tmp_path):
    out = tmp_path / 'bag'
    assert main(['replay', DRIVE, '--out', str(out)]) == 0
    summary = json.loads((out / 'summary.json').read_text())
    frames = {'in_source': 5, 'processed': 5, 'skipped': 0, 'missing': 0}
    assert summary['frames'] == frames
    assert sum(summary['states'].values()) == 5
    source = open_source(out, topic='/segmentation/mask')
    stamps = [frame.stamp_ns for frame in source]
    assert stamps == [frame.stamp_ns for frame in open_source(DRIVE)]
    planes = ('mask', 'confidence', 'anomaly', 'embedding')
    for name in planes:
        assert open_source(out, topic=f'/segmentation/{name}').frame_count == 5
    with AnyReader([out]) as bag:
        counts = {topic: info.msgcount for topic, info in bag.topics.items()}
        topics = [x for x in bag.connections if x.topic == '/segmentation/image_statistics']
        images = [bag.deserialize(data, x.msgtype) for x, _, data in bag.messages(topics)]
    for frame, image in zip(open_source(DRIVE), images, strict=True):
        taken = network_input(frame.image, bundle.geometry)
        np.testing.assert_allclose(image.data.view('<f4'), image_statistics(taken), rtol=1e-5)
    assert counts['/monitor/state'] == counts['/monitor/ood_area'] == counts['/diagnostics'] == 5


def test_replay_with_a_meta_model_writes_what_it_looks_at(bundle, tmp_path):
    path = shutil.copytree(bundle.path, tmp_path / 'bundle')
    line = LinearModel((1.0,), 0.0)
    scores = ('margin', 'entropy', 'pgn_onehot')
    model = MetaModel(scores, ('log_area',), (0.0,), (1.0,), line, line, 0.0, 'test', {})
    replace(bundle, path=path, segments=model).write()
    out = tmp_path / 'bag'
    assert main(['replay', DRIVE, '--bundle', str(path), '--out', str(out)]) == 0
    with AnyReader([out]) as bag:
        topics = [x for x in bag.connections if x.topic == '/segmentation/dispersion']
        messages = [bag.deserialize(data, x.msgtype) for x, _, data in bag.messages(topics)]
    assert len(messages) == 5
    message = messages[0]
    assert message.encoding == '32FC3'
    entropy = message.data.view('<f4').reshape(message.height, message.width, 3)[..., 1]
    assert 0 <= entropy.min() < entropy.max() <= 1


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['infer', '/nowhere', '--out', '{out}'], ['/nowhere', 'does not exist']),
        (['infer', DRIVE, '--out', '{out}', '--scores', 'odd'], ['odd', 'entropy']),
        (['infer', 'procedural:speed=3', '--out', '{out}'], ['speed']),
        (['replay', DRIVE, '--out', '{out}', '--score', 'odd'], ['odd', 'entropy']),
        (['info', '/nowhere'], ['/nowhere', 'no such bundle']),
        (['infer', DRIVE, '--out', '/dev/null/out'], ['/dev/null/out']),
        (['demo', '/nowhere', '--out', '{out}'], ['/nowhere', 'does not exist']),
        (['demo', DRIVE, '--out', '{out}', '--domain', '300'], ['--domain', '300', '101']),
        (['demo', DRIVE, '--out', '{out}', '--score', 'odd'], ['odd', 'entropy']),
        (['demo', DRIVE, '--out', '{out}', '--rate', '0'], ['--rate', '0.01']),
        (['train', '/nowhere.yaml', '--data', '.', '--out', '{out}'], []),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path):
    done = command(*(argument.format(out=tmp_path / 'out') for argument in arguments))
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith('seg-uncertainty: ')
    for word in words:
        assert word in lines[0]


def test_outputs_are_not_overwritten(tmp_path):
    (tmp_path / 'logs').mkdir()
    (tmp_path / 'note.txt').write_text('mine')
    for arguments in (
        ['infer', DRIVE, '--out', tmp_path],
        ['replay', DRIVE, '--out', tmp_path],
        ['demo', DRIVE, '--out', tmp_path],
    ):
        done = command(*arguments)
        assert done.returncode == 1
        assert str(tmp_path) in done.stderr
    assert (tmp_path / 'note.txt').read_text() == 'mine'


def raised(*moments):
    return [{'name': name, 'stamp_ns': round(second * 1e9)} for name, second in moments]


OBJECT = ('ood_area', DEMO_UNKNOWN.start_s + 2)
FOG = ('domain_shift', DEMO_FOG.start_s + 1.5)


@pytest.mark.parametrize(
    ('warnings', 'problem'),
    [
        ((OBJECT, FOG), None),
        ((FOG,), 'no warning of the unknown object'),
        ((OBJECT,), 'no warning of the fog'),
        ((('ood_area', 1.0), OBJECT, FOG), 'warning of an unknown object at 1.0 s'),
        ((OBJECT, ('domain_shift', 5.0), FOG), 'warning of another domain at 5.0 s'),
        ((OBJECT, ('low_confidence', DEMO_FOG.start_s + 1)), None),
    ],
)
def test_demo_judges_its_own_warnings(warnings, problem):
    problems = judge_demo(raised(*warnings), 0)
    assert problems == [] if problem is None else problem in problems[0]


def test_demo_drive_is_judged_well_with_the_shipped_bundle(tmp_path):
    """What `make demo` shows, without the timing of processes: each warning in its time."""
    assert main(['replay', 'procedural:demo', '--out', str(tmp_path / 'bag')]) == 0
    summary = json.loads((tmp_path / 'bag' / 'summary.json').read_text())
    start_ns = next(iter(open_source('procedural:demo'))).stamp_ns
    changes = [change for change in summary['transitions'] if change['raised']]
    assert judge_demo(changes, start_ns) == []
