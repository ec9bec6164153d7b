"""Definitions: check them, and apply them as immutable numbered versions."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from django.contrib.auth.models import Group
from django.db import transaction

from workflows.catalog import catalog
from workflows.engine.compile import compile_spec
from workflows.engine.plan import dump_plan
from workflows.language.asked import groups_asked, workflows_called
from workflows.language.findings import Finding
from workflows.language.loader import check, load
from workflows.language.nearest import did_you_mean
from workflows.language.spec import Spec
from workflows.models import Trigger, Version, Workflow

MOST_COMPARED = 1000
"""Names that one which is not known is compared with, in search of what may have been meant."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A version, and whether it is new: the same definition twice is one version."""

    version: Version
    created: bool


def check_definition(*, text: str, source: str) -> tuple[Spec | None, tuple[Finding, ...]]:
    """Return the definition and all that is wrong with it; nothing is stored."""
    return check(text, source=source, catalog=catalog())


def doubts_about(*, text: str, source: str) -> tuple[Finding, ...]:
    """Return what may be wrong with a definition without errors: groups and workflows it counts on.

    What is not there yet can be created later, so this is no reason to refuse it.
    """
    found = (*_unknown_groups(text, source), *_unknown_workflows(text, source))
    return tuple(sorted(found, key=lambda one: (one.line, one.column)))


def _unknown_workflows(text: str, source: str) -> Iterator[Finding]:
    called = workflows_called(text, source=source)
    if not called:
        return
    names = [one.workflow for one in called]
    versions = Version.objects.filter(workflow__name__in=names)
    known = set(versions.values_list("workflow__name", "number"))
    there = {name for name, _ in known}
    for one in called:
        if one.workflow not in there:
            message = f"there is no workflow {one.workflow}, so its child run could not be started"
            others = Workflow.objects.values_list("name", flat=True)[:MOST_COMPARED]
            hint = f"apply it, or {did_you_mean(one.workflow, set(others), 'workflows')}"
        elif one.version is not None and (one.workflow, one.version) not in known:
            message = f"the workflow {one.workflow} has no version {one.version}"
            hint = "name a version that there is, or none to run the newest"
        else:
            continue
        yield Finding(source, one.line, one.column, "unknown-workflow", one.path, message, hint)


def _unknown_groups(text: str, source: str) -> tuple[Finding, ...]:
    asked = groups_asked(text, source=source)
    if not asked:
        return ()
    known = set(Group.objects.values_list("name", flat=True))
    return tuple(
        Finding(
            source,
            one.line,
            one.column,
            "unknown-group",
            one.path,
            f"there is no group {one.group}, so nobody could decide",
            f"create it, or {did_you_mean(one.group, known, 'groups')}",
        )
        for one in asked
        if one.group not in known
    )


def apply_definition(*, text: str, source: str, by: str) -> Applied:
    """Store a definition as the next version of its workflow.

    Raises DefinitionError with every finding; then nothing is stored.
    """
    spec = load(text, source=source, catalog=catalog())
    document = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    with transaction.atomic():
        Workflow.objects.get_or_create(name=spec.workflow)
        workflow = Workflow.objects.select_for_update().get(name=spec.workflow)
        newest = workflow.versions.order_by("-number").first()
        if newest is not None and newest.digest == digest:
            return Applied(newest, created=False)
        version = Version.objects.create(
            workflow=workflow,
            number=newest.number + 1 if newest else 1,
            source=text,
            document=document,
            plan=dump_plan(compile_spec(spec)),
            digest=digest,
            environment=spec.environment,
            created_by=by,
        )
        _replace_triggers(version, spec)
        workflow.description = spec.description or ""
        workflow.save(update_fields=["description"])
    return Applied(version, created=True)


def _replace_triggers(version: Version, spec: Spec) -> None:
    """Have the triggers of a workflow be those of its newest version."""
    Trigger.objects.filter(workflow=version.workflow).delete()
    Trigger.objects.bulk_create(
        Trigger(
            workflow=version.workflow,
            version=version,
            number=number,
            type=trigger.event.type,
            rule={"match": trigger.event.match, "input": trigger.event.input},
        )
        for number, trigger in enumerate(spec.triggers)
    )
