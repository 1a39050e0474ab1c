"""The description of the JSON API, and that the API does as it says."""

import asyncio
import importlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from console.web import routes
from console.web.access.roles import Role
from console.web.access.tokens import TokenTable
from console.web.database import open_console_database
from console.web.live import LiveStreams
from console.web.openapi import describe
from stream.keys import Shard
from tests.support.http.console_server import ConsoleServer, run_console

EXAMPLES = 3
CHECKS = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture
async def console(tmp_path: Path, valkey_url: str, shard: Shard) -> AsyncIterator[ConsoleServer]:
    async with run_console(tmp_path, valkey_url, shard.name) as running:
        yield running


async def make_token(console: ConsoleServer, role: Role) -> str:
    async with open_console_database(console.settings.console_database) as database:
        token = await TokenTable(database).add(f"tester-{role}", role)
    assert token is not None
    return token


@pytest.fixture(scope="module")
def schemathesis() -> Any:
    """The library; each process of the tests reads this module, and would take a second for the import."""
    return importlib.import_module("schemathesis")


def send_examples(operation: Any, url: str, token: str, mode: Any) -> set[int]:
    """Send examples of an operation, and compare each answer with the description. Return the statuses."""
    statuses = set()
    checks = [getattr(importlib.import_module("schemathesis.checks"), name) for name in CHECKS]

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        answer = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"})
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=checks)

    send()
    return statuses


@pytest.mark.one_process("openapi")  # one process imports schemathesis
@pytest.mark.parametrize("mode", ["positive", "negative"])
async def test_every_answer_is_as_described(console: ConsoleServer, schemathesis: Any, mode: str) -> None:
    """Right and wrong parameters of each operation get a described status with a body of the described form."""
    token = await make_token(console, Role.ADMIN)
    async with console.visit() as person:
        document = (await person.get("/api/v1/openapi.json")).json()
    results: list[Any] = list(schemathesis.openapi.from_dict(document).get_all_operations())
    operations = [result.ok() for result in results]

    generation = schemathesis.GenerationMode(mode)
    statuses = [await asyncio.to_thread(send_examples, each, console.url, token, generation) for each in operations]

    assert operations
    assert 500 not in set().union(*statuses)


def test_every_api_route_is_described() -> None:
    """The document has each route under /api/v1 with its method, a summary, and the role that it needs."""
    described = routes.collect(LiveStreams(routes.LIVE, asyncio.Event()))
    document = next(route for route in described if route.path == "/api/v1/openapi.json")
    api = [route for route in described if route.is_api and route is not document]

    paths = describe(api)["paths"]

    assert {(path, method) for path, item in paths.items() for method in item} == {
        (re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", route.path), route.method.lower()) for route in api
    }
    assert all(operation["summary"] for item in paths.values() for operation in item.values())
