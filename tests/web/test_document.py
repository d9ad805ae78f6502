"""The OpenAPI document is valid, says what the code does, and is the file that is served."""

import json
from importlib import resources
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.domain import errors
from service.edge.problems import ERROR_STATUSES
from service.web import operations
from tests.domain.conftest import World
from tests.web.conftest import Client


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(operations.openapi()).validate()


async def test_the_served_document_is_the_codes(client: Client) -> None:
    assert await (await client.get("/openapi.json")).json() == operations.openapi()
    page = await client.get("/docs")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "/session/create" in await page.text()


_NO_OPERATIONS = {"/", "/openapi.json", "/docs", "/docs/{digest}/{name}", "/problems/{slug}"}


async def test_every_route_is_in_the_document(client: Client) -> None:
    paths = operations.openapi()["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    routed = set()
    assert client.app is not None
    for route in client.app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        if path not in _NO_OPERATIONS and route.method != "HEAD":
            routed.add((route.method, path))
    assert routed == documented


def _subclasses(kind: type[errors.SessionError]) -> set[type[errors.SessionError]]:
    return {kind}.union(*map(_subclasses, kind.__subclasses__()))


def test_every_error_of_the_domain_has_a_row_and_the_special_comes_first() -> None:
    rows = [row.error for row in ERROR_STATUSES]
    assert set(rows) == _subclasses(errors.SessionError)
    for place, kind in enumerate(rows):
        assert not any(issubclass(kind, earlier) for earlier in rows[:place])


@pytest.mark.filterwarnings("ignore")  # schemathesis' own, about its own dependencies
async def test_no_generated_request_gets_an_undocumented_answer(client: Client, world: World) -> None:
    """schemathesis makes valid and invalid requests from the document; each answer must be one it describes."""
    uuid = (await world.provisioner.create("ann")).uuid
    schema = schemathesis.openapi.from_dict(operations.openapi())
    for operation in schema.get_all_operations():
        for case in _cases(operation):
            if "uuid" in (case.path_parameters or {}) and len(case.path_parameters["uuid"]) != 8:
                continue
            sent = {
                k: v
                for k, v in case.as_transport_kwargs(base_url="").items()
                if k in ("params", "headers", "json", "data")
            }
            answer = await client.request(case.method, case.formatted_path.replace("abc123xy", uuid), **_plain(sent))
            documented = case.operation.definition.raw["responses"]
            assert answer.status < 500
            assert str(answer.status) in documented or answer.status in (404, 405), (
                case.method,
                case.path,
                answer.status,
            )


def _cases(result: Any) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=40, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None, database=None
    )
    @given(case=result.ok().as_strategy())
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


def _plain(sent: dict[str, Any]) -> dict[str, Any]:
    sent["headers"] = {k: v for k, v in (sent.get("headers") or {}).items() if k.lower() == "content-type"}
    if "json" in sent:
        sent["data"] = json.dumps(sent.pop("json"))
        sent["headers"]["Content-Type"] = "application/json"
    if sent.get("params"):
        sent["params"] = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in sent["params"].items()}
    return sent


def test_the_package_ships_what_it_serves() -> None:
    static = resources.files("service.web") / "static"
    assert (static / "openapi.json").is_file()
    assert all((static / file).is_file() for file in ("docs.html", "docs.css", "docs.js"))
