"""Every operation through both clients, and what the clients were made from."""

import dataclasses
import inspect
from dataclasses import replace

import pytest

from service.domain.names import SessionId
from service.web import openapi, problems
from stack import client_code, generated
from stack.stack import ROOT
from tests.client.conftest import KEY, Connect, Either
from tests.domain.conftest import World
from tests.web.conftest import Serve
from user_pods_client import AsyncClient, Client, SessionFailed, WaitTimeout, models
from user_pods_client.problems import BY_SLUG, DoesNotFit, SessionAsleep, SessionNotFound, Unauthorized


def test_the_generated_modules_are_those_of_the_service() -> None:
    for name, text in generated.client().items():
        assert (ROOT / name).read_text() == text, f"{name} is stale; run `make generated`"


def test_both_clients_have_every_operation_with_its_parameters() -> None:
    document = openapi.document()
    for _, _, operation in client_code.methods(document):
        name = operation["operationId"]
        given = {each["name"] for each in operation.get("parameters", []) if each["in"] != "header"}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            given |= set(schema["properties"])
        for client in (Client, AsyncClient):
            taken = set(inspect.signature(getattr(client, name)).parameters) - {"self"}
            assert given <= taken, (client, name)


def test_every_member_of_an_answer_is_in_its_model() -> None:
    schemas = openapi.document()["components"]["schemas"]
    kinds = {name: kind for name, kind in vars(models).items() if dataclasses.is_dataclass(kind) and name in schemas}
    assert {"Status", "HistoryEntry", "ProgressEvent", "SessionList", "HealthReport", "IdleTimes"} <= set(kinds)
    for name, kind in kinds.items():
        assert set(schemas[name]["properties"]) == {field.name for field in dataclasses.fields(kind)}


def test_answers_are_values() -> None:
    one, same, other = models.IdleTimes(cooldown=5), models.IdleTimes(cooldown=5), models.IdleTimes(cooldown=6)
    assert (one == same, one == other, one == 5, len({one, same, other})) == (True, False, False, 2)
    assert repr(one) == "IdleTimes(cooldown=5, lease=None, poll=None, background=None)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.cooldown = 7  # type: ignore[misc]


def test_there_is_an_exception_for_every_type_of_problem() -> None:
    assert set(BY_SLUG) == {slug for slug, _, _ in problems.kinds()}
    assert len(set(BY_SLUG.values())) == len(BY_SLUG)
    assert BY_SLUG["session-not-found"] is SessionNotFound


async def test_a_session_lives_through_all_its_calls(pods: Either, world: World) -> None:
    created = await pods.call("create", "ann@example.com", idle=models.IdleTimes(cooldown=60, background=0))
    uuid = created.uuid
    assert (created.user_id, created.status) == ("ann@example.com", "created")
    status = await pods.call("status", uuid)
    assert (status.phase, status.session.user_id, status.last_activity) == ("asleep", "ann@example.com", None)
    assert status.created_at.tzinfo is not None
    assert (await pods.call("wake", uuid)).queue_length == 1
    world.cluster.change(replace(world.cluster.workload(SessionId(uuid)), replicas=1, ready=1))
    assert (await pods.call("activity", uuid, "typing")).action == "activity"
    assert (await pods.call("extend", uuid, 600)).kept_until > status.created_at
    opened = await pods.call("open", uuid, to="/?folder=/home")
    assert opened.url.startswith(f"https://vs-code-{uuid}.example.com/")
    assert (await pods.call("revoke", uuid)).revoked_at.date() >= status.created_at.date()
    assert (await pods.call("history", uuid)).uuid == uuid
    assert (await pods.call("sleep", uuid)).action == "sleep"
    assert await pods.call("delete", uuid, keep_data=False) is None
    with pytest.raises(SessionNotFound, match="no such session"):
        await pods.call("status", uuid)


async def test_the_service_tells_its_own_state(pods: Either) -> None:
    assert (await pods.call("health")).status == "healthy"
    assert "user_pods" in await pods.call("metrics")
    assert (await pods.call("livez")).status == (await pods.call("readyz")).status == "ok"


async def test_an_unhealthy_service_is_a_report_and_no_error(
    pods: Either, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise ConnectionError

    monkeypatch.setattr(world.store, "ping", away)
    report = await pods.call("health")
    assert (report.status, report.failing) == ("unhealthy", ["redis"])


async def test_all_sessions_come_page_by_page(pods: Either, world: World) -> None:
    made = {(await world.provisioner.create(f"user-{number}")).uuid for number in range(5)}
    listed = await pods.all_of("sessions", page_size=2)
    assert [each.uuid for each in listed] == sorted(made)
    assert [each.session.user_id for each in await pods.all_of("sessions", user_id="user-3")] == ["user-3"]
    assert await pods.all_of("sessions", phase="ready") == []


async def test_a_wrong_key_is_an_error_of_its_own_that_does_not_repeat_it(connect: Connect, url: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        await connect(url, "wrong-secret").call("list_sessions")
    assert caught.value.status == 401
    assert caught.value.instance.startswith("urn:request:")
    assert "wrong-secret" not in repr(caught.value) + str(caught.value)


async def test_what_does_not_fit_names_the_member(pods: Either, uuid: SessionId) -> None:
    with pytest.raises(DoesNotFit) as caught:
        await pods.call("extend", uuid, -1)
    assert [pointer for pointer, _ in caught.value.errors] == ["/seconds"]
    with pytest.raises(SessionAsleep):
        await pods.call("activity", uuid, "typing")


async def test_an_id_cannot_lead_to_another_path(pods: Either) -> None:
    for nonsense in ("../sessions", "a/b", "?x=1", "abc#d", ""):
        with pytest.raises(BY_SLUG["not-found"]):
            await pods.call("status", nonsense)


async def test_waiting_ends_with_the_phase(pods: Either, world: World, uuid: SessionId) -> None:
    with pytest.raises(WaitTimeout, match=r"is not ready after 0\.3 s; it is asleep"):
        await pods.call("wait_ready", uuid, timeout=0.3)
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    assert (await pods.call("wait_ready", uuid)).phase == "ready"
    await world.provisioner.delete(uuid, keep_data=False)
    assert await pods.call("wait", uuid, "deleted") is None
    with pytest.raises(SessionNotFound):
        await pods.call("wait_ready", uuid)


async def test_waiting_for_what_cannot_come_ends_at_once(pods: Either, world: World, uuid: SessionId) -> None:
    await world.releases.uninstall(uuid)
    with pytest.raises(SessionFailed, match="released"):
        await pods.call("wait_ready", uuid)


async def test_a_service_without_keys_needs_none(serve: Serve, connect: Connect) -> None:
    client = await serve()
    assert (await connect(str(client.make_url("/"))).call("list_sessions")).sessions == []


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_client_does_not_show_its_token(kind: type[Client]) -> None:
    assert repr(kind("https://pods.example.com/", KEY)) == f"{kind.__name__}('https://pods.example.com')"
    with pytest.raises(ValueError, match="a token consists of") as caught:
        kind("https://pods.example.com", "two\nlines")
    assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["pods.example.com", "ftp://x", "https://", "https://me:secret@x", "https://x/?a=b", "https://x:99999"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(address)
