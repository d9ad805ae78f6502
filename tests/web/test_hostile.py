"""REST with misbehaving callers: they affect nobody else, and no credential shows up anywhere."""

import asyncio
import gzip
import logging
import zlib
from datetime import timedelta
from unittest.mock import Mock

import pytest
from yarl import URL

from service.adapters.prometheus.exposition import Exposition
from service.domain.limits import Limits
from service.edge.connection_limits import ConnectionLimits
from service.edge.ports import bind
from service.web.edge import RestLimits
from service.web.keys import STREAMS
from service.web.metrics import make_metrics
from service.web.server import running
from tests.domain.conftest import World
from tests.malformed import MALFORMED, SECRET, Malformed, tell_nothing
from tests.waiting import until
from tests.web.conftest import Client, Serve
from tests.wire import asked, said, split

KEY = "k" * 16
JSON = {"Content-Type": "application/json"}
CREATE = b"POST /session/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ANN = b'{"user_id": "ann"}'


HEADERS = (
    "Authorization", "X-Request-Id", "Accept", "Last-Event-Id", "Sec-Fetch-Site", "Range", "If-Modified-Since",
    "If-None-Match", "Content-Type", "Content-Encoding", "Cookie",
)  # fmt: skip


def port(client: Client) -> int:
    assert client.port is not None
    return client.port


# --- no credential shows up ---


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_a_malformed_request_is_not_repeated_in_the_answer_or_the_log(
    serve: Serve, case: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = await serve(keys=[SECRET])
    await tell_nothing(case, port(client), "127.0.0.1", caplog.records)


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_the_metrics_port_does_not_repeat_a_malformed_request(
    exposition: Exposition, case: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sockets = bind("metrics", "127.0.0.1", 0)
    async with running(make_metrics(exposition), sockets, shutdown_timeout=1):
        await tell_nothing(case, sockets[0].getsockname()[1], "127.0.0.1", caplog.records)


async def test_only_known_paths_are_logged(client: Client, world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    uuid = (await world.provisioner.create("ann")).uuid
    await client.get(f"/session/{uuid}/status")
    await client.get("/elsewhere")
    paths = [getattr(record, "path", None) for record in caplog.records if record.name == "service.access"]
    assert paths == [f"/session/{uuid}/status", "-"]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("value", [b"\xff\xfe", "é".encode(), b"a" * 9000, b"bytes=-,", b'"', b"a/b;q=x;charset=\xff"])
async def test_no_header_value_causes_a_server_error(client: Client, world: World, header: str, value: bytes) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    for line in (f"GET /session/{uuid}/status", "GET /docs", "GET /metrics", "POST /session/create"):
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n{header}: ".encode()
        assert split(await said(port(client), head + value + b"\r\n\r\n"))[0].status < 500


# --- bodies ---


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "x", "gzip, gzip", "gzip, br", "identity, x", "\xff"])
async def test_an_unsupported_content_encoding_is_reported(client: Client, world: World, coding: str) -> None:
    length = f"Content-Length: {len(ANN)}\r\nConnection: close\r\n\r\n".encode()
    head = CREATE + f"Content-Encoding: {coding}\r\n".encode("latin-1")
    answer = await asked(port(client), head + length + ANN)
    assert (answer.status, answer.problem["type"]) == (415, "/problems/unsupported-media-type")
    assert not world.store.users


@pytest.mark.parametrize(
    ("coding", "packed"),
    [("gzip", gzip.compress(ANN)), ("GZIP", gzip.compress(ANN)), ("deflate", zlib.compress(ANN))],
    ids=["gzip", "GZIP", "deflate"],
)
async def test_a_supported_content_encoding_is_decoded(client: Client, coding: str, packed: bytes) -> None:
    answer = await client.post("/session/create", data=packed, headers={**JSON, "Content-Encoding": coding})
    assert answer.status == 201


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"no gzip at all", id="none"),
        pytest.param(gzip.compress(ANN)[:12] + b"\xff" * 20, id="broken"),
        pytest.param(gzip.compress(ANN)[:-12], id="half"),
        pytest.param(gzip.compress(ANN) + b"more", id="more"),
    ],
)
async def test_a_broken_content_encoding_is_a_client_error(
    client: Client, world: World, packed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.post("/session/create", data=packed, headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status, answer.content_type) == (400, "application/problem+json")
    assert not world.store.users
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_decompression_bomb_is_too_large(client: Client) -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    answer = await client.post("/session/create", data=bomb, headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status == 413


async def test_nothing_is_decoded_without_a_key(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await serve(keys=["key-of-a-caller"])
    unpacked = Mock(side_effect=zlib.decompressobj)
    monkeypatch.setattr("zlib.decompressobj", unpacked)
    body = gzip.compress(b" " * 1_000_000)
    answer = await client.post("/session/create", data=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status, unpacked.called) == (401, False)


@pytest.mark.parametrize("framing", ["Content-Length: 20", "Transfer-Encoding: chunked"])
async def test_a_missing_body_times_out(serve: Serve, framing: str) -> None:
    client = await serve(rest_limits=RestLimits(connection_limits=ConnectionLimits(), body=0.2))
    reader, writer = await asyncio.open_connection("127.0.0.1", port(client))
    try:
        writer.write(CREATE + f"{framing}\r\n\r\n".encode())
        async with asyncio.timeout(5):
            told = await reader.readuntil(b"\r\n\r\n")
            assert told.startswith(b"HTTP/1.1 408")
            assert b"Connection: close" in told
            assert b"/problems/request-timeout" in await reader.readuntil(b"}")
    finally:
        writer.transport.abort()
        await asyncio.sleep(0.05)


async def test_a_missing_head_times_out(serve: Serve) -> None:
    client = await serve(rest_limits=RestLimits(connection_limits=ConnectionLimits(head=0.2)))
    answer = await asked(port(client), b"GET /livez HTTP/1.1\r\nHost:")
    assert (answer.status, answer.problem["type"]) == (408, "/problems/request-timeout")


async def test_a_disconnect_during_the_body_is_not_an_error(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _, writer = await asyncio.open_connection("127.0.0.1", port(client))
    writer.write(CREATE + b"Content-Length: 9\r\n\r\n{")
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await until(lambda: any(record.name == "service.access" for record in caplog.records))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


# --- bounds ---


async def test_the_total_size_of_headers_is_bounded(serve: Serve) -> None:
    client = await serve(rest_limits=RestLimits(connection_limits=ConnectionLimits(head_bytes=5000)))
    head = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    assert (await asked(port(client), head + b"X: y\r\n" * 200 + b"\r\n")).status == 200
    refused = await asked(port(client), head + b"X: y\r\n" * 2000)
    assert (refused.status, refused.problem["type"]) == (431, "/problems/request-header-fields-too-large")


async def test_connections_are_bounded(serve: Serve) -> None:
    client = await serve(rest_limits=RestLimits(connection_limits=ConnectionLimits(connections=1)))
    _, writer = await asyncio.open_connection("127.0.0.1", port(client))
    await asyncio.sleep(0.05)
    refused = await asked(port(client), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert refused.problem["type"] == "/problems/too-many-connections"
    writer.transport.abort()


@pytest.mark.parametrize(
    ("rest_limits", "status", "slug"),
    [
        (RestLimits(connection_limits=ConnectionLimits(), streams_per_session=2), 429, "too-many-streams-of-session"),
        (RestLimits(connection_limits=ConnectionLimits(), streams=2), 503, "too-many-streams"),
    ],
)
async def test_event_streams_are_bounded_and_a_finished_one_frees_its_slot(
    serve: Serve, world: World, rest_limits: RestLimits, status: int, slug: str
) -> None:
    client = await serve(rest_limits=rest_limits)
    uuid = (await world.provisioner.create("ann")).uuid
    await client.post(f"/session/{uuid}/wake")
    opened = [await client.get(f"/session/{uuid}/events") for _ in range(2)]
    assert [stream.status for stream in opened] == [200, 200]
    refused = await client.get(f"/session/{uuid}/events")
    assert (refused.status, (await refused.json())["type"]) == (status, f"/problems/{slug}")
    assert refused.headers["Retry-After"]
    opened[0].close()

    assert client.app is not None
    room = client.app[STREAMS]
    await until(lambda: room._open.total() == 1)
    async with client.get(f"/session/{uuid}/events") as again:
        assert again.status == 200
    opened[1].close()


# --- members ---


@pytest.mark.parametrize(
    ("idle", "pointer"),
    [
        ('{"cooldown": "5"}', "/idle/cooldown"),
        ('{"cooldown": true}', "/idle/cooldown"),
        ('{"cooldown": 1.5}', "/idle/cooldown"),
        ('{"cooldown": 0}', "/idle/cooldown"),
        ('{"cooldown": 1e400}', "/idle/cooldown"),
        ('{"cooldown": [5]}', "/idle/cooldown"),
        ('{"lease": "15"}', "/idle/lease"),
        ('{"lease": true}', "/idle/lease"),
        ('{"lease": NaN}', "/idle/lease"),
        ('{"lease": Infinity}', "/idle/lease"),
        ('{"poll": "5"}', "/idle/poll"),
        ('{"poll": 5.5}', "/idle/poll"),
        ('{"poll": 3601}', "/idle/poll"),
        ('{"cool": 5}', "/idle/cool"),
        ('{"a/b~c": 5}', "/idle/a~1b~0c"),
        ("5", "/idle"),
    ],
)
async def test_idle_times_are_typed_strictly(client: Client, world: World, idle: str, pointer: str) -> None:
    answer = await client.post("/session/create", data=f'{{"user_id": "ann", "idle": {idle}}}', headers=JSON)
    problem = await answer.json()
    assert (answer.status, [error["pointer"] for error in problem["errors"]]) == (422, [pointer])
    assert not world.store.users


@pytest.mark.parametrize(
    ("idle", "bound"),
    [('{"cooldown": 86401}', "24 h at most"), ('{"lease": 3601}', "1 h at most"), ('{"lease": 4}', "at least 12")],
)
async def test_an_exceeded_limit_is_named(client: Client, idle: str, bound: str) -> None:
    answer = await client.post("/session/create", data=f'{{"user_id": "ann", "idle": {idle}}}', headers=JSON)
    assert answer.status == 422
    assert bound in await answer.text()


@pytest.mark.parametrize("idle", ['{"cooldown": 60}', '{"cooldown": 60.0}', '{"lease": 20}', '{"lease": 20.5}', "{}"])
async def test_every_json_form_of_a_whole_number_is_accepted(client: Client, idle: str) -> None:
    answer = await client.post("/session/create", data=f'{{"user_id": "ann", "idle": {idle}}}', headers=JSON)
    assert answer.status == 201, await answer.text()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sessions?limit=5", 200),
        ("/sessions?limit=5.0", 422),
        ("/sessions?limit=%205", 422),
        ("/sessions?limit=0_5", 422),
        ("/sessions?limit=%D9%A5", 422),
        ("/sessions?limit=true", 422),
        ("/sessions?cursor=", 422),
        ("/sessions?cursor=abc123xy", 200),
        ("/sessions?cursor=ABC123XY", 422),
    ],
)
async def test_a_query_is_typed_as_the_document_says(client: Client, path: str, status: int) -> None:
    assert (await client.get(URL(path, encoded=True))).status == status


@pytest.mark.parametrize("flag", ["yes", "1", "on", "True", ""])
async def test_whether_data_is_kept_is_true_or_false(client: Client, world: World, flag: str) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    assert (await client.delete(f"/session/{uuid}?keep_data={flag}")).status == 422
    assert uuid in world.store.sessions


async def test_the_document_states_the_limits_that_are_enforced(serve: Serve, world: World) -> None:
    limits = Limits(cooldown=timedelta(hours=2), lease=timedelta(minutes=5), extension=timedelta(hours=1))
    world.provisioner._limits = world.activity._limits = limits
    client = await serve(limits=limits)
    schemas = (await (await client.get("/openapi.json")).json())["components"]["schemas"]
    cooldown = schemas["IdleTimes"]["properties"]["cooldown"]["anyOf"][0]["maximum"]
    lease = schemas["IdleTimes"]["properties"]["lease"]["anyOf"][0]["maximum"]
    seconds = schemas["Extension"]["properties"]["seconds"]["maximum"]
    assert (cooldown, lease, seconds) == (7200, 300, 3600)
    for member, most in (("cooldown", cooldown), ("lease", lease)):
        body = {"user_id": f"{member}", "idle": {member: most}}
        assert (await client.post("/session/create", json=body)).status == 201
        body = {"user_id": f"{member}-more", "idle": {member: most + 1}}
        assert (await client.post("/session/create", json=body)).status == 422
    uuid = (await world.provisioner.create("ann")).uuid
    await client.post(f"/session/{uuid}/wake")
    assert (await client.post(f"/session/{uuid}/extend", json={"seconds": seconds + 1})).status == 422
