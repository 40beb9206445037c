# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""demo: a recording through real nodes over DDS, a live table, and what a person looks at."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_bundle
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.drawing import caption
from seg_uncertainty_ros.procedural.drive import EPOCH_NS
from seg_uncertainty_ros.procedural.spec import DEMO_FOG
from seg_uncertainty_ros.procedural.spec import DEMO_UNKNOWN
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.recordings.bag_writer import BagWriter
from seg_uncertainty_ros.recordings.timeline import draw_timeline
from seg_uncertainty_ros.recordings.video_writer import VideoWriter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from seg_uncertainty_ros.nodes.observer import Observer
    from seg_uncertainty_ros.nodes.processes import NodeProcesses
    from seg_uncertainty_ros.recordings import Source

DEFAULT_SOURCE = 'procedural:demo'
START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 10.0
SEGMENTATION = 'segmentation: frames'
CAMERA = 'segmentation: input'
MONITOR = 'monitor: trust'
REPLAY = 'replay: recording'
COLUMNS = ('time', 'rate', 'p50', 'p95', 'drops', 'lost', 'OoD area', 'shift', 'state')
ROW = '{:>6} {:>6} {:>6} {:>6} {:>6} {:>5} {:>9} {:>7}  {}'
OUTPUTS = ('overlay.mp4', 'timeline.png', 'outputs.mcap', 'warnings.json', 'logs')
LOGS = ('segmentation.log', 'monitor.log', 'replay.log')
# Repeated at most so often in the video where frames were dropped.
MOST_REPEATS = 10
# Paces that the node replay accepts.
RATES = (0.01, 100.0)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'demo',
        run,
        'Play a recording (by default an unknown object, then fog) through the nodes.',
        'demo BAG --out demo_out',
    )
    parser.add_argument('source', metavar='SOURCE', nargs='?', default=DEFAULT_SOURCE)
    parser.add_argument('--topic', help='image topic of a bag that has several')
    parser.add_argument(
        '--out', type=Path, default=Path('demo_out'), help='an earlier demo there is replaced'
    )
    parser.add_argument('--rate', type=float, default=1.0, help="pace, times the recording's")
    parser.add_argument('--score', default='', help='score of the anomaly plane')
    parser.add_argument('--domain', type=int, help='ROS domain, 1 to 101 (default: any)')
    add_bundle(parser)


@dataclass(frozen=True)
class Frames:
    """Where every published frame went."""

    published: int
    processed: int
    dropped: int
    rejected: int
    lost: int

    @property
    def accounted(self) -> bool:
        """Tell whether the sum is right."""
        return self.published == self.processed + self.dropped + self.rejected + self.lost

    def __str__(self) -> str:
        """Return the sum as a sentence."""
        return (
            f'{self.published} published = {self.processed} processed + {self.dropped} dropped '
            f'+ {self.rejected} rejected + {self.lost} lost in transport'
        )


class Video:
    """overlay.mp4 at the recording's rate: a frame stays until the next one that was processed."""

    def __init__(self, writer: VideoWriter, rate_hz: float) -> None:
        self._writer = writer
        self._interval_ns = 1e9 / rate_hz
        self._last_ns: int | None = None

    def add(
        self, image: NDArray[np.uint8], stamp_ns: int, assessment: Mapping[str, Any] | None
    ) -> None:
        """Write one frame under the state and the first warning."""
        state = assessment['state'] if assessment else 'no assessment'
        warnings = [warning['message'] for warning in assessment['warnings']] if assessment else []
        repeats = 1
        if self._last_ns is not None:
            repeats = round((stamp_ns - self._last_ns) / self._interval_ns)
        self._last_ns = stamp_ns
        for _ in range(min(max(repeats, 1), MOST_REPEATS)):
            self._writer.write(caption(image, state, warnings))


def prepare_out(path: Path) -> Path:
    """Return the directory without what an earlier demo wrote; refuse one that holds more."""
    for folder, known in ((path, OUTPUTS), (path / 'logs', LOGS)):
        if folder.exists() and not folder.is_dir():
            msg = f'--out {path}: {folder} is not a directory'
            raise CommandError(msg)
        foreign = [entry.name for entry in folder.glob('*') if entry.name not in known]
        if foreign:
            msg = f'--out {path}: holds {foreign[0]!r}, which no demo wrote'
            raise CommandError(msg)
    (path / 'logs').mkdir(parents=True, exist_ok=True)
    for file in (*path.glob('*.*'), *path.glob('logs/*')):
        file.unlink()
    return path


def check(options: argparse.Namespace, bundle: Bundle) -> None:
    """Raise CommandError for what a node would refuse only after its start."""
    if options.score and options.score not in bundle.score_names:
        msg = f'--score: {options.score!r} is none of {", ".join(bundle.score_names)}'
        raise CommandError(msg)
    if options.domain is not None and not 1 <= options.domain <= 101:
        msg = f'--domain: {options.domain}, expected from 1 to 101'
        raise CommandError(msg)
    if not RATES[0] <= options.rate <= RATES[1]:
        msg = f'--rate: {options.rate:g}, expected from {RATES[0]:g} to {RATES[1]:g}'
        raise CommandError(msg)


def run(options: argparse.Namespace) -> int:
    """Run the demo."""
    source = open_source(options.source, topic=options.topic)
    bundle = Bundle.load(options.bundle)
    check(options, bundle)
    out = prepare_out(options.out)
    variables = {
        # Never the user's own domain: a vehicle's nodes would take our time and our images.
        'ROS_DOMAIN_ID': str(options.domain or 1 + os.getpid() % 100),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'RCUTILS_COLORIZED_OUTPUT': '0',
    }
    os.environ.update(variables)
    try:
        import rclpy
    except ImportError as error:
        msg = "needs ROS 2: source an installation, or pip install '.[ros]'"
        raise CommandError(msg) from error
    from seg_uncertainty_ros.nodes import transport
    from seg_uncertainty_ros.nodes.observer import Observer
    from seg_uncertainty_ros.nodes.processes import NodeProcesses

    transport.prepare()
    print(
        f'{source.name}: {source.frame_count} frames; ROS_DOMAIN_ID={variables["ROS_DOMAIN_ID"]}'
    )
    with (
        BagWriter(out / 'outputs.mcap') as bag,
        VideoWriter(out / 'overlay.mp4', source.rate_hz or 10.0) as writer,
        NodeProcesses(out / 'logs', variables) as nodes,
        ExitStack() as ros,
    ):
        rclpy.init(args=[])
        ros.callback(rclpy.try_shutdown)
        observer = Observer(bag, Video(writer, source.rate_hz or 10.0).add)
        frames, problems = play(options, source, observer, nodes)
        observer.flush()
        observer.destroy_node()
    return report(options, bundle, observer, frames, problems, out)


def play(
    options: argparse.Namespace, source: Source, observer: Observer, nodes: NodeProcesses
) -> tuple[Frames, list[str]]:
    """Start the nodes, play the recording, print the table.

    Returns where the frames went, and why the recording was not played to its end.
    """
    from rclpy.executors import SingleThreadedExecutor

    from seg_uncertainty_ros.nodes.processes import ProcessError

    executor = SingleThreadedExecutor()
    executor.add_node(observer)

    def spin_until(done: Any, timeout_s: float, each_second: Any = None) -> bool:
        start = said = time.monotonic()
        while not done():
            executor.spin_once(timeout_sec=0.1)
            segmentation.check()
            monitor.check()
            now = time.monotonic()
            if now - start > timeout_s:
                return False
            if each_second and now - said >= 1.0:
                each_second(now - start)
                said += 1.0
        return True

    common = {'bundle': options.bundle.resolve(), 'use_sim_time': True}
    segmentation = nodes.start('segmentation', {**common, 'anomaly_score': options.score})
    monitor = nodes.start('monitor', common)

    def ready() -> bool:
        states = [observer.values.get(name, {}).get('state') for name in (SEGMENTATION, MONITOR)]
        return states == ['active', 'active']

    if not spin_until(ready, START_TIMEOUT_S):
        msg = f'the nodes were not active after {START_TIMEOUT_S:.0f} s, see {options.out}/logs'
        raise CommandError(msg)
    replay = nodes.start(
        'replay',
        {
            'source': options.source,
            'topic': options.topic or '',
            'rate': options.rate,
            'clock': True,
        },
    )
    print(ROW.format(*COLUMNS))
    duration_s = (source.frame_count or 0) / (source.rate_hz or 10.0) / options.rate
    timeout_s = START_TIMEOUT_S + 3 * duration_s if source.frame_count else float('inf')
    problems = []
    if not spin_until(
        lambda: replay.process.poll() is not None,
        timeout_s,
        lambda seconds: print(table_row(seconds, observer.values), flush=True),
    ):
        problems.append(f'{source.name}: not at its end after {timeout_s:.0f} s')
    try:
        # A damaged recording: what was readable of it is reported all the same.
        replay.check()
    except ProcessError as error:
        problems.append(str(error))

    def settled() -> bool:
        frames = count_frames(observer.values)
        in_flight = observer.values.get(SEGMENTATION, {}).get('in_flight')
        return in_flight == '0' and frames.accounted and frames.lost == 0

    # Frames that never arrive keep this from settling: then the rest is called lost.
    spin_until(settled, SETTLE_TIMEOUT_S)
    return count_frames(observer.values), problems


def count_frames(values: Mapping[str, Mapping[str, str]]) -> Frames:
    """Read where the frames went from the diagnostics."""
    seen = values.get(SEGMENTATION, {})
    published = int(values.get(REPLAY, {}).get('published', 0))
    received, processed, dropped, rejected = (
        int(seen.get(key, 0)) for key in ('received', 'processed', 'dropped', 'rejected')
    )
    return Frames(published, processed, dropped, rejected, max(0, published - received))


def table_row(seconds: float, values: Mapping[str, Mapping[str, str]]) -> str:
    """Return one row of the live table from the newest diagnostics."""
    frames, trust = values.get(SEGMENTATION, {}), values.get(MONITOR, {})
    return ROW.format(
        f'{seconds:.0f} s',
        frames.get('rate_hz', '-'),
        frames.get('latency_arrival_to_planes_ms_p50', '-'),
        frames.get('latency_arrival_to_planes_ms_p95', '-'),
        frames.get('dropped', '-'),
        values.get(CAMERA, {}).get('lost', '-'),
        trust.get('ood_area', '-'),
        trust.get('domain_shift', '-'),
        trust.get('trust', '-'),
    )


def report(
    options: argparse.Namespace,
    bundle: Bundle,
    observer: Observer,
    frames: Frames,
    problems: Sequence[str],
    out: Path,
) -> int:
    """Write timeline.png and warnings.json, say what happened; return the exit code."""
    assessments = [row for row in observer.assessments if row['mean_confidence'] is not None]
    if not assessments:
        msg = '; '.join(problems) or f'no frame was assessed, see {out}/logs'
        raise CommandError(msg)
    transitions = [change for row in observer.assessments for change in row['transitions']]
    is_demo = options.source == DEFAULT_SOURCE
    # The events of the demo are timed from its first frame, which might not have been assessed.
    start_ns = EPOCH_NS if is_demo else assessments[0]['stamp_ns']
    truth = {
        'unknown object': (DEMO_UNKNOWN.start_s, DEMO_UNKNOWN.end_s),
        'fog': (DEMO_FOG.start_s, DEMO_FOG.end_s),
    }
    draw_timeline(
        out / 'timeline.png',
        assessments,
        bundle.thresholds,
        title=options.source,
        truth=truth if is_demo else None,
    )
    raised = [change for change in transitions if change['raised']]
    problems = [*problems, *([] if frames.accounted else [f'frames do not add up: {frames}'])]
    if is_demo:
        problems += judge_demo(raised, start_ns)
    content = {
        'source': options.source,
        'bundle': f'{bundle.name} {bundle.version} {bundle.digest}',
        'frames': {**frames.__dict__, 'accounted': frames.accounted},
        'segmentation': observer.values.get(SEGMENTATION, {}),
        'transitions': transitions,
        'problems': problems,
    }
    (out / 'warnings.json').write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    print(frames)
    for change in raised:
        print(f'{(change["stamp_ns"] - start_ns) / 1e9:6.1f} s  {change["message"]}')
    print(f'written to {out}: overlay.mp4 timeline.png outputs.mcap warnings.json')
    for problem in problems:
        print(f'seg-uncertainty: {problem}')
    return 1 if problems else 0


def judge_demo(raised: Sequence[Mapping[str, Any]], start_ns: int) -> list[str]:
    """Return what is wrong with the warnings of the demo's drive; empty if each came in time."""
    moments: dict[str, list[float]] = {'ood_area': [], 'fog': []}
    for change in raised:
        kind = 'fog' if change['name'] in ('domain_shift', 'low_confidence') else change['name']
        moments.setdefault(kind, []).append((change['stamp_ns'] - start_ns) / 1e9)
    problems = []
    found = [t for t in moments['ood_area'] if DEMO_UNKNOWN.start_s <= t <= DEMO_UNKNOWN.end_s + 1]
    if not found:
        problems.append('no warning of the unknown object while it was there')
    false = [t for t in moments['ood_area'] if t < DEMO_UNKNOWN.start_s]
    false += [t for t in moments['ood_area'] if DEMO_UNKNOWN.end_s + 1 < t < DEMO_FOG.start_s]
    problems += [f'warning of an unknown object at {t:.1f} s, where there was none' for t in false]
    if not any(t >= DEMO_FOG.start_s for t in moments['fog']):
        problems.append('no warning of the fog')
    early = [t for t in moments['fog'] if t < DEMO_FOG.start_s]
    problems += [f'warning of another domain at {t:.1f} s, before the fog' for t in early]
    return problems
