"""The rows of the platform. Invariants are named constraints; the law is kept by triggers."""

from workflows.models.approval import Approval, Delegation, Verdict, Vote, usable
from workflows.models.breaker import Breaker, BreakerJournal, Parking
from workflows.models.callback import Callback
from workflows.models.definition import Version, Workflow
from workflows.models.event import EffectKind, EventEffect, ReceivedEvent, Trigger
from workflows.models.incident import Incident, Resolution
from workflows.models.journal import ENGINE, Journal
from workflows.models.migration import Migration
from workflows.models.pruning import Pruning
from workflows.models.run import Run, runs_with_names
from workflows.models.step import Attempt, Step
from workflows.models.wait import Wait

__all__ = [
    "ENGINE",
    "Approval",
    "Attempt",
    "Breaker",
    "BreakerJournal",
    "Callback",
    "Delegation",
    "EffectKind",
    "EventEffect",
    "Incident",
    "Journal",
    "Migration",
    "Parking",
    "Pruning",
    "ReceivedEvent",
    "Resolution",
    "Run",
    "Step",
    "Trigger",
    "Verdict",
    "Version",
    "Vote",
    "Wait",
    "Workflow",
    "runs_with_names",
    "usable",
]
