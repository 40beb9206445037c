# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a soak found: tables, and the targets that it met or missed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from reporting import machine
from reporting import table
from rosbags.highlevel import AnyReader

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.recordings.event_log import read_events
from soaking.camera import CALL_S
from soaking.run import COUNTS
from soaking.run import MONITOR_LOG_MIB
from soaking.run import NODES
from soaking.run import SIZES
from soaking.run import SNAPSHOTS_MIB
from soaking.run import TENTHS
from soaking.run import WARM_UP
from soaking.run import YARDSTICKS
from soaking.watching import slope

LATENCY_GOAL = 1.2
MEMORY = {
    'heap': 'resident heap, MiB',
    'in_use': 'malloc in use, MiB',
    'blocks': "Python's blocks",
}


class Report:
    """Tables of a run and the targets that it met or missed."""

    def __init__(self, soak, elapsed, left):
        self.soak = soak
        self.elapsed = elapsed
        self.left = left
        self.targets = []

    def target(self, text, met, found):
        """Note a target."""
        self.targets.append([text, found, 'met' if met else 'MISSED'])
        return met

    def text(self):
        """Return the report as Markdown."""
        soak = self.soak
        processed = soak.processed()
        options = soak.options
        enough = processed >= options.frames
        self.target(f'{options.frames} frames processed', enough, processed)
        bundle = Bundle.load(soak.bundle)
        faulty = ', '.join(f'{name} {count}' for name, count in sorted(soak.faults.items()))
        lines = [
            machine(),
            f'{processed} frames processed in {self.elapsed / 60:.1f} min '
            f'({processed / self.elapsed:.0f} a second), {options.graph} graph '
            f'({bundle.name} {bundle.version}), {SIZES[options.graph][0]}x'
            f'{SIZES[options.graph][1]}, {options.in_flight} in flight, seed {options.seed}',
            f'Faults: {sum(soak.faults.values())} ({faulty or "none"}).',
            self.resources(),
            self.tenths(),
            self.counts(),
            self.records(),
            table(['target', 'found', ''], self.targets),
        ]
        return '\n\n'.join(lines)

    def resources(self):
        """Return the table of memory, descriptors and threads."""
        rows = []
        for watched in self.soak.watched.values():
            total = self.soak.processed()
            kept = watched.column('frames') >= WARM_UP * total
            row = [watched.name]
            for name in ('heap', 'pss', 'rss'):
                values = watched.column(name)[kept]
                row.append(f'{values[0]:.1f} - {values[-1]:.1f}')
            row += self.slopes(watched, kept)
            ends = {}
            for name in ('descriptors', 'threads', 'shm'):
                values = watched.column(name)
                tenth = max(1, kept.sum() // TENTHS)
                first = len(values) - kept.sum()
                # A port is unmapped and mapped again as peers come and go: /dev/shm grows where
                # there is more than at any moment before, the warm-up's too.
                begun = values[0 if name == 'shm' else first : first + tenth]
                ends[name] = begun.max(), np.median(values[-tenth:])
                row.append(f'{ends[name][0]:.0f} - {ends[name][1]:.0f}')
            rows.append(row)
            if watched.name in NODES:
                for name, what in (
                    ('descriptors', 'file descriptors'),
                    ('threads', 'threads'),
                    ('shm', 'MiB in /dev/shm'),
                ):
                    before, after = ends[name]
                    self.target(
                        f'{watched.name}: {what} do not grow',
                        after <= before,
                        f'{before:.0f} - {after:.0f}',
                    )
        header = ['process', 'heap MiB', 'PSS MiB', 'RSS MiB', *MEMORY.values()]
        header += ['descriptors', 'threads', '/dev/shm MiB']
        return (
            f'After a warm-up of {100 * WARM_UP:.0f} %, first and last sample; slopes a million '
            'frames by Theil-Sen with the 95 % interval of a block bootstrap. The resident heap '
            'never shrinks: a leak is what grows in use.\n\n' + table(header, rows)
        )

    def slopes(self, watched, kept):
        """Return the slope of each kind of memory."""
        cells = []
        frames = watched.column('frames')[kept]
        for kind, text in MEMORY.items():
            values = watched.column(kind)[kept]
            if np.isnan(values).any():
                cells.append('-')
                continue
            found, low, high = (1e6 * each for each in slope(frames, values))
            cells.append(f'{found:+.3g} ({low:+.3g} to {high:+.3g})')
            if watched.name in NODES:
                self.target(
                    f'{watched.name}: slope of {text} not distinguishable from zero',
                    low <= 0.0,
                    f'{cells[-1]} a million frames, {values[-1] - values[0]:+.3g} in all',
                )
        return cells

    def tenths(self):
        """Return the table of latency and processor time by tenth of the run."""
        latencies = np.array(self.soak.camera.latencies)
        parts = np.array_split(latencies, TENTHS)
        total = self.soak.processed()
        edges = np.linspace(0, total, TENTHS + 1)
        columns = {}
        for name in NODES:
            for field in ('cpu_s', 'waited_s'):
                columns[name, field] = self._per_frame(name, field, edges)
        yardstick = np.array(self.soak.yardstick)
        moments = yardstick[:, 0]
        speeds = [
            1e3 * np.median(yardstick[(moments >= low) & (moments <= high), 1:], axis=0)
            for low, high in pairwise(edges)
        ]
        rows = []
        for index, part in enumerate(parts):
            row = [index + 1, len(part), *(f'{each:.3f}' for each in speeds[index])]
            row += [f'{1e3 * np.percentile(part, rank):.2f}' for rank in (50, 99)]
            row += [
                f'{columns[name, field][index]:.3f}'
                for name in NODES
                for field in ('cpu_s', 'waited_s')
            ]
            rows.append(row)
        ratios = [np.percentile(parts[-1], r) / np.percentile(parts[0], r) for r in (50, 99)]
        ratio_row = [
            'last / first',
            '',
            *(f'{ratio:.3f}' for ratio in speeds[-1] / speeds[0]),
            *(f'{ratio:.3f}' for ratio in ratios),
        ]
        ratio_row += [f'{c[-1] / c[0]:.3f}' for c in columns.values()]
        rows.append(ratio_row)
        self.target(
            f'latency p99, last tenth <= {LATENCY_GOAL} x first tenth',
            ratios[1] <= LATENCY_GOAL,
            f'{ratios[1]:.3f} (p50 {ratios[0]:.3f})',
        )
        for name in NODES:
            cpu = columns[name, 'cpu_s']
            self.target(
                f'{name}: processor time a frame, last tenth <= {LATENCY_GOAL} x first tenth',
                cpu[-1] <= LATENCY_GOAL * cpu[0],
                f'{cpu[-1] / cpu[0]:.3f}',
            )
        header = ['tenth', 'images timed', *(f'{name} ms' for name in YARDSTICKS)]
        header += ['p50 ms', 'p99 ms']
        header += [f'{name} {what} ms' for name in NODES for what in ('CPU', 'waited for a core')]
        return (
            "Image published to monitor's state received, without images during faults; processor "
            'time and time ready without a core, a frame. Three pieces of the same work each time '
            '(sums in Python, reads all over 16 MiB, system calls), done beside the nodes, say '
            'how fast the machine is:\n\n' + table(header, rows)
        )

    def _per_frame(self, name, field, edges):
        """Return milliseconds a frame between edges (frames)."""
        watched = self.soak.watched[name]
        at_edges = np.interp(edges, watched.column('frames'), watched.column(field))
        return 1e3 * np.diff(at_edges) / np.diff(edges)

    def counts(self):
        """Return where every image went."""
        soak, camera, health = self.soak, self.soak.camera, self.soak.health
        seen = {key: health.count('segmentation', key) for key in COUNTS}
        judged = health.count('monitor', 'judged')
        self.target(
            'counts consistent in every diagnostic: received = processed + dropped + rejected '
            '+ in flight',
            not health.errors,
            f'{len(health.errors)} that do not add up'
            + (f': {health.errors[0]}' if health.errors else ''),
        )
        self.target(
            f'every service call answered within {CALL_S:.0f} s',
            not camera.silent_calls,
            f'{camera.silent_calls} of {camera.calls} not',
        )
        self.target('nodes alive to the end', not soak.ended, soak.ended or 'yes')
        self.target('nothing left in flight', seen['in_flight'] == 0, seen['in_flight'])
        if soak.faults['bad_images']:  # a short run may not come to it
            self.target('bad images rejected', seen['rejected'] > 0, seen['rejected'])
        if not soak.options.faults:
            lost = camera.published - seen['received']
            self.target('every image received', lost == 0, f'{lost} of {camera.published} not')
            self.target('every processed image judged', judged == seen['processed'], judged)
        # Files of ports, 50 KiB each, are those of whoever uses the domain next.
        segments = [name for name in self.left if 'port' not in name]
        self.target(
            'no segment left in /dev/shm',
            not segments,
            f'{len(segments)} ({len(self.left) - len(segments)} files of ports)',
        )
        rows = [
            ['published', camera.published],
            *([key.replace('_', ' '), value] for key, value in seen.items()),
            [
                'not received (queue overwritten, or node paused)',
                camera.published - seen['received'],
            ],
            ['judged by the monitor', judged],
            [
                'monitor: rejected, incomplete',
                f'{health.count("monitor", "rejected")}, {health.count("monitor", "incomplete")}',
            ],
            ['overtaken by a newer one', camera.overtaken],
            ['without an answer within a second', camera.unanswered],
        ]
        return table(['images', 'count'], rows)

    def records(self):
        """Return what event logs and snapshots hold."""
        folder = self.soak.records
        read = read_events(folder)
        self.target('no fault in any event log', not read.faults, [*read.faults, 'none'][0])
        messages = []
        for path in sorted(folder.glob('*/')):
            with AnyReader([path]) as reader:
                messages.append(sum(1 for _ in reader.messages()))
        self.target('snapshots written and readable', min(messages, default=0) > 0, len(messages))
        sizes = {}
        for kind, limit in (('**/*.mcap', SNAPSHOTS_MIB), ('monitor.*.jsonl', MONITOR_LOG_MIB)):
            sizes[kind] = sum(path.stat().st_size for path in folder.glob(kind)) / 2**20
            self.target(f'{kind}: at most {limit} MiB', sizes[kind] <= limit, f'{sizes[kind]:.1f}')
        health = self.soak.health
        rows = [
            ['events kept, all nodes', len(read.events)],
            ['events written by the monitor', health.count('monitor', 'written')],
            ['snapshots taken', health.count('recorder', 'taken')],
            ['snapshots kept', f'{len(messages)}, {sum(messages)} messages'],
            ['warnings without one: another was just taken', health.count('recorder', 'refused')],
            ['snapshots that failed', health.count('recorder', 'failed')],
            ['messages without room in one', health.count('recorder', 'dropped')],
        ]
        return table(['records', 'count'], rows)
