"""The lifecycle of an environment: which state may follow which."""

from collections.abc import Mapping
from enum import StrEnum


class EnvironmentState(StrEnum):
    """Whether an environment takes work."""

    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    SUSPENDED = "SUSPENDED"
    RETIRED = "RETIRED"


_E = EnvironmentState

ENVIRONMENT_MOVES: Mapping[EnvironmentState, tuple[EnvironmentState, ...]] = {
    _E.PROVISIONING: (_E.ACTIVE, _E.RETIRED),
    _E.ACTIVE: (_E.DRAINING,),
    _E.DRAINING: (_E.ACTIVE, _E.SUSPENDED),
    _E.SUSPENDED: (_E.ACTIVE, _E.RETIRED),
    _E.RETIRED: (),
}
"""ACTIVE takes new runs; DRAINING ends what it has; SUSPENDED and RETIRED run nothing."""
