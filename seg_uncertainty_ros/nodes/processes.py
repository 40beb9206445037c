# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes of their own, as on a vehicle, with the environment that images need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes.transport import environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

PATIENCE_S = 10.0
# The others go on until they are told to stop.
ENDING = ('replay',)


class ProcessError(SegUncertaintyError):
    """A node ended by itself; the message has the last lines that it said."""


@dataclass(frozen=True)
class NodeProcess:
    """A running node and the file of what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ProcessError if the node has ended, with an error or though it should go on."""
        status = self.process.poll()
        if status or (status == 0 and self.name not in ENDING):
            lines = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
            said = ' | '.join(lines[-3:]) or 'nothing'
            msg = f'node {self.name} ended with {status}, its last words: {said}'
            raise ProcessError(msg)


class NodeProcesses:
    """A context that starts nodes and stops those that still run when it is left."""

    def __init__(self, logs: Path, variables: Mapping[str, str]) -> None:
        self._logs = logs
        # What the user has set wins, as in `transport.prepare` and in the launch files.
        self._environment = {**environment(), **os.environ, **variables}
        self._running: list[NodeProcess] = []

    def start(self, name: str, parameters: Mapping[str, object]) -> NodeProcess:
        """Start the node ``name`` (a module of this package) with parameters."""
        command = [sys.executable, '-m', f'seg_uncertainty_ros.nodes.{name}', '--ros-args']
        for key, value in parameters.items():
            command += ['-p', f'{key}:={yaml_scalar(value)}']
        log = self._logs / f'{name}.log'
        with log.open('wb') as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._environment
            )
        self._running.append(NodeProcess(name, process, log))
        return self._running[-1]

    def check(self) -> None:
        """Raise ProcessError if any node has ended that should go on, or with an error."""
        for node in self._running:
            node.check()

    def __enter__(self) -> NodeProcesses:
        """Enter."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Interrupt what runs, and kill what does not listen."""
        for node in self._running:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGINT)
        for node in self._running:
            try:
                node.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()


def yaml_scalar(value: object) -> str:
    """Return a parameter's value as YAML; text is quoted, lest '007' become a number."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    quoted = str(value).replace("'", "''")
    return f"'{quoted}'"
