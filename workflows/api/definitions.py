"""Workflows and their versions; apply and check definitions; the language itself."""

from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import PageQuery
from workflows.api.parsers import JSONText, OldYAMLText, YAMLText
from workflows.api.problems import finding_document
from workflows.api.shapes import AppliedDocument, CheckDocument
from workflows.language.findings import DefinitionError
from workflows.language.schema import json_schema
from workflows.selectors.shapes import (
    PageDocument,
    VersionDocument,
    VersionSummary,
    WorkflowDocument,
)
from workflows.selectors.workflows import (
    get_version,
    get_workflow,
    list_versions,
    list_workflows,
    version_document,
    version_summary,
)
from workflows.services.definitions import apply_definition, check_definition, doubts_about

TEXT = {
    "application/yaml": OpenApiTypes.STR,
    "text/yaml": OpenApiTypes.STR,
    "application/json": OpenApiTypes.OBJECT,
}

SOURCE = "definition"


class Definitions(Door):
    """Takes a definition as text."""

    parser_classes = [YAMLText, OldYAMLText, JSONText]

    def text(self) -> str:
        """Return the text; a request without a body has none."""
        return self.request.data if isinstance(self.request.data, str) else ""


class Workflows(Definitions):
    """All workflows."""

    needs = {"GET": "workflows.view_workflow", "POST": "workflows.add_version"}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_workflows", responses=PageDocument[WorkflowDocument])
    def get(self, request: Request) -> Response:
        """List workflows by name, each with its newest version and its newest run."""
        return self.page(list_workflows(**self.asked.page))

    @extend_schema(
        operation_id="apply_workflow",
        request=TEXT,
        responses={201: AppliedDocument, 200: AppliedDocument},
    )
    def post(self, request: Request) -> Response:
        """Apply a definition: 201 for a new version, 200 if it is the newest already."""
        applied = apply_definition(text=self.text(), source=SOURCE, by=self.actor)
        summary = version_summary(applied.version)
        doubts = doubts_about(text=self.text(), source=SOURCE)
        here = reverse("api:version", args=[summary["workflow"], summary["number"]])
        headers = {"Location": request.build_absolute_uri(here)}
        answer = {**summary, "warnings": [finding_document(doubt) for doubt in doubts]}
        return Response(answer, status=201 if applied.created else 200, headers=headers)


class OneWorkflow(Door):
    """A workflow."""

    needs = {"GET": "workflows.view_workflow"}

    @extend_schema(operation_id="show_workflow", responses=WorkflowDocument)
    def get(self, request: Request, name: str) -> Response:
        """Show a workflow with its newest version and its newest run."""
        return Response(get_workflow(name))


class Versions(Door):
    """The versions of a workflow."""

    needs = {"GET": "workflows.view_version"}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_versions", responses=PageDocument[VersionSummary])
    def get(self, request: Request, name: str) -> Response:
        """List the versions of a workflow, the newest first."""
        return self.page(list_versions(name, **self.asked.page))


class OneVersion(Door):
    """A version of a workflow."""

    needs = {"GET": "workflows.view_version"}

    @extend_schema(operation_id="show_version", responses=VersionDocument)
    def get(self, request: Request, name: str, number: int) -> Response:
        """Show a version: the text as it was applied and the document as it was checked."""
        return Response(version_document(get_version(name, number)))


class Validate(Definitions):
    """Checks a definition."""

    needs = {"POST": "workflows.view_workflow"}

    @extend_schema(operation_id="validate_workflow", request=TEXT, responses=CheckDocument)
    def post(self, request: Request) -> Response:
        """Check a definition and store nothing."""
        spec, findings = check_definition(text=self.text(), source=SOURCE)
        if spec is None or findings:
            raise DefinitionError(findings)
        steps = sum(1 for _ in spec.walk())
        return Response(
            {"workflow": spec.workflow, "environment": spec.environment, "steps": steps}
        )


class LanguageSchema(Door):
    """The language."""

    needs = {"GET": "workflows.view_workflow"}

    @extend_schema(operation_id="show_language", responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """Show the JSON Schema of definitions, for editors."""
        return Response(json_schema())
