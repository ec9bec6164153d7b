"""The lifecycles of environments and of profiles: which state may follow which."""

from collections.abc import Mapping
from enum import StrEnum


class EnvironmentState(StrEnum):
    """Whether an environment takes work."""

    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    SUSPENDED = "SUSPENDED"
    RETIRED = "RETIRED"


class Folders(StrEnum):
    """What becomes of a profile's working folder from one lease to the next."""

    KEEP = "keep"
    EMPTY = "empty"


_E = EnvironmentState

ENVIRONMENT_MOVES: Mapping[EnvironmentState, tuple[EnvironmentState, ...]] = {
    _E.PROVISIONING: (_E.ACTIVE, _E.RETIRED),
    _E.ACTIVE: (_E.DRAINING,),
    _E.DRAINING: (_E.ACTIVE, _E.SUSPENDED),
    _E.SUSPENDED: (_E.ACTIVE, _E.RETIRED),
    _E.RETIRED: (),
}
"""ACTIVE takes new runs; DRAINING ends what it has; SUSPENDED and RETIRED run nothing."""


class ProfileState(StrEnum):
    """Whether a profile can be leased."""

    FREE = "FREE"
    LEASED = "LEASED"
    TAINTED = "TAINTED"
    DISABLED = "DISABLED"


_P = ProfileState

PROFILE_MOVES: Mapping[ProfileState, tuple[ProfileState, ...]] = {
    _P.FREE: (_P.LEASED, _P.DISABLED),
    _P.LEASED: (_P.FREE, _P.TAINTED),
    _P.TAINTED: (_P.FREE, _P.DISABLED),
    _P.DISABLED: (_P.FREE,),
}
"""A TAINTED one was left in an unknown state: only a person says that it is well again."""
