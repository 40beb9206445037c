# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One table describes a node's parameters; from it come descriptors, validation and values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from typing import Any
from typing import Literal
from typing import Protocol

from rcl_interfaces.msg import FloatingPointRange
from rcl_interfaces.msg import IntegerRange
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.exceptions import InvalidParameterValueException
from rclpy.exceptions import ParameterNotDeclaredException
from rclpy.parameter import Parameter as RosParameter

from seg_uncertainty_ros.errors import SegUncertaintyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

    from rclpy.node import Node

    Value = bool | int | float | str | list[str]


class ParameterError(SegUncertaintyError):
    """A parameter has a value that the node cannot start with."""


@dataclass(frozen=True)
class Parameter:
    """One row of a node's parameter table.

    ``applied`` says when a new value counts: ``live`` at once, ``configure`` at the next
    transition of that name (refused until the node is cleaned up), ``start`` only at the start.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    applied: Literal['live', 'configure', 'start'] = 'configure'

    def descriptor(self) -> ParameterDescriptor:
        """Return the descriptor that ``ros2 param describe`` shows."""
        descriptor = ParameterDescriptor(
            description=self.description,
            read_only=self.applied == 'start',
            additional_constraints=f'one of: {", ".join(self.choices)}' if self.choices else '',
        )
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=self.minimum, to_value=self.maximum)
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))
                ]
        return descriptor

    def refusal(self, value: Value) -> str:
        """Return why ``value`` is none of the choices, or an empty string."""
        if self.choices and value not in self.choices:
            return f'{self.name} is {value!r}, expected one of: {", ".join(self.choices)}'
        return ''


class Owner(Protocol):
    """What a node tells its parameters, and hears from them."""

    def is_configured(self) -> bool:
        """Tell whether ``configure`` parameters are in use."""

    def refuse(self, values: Mapping[str, Value], changed: frozenset[str]) -> str:
        """Return why these values together are refused, or an empty string."""

    def apply(self, values: Mapping[str, Value], changed: frozenset[str]) -> None:
        """Use the new values of live parameters."""


class Parameters:
    """The values of a table's parameters, declared on a node and kept valid."""

    def __init__(self, node: Node, owner: Owner, table: Iterable[Parameter]) -> None:
        """Declare the table on ``node``; raises ``ParameterError`` for a bad starting value."""
        self._node = node
        self._owner = owner
        self._table = {row.name: row for row in table}
        self.values: dict[str, Value] = {
            row.name: _declare(node, row) for row in self._table.values()
        }
        # The check of rclpy, which does not say which parameter has the wrong type.
        node._apply_descriptor = partial(_naming, node._apply_descriptor)
        node.add_pre_set_parameters_callback(self._complete)
        node.add_on_set_parameters_callback(self._validate)
        node.add_post_set_parameters_callback(self._accept)

    def __getitem__(self, name: str) -> Value:
        return self.values[name]

    def _complete(self, parameters: list[RosParameter]) -> list[RosParameter]:
        """Turn 1 into 1.0 where a float is wanted; rclpy refuses it otherwise.

        Raises ``ParameterNotDeclaredException`` with the name, which rclpy's own has lost.
        """
        for parameter in parameters:
            if not self._node.has_parameter(parameter.name):
                raise ParameterNotDeclaredException(parameter.name)
        return [
            RosParameter(parameter.name, value=float(parameter.value))
            if parameter.type_ == RosParameter.Type.INTEGER
            and isinstance(self.values.get(parameter.name), float)
            else parameter
            for parameter in parameters
        ]

    def _changes(self, parameters: list[RosParameter]) -> dict[str, Value]:
        return {
            parameter.name: parameter.value
            for parameter in parameters
            if parameter.name in self._table and parameter.value != self.values[parameter.name]
        }

    def _validate(self, parameters: list[RosParameter]) -> SetParametersResult:
        changes = self._changes(parameters)
        for name, value in changes.items():
            row = self._table[name]
            if reason := row.refusal(value):
                return SetParametersResult(successful=False, reason=reason)
            if row.applied == 'configure' and self._owner.is_configured():
                reason = f'{name} counts from the next configure: deactivate and clean up first'
                return SetParametersResult(successful=False, reason=reason)
        reason = self._owner.refuse({**self.values, **changes}, frozenset(changes))
        return SetParametersResult(successful=not reason, reason=reason)

    def _accept(self, parameters: list[RosParameter]) -> None:
        changes = self._changes(parameters)
        if changes:
            self.values = {**self.values, **changes}
            self._owner.apply(self.values, frozenset(changes))


def _naming(
    check: Callable[..., SetParametersResult], parameter: RosParameter, *args: Any
) -> SetParametersResult:
    result = check(parameter, *args)
    if not result.successful and parameter.name not in result.reason:
        result.reason += f' (parameter {parameter.name})'  # rclpy looks at how it begins
    return result


def _declare(node: Node, row: Parameter) -> Value:
    try:
        value = _declare_or_widen(node, row)
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        msg = f'parameter {row.name}: {error}'
        raise ParameterError(msg) from error
    if reason := row.refusal(value):
        msg = f'parameter {reason}'
        raise ParameterError(msg)
    return value


def _declare_or_widen(node: Node, row: Parameter) -> Value:
    try:
        return node.declare_parameter(row.name, row.default, row.descriptor()).value
    except InvalidParameterTypeException:
        if not isinstance(row.default, float):
            raise
        # `rate: 2` in a file is an integer to ROS: accept it for a float.
        integer = node.declare_parameter(row.name, RosParameter.Type.INTEGER).value
        node.undeclare_parameter(row.name)
        return node.declare_parameter(
            row.name, float(integer), row.descriptor(), ignore_override=True
        ).value
