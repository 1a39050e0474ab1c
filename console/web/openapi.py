"""``GET /api/v1/openapi.json``: describes the JSON API in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1).

The document is made from the routes: their parameters and replies are pydantic models.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version

from aiohttp import web
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from console.web.render import json_reply, parameters
from console.web.route import API, Json, NoParameters, Route

_JSON = "application/json"
REFERENCE = "#/components/schemas/{model}"
_PATH_PART = re.compile(r"\{(\w+)(?::[^{}]*)?\}")

ABOUT = (
    "Every view of the web console as JSON. Send a token in the header Authorization; "
    "`ackstream console token add NAME --role viewer` prints one. A browser that has signed in needs none. Phone "
    "numbers are masked. An action takes a JSON body, and a bulk action the number that it is expected to affect: if "
    "that has changed, nothing happens (409)."
)
ERRORS = {
    "400": "A parameter is wrong; `fields` names it.",
    "401": "The token is missing or was removed.",
    "403": "The role does not allow this, or the request comes from another site.",
    "404": "This does not exist.",
    "429": "Too many requests; `Retry-After` has the seconds to wait.",
    "503": "Redis or the database does not answer, or the number is not certain, or too many plans are being counted.",
}
ACTION_ERRORS = {"409": "The number has changed; nothing was done.", "413": "The body is too large."}


class ApiError(BaseModel):
    """The body of an error."""

    error: str = Field(description="one sentence")
    fields: dict[str, str] | None = Field(None, description="a sentence for each wrong parameter")
    since: float | str | None = Field(None, description="since when the server is away")


def make_route(routes: Sequence[Route]) -> Route:
    """Return the route of the document about these routes.

    The document is made when it is first asked for: it takes some 60 ms, and few consoles are asked.
    """
    make_document = cache(partial(describe, [route for route in routes if route.is_api]))

    async def serve(request: web.Request) -> web.Response:
        await parameters(request, NoParameters)
        return json_reply(await asyncio.to_thread(make_document))

    return Route("GET", f"{API}/openapi.json", serve, summary="This description")


def describe(routes: Sequence[Route]) -> Json:
    """Return the OpenAPI document of the API routes."""
    schemas = _schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        operation = _describe_route(route, schemas)
        paths.setdefault(_PATH_PART.sub(r"{\1}", route.path), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ackstream console", "version": version("ackstream"), "description": ABOUT},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {code: _error(text) for code, text in (ERRORS | ACTION_ERRORS).items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(routes: Iterable[Route]) -> dict[str, Json]:
    """Return the JSON schema of each model, by its name."""
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ApiError, "serialization"): None}
    for route in routes:
        models[route.parameters, "validation"] = None
        if route.reply is not None:
            models[route.reply, "serialization"] = None
    _, document = models_json_schema(list(models), ref_template=REFERENCE)
    schemas: dict[str, Json] = document["$defs"]
    return schemas


def _describe_route(route: Route, schemas: Mapping[str, Json]) -> Json:
    fields: Mapping[str, Json] = schemas.get(route.parameters.__name__, {}).get("properties", {})
    required = schemas.get(route.parameters.__name__, {}).get("required", [])
    in_path = _PATH_PART.findall(route.path)
    is_action = route.method == "POST"
    errors = ERRORS | ACTION_ERRORS if is_action else ERRORS
    operation: Json = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "description": f"Needs the role {route.role}." if route.role else "Needs no sign-in.",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": fields.get(name, {"type": "string"})}
            for name in in_path
        ],
        "responses": {"200": _reply(route)} | {code: {"$ref": f"#/components/responses/{code}"} for code in errors},
    }
    if is_action and route.parameters is not NoParameters:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(route, fields)}}}
    elif not is_action:
        operation["parameters"] += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in fields.items()
            if name not in in_path
        ]
    return operation


def _body(route: Route, fields: Mapping[str, Json]) -> Json:
    """Return the schema of an action's body: its parameters without those of the path."""
    in_path = set(_PATH_PART.findall(route.path))
    if not in_path & fields.keys():
        return {"$ref": REFERENCE.format(model=route.parameters.__name__)}
    required = [
        name for name, field in route.parameters.model_fields.items() if field.is_required() and name not in in_path
    ]
    properties = {name: schema for name, schema in fields.items() if name not in in_path}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


def _reply(route: Route) -> Json:
    schema: Json = {"type": "object"}
    if route.reply is not None:
        schema = {"$ref": REFERENCE.format(model=route.reply.__name__)}
    return {"description": "Done." if route.method == "POST" else route.summary, "content": {_JSON: {"schema": schema}}}


def _error(text: str) -> Json:
    return {"description": text, "content": {_JSON: {"schema": {"$ref": REFERENCE.format(model=ApiError.__name__)}}}}


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", _PATH_PART.sub(r"by-\1", route.path.removeprefix(API)))
    return "-".join([{"GET": "read", "POST": "act"}[route.method], *words])
