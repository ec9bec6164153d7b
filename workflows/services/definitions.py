"""Definitions: check them, and apply them as immutable numbered versions."""

import hashlib
import json
from dataclasses import dataclass

from django.contrib.auth.models import Group
from django.db import transaction

from workflows.catalog import catalog
from workflows.engine.compile import compile_spec
from workflows.engine.plan import Plan, dump_plan
from workflows.language.asked import groups_asked
from workflows.language.findings import Finding
from workflows.language.loader import check, load
from workflows.language.nearest import did_you_mean
from workflows.language.spec import Spec
from workflows.models import Trigger, Version, Workflow


@dataclass(frozen=True, slots=True)
class Applied:
    """A version, and whether it is new: the same definition twice is one version."""

    version: Version
    created: bool


def check_definition(*, text: str, source: str) -> tuple[Spec | None, tuple[Finding, ...]]:
    """Return the definition and all that is wrong with it; nothing is stored."""
    return check(text, source=source, catalog=catalog())


def doubts_about(*, text: str, source: str) -> tuple[Finding, ...]:
    """Return what may be wrong with a definition without errors: groups that are not there yet.

    They can be created later, so this is no reason to refuse it.
    """
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


def compile_text(*, text: str, source: str) -> Plan:
    """Return the plan of a definition.

    Raises DefinitionError with every finding.
    """
    return compile_spec(load(text, source=source, catalog=catalog()))


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
