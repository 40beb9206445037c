# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Write rosbag2 recordings without ROS."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import numpy as np
from rosbags.interfaces import Qos
from rosbags.interfaces import QosDurability
from rosbags.interfaces import QosHistory
from rosbags.interfaces import QosLiveliness
from rosbags.interfaces import QosReliability
from rosbags.interfaces import QosTime
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from rosbags.rosbag2 import WriterError
from rosbags.typesys import TypesysError

from seg_uncertainty_ros.encodings import LAYOUTS
from seg_uncertainty_ros.encodings import Layout
from seg_uncertainty_ros.recordings.errors import SinkError
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.recordings.messages import COMPRESSED_IMAGE
from seg_uncertainty_ros.recordings.messages import IMAGE
from seg_uncertainty_ros.recordings.messages import typestore

if TYPE_CHECKING:
    import sys
    from collections.abc import Iterable
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from numpy.typing import NDArray
    from rosbags.interfaces import Connection

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
INFINITE = QosTime(9223372036, 854775807)
RELIABLE = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    INFINITE,
    INFINITE,
    QosLiveliness.AUTOMATIC,
    INFINITE,
    avoid_ros_namespace_conventions=False,
)
"""What the nodes offer on their outputs: a player that honours it publishes alike."""

# Scores are written as images and never shown as one.
_LAYOUTS = {**LAYOUTS, '32FC3': Layout('f4', 3, np.asarray)}
_WRITE_ERRORS = (WriterError, OSError, sqlite3.Error)


@dataclass(frozen=True)
class Status:
    """One diagnostic_msgs/DiagnosticStatus: ``level`` 0 OK, 1 WARN, 2 ERROR, 3 STALE."""

    level: int
    name: str
    message: str
    hardware_id: str = ''
    values: Mapping[str, object] = field(default_factory=dict)


class BagWriter:
    """A rosbag2 being written: a directory, or one .mcap file where ``path`` ends in .mcap.

    A single file carries its types and rosbag2 metadata in itself. It appears at ``path`` when
    it is complete; until then it grows in a hidden directory beside it. Leaving the context
    finishes the bag, after an error too: what was written until then can be read.
    """

    def __init__(self, path: str | Path, *, storage: str = 'mcap') -> None:
        """Prepare; nothing is written before the context is entered.

        Raises:
            SinkError: The path exists, or the storage is unknown.

        """
        self.path = Path(path)
        self.message_count = 0
        self._single = self.path.suffix == '.mcap'
        self._hidden: Path | None = None
        self._writer: Writer | None = None
        self._connections: dict[tuple[str, str], Connection] = {}
        if storage not in STORAGES:
            msg = f'{path}: storage {storage!r} is unknown, expected one of {", ".join(STORAGES)}'
            raise SinkError(msg)
        if self._single and storage != 'mcap':
            msg = f'{path}: storage {storage!r}, but a single .mcap file was asked for'
            raise SinkError(msg)
        if self.path.exists():
            msg = f'{path}: exists already, not overwriting'
            raise SinkError(msg)
        self._storage = STORAGES[storage]

    def __enter__(self) -> Self:
        """Create the bag; raises SinkError."""
        try:
            directory = self.path
            if self._single:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._hidden = Path(mkdtemp(dir=self.path.parent, prefix=f'.{self.path.stem}-'))
                directory = self._hidden / self.path.stem
            self._writer = Writer(
                directory,
                version=Writer.VERSION_LATEST,
                storage_plugin=self._storage,
            )
            self._writer.open()
        except _WRITE_ERRORS as error:
            self._remove_hidden()
            msg = f'{self.path}: cannot be written: {one_line(error)}'
            raise SinkError(msg) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Finish the bag; raises SinkError where that fails and nothing else did."""
        try:
            self._finish()
        except _WRITE_ERRORS as error:
            if exc_type is None:
                msg = f'{self.path}: cannot be finished: {one_line(error)}'
                raise SinkError(msg) from None
        finally:
            self._remove_hidden()

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.close()
        if self._hidden is not None:
            (writer.path / f'{writer.path.name}.mcap').replace(self.path)

    def _remove_hidden(self) -> None:
        if self._hidden is not None:
            shutil.rmtree(self._hidden, ignore_errors=True)
            self._hidden = None

    def write_raw(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        """Write a serialized (CDR) message as it came; ``stamp_ns`` is when it was received.

        Raises:
            SinkError: The bag is not open, the type unknown, or the disk refuses.

        """
        if self._writer is None:
            msg = f'{self.path}: not open for writing'
            raise SinkError(msg)
        try:
            connection = self._connections.get((topic, msgtype))
            if connection is None:
                connection = self._writer.add_connection(
                    topic,
                    msgtype,
                    typestore=typestore(),
                    offered_qos_profiles=[RELIABLE],
                )
                self._connections[topic, msgtype] = connection
            self._writer.write(connection, stamp_ns, data)
        except (TypesysError, KeyError):
            msg = f'{self.path}: type {msgtype!r} of topic {topic} is not known to the writer'
            raise SinkError(msg) from None
        except _WRITE_ERRORS as error:
            msg = f'{self.path}: {topic} cannot be written: {one_line(error)}'
            raise SinkError(msg) from None
        self.message_count += 1

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Write a message made with ``message_types()``."""
        msgtype = message.__msgtype__
        data = typestore().serialize_cdr(message, msgtype)
        self.write_raw(topic, msgtype, data, stamp_ns)

    def write_image(
        self,
        topic: str,
        image: NDArray[np.generic],
        encoding: str,
        stamp_ns: int,
        frame_id: str,
    ) -> None:
        """Write an HxW or HxWxC array as sensor_msgs/Image.

        Raises:
            ValueError: The array's type or channels are not those of ``encoding``.

        """
        layout = _LAYOUTS[encoding]
        channels = image.shape[2] if image.ndim == 3 else 1
        if image.dtype != np.dtype(layout.dtype) or channels != layout.channels:
            msg = (
                f'{encoding} is {layout.dtype} x {layout.channels}, got {image.dtype} x {channels}'
            )
            raise ValueError(msg)
        height, width = image.shape[:2]
        self.write(
            topic,
            message_types()[IMAGE](
                header=header(stamp_ns, frame_id),
                height=height,
                width=width,
                encoding=encoding,
                is_bigendian=0,
                step=width * layout.pixel_bytes,
                data=np.ascontiguousarray(image)
                .astype(f'<{layout.dtype}', copy=False)
                .reshape(-1)
                .view(np.uint8),
            ),
            stamp_ns,
        )

    def write_compressed(
        self,
        topic: str,
        data: bytes,
        stamp_ns: int,
        frame_id: str,
        *,
        format: str = 'jpeg',  # noqa: A002  the message's field
    ) -> None:
        """Write an encoded image (a whole JPEG or PNG file) as sensor_msgs/CompressedImage."""
        message = message_types()[COMPRESSED_IMAGE](
            header=header(stamp_ns, frame_id),
            format=format,
            data=np.frombuffer(data, np.uint8),
        )
        self.write(topic, message, stamp_ns)

    def write_float(self, topic: str, value: float, stamp_ns: int) -> None:
        """Write a std_msgs/Float32."""
        self.write(topic, message_types()['std_msgs/msg/Float32'](data=float(value)), stamp_ns)

    def write_string(self, topic: str, text: str, stamp_ns: int) -> None:
        """Write a std_msgs/String."""
        self.write(topic, message_types()['std_msgs/msg/String'](data=text), stamp_ns)

    def write_diagnostics(self, topic: str, statuses: Iterable[Status], stamp_ns: int) -> None:
        """Write a diagnostic_msgs/DiagnosticArray; values are written as text."""
        types = message_types()
        array = types['diagnostic_msgs/msg/DiagnosticArray'](
            header=header(stamp_ns, ''),
            status=[
                types['diagnostic_msgs/msg/DiagnosticStatus'](
                    level=x.level,
                    name=x.name,
                    message=x.message,
                    hardware_id=x.hardware_id,
                    values=[
                        types['diagnostic_msgs/msg/KeyValue'](key=key, value=str(value))
                        for key, value in x.values.items()
                    ],
                )
                for x in statuses
            ],
        )
        self.write(topic, array, stamp_ns)


def message_types() -> Mapping[str, type[Any]]:
    """Return the message classes by name ('sensor_msgs/msg/CameraInfo')."""
    return typestore().types


def header(stamp_ns: int, frame_id: str) -> object:
    """Return a std_msgs/Header."""
    types = message_types()
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    stamp = types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=nanoseconds)
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)
