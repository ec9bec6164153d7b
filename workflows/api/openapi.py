"""The API describes itself from its doors, forms and shapes: nothing is written twice."""

from typing import Any, get_args, get_origin

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from pydantic import TypeAdapter
from typing_extensions import is_typeddict

from workflows.api.problems import CONTENT_TYPE, ProblemDocument

REF = "#/components/schemas/{model}"


class DoorSchema(AutoSchema):
    """Reads a door's query form, and its method's docstring as the summary."""

    def get_override_parameters(self) -> list[Any]:
        """Return the query's form."""
        form = getattr(self.view, "query", {}).get(self.method)
        return [form] if form else []

    def get_summary(self) -> str | None:
        """Return the first line of the docstring."""
        description = self.get_description()
        return description.partition("\n")[0] or None

    def get_tags(self) -> list[str]:
        """Group the doors by the first word of their address."""
        return [self.path.removeprefix("/api/v1/").partition("/")[0]]


class ShapeExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call] # registers it
    """Describes a shape, or a page of shapes, as pydantic reads its types."""

    target_class = dict

    @classmethod
    def _matches(cls, target: Any) -> bool:
        return is_typeddict(get_origin(target) or target)

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        """Return the shape's own name; of a page, its rows'."""
        rows = get_args(self.target)
        return f"{rows[0].__name__}Page" if rows else self.target.__name__

    def get_identity(self, auto_schema: Any, direction: Any) -> str:
        """Return the name: there is one shape of each."""
        return self.get_name(auto_schema, direction)

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Return the schema; shapes inside it become components of their own."""
        schema = _schema_of(self.target)
        for name, inner in schema.pop("$defs", {}).items():
            component = ResolvedComponent(name, ResolvedComponent.SCHEMA, inner, name)  # type: ignore[no-untyped-call] # theirs
            auto_schema.registry.register_on_missing(component)
        return schema


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call] # as above
    """Tokens go into the Authorization header."""

    target_class = "workflows.api.auth.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer"}


def describe_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say of every operation how it refuses."""
    schema = _schema_of(ProblemDocument)
    components = result["components"]["schemas"]
    components |= {**schema.pop("$defs"), "Problem": schema}
    refusal = {
        "description": "A refusal",
        "content": {CONTENT_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
    }
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = refusal
    return result


def _schema_of(shape: Any) -> dict[str, Any]:
    return TypeAdapter(shape).json_schema(ref_template=REF, mode="serialization")
