# SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A lifecycle node that survives wrong requests and bad input, and says what was wrong."""

from __future__ import annotations

import traceback
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions

from seg_uncertainty_ros.bundle import Bundle
from seg_uncertainty_ros.errors import SegUncertaintyError
from seg_uncertainty_ros.nodes import diagnostics
from seg_uncertainty_ros.nodes.bundle_files import BundleFiles
from seg_uncertainty_ros.nodes.diagnostics import Complaints
from seg_uncertainty_ros.nodes.diagnostics import Status
from seg_uncertainty_ros.nodes.parameters import Parameter
from seg_uncertainty_ros.nodes.parameters import Parameters
from seg_uncertainty_ros.nodes.peers import ENDED
from seg_uncertainty_ros.nodes.peers import Peers
from seg_uncertainty_ros.recordings.errors import one_line
from seg_uncertainty_ros.structured_text import shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

    from lifecycle_msgs.srv import ChangeState
    from rcl_interfaces.msg import SetParametersResult
    from rclpy.lifecycle import LifecycleState
    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter
    from rclpy.subscription import Subscription

    from seg_uncertainty_ros.nodes.diagnostics import Diagnostics

AUTOSTART = Parameter(
    'autostart',
    default=True,
    description='Configure and activate at the start; false leaves it to a lifecycle manager.',
    applied='start',
)


# How long the end of a process waits until its last words are read (s).
GOODBYE_S = 0.5


T = TypeVar('T')


class QosError(SegUncertaintyError):
    """A topic cannot be made with the settings that ``qos_overrides`` ask for."""


def naming_the_topic(create: Callable[..., T]) -> Callable[..., T]:
    """Return a node's method that makes a topic; it raises ``QosError`` with the topic's name."""

    @wraps(create)
    def named(node: Node, kind: type, topic: str, *args: Any, **kwargs: Any) -> T:
        try:
            return create(node, kind, topic, *args, **kwargs)
        except (RuntimeError, ParameterException) as error:
            msg = f'topic {topic}: {one_line(error)}'
            raise QosError(msg) from error

    return named


class ManagedNode(LifecycleNode):
    """Base of our lifecycle nodes; a subclass fills in ``configure`` ... ``clean_up``.

    These hooks return nothing. A ``SegUncertaintyError`` from one is logged as one line, kept in
    ``problem`` and fails the transition: the node stays where it was. ``clean_up`` must accept
    a node that is half configured, ``deactivate`` one that is half active.

    ``peers``: our nodes in the same namespace that are missed when they fall silent.
    ``inputs``: subscriptions that ``activate`` makes; they end before ``deactivate`` runs.
    The subclass makes ``diagnostics``, with ``node_status`` as the task ``node``.
    """

    diagnostics: Diagnostics

    def __init__(
        self, name: str, table: Iterable[Parameter], *, peers: Iterable[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        self.problem = ''
        self.parameters = Parameters(self, self, (AUTOSTART, *table))
        self.peers = Peers(self, peers)
        self.inputs: list[Subscription] = []
        self._bundle_files: BundleFiles | None = None
        self._refused = Complaints(self.get_logger().error)
        self._failures = Complaints(self.get_logger().error)
        self._ended = False

    @property
    def state(self) -> str:
        """The lifecycle state: unconfigured, inactive, active, finalized, or one in between."""
        return self._state_machine.current_state[1]

    def start(self) -> None:
        """Configure and activate, if ``autostart`` says so."""
        if not self.parameters['autostart']:
            self.get_logger().info('autostart is off: waiting for configure and activate')
        elif self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self) -> None:
        """End threads and release models at the end of the process, in whatever state.

        Without transitions: ROS may have been shut down already.
        """
        if self.state == 'active':
            self._attempt('deactivate', self._deactivate)
        self._attempt('clean up', self.clean_up)

    def say_goodbye(self) -> None:
        """Tell the peers that the node ends because it was meant to."""
        self._ended = True
        self.diagnostics.publish()
        self.diagnostics.flush(GOODBYE_S)

    def fail(self, error: Exception) -> None:
        """Report that a callback in this process failed, by our mistake; the node goes on."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        self._failures.add(
            f'{type(error).__name__}: {one_line(error)}, in {place.name}, line {place.lineno}'
        )
        self.get_logger().debug(''.join(traceback.format_exception(error)))

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """Set as ``Node`` does, for its services too; tell what is refused."""
        try:
            result = super().set_parameters_atomically(parameter_list)
        except ParameterException as error:
            self._refused.add(f'parameter: {one_line(error)}')
            raise
        if not result.successful:
            self._refused.add(f'parameter: {" ".join(result.reason.split())}')
        return result

    def load_bundle(self, path: Path | str) -> Bundle:
        """Load a bundle and watch its files; raises ``BundleError``."""
        self._bundle_files = BundleFiles(Path(path))
        return Bundle.load(path)

    def node_status(self) -> Status:
        """Return what is to be said of the node whatever it works on."""
        changes = self._bundle_files.changes() if self._bundle_files else ''
        values = {
            'state': self.state,
            'bundle_on_disk': changes or ('as loaded' if self._bundle_files else 'none loaded'),
            'refused_requests': self._refused.count,
            'last_refused_request': self._refused.last or 'none',
            'failures': self._failures.count,
            'last_failure': self._failures.last or 'none',
            **self.peers.describe(),
        }
        if self._ended:
            return Status(diagnostics.OK, ENDED, values)
        errors = [f'{name} says nothing: did its process die?' for name in self.peers.silent]
        errors += self._failures.recent()
        if errors:
            return Status(diagnostics.ERROR, '; '.join(errors), values)
        warnings = self._refused.recent()
        if changes:
            warnings.append(f'{changes}; what was loaded is used until the next configure')
        if warnings:
            return Status(diagnostics.WARN, '; '.join(warnings), values)
        return Status(diagnostics.OK, self.state, values)

    # Topics

    create_publisher = naming_the_topic(LifecycleNode.create_publisher)
    create_lifecycle_publisher = naming_the_topic(LifecycleNode.create_lifecycle_publisher)
    create_subscription = naming_the_topic(LifecycleNode.create_subscription)

    # Hooks

    def configure(self) -> None:
        """Acquire what the node works with."""

    def activate(self) -> None:
        """Start to work."""

    def deactivate(self) -> None:
        """Stop to work, even where ``activate`` came only half way."""

    def clean_up(self) -> None:
        """Release what ``configure`` acquired, even in part."""

    def is_configured(self) -> bool:
        """Tell whether parameters of the next ``configure`` are in use now."""
        return self.state in ('inactive', 'active')

    def refuse(self, values: Mapping[str, Any], changed: frozenset[str]) -> str:
        """Return why these parameter values are refused together, or an empty string."""
        return ''

    def apply(self, values: Mapping[str, Any], changed: frozenset[str]) -> None:
        """Use the new values of live parameters."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run ``configure``; undo it where it fails."""
        result = self._attempt('configure', self.configure)
        if result == TransitionCallbackReturn.SUCCESS:
            return super().on_configure(state)
        self._clean_up(forget=False)
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the publishers, then run ``activate``; undo it where it fails."""
        super().on_activate(state)
        result = self._attempt('activate', self.activate)
        if result != TransitionCallbackReturn.SUCCESS:
            self._attempt('deactivate', self._deactivate, forget=False)
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run ``deactivate``, then close the publishers."""
        result = self._attempt('deactivate', self._deactivate)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run ``clean_up``."""
        super().on_cleanup(state)
        return self._clean_up()

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything; the process lives on, finalized."""
        if state.label == 'active':
            self.on_deactivate(state)
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Come back unconfigured from a transition that failed by our mistake."""
        if state.label == 'active':
            self._attempt('deactivate', self._deactivate, forget=False)
            super().on_deactivate(state)
        return self._clean_up(forget=False)

    def _deactivate(self) -> None:
        while self.inputs:
            self.destroy_subscription(self.inputs.pop())
        try:
            self.deactivate()
        finally:
            # rclpy keeps a reference to each entity that was ever in a group (its issue 1356).
            entities = self.default_callback_group.entities
            entities -= {reference for reference in entities if reference() is None}

    def _clean_up(self, *, forget: bool = True) -> TransitionCallbackReturn:
        self._bundle_files = None
        return self._attempt('clean up', self.clean_up, forget=forget)

    def _attempt(
        self, what: str, hook: Callable[[], None], *, forget: bool = True
    ) -> TransitionCallbackReturn:
        if forget:
            self.problem = ''
        try:
            hook()
        except SegUncertaintyError as error:
            self.problem = str(error)
            self.get_logger().error(f'{what} failed: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.problem = f'{type(error).__name__}: {error}'
            self.get_logger().error(f'{what} failed:\n{traceback.format_exc()}')
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    # The name of a private method of rclpy, which raises out of `spin` for a transition that the
    # present state does not offer.
    def _LifecycleNodeMixin__on_change_state(  # noqa: N802
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        wanted = request.transition
        offered = [
            (transition[0], transition[1])
            for transition in self._state_machine.available_transitions
        ]
        if wanted.label:
            possible = wanted.label in [label for _, label in offered]
        else:
            possible = wanted.id in [id_ for id_, _ in offered]
        if not possible:
            self._refused.add(
                f'transition {shown(wanted.label, 40) or wanted.id} is not possible in state '
                f'{self.state}; possible: {", ".join(label for _, label in offered) or "none"}'
            )
            response.success = False
            return response
        return super()._LifecycleNodeMixin__on_change_state(request, response)


def overridable() -> QoSOverridingOptions:
    """Return the option that lets ``qos_overrides`` set history, depth and reliability."""
    return QoSOverridingOptions.with_default_policies()
