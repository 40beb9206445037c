# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""All that a shift is told by, in one file: statistics, bounds, the sequential test."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED
from zipfile import ZIP_STORED
from zipfile import ZipFile

import numpy as np
from numpy.lib.format import read_array
from numpy.lib.format import read_array_header_1_0
from numpy.lib.format import read_array_header_2_0
from numpy.lib.format import read_magic

from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.shift.domain import Domain
from seg_uncertainty_ros.shift.indicators import BINS
from seg_uncertainty_ros.shift.indicators import INDICATORS
from seg_uncertainty_ros.shift.sequential import SequentialTest
from seg_uncertainty_ros.structured_text import TextError
from seg_uncertainty_ros.structured_text import parse_json
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from zipfile import ZipInfo

    from numpy.typing import NDArray

    from seg_uncertainty_ros.shift.indicators import FrameStatistics

FORMAT = 2
MAX_BYTES = 2**28
"""Of all arrays unpacked. A domain of 1,000 rows and 352 dimensions has three million bytes."""
MAX_ARRAYS = 1000
"""Of a file: 16 a domain."""
POSITIVE = {'variances', 'residual', 'spread', 'bound', 'level'}
SHARES = {'confidence', 'anomaly', 'classes'}


class ShiftReferenceError(SegUncertaintyError):
    """A reference or a frame that cannot be used; the message names the key and the value."""


@dataclass(frozen=True, eq=False)
class ShiftReference:
    """In-distribution statistics of one or more domains, and the test of what they are not.

    names:      of the domains.
    weight:     (D,) float32, 1 / scale of each dimension of the embedding, one for all domains so
                that their distances can be compared; 0 for dimensions that never change.
    domains:    as many.
    window_s:   seconds of a window; ``min_frames`` that it needs.
    test:       of the combined ratio, None where none was fitted.
    hours:      of drives behind it.
    provenance: what they were, numbers and text.
    """

    names: tuple[str, ...]
    weight: NDArray[np.float32]
    domains: tuple[Domain, ...]
    window_s: float
    min_frames: int
    test: SequentialTest | None
    hours: float
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names, settings, and the shapes, the type and the range of every array."""
        if not self.names or not all(self.names) or len(set(self.names)) != len(self.names):
            msg = f'names: {list(self.names)!r}, expected one or more different domain names'
            raise ShiftReferenceError(msg)
        if len(self.domains) != len(self.names):
            msg = f'domains: {len(self.domains)}, expected {len(self.names)}'
            raise ShiftReferenceError(msg)
        for key in ('window_s', 'min_frames', 'hours'):
            value = getattr(self, key)
            if not (np.isfinite(value) and value > 0):
                msg = f'{key}: {value}, expected a positive number'
                raise ShiftReferenceError(msg)
        weight = _checked('weight', self.weight, np.float32, (np.size(self.weight),))
        if not weight.any() or (weight < 0).any():
            msg = f'weight: {weight.min(initial=0)}, expected >= 0, some > 0'
            raise ShiftReferenceError(msg)
        object.__setattr__(self, 'weight', weight)
        for name, domain in zip(self.names, self.domains, strict=True):
            self._check_domain(name, domain)
        if self.test is not None:
            _check_test(self.test)

    @property
    def size(self) -> int:
        """Number D of dimensions of the embedding."""
        return int(self.weight.size)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.domains[0].classes.size)

    def describe(self) -> str:
        """Say in one line what it rests on."""
        return (
            f'{self.size} dimensions; domains {", ".join(self.names)}; windows of '
            f'{self.window_s:g} s, {self.hours:.3g} h of drives; '
            f'{self.test.describe() if self.test else "no sequential test"}'
        )

    def check(self, frame: FrameStatistics) -> None:
        """Raise ShiftReferenceError where a frame's statistics have other sizes."""
        expected = {
            'embedding': (self.size,),
            'confidence': (BINS,),
            'anomaly': (BINS,),
            'classes': (self.classes,),
        }
        for key, shape in expected.items():
            array = getattr(frame, key)
            if array is not None and array.shape != shape:
                msg = f'{key}: shape {array.shape}, expected {shape}'
                raise ShiftReferenceError(msg)

    def save(self, path: Path) -> None:
        """Write to an .npz file, without pickle."""
        about = {
            'format': FORMAT,
            'names': list(self.names),
            'indicators': list(INDICATORS),
            'window_s': self.window_s,
            'min_frames': self.min_frames,
            'hours': self.hours,
            'test': None if self.test is None else asdict(self.test),
            'provenance': dict(self.provenance),
        }
        arrays = {
            f'{index}.{key}': getattr(domain, key)
            for index, domain in enumerate(self.domains)
            for key in _ARRAYS
        }
        with path.open('wb') as file:
            np.savez_compressed(
                file, about=np.array(json.dumps(about)), weight=self.weight, **arrays
            )

    @classmethod
    def load(cls, path: Path) -> ShiftReference:
        """Read what ``save`` wrote; raise ShiftReferenceError naming path, key and value."""
        try:
            return cls._of(_read_arrays(path))
        except ShiftReferenceError as err:
            msg = f'{path}: {shown(str(err), 400)}'
            raise ShiftReferenceError(msg) from None

    @classmethod
    def _of(cls, arrays: dict[str, NDArray]) -> ShiftReference:
        about = _about(arrays)
        keys = {f'{i}.{key}' for i in range(len(about['names'])) for key in _ARRAYS} | {'weight'}
        if missing := keys - set(arrays):
            msg = f'{min(missing)}: missing'
            raise ShiftReferenceError(msg)
        test = about['test']
        try:
            test = None if test is None else SequentialTest(**test)
        except TypeError as err:
            msg = f'test: {err}'
            raise ShiftReferenceError(msg) from None
        return cls(
            names=tuple(about['names']),
            weight=arrays['weight'],
            domains=tuple(
                Domain(**{key: arrays[f'{index}.{key}'] for key in _ARRAYS})
                for index in range(len(about['names']))
            ),
            window_s=about['window_s'],
            min_frames=about['min_frames'],
            test=test,
            hours=about['hours'],
            provenance=about['provenance'],
        )

    def _check_domain(self, name: str, domain: Domain) -> None:
        rank, features = np.size(domain.variances), np.size(domain.phases)
        indicators = (len(INDICATORS),)
        shapes = {
            'mean': (self.size,),
            'basis': (self.size, rank),
            'variances': (rank,),
            'residual': (),
            'rows': (*np.shape(domain.rows)[:1], rank),
            'frequencies': (rank, features),
            'phases': (features,),
            'features': (features,),
            'confidence': (BINS,),
            'anomaly': (BINS,),
            'classes': (self.classes,),
            'centre': indicators,
            'spread': indicators,
            'bound': indicators,
            'level': (),
        }
        for key, shape in shapes.items():
            kind = np.float16 if key == 'rows' else np.float32
            array = _checked(f'{name}: {key}', getattr(domain, key), kind, shape)
            if key in POSITIVE and (array <= 0).any():
                msg = f'{name}: {key}: {array.min()}, expected positive numbers'
                raise ShiftReferenceError(msg)
            if key in SHARES and ((array < 0).any() or not array.sum() > 0):
                msg = f'{name}: {key}: sum {array.sum()}, expected shares of pixels'
                raise ShiftReferenceError(msg)
            object.__setattr__(domain, key, array)


_ARRAYS = tuple(item.name for item in fields(Domain))
_KINDS = {
    'names': list,
    'indicators': list,
    'window_s': (int, float),
    'min_frames': int,
    'hours': (int, float),
    'test': (dict, type(None)),
    'provenance': dict,
}


def _read_arrays(path: Path) -> dict[str, NDArray]:
    """Return the arrays of an archive that unpacks to no more than MAX_BYTES."""
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > MAX_BYTES or len(entries) > MAX_ARRAYS:
                msg = f'{len(entries)} arrays of {size} bytes, accepted are {MAX_ARRAYS} of '
                msg += f'{MAX_BYTES}'
                raise ShiftReferenceError(msg)
            return {x.filename.removesuffix('.npy'): _read_array(archive, x) for x in entries}
    except ShiftReferenceError:
        raise
    except Exception as err:  # zipfile, its decompressors and numpy.lib have no common base
        msg = f'cannot be read: {type(err).__name__} {shown(str(err))}'
        raise ShiftReferenceError(msg) from err


def _read_array(archive: ZipFile, entry: ZipInfo) -> NDArray:
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # what NumPy writes
        msg = f'{shown(entry.filename, 40)}: compression {entry.compress_type}'
        raise ShiftReferenceError(msg)
    # A whole member is bounded by its entry; the shape that it states is not.
    content = BytesIO(archive.read(entry))
    version = read_magic(content)
    read = read_array_header_1_0 if version == (1, 0) else read_array_header_2_0
    shape, _, dtype = read(content)
    if dtype.hasobject or prod(shape) * dtype.itemsize > entry.file_size:
        msg = f'{shown(entry.filename, 40)}: {dtype} of shape {shape} in {entry.file_size} bytes'
        raise ShiftReferenceError(shown(msg))
    content.seek(0)
    array = read_array(content, allow_pickle=False)
    if array.dtype.kind == 'U' and array.size and array.itemsize:
        codes = np.ascontiguousarray(array).reshape(-1).view(f'{array.dtype.byteorder}u4')
        if codes.max() > sys.maxunicode:  # text made of it is undefined
            msg = f'{shown(entry.filename, 40)}: {codes.max():#x} is no character'
            raise ShiftReferenceError(msg)
    return array


def _about(arrays: Mapping[str, NDArray]) -> dict:
    """Return the checked settings of a file."""
    if 'about' not in arrays:
        version = arrays.get('format', 'missing')
        msg = f'format: {shown(str(version), 40)}, expected {FORMAT}'
        raise ShiftReferenceError(msg)
    try:
        about = parse_json(str(arrays['about']))
    except TextError as err:
        msg = f'about: {err}'
        raise ShiftReferenceError(msg) from None
    version = about.get('format') if isinstance(about, dict) else about
    if version != FORMAT:
        msg = f'format: {shown(str(version), 40)}, expected {FORMAT}'
        raise ShiftReferenceError(msg)
    for key, kind in _KINDS.items():
        if key not in about or not isinstance(about[key], kind):
            msg = f'{key}: {shown(repr(about.get(key, "missing")))}, expected {kind}'
            raise ShiftReferenceError(msg)
    for key in ('names', 'indicators'):
        if not all(isinstance(name, str) and name.isprintable() for name in about[key]):
            msg = f'{key}: {shown(repr(about[key]))}, expected text'
            raise ShiftReferenceError(msg)
    if tuple(about['indicators']) != INDICATORS:
        other = sorted(set(about['indicators']) ^ set(INDICATORS))
        msg = f'indicators: {shown(repr(other))} differ, expected {list(INDICATORS)}'
        raise ShiftReferenceError(msg)
    return about


def _check_test(test: SequentialTest) -> None:
    for key, value in asdict(test).items():
        least_is_infinite = key in {'ert_low_h', 'ert_high_h'} and value == np.inf
        if not isinstance(value, int | float) or not (
            least_is_infinite or (np.isfinite(value) and value > 0)
        ):
            msg = f'test: {key}: {value!r}, expected a positive number'
            raise ShiftReferenceError(msg)


def _checked(key: str, value: object, kind: type[np.generic], shape: tuple[int, ...]) -> NDArray:
    array = np.asarray(value)
    if array.dtype.kind not in 'fiu':
        msg = f'{key}: {array.dtype}, expected numbers'
        raise ShiftReferenceError(msg)
    if array.shape != shape or 0 in shape:
        msg = f'{key}: shape {array.shape}, expected {shape}'
        raise ShiftReferenceError(msg)
    with np.errstate(over='ignore', invalid='ignore'):
        array = array.astype(kind)
    if not np.isfinite(array).all():
        msg = f'{key}: {array[~np.isfinite(array)][0]}, expected finite numbers'
        raise ShiftReferenceError(msg)
    return array
