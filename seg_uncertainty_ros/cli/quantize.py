# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""quantize: a bundle whose network computes in 8-bit integers."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from seg_uncertainty_ros.bundle import GRAPH
from seg_uncertainty_ros.bundle import MODEL_CARD
from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.cli.options import add_check
from seg_uncertainty_ros.cli.options import add_command
from seg_uncertainty_ros.cli.options import check
from seg_uncertainty_ros.cli.options import new_directory
from seg_uncertainty_ros.cli.options import open_check_set
from seg_uncertainty_ros.cli.options import spread
from seg_uncertainty_ros.recordings import open_source
from seg_uncertainty_ros.runtime.onnx_runtime import OnnxRuntime
from seg_uncertainty_ros.runtime.openvino_runtime import OpenVinoRuntime
from seg_uncertainty_ros.runtime.precision import write_graph

if TYPE_CHECKING:
    import argparse

    from seg_uncertainty_ros.evaluation.parity import ParityReport
    from seg_uncertainty_ros.runtime.outputs import Runtime

UNCHECKED = 'Nobody has compared it with float32.'


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        'quantize',
        run,
        'Make a bundle of 8-bit integers: faster on a CPU with the backend openvino (needs onnx).',
        'quantize BUNDLE --calibration DRIVE.mcap --check DATA --out NEW',
    )
    parser.add_argument('bundle', metavar='BUNDLE', type=Path, help='the bundle to start from')
    parser.add_argument(
        '--calibration',
        metavar='BAG',
        required=True,
        help='recording of the camera: bag, video, folder of images, procedural:...',
    )
    parser.add_argument('--topic', help='image topic of a bag that has several')
    parser.add_argument('--out', required=True, type=Path, help='new bundle')
    add_check(parser)


def run(options: argparse.Namespace) -> int:
    """Write the new bundle."""
    check_set = open_check_set(options, needed='quantize')
    bundle = Bundle.load(options.bundle)
    source = open_source(options.calibration, topic=options.topic)
    report = None
    with TemporaryDirectory(prefix='seg_uncertainty_') as folder:
        graph = Path(folder) / GRAPH
        write_graph(bundle, 'int8', graph, spread(source))
        if check_set is not None:
            report = check(bundle, _runtimes(bundle, graph), check_set, options.tolerance)
        out = new_directory(options.out)
        (out / GRAPH).write_bytes(graph.read_bytes())
    (out / MODEL_CARD).write_text(_model_card(bundle, source.name, report), encoding='utf-8')
    written = replace(
        bundle,
        path=out,
        name=f'{bundle.name}_int8',
        # The embedding is another one: what is usual of it has to be learned anew.
        reference=None,
        provenance={
            **bundle.provenance,
            'quantized': {
                'from': bundle.label,
                'date': f'{date.today():%Y-%m-%d}',
                'ranges of': source.name,
            },
        },
    ).write()
    print(f'{out} written: {written.label}, {written.graph.stat().st_size / 1e6:.1f} MB')
    print('domain_shift is not judged until calibrate has fitted a reference to drives')
    return 0


def _runtimes(bundle: Bundle, graph: Path) -> dict[str, Runtime]:
    """Return what compares the graph with the bundle's: every runtime of the CPU."""
    runtimes: dict[str, Runtime] = {
        'fp32': OnnxRuntime(bundle),
        'int8': OnnxRuntime(bundle, graph=graph),
    }
    if find_spec('openvino'):
        runtimes['int8, OpenVINO'] = OpenVinoRuntime(bundle, graph=graph)
    return runtimes


def _model_card(bundle: Bundle, recording: str, report: ParityReport | None) -> str:
    card = (bundle.path / MODEL_CARD).read_text(encoding='utf-8').rstrip()
    parity = UNCHECKED if report is None else report.markdown().replace('## ', '### ').rstrip()
    return f"""{card}

## In 8-bit integers

`seg-uncertainty quantize` made this bundle of {bundle.label}; ranges of activations are those of
{recording}. What stands above was measured in float32. The domain shift is not judged before
`seg-uncertainty calibrate` has fitted a reference; what judged the novelty of an embedding is
left out, for the embedding is another one.

{parity}
"""
