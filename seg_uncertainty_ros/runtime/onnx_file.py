# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Read an ONNX file to change it; a vehicle that only runs one has no package onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seg_uncertainty_ros.runtime.outputs import GraphError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from seg_uncertainty_ros.errors import SegUncertaintyError


def read_onnx(
    path: Path, purpose: str, error: type[SegUncertaintyError] = GraphError
) -> onnx.ModelProto:
    """Return the model of a file; ``purpose`` is what the message says needs the package.

    Raises:
        SegUncertaintyError: of the type ``error``: no package onnx, or an unreadable file.

    """
    try:
        import onnx
    except ImportError as reason:
        msg = f'{purpose} needs the package onnx: pip install onnx'
        raise error(msg) from reason
    try:
        return onnx.load(path)
    except Exception as reason:  # protobuf's errors are no part of onnx's interface
        msg = f'{path}: onnx cannot read it: {str(reason).splitlines()[0]}'
        raise error(msg) from reason
