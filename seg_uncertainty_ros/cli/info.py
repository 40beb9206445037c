# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""info: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.bundle import default_bundle_path
from seg_uncertainty_ros.cli.options import add_command

if TYPE_CHECKING:
    import argparse

    from seg_uncertainty_ros.frames import Geometry


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(commands, 'info', run, 'Validate a bundle and show it.', 'info')
    parser.add_argument(
        'bundle', metavar='BUNDLE', nargs='?', type=Path, default=default_bundle_path()
    )


def geometry_text(geometry: Geometry) -> str:
    """Say which sizes the network takes."""
    if geometry.size is not None:
        return f'images of {geometry.size[1]}x{geometry.size[0]}'
    return f'sides multiples of {geometry.stride}, about {geometry.max_pixels} pixels at most'


def run(options: argparse.Namespace) -> int:
    """Print the bundle."""
    bundle = Bundle.load(options.bundle)
    size = (bundle.path / GRAPH).stat().st_size / 1e6
    print(f'{bundle.name} {bundle.version}  ({bundle.path})')
    print(f'  manifest   sha256 {bundle.digest[:16]}…, every file as it says')
    print(f'  graph      {size:.1f} MB, {geometry_text(bundle.geometry)}')
    print(f'  classes    {", ".join(info.name for info in bundle.classes)}')
    print(f'  softmax    temperature {bundle.temperature:.3f}')
    for score in bundle.scores:
        mark = '*' if score.name == bundle.default_score else ' '
        print(f'  score    {mark} {score.name:18} {score.description}')
    for name, threshold in bundle.thresholds.items():
        print(
            f'  warning    {name:15} from {threshold.enter:g} until {threshold.exit:g}:', end=' '
        )
        print(threshold.reason)
    about = (
        bundle.reference.describe() if bundle.reference else 'none: no domain shift can be told'
    )
    print(f'  reference  {about}')
    for key, value in bundle.provenance.items():
        print(f'  provenance {key}: {value}')
    return 0
