"""The door of operations staff: lists, pages and buttons. Parses, calls one service, presents."""

from workflows.admin.approval import ApprovalAdmin
from workflows.admin.definition import VersionAdmin, WorkflowAdmin
from workflows.admin.delegation import DelegationAdmin
from workflows.admin.event import EventAdmin
from workflows.admin.guards import BreakerAdmin
from workflows.admin.incident import IncidentAdmin
from workflows.admin.journal import JournalAdmin
from workflows.admin.profiles import PoolAdmin, ProfileAdmin
from workflows.admin.pruning import PruningAdmin
from workflows.admin.run import RunAdmin
from workflows.admin.step import AttemptAdmin, StepAdmin

__all__ = [
    "ApprovalAdmin",
    "AttemptAdmin",
    "BreakerAdmin",
    "DelegationAdmin",
    "EventAdmin",
    "IncidentAdmin",
    "JournalAdmin",
    "PoolAdmin",
    "ProfileAdmin",
    "PruningAdmin",
    "RunAdmin",
    "StepAdmin",
    "VersionAdmin",
    "WorkflowAdmin",
]
