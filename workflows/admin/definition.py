"""Workflows and their versions: look at them, start a run, apply a new version."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.widgets import UnfoldAdminTextareaWidget

from environments.selectors import active_names
from workflows.admin.base import ReadOnlyAdmin, actor_of, demand, uuid_or_404
from workflows.admin.looks import state_badge
from workflows.admin.operations import Button
from workflows.admin.schema_form import StartForm
from workflows.engine.compile import compile_spec
from workflows.language.findings import DefinitionError, Finding
from workflows.models import Run, Version, Workflow
from workflows.selectors.workflows import workflows
from workflows.services.definitions import apply_definition, check_definition, doubts_about
from workflows.services.errors import InputRefusedError, ServiceError
from workflows.services.plans import plan_of_version
from workflows.services.runs import start_run

START = "workflows.start_workflow"
APPLY = "workflows.add_version"
VERSIONS_SHOWN = 20
RUNS_SHOWN = 10
CONTEXT = 2
LARGEST = 2_000_000


class DefinitionForm(forms.Form):
    """The text of a definition."""

    text = forms.CharField(
        label="Definition",
        strip=False,
        max_length=LARGEST,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 26, "class": "code wide", "spellcheck": "false", "autocomplete": "off"}
        ),
        help_text="YAML or JSON. The workflow it belongs to is the one that it names.",
    )


@admin.register(Workflow)
class WorkflowAdmin(ReadOnlyAdmin):
    list_display = ("name", "description", "newest", "last_run", "created_at")
    search_fields = ("name",)
    search_help_text = "A part of the name."
    ordering = ("name",)
    sortable_by = ()
    actions = None
    page_template = "workflows/workflow.html"
    list_before_template = "workflows/workflows_head.html"
    greets = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        return workflows()

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Fetch the newest versions and runs of the page at once, not one by one."""
        changes = super().get_changelist_instance(request)
        rows: list[Any] = list(changes.result_list)
        versions = Version.objects.only("number", "workflow").in_bulk(
            [row.newest_version_id for row in rows if row.newest_version_id]
        )
        runs = Run.objects.only("state", "created_at").in_bulk(
            [row.newest_run_id for row in rows if row.newest_run_id]
        )
        for row in rows:
            row.version = versions.get(row.newest_version_id)
            row.run = runs.get(row.newest_run_id)
        changes.result_list = rows
        return changes

    @admin.display(description="Newest version")
    def newest(self, workflow: Any) -> str:
        return f"v{workflow.version.number}" if workflow.version else "-"

    @admin.display(description="Last run")
    def last_run(self, workflow: Any) -> SafeString | str:
        if workflow.run is None:
            return "never"
        url = reverse("admin:workflows_run_change", args=[workflow.run.pk])
        return format_html('<a href="{}">{}</a>', url, state_badge(workflow.run.state))

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page("apply/", self.apply, "apply"),
            self.page("<str:object_id>/start/", self.start, "start"),
            *super().get_urls(),
        ]

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        workflow = get_object_or_404(Workflow, pk=uuid_or_404(object_id))
        versions = list(
            workflow.versions.defer("source", "document", "plan").order_by("-number")[
                :VERSIONS_SHOWN
            ]
        )
        newest = versions[0] if versions else None
        found = Run.objects.filter(workflow=workflow).select_related("environment").order_by("-id")
        return {
            "title": workflow.name,
            "original": workflow,
            "workflow": workflow,
            "versions": versions,
            "newest": newest,
            "plan": plan_of_version(newest.pk) if newest else None,
            "runs": found.defer("input", "output", "vars")[:RUNS_SHOWN],
            "triggers": list(workflow.triggers.values_list("type", flat=True)),
            "buttons": buttons_of_workflow(workflow, newest, request),
        }

    def start(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Start a run from a form that the input schema of the newest version draws."""
        demand(request, START)
        workflow = get_object_or_404(Workflow, pk=uuid_or_404(object_id))
        version = workflow.versions.only("number", "environment").order_by("-number").first()
        if version is None:
            raise Http404(f"{workflow.name} has no version yet.")
        form = self.start_form(request, version)
        if request.method == "POST" and form.is_valid():
            started = self.started(request, workflow, version, form)
            if started is not None:
                return HttpResponseRedirect(
                    reverse("admin:workflows_run_change", args=[started.pk])
                )
        page = {
            "title": f"Start {workflow.name}",
            "workflow": workflow,
            "version": version,
            "form": form,
        }
        return TemplateResponse(request, "workflows/start.html", self.context(request, **page))

    def start_form(self, request: HttpRequest, version: Version) -> StartForm:
        """Return the form, filled in like another run if the address names one."""
        like = None
        if "like" in request.GET and request.user.has_perm("workflows.view_run"):
            like = Run.objects.filter(pk=uuid_or_404(request.GET["like"])).first()
        names = active_names()
        home = like.environment.name if like else version.environment
        return StartForm(
            request.POST if request.method == "POST" else None,
            schema=plan_of_version(version.pk).input_schema,
            environments=names,
            like=like.input if like else None,
            initial={"environment": home, "key": f"form:{uuid4()}"},
        )

    def started(
        self, request: HttpRequest, workflow: Workflow, version: Version, form: StartForm
    ) -> Run | None:
        """Start the run, or say in the form why not. Sent twice, the form starts one run."""
        given = form.cleaned_data
        try:
            outcome = start_run(
                workflow=workflow.name,
                version=version.number,
                input=given["input"],
                environment=given["environment"],
                idempotency_key=given["key"],
                by=actor_of(request),
            )
        except InputRefusedError as error:
            form.refuse(error.findings, str(error))
        except ServiceError as error:
            form.add_error(None, str(error))
        else:
            return outcome.run
        return None

    def apply(self, request: HttpRequest) -> HttpResponse:
        """Apply a definition as a new version, or say what is wrong with it, at its lines."""
        demand(request, APPLY)
        form = DefinitionForm(request.POST or None, initial={"text": self.template(request)})
        page: dict[str, Any] = {"title": "Apply a definition", "form": form}
        if request.method == "POST" and form.is_valid():
            text = form.cleaned_data["text"]
            if "check" in request.POST:
                spec, findings = check_definition(text=text, source="definition")
                page["findings"] = excerpts(text, findings)
                page["plan"] = compile_spec(spec) if spec and not findings else None
                _say_doubts(request, text)
            else:
                try:
                    applied = apply_definition(text=text, source="definition", by=actor_of(request))
                except DefinitionError as error:
                    page["findings"] = excerpts(text, error.findings)
                else:
                    say = messages.success if applied.created else messages.info
                    say(request, _applied(applied.version, created=applied.created))
                    _say_doubts(request, text)
                    url = reverse(
                        "admin:workflows_workflow_change", args=[applied.version.workflow_id]
                    )
                    return HttpResponseRedirect(url)
        return TemplateResponse(request, "workflows/apply.html", self.context(request, **page))

    def template(self, request: HttpRequest) -> str:
        """Return the text to begin with: the version that the address names, or an example."""
        if "from" in request.GET and request.user.has_perm("workflows.view_version"):
            version = Version.objects.filter(pk=uuid_or_404(request.GET["from"])).first()
            if version:
                return version.source
        return EXAMPLE


@admin.register(Version)
class VersionAdmin(ReadOnlyAdmin):
    list_display = ("title", "environment", "created_by", "created_at")
    list_filter = (("workflow", RelatedDropdownFilter),)
    nothing = "Every definition that was applied, as it was; a version never changes."
    search_fields = ("workflow__name",)
    search_help_text = "A part of the workflow's name."
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    page_template = "workflows/version.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Version]:
        found = Version.objects.select_related("workflow")
        return found.defer("source", "document", "plan")

    @admin.display(description="Version")
    def title(self, version: Version) -> str:
        return str(version)

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        found = Version.objects.select_related("workflow").defer("document", "plan")
        version = get_object_or_404(found, pk=uuid_or_404(object_id))
        return {
            "title": str(version),
            "original": version,
            "version": version,
            "plan": plan_of_version(version.pk),
            "lines": list(enumerate(version.source.splitlines(), 1)),
            "buttons": buttons_of_version(version.pk, request),
        }


def buttons_of_workflow(
    workflow: Workflow, newest: Version | None, request: HttpRequest
) -> list[Button]:
    """Return what this person can do with the workflow."""
    if newest is None:
        return []
    buttons = []
    if request.user.has_perm(START):
        url = reverse("admin:workflows_workflow_start", args=[workflow.pk])
        buttons.append(Button("Start a run", url, "play_arrow", "primary"))
    return buttons + buttons_of_version(newest.pk, request)


def buttons_of_version(version: UUID, request: HttpRequest) -> list[Button]:
    """Return what this person can do with the version."""
    if not request.user.has_perm(APPLY):
        return []
    url = reverse("admin:workflows_workflow_apply")
    return [Button("Change the definition", f"{url}?from={version}", "edit")]


def excerpts(text: str, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return each finding with the lines around the place that it is about."""
    lines = text.splitlines()
    return [
        {
            "finding": finding,
            "lines": [
                (number, lines[number - 1], number == finding.line)
                for number in range(
                    max(1, finding.line - CONTEXT), min(len(lines), finding.line + CONTEXT) + 1
                )
            ]
            if finding.line
            else [],
        }
        for finding in findings
    ]


def _say_doubts(request: HttpRequest, text: str) -> None:
    for doubt in doubts_about(text=text, source="definition"):
        words = f"Line {doubt.line}: {doubt.message}; {doubt.hint}"
        messages.warning(request, words)


def _applied(version: Version, *, created: bool) -> str:
    if created:
        return f"{version} is applied; runs that start from now on follow it."
    return f"This is {version} already; nothing has changed."


EXAMPLE = """\
workflow: my-first-workflow
description: What it is for, in a sentence.
input:
  type: object
  required: [name]
  properties:
    name: {type: string, description: Whom to greet.}
steps:
  - id: greet
    uses: log
    with: {message: "Hello, ${{ input.name }}"}
  - id: rest
    uses: sleep
    with: {seconds: 2}
"""
