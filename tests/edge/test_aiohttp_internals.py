"""What service/edge/aiohttp_internals uses of aiohttp is still there; a failure says what breaks without it.

After an upgrade that fails here, mend the named module, then run tests/edge, tests/gateway and tests/web.
"""

import ast
import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import ClientRequest, ClientResponse, ClientTimeout, StreamReader, TCPConnector, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMessage, ContentEncodingError, LineTooLong
from aiohttp.http_writer import StreamWriter
from aiohttp.test_utils import make_mocked_request
from yarl import URL

import service

SERVICE = Path(service.__file__).parent
INTERNALS = SERVICE / "edge" / "aiohttp_internals"
PUBLIC = {"aiohttp", "aiohttp.web", "aiohttp.typedefs"}


async def _respond(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


def _server() -> web.Server:
    return web.Server(_respond)


def _server_connection() -> web.RequestHandler:
    return web.RequestHandler(_server(), loop=asyncio.get_running_loop())


def _client_connection() -> ResponseHandler:
    return ResponseHandler(asyncio.get_running_loop())


def _reader() -> StreamReader:
    loop = asyncio.get_running_loop()
    return StreamReader(BaseProtocol(loop), 2**16, loop=loop)


def _writer() -> StreamWriter:
    loop = asyncio.get_running_loop()
    return StreamWriter(BaseProtocol(loop), loop)


def _client_request() -> ClientRequest:
    return ClientRequest("GET", URL("http://pod"), loop=asyncio.get_running_loop())


class Use(NamedTuple):
    make: Callable[[], object]
    """The object on which the names must exist."""
    names: str
    breaks: str
    """What no longer works without them."""


USES = {
    "server": Use(
        _server,
        "_loop _kwargs connections request_handler request_factory pre_shutdown shutdown",
        "HttpServer: makes connections, and ends them without cutting off requests",
    ),
    "application": Use(web.Application, "_make_handler", "set_server: bounds REST's connections"),
    "connection": Use(
        _server_connection,
        "_request_count _messages _waiter _close _force_close _upgraded _buffer_paused _reading_paused",
        "HttpConnection: knows which bytes are a head or a body, and whether a request is being served",
    ),
    "read-ahead": Use(
        _server_connection,
        "_parser _loop _read_bufsize max_line_size max_field_size max_headers _max_msg_queue_size"
        " _msg_queue_resume_size",
        "HttpConnection: bounds how many requests are read ahead",
    ),
    "overrides": Use(
        _server_connection,
        "connection_made data_received connection_lost handle_error log_exception close transport peername set_parser",
        "edge/connections.py: limits and refusals",
    ),
    "request": Use(
        lambda: make_mocked_request("GET", "/"),
        "_message _version content protocol writer raw_headers",
        "close_after_response and respond_as_http11",
    ),
    "response": Use(
        web.StreamResponse,
        "_req _payload_writer _send_headers_immediately _write_headers _prepare_headers _length_check",
        "ExactResponse: sends heads byte for byte, without added headers",
    ),
    "writer": Use(
        _writer,
        "_headers_buf write_headers send_headers enable_chunking set_eof output_size transport drain write",
        "HeadWriter and send_continue: heads byte for byte, interim responses",
    ),
    "reader": Use(
        _reader,
        "feed_data feed_eof set_exception exception is_eof total_bytes readany",
        "switched.py and abort_body: bytes of WebSockets, bodies that break off",
    ),
    "client's connection": Use(
        _client_connection,
        "data_received feed_data set_exception connection_lost _exception _payload transport force_close"
        " set_response_params set_parser writing_paused",
        "client.py, _Protocol: bounds heads, cuts off malformed bodies, reads early responses",
    ),
    "client's request": Use(
        _client_request,
        "_skip_auto_headers update_headers update_auto_headers write_bytes _get_content_length _body _writer _timer"
        " chunked headers method original_url request_info response_class loop",
        "client.py, _Request: sends targets and headers byte for byte",
    ),
    "connector": Use(TCPConnector, "_factory connect closed close", "OriginClient: makes connections of its own kind"),
    "connector's connection": Use(lambda: Connection, "protocol close", "OriginClient and switched.py"),
    "client's response": Use(lambda: ClientResponse, "start close connection", "OriginClient and switched.py"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_every_internal_name_in_use_still_exists(use: Use) -> None:
    used = use.make()
    missing = [name for name in use.names.split() if not hasattr(used, name)]
    assert not missing, f"aiohttp {aiohttp.__version__} lacks {', '.join(missing)}. That breaks {use.breaks}."


@pytest.mark.parametrize(
    ("function", "names", "breaks"),
    [
        (
            ClientResponse.__init__,
            "method url writer continue100 timer request_info traces loop session stream_writer",
            "client.py, _Request.send_to",
        ),
        (
            ResponseHandler.set_response_params,
            "skip_payload read_until_eof auto_decompress read_bufsize max_line_size max_field_size max_headers",
            "client.py: bounds heads",
        ),
        (
            web.RequestHandler.__init__,
            "manager loop keepalive_timeout access_log max_line_size max_field_size max_headers auto_decompress",
            "edge/connections.py: limits",
        ),
        (web.RequestHandler.handle_error, "request status exc message", "edge/connections.py: answers to faults"),
        (TCPConnector.connect, "req traces timeout", "client.py: connects"),
    ],
)
def test_every_internal_parameter_in_use_is_still_accepted(
    function: Callable[..., Any], names: str, breaks: str
) -> None:
    missing = sorted(set(names.split()) - set(inspect.signature(function).parameters))
    assert not missing, f"aiohttp {aiohttp.__version__} does not accept {', '.join(missing)}. That breaks {breaks}."


async def test_the_request_parser_still_accepts_its_parameters() -> None:
    """It is compiled, so its signature cannot be read."""
    loop = asyncio.get_running_loop()
    HttpRequestParser(
        _server_connection(), loop, 2**16, max_line_size=100, max_field_size=100, max_headers=10,
        payload_exception=web.RequestPayloadError, auto_decompress=False, max_msg_queue_size=2,
    )  # fmt: skip


async def test_the_connector_still_creates_connections_with_its_factory() -> None:
    made: list[ResponseHandler] = []

    def factory() -> ResponseHandler:
        made.append(_client_connection())
        return made[-1]

    listener = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with listener, TCPConnector() as connector:
        connector._factory = factory  # type: ignore[assignment]
        url = URL(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        request = ClientRequest("GET", url, loop=asyncio.get_running_loop())
        connection = await connector.connect(request, [], ClientTimeout())
        assert connection.protocol in made, "client.py: heads are not bounded"
        connection.close()


def test_the_error_for_too_many_headers_still_has_its_message() -> None:
    source = inspect.getsource(aiohttp.http_parser)
    assert "Too many headers received" in source, "is_too_large: the answer would be 400 instead of 431"
    assert issubclass(LineTooLong, BadHttpMessage)
    assert issubclass(ContentEncodingError, BadHttpMessage)


def _modules() -> list[tuple[str, ast.Module]]:
    """Those of the service that use aiohttp, without the package itself."""
    texts = {path: path.read_text() for path in sorted(SERVICE.rglob("*.py")) if INTERNALS not in path.parents}
    return [(str(path.relative_to(SERVICE)), ast.parse(text)) for path, text in texts.items() if "aiohttp" in text]


def test_only_one_module_imports_private_modules_of_aiohttp() -> None:
    found = [
        f"{path}: {node.module}"
        for path, module in _modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "aiohttp"
        if node.module not in PUBLIC
    ]
    assert not found, "move what needs these to service/edge/aiohttp_internals"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _own_names(module: ast.Module) -> set[str]:
    """Attributes that classes of the module set in their constructors."""
    return {
        node.attr
        for constructor in ast.walk(module)
        if isinstance(constructor, ast.FunctionDef) and constructor.name == "__init__"
        for node in ast.walk(constructor)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value)
    }


def test_only_one_module_uses_private_names_of_aiohttp() -> None:
    private = {name for use in USES.values() for name in use.names.split() if name.startswith("_")}
    found = [
        f"{path}:{node.lineno}: {node.attr}"
        for path, module in _modules()
        for own in [_own_names(module)]
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in private
        if not (_is_self(node.value) and node.attr in own)
    ]
    assert not found, "move what needs these to service/edge/aiohttp_internals"
