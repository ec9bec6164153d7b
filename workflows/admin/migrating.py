"""Have selected runs go over to another version: look, say what became of steps, do it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelectWidget

from workflows.admin.base import ReadOnlyAdmin, actor_of, demand, short
from workflows.admin.confirming import MOST_AT_ONCE, chosen, tell_report
from workflows.engine.examined import Verdict
from workflows.engine.plan import ROOT, Plan
from workflows.models import Run, Version
from workflows.services.migrating import Preflight, migrate_runs, preflight_migration
from workflows.services.plans import plan_of_version

PERMISSION = "workflows.migrate_run"
UNDECIDED = ""
WITHOUT = "~"
"""What is chosen for a step that runs do without; no step is called so."""

MAPPED = "becomes "
"""The names of the fields of a mapping begin so."""

MOST_MAPPED = 200
SHOWN = 20

WORDS: Mapping[Verdict, tuple[str, str, str]] = {
    Verdict.SAFE: ("Can go over", "good", "check_circle"),
    Verdict.NEEDS_MAPPING: ("Need to be told what became of steps", "warn", "help"),
    Verdict.BLOCKED: ("Stay in their version", "bad", "block"),
}


class MigrateForm(forms.Form):
    """To which version, and what became of steps that it does not have where they were."""

    version = forms.TypedChoiceField(coerce=int, widget=UnfoldAdminSelectWidget())

    def __init__(self, data: Any, *, versions: Sequence[int]) -> None:
        super().__init__(data)
        number = self.fields["version"]
        number.choices = [(one, f"v{one}") for one in versions]  # type: ignore[attr-defined] # it has
        number.initial = versions[0]

    def mapping(self) -> dict[str, str | None]:
        """Return what has been said of steps."""
        said = {
            name.removeprefix(MAPPED): value
            for name, value in self.data.items()
            if name.startswith(MAPPED) and value != UNDECIDED
        }
        chosen = list(said.items())[:MOST_MAPPED]
        return {path: None if value == WITHOUT else value for path, value in chosen}

    def ask(self, path: str, new: Plan, mapping: Mapping[str, str | None]) -> None:
        """Ask what became of a step: what can be said of one that is new is that it is left out."""
        options = [(UNDECIDED, "not decided"), (WITHOUT, "the runs do without it")]
        if path not in new.by_path:
            options += [(one, f"it is {one} now") for one in sorted(new.by_path) if one != ROOT]
        value = mapping.get(path, UNDECIDED)
        self.fields[f"{MAPPED}{path}"] = forms.ChoiceField(
            label=f"What became of {path}",
            required=False,
            choices=options,
            initial=WITHOUT if value is None else value,
            widget=UnfoldAdminSelectWidget(),
        )


def migrate_many(
    admin: ReadOnlyAdmin, request: HttpRequest, rows: QuerySet[Run]
) -> HttpResponse | None:
    """Show what a preflight says of the selected runs; have them go over when the person says so.

    What is asked about a step is asked once for all of them.
    """
    demand(request, PERMISSION)
    if "version" in request.POST:
        rows = admin.get_queryset(request).filter(pk__in=chosen(request))
    known = list(rows.order_by().values_list("pk", "workflow")[: MOST_AT_ONCE + 1])
    if len(known) > MOST_AT_ONCE:
        messages.error(request, f"Select at most {MOST_AT_ONCE} at a time; narrow the list first.")
        return None
    if len({workflow for _, workflow in known}) != 1:
        messages.error(request, "Select runs of one workflow; filter the list by it first.")
        return None
    ids = [pk for pk, _ in known]
    versions = list(
        Version.objects.filter(workflow=known[0][1])
        .order_by("-number")
        .values_list("number", flat=True)[:MOST_MAPPED]
    )
    form = MigrateForm(request.POST if "version" in request.POST else None, versions=versions)
    wanted = form.cleaned_data["version"] if form.is_valid() else versions[0]
    mapping = form.mapping() if form.is_bound else {}
    seen = _seen(wanted, mapping)
    if "decided" in request.POST and request.POST.get("seen") == seen:
        by = actor_of(request)
        report = migrate_runs(run_ids=ids, version=wanted, mapping=mapping, by=by)
        tell_report(request, report)
        return None
    page = _page(ids, wanted, mapping, known[0][1], versions)
    page["seen"] = seen
    page["back"] = request.get_full_path()
    page["action"] = request.POST.get("action", "")
    return TemplateResponse(request, "workflows/migrate.html", admin.context(request, **page))


def _seen(wanted: int, mapping: Mapping[str, str | None]) -> str:
    """Return what a page is about: only what was looked at is done."""
    return json.dumps([wanted, dict(sorted(mapping.items()))])


def _page(
    ids: list[UUID],
    wanted: int,
    mapping: Mapping[str, str | None],
    workflow: UUID,
    versions: Sequence[int],
) -> dict[str, Any]:
    found = preflight_migration(run_ids=ids, version=wanted, mapping=mapping)
    new = plan_of_version(Version.objects.only("pk").get(workflow=workflow, number=wanted).pk)
    form = MigrateForm(None, versions=versions)
    form.fields["version"].initial = wanted
    for path in _asked(found, mapping):
        form.ask(path, new, mapping)
    safe = sum(one.verdict is Verdict.SAFE and not one.is_there for one in found)
    return {
        "title": f"Migrate: {len(found)} runs of {found[0].workflow}, to v{wanted}",
        "form": form,
        "groups": [*_there(found), *(one for verdict in Verdict for one in _group(verdict, found))],
        "safe": safe,
        "left": len(found) - safe,
        "asks": len(form.fields) > 1,
        "wanted": wanted,
        "selected": [(ACTION_CHECKBOX_NAME, str(one)) for one in ids],
    }


def _asked(found: Sequence[Preflight], mapping: Mapping[str, str | None]) -> list[str]:
    """Return the steps of which something has been said or is to be said."""
    wanted = {
        finding.path
        for one in found
        for finding in one.findings
        if finding.verdict is Verdict.NEEDS_MAPPING
    }
    return sorted(wanted | mapping.keys())[:MOST_MAPPED]


def _there(found: Sequence[Preflight]) -> list[dict[str, Any]]:
    """Return the runs that are in the wanted version already, if there are any."""
    runs = [one for one in found if one.is_there]
    return [_section("Are in it already", "quiet", "done_all", runs)] if runs else []


def _group(verdict: Verdict, found: Sequence[Preflight]) -> list[dict[str, Any]]:
    """Return the runs with a verdict, and what was found of them, each thing once, if any."""
    runs = [one for one in found if one.verdict is verdict and not one.is_there]
    if not runs:
        return []
    said: dict[tuple[str, str, str], list[UUID]] = {}
    for one in runs:
        for finding in one.findings:
            if finding.verdict is verdict:
                said.setdefault((finding.path, finding.what, finding.do), []).append(one.run)
    words, tone, icon = WORDS[verdict]
    findings = [
        {"path": path, "what": what, "do": do, "number": len(of)}
        for (path, what, do), of in said.items()
    ]
    return [_section(words, tone, icon, runs, findings)]


def _section(
    words: str,
    tone: str,
    icon: str,
    runs: Sequence[Preflight],
    findings: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "words": words,
        "tone": tone,
        "icon": icon,
        "runs": [(one.run, short(one.run), one.before) for one in runs[:SHOWN]],
        "more": max(len(runs) - SHOWN, 0),
        "number": len(runs),
        "findings": findings[:SHOWN],
        "more_findings": max(len(findings) - SHOWN, 0),
    }
