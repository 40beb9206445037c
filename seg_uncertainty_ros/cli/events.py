# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""events: what the monitors decided, from their event logs."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from seg_uncertainty_ros.cli.options import CommandError
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.monitor.events import MAX_LINE_BYTES
from seg_uncertainty_ros.recordings.event_log import read_events
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'events',
        run,
        'Print, filter and check the event logs of a folder.',
        'events DIR --kind begin,end --warning ood_area --since 2026-11-21T08:00',
    )
    parser.add_argument('path', metavar='DIR', type=Path, help='folder of event logs, or one file')
    parser.add_argument('--kind', help='only these kinds, such as begin,end')
    parser.add_argument('--warning', help='only what is about this warning')
    parser.add_argument('--node', help="only this node, such as '/front/monitor'")
    parser.add_argument('--since', type=wall_ns, help='ISO 8601, UTC where no zone is given')
    parser.add_argument('--until', type=wall_ns, help='likewise')
    parser.add_argument('--json', action='store_true', help='print whole events, one a line')
    parser.add_argument(
        '--check',
        action='store_true',
        help='fail where a line is no valid event, or missing; the oldest rotate away',
    )


def wall_ns(text: str) -> int:
    """Return the time of a text in ISO 8601 (ns of the wall clock); for argparse."""
    try:
        moment = datetime.fromisoformat(text.replace('Z', '+00:00'))
    except ValueError as error:
        msg = f'{error}, expected such as 2026-11-21T08:00'
        raise argparse.ArgumentTypeError(msg) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1e6) * 1000


def run(options: argparse.Namespace) -> int:
    """Print the events that are asked for; say on stderr what is wrong with the logs."""
    read = read_events(options.path)
    shown = [event for event in read.events if _wanted(event, options)]
    for event in shown:
        print(json.dumps(event) if options.json else row(event))
    for where in read.torn:
        print(f'seg-uncertainty: {where}: torn by a crash, skipped', file=sys.stderr)
    for fault in read.faults:
        print(f'seg-uncertainty: {fault}', file=sys.stderr)
    print(f'{len(shown)} of {len(read.events)} events', file=sys.stderr)
    if options.check and read.faults:
        msg = f'{options.path}: {len(read.faults)} faults'
        raise CommandError(msg)
    return 0


def _wanted(event: Mapping[str, Any], options: argparse.Namespace) -> bool:
    about = (event.get('warning', {}).get('name'), *_causes(event))
    moment_ns = event['time']['wall_ns']
    return (
        (options.kind is None or event['kind'] in options.kind.split(','))
        and (options.warning is None or options.warning in about)
        and (options.node is None or event['origin']['node'] == options.node)
        and (options.since is None or moment_ns >= options.since)
        and (options.until is None or moment_ns <= options.until)
    )


def _causes(event: Mapping[str, Any]) -> list[Any]:
    """Return the warnings that a snapshot was taken of."""
    causes = event.get('details', {}).get('warnings', [])
    return causes if isinstance(causes, list) else []


def row(event: Mapping[str, Any]) -> str:
    """Return an event in one line: time, node, kind, value and threshold, words."""
    warning = event.get('warning')
    numbers = ''
    if warning is not None:
        value = 'unknown' if warning['value'] is None else f'{warning["value"]:.4g}'
        numbers = f'{value} / {warning["threshold"]:.4g}'
    utc, node = event['time']['utc'][:23], event['origin']['node']
    text = f'{utc}  {node:16}  {event["kind"]:15}  {numbers:17}  {event["message"]}'
    # Control characters would do to a terminal what they say.
    return shown(text, MAX_LINE_BYTES)
