"""The OpenAPI document is valid, says what the code does, and is the file that is served."""

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter

from service.domain import errors
from service.edge.problems import ERROR_STATUSES
from service.web import openapi, problems
from service.web.operations import OPERATIONS
from tests.domain.conftest import World
from tests.web.conftest import Client


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(openapi.document()).validate()


def test_answers_may_gain_members_and_requests_may_not() -> None:
    schemas = openapi.document()["components"]["schemas"]
    strict = {name for name, schema in schemas.items() if schema.get("additionalProperties") is False}
    assert strict == {"Activity", "CreateSession", "Extension", "Fix", "IdleTimes", "Sparing", "UpgradeAll"}


def _examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every example with its schema: of bodies, headers and parameters."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            for parameter in operation.get("parameters", []):
                assert parameter["schema"]["examples"], (where, parameter["name"])
                for value in parameter["schema"]["examples"]:
                    yield f"{where} {parameter['name']}", parameter["schema"], value
            for status, answer in {"body": operation.get("requestBody", {}), **operation["responses"]}.items():
                for name, header in answer.get("headers", {}).items():
                    yield f"{where} {status} {name}", header["schema"], header["example"]
                for kind, media in answer.get("content", {}).items():
                    assert media["examples"], (where, status, kind)
                    for name, example in media["examples"].items():
                        slug = example.get("$ref", "").removeprefix("#/components/examples/")
                        value = (document["components"]["examples"][slug] if slug else example)["value"]
                        yield f"{where} {status} {name}", media["schema"], value


def test_every_parameter_body_and_answer_has_examples_that_fit_its_schema() -> None:
    document = openapi.document()
    seen = [*_examples(document)]
    for where, schema, value in seen:
        whole = {**schema, "components": document["components"]}
        problems = [*Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)]
        assert not problems, (where, problems)
    for method, operation in ((m, o) for methods in document["paths"].values() for m, o in methods.items()):
        bodies = [answer for status, answer in operation["responses"].items() if status != "204"]
        assert all(answer["content"] for answer in bodies), (method, operation["operationId"])


def test_the_examples_have_exactly_the_members_of_the_models() -> None:
    files = json.loads((resources.files("service.web") / "examples.json").read_text())
    for operation in OPERATIONS:
        examples = files.pop(operation.name)
        for body in examples.pop("body", {}).values():
            assert operation.body is not None
            sent = operation.body.model_validate_json(json.dumps(body))
            assert sent.model_dump(mode="json", exclude_unset=True) == body, operation.name
        for status, answer in operation.answers.items():
            bodies = examples.pop(str(status), {}).values()
            assert bool(bodies) == (answer.body is not None), (operation.name, status)
            adapter: TypeAdapter[Any] = TypeAdapter(answer.body or Any)
            for body in bodies:
                for each in body if isinstance(body, list) else [body]:
                    answered = adapter.validate_json(json.dumps(each))
                    assert adapter.dump_python(answered, mode="json") == each, (operation.name, status)
        assert not examples, operation.name
    assert not files


def test_every_kind_of_problem_has_an_example() -> None:
    document = openapi.document()
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    examples = document["components"]["examples"]
    assert set(examples) == {slug for slug, _, _ in problems.kinds()}
    for slug, status, _ in problems.kinds():
        value = examples[slug]["value"]
        Draft202012Validator(schema).validate(value)
        assert (value["type"], value["status"]) == (f"/problems/{slug}", status)


def test_a_generated_client_reads_the_event_stream_as_text_and_has_a_model_of_events() -> None:
    document = openapi.document()
    answer = document["paths"]["/session/{uuid}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
    assert answer["schema"] == {"type": "string"}
    data = answer["x-itemSchema"]["properties"]["data"]["contentSchema"]
    whole = Draft202012Validator({**data, "components": document["components"]})
    for example in answer["examples"].values():
        events = [
            dict(line.split(": ", 1) for line in block.split("\n")) for block in example["value"].split("\n\n")[:-1]
        ]
        for event in events:
            whole.validate(json.loads(event["data"]))
            assert event["event"] == json.loads(event["data"])["phase"]


async def test_the_served_document_matches_the_code(client: Client) -> None:
    assert await (await client.get("/openapi.json")).json() == openapi.document()
    page = await client.get("/docs")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "/session/create" in await page.text()


_NO_OPERATIONS = {"/", "/openapi.json", "/docs", "/docs/{digest}/{name}", "/problems/{slug}"}


async def test_every_route_is_in_the_document(client: Client) -> None:
    paths = openapi.document()["paths"]
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


def test_every_domain_error_has_a_row_and_subclasses_come_first() -> None:
    rows = [row.error for row in ERROR_STATUSES]
    assert set(rows) == _subclasses(errors.SessionError)
    for place, kind in enumerate(rows):
        assert not any(issubclass(kind, earlier) for earlier in rows[:place])


@pytest.mark.filterwarnings("ignore")  # schemathesis' own, about its own dependencies
async def test_no_generated_request_gets_an_undocumented_answer(client: Client, world: World) -> None:
    """schemathesis makes valid and invalid requests from the document; each answer must be one it describes."""
    uuid = (await world.provisioner.create("ann")).uuid
    schema = schemathesis.openapi.from_dict(openapi.document())
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


def test_the_package_contains_the_files_that_it_serves() -> None:
    static = resources.files("service.web") / "static"
    assert (static / "openapi.json").is_file()
    assert (resources.files("service.web") / "examples.json").is_file()
    assert all((static / file).is_file() for file in ("docs.html", "docs.css", "docs.js"))
