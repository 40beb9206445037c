# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The console script seg-uncertainty."""

from __future__ import annotations

import argparse
import sys

from seg_uncertainty_ros import __version__
from seg_uncertainty_ros.cli import build_engine
from seg_uncertainty_ros.cli import calibrate
from seg_uncertainty_ros.cli import calibrate_scores
from seg_uncertainty_ros.cli import demo
from seg_uncertainty_ros.cli import evaluate
from seg_uncertainty_ros.cli import events
from seg_uncertainty_ros.cli import fit_novelty
from seg_uncertainty_ros.cli import fit_segments
from seg_uncertainty_ros.cli import import_onnx
from seg_uncertainty_ros.cli import infer
from seg_uncertainty_ros.cli import info
from seg_uncertainty_ros.cli import perturb
from seg_uncertainty_ros.cli import quantize
from seg_uncertainty_ros.cli import replay
from seg_uncertainty_ros.cli import shift_report
from seg_uncertainty_ros.cli import train
from seg_uncertainty_ros.errors import SegUncertaintyError

EXAMPLES = """examples:
  seg-uncertainty demo                              a procedural drive through real nodes over DDS
  seg-uncertainty demo BAG                          the same with a recording
  seg-uncertainty infer IMAGES --out DIR --scores entropy,pgn_uniform
  seg-uncertainty replay BAG --out BAG2             bag to bag, without ROS
  seg-uncertainty perturb BAG --corruption fog --severity 3 --out BAG2
  seg-uncertainty info                              what is in the bundle that ships
  seg-uncertainty evaluate --dataset fishyscapes DIR
  seg-uncertainty calibrate BAG... --out NEW        thresholds of one's own drives
  seg-uncertainty calibrate-scores BUNDLE --data DIR --out NEW
  seg-uncertainty import-onnx NET.onnx --classes FILE --data IMAGES --out NEW
  seg-uncertainty build-engine BUNDLE --size 1920x1080
  seg-uncertainty quantize BUNDLE --calibration BAG --check DATA --out NEW
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(
        prog='seg-uncertainty',
        description='Semantic segmentation that says how sure it is and what is strange.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = root.add_subparsers(title='commands', required=True, metavar='COMMAND')
    for module in (
        demo,
        infer,
        replay,
        perturb,
        info,
        evaluate,
        calibrate,
        calibrate_scores,
        shift_report,
        train,
        fit_segments,
        fit_novelty,
        build_engine,
        quantize,
        import_onnx,
        events,
    ):
        module.add_parsers(commands)
    return root


def main(arguments: list[str] | None = None) -> int:
    """Run a command; bad input is one line on stderr and exit code 1."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except SegUncertaintyError as error:
        print(f'seg-uncertainty: {error}', file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder without permission
        print(f'seg-uncertainty: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('seg-uncertainty: interrupted', file=sys.stderr)
        return 130
