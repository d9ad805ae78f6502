"""Requests that contain a credential and are malformed in various ways, for every port.

Whatever becomes of them, the credential must be neither in an answer nor in a log.
"""

from dataclasses import dataclass
from typing import Any

from tests.wire import asked, logged

SECRET = "hunter2-hunter2-hunter2"
SIZE = 70_000


@dataclass(frozen=True)
class Malformed:
    name: str
    text: str
    """With `{host}` and `{secret}`, as Latin-1."""
    status: int | None = None
    """None: it depends on the port."""

    def __str__(self) -> str:
        return self.name

    def request(self, host: str, secret: str = SECRET) -> bytes:
        return self.text.replace("{host}", host).replace("{secret}", secret).encode("latin-1")


def _get(name: str, *headers: str, status: int | None = None, target: str = "/x") -> Malformed:
    lines = [f"GET {target} HTTP/1.1", "Host: {host}", *headers, "Connection: close", "", ""]
    return Malformed(name, "\r\n".join(lines), status)


def _post(name: str, *headers: str, body: str = "", status: int | None = None) -> Malformed:
    start = ["POST /session/create HTTP/1.1", "Host: {host}", "Content-Type: application/json"]
    return Malformed(name, "\r\n".join([*start, *headers, "Connection: close", "", body]), status)


BEARER = "Authorization: Bearer {secret}"
MALFORMED = (
    _get("space-before-colon", "Authorization : Bearer {secret}", status=400),
    _get("tab-before-colon", "Authorization\t: Bearer {secret}", status=400),
    _get("control-byte", BEARER + "\x01", status=400),
    _get("nul", BEARER + "\x00", status=400),
    _get("bare-return", BEARER + "\rX: y", status=400),
    _get("folded", "Authorization: Bearer", " {secret}", status=400),
    _get("no-colon", "Bearer {secret}", status=400),
    _get("no-name", ": Bearer {secret}", status=400),
    _get("name-of-other-bytes", "{secret}\xe9: x", status=400),
    _get("non-ascii", BEARER + "\xe9\xff"),
    _get("utf-8", BEARER + "\xc3\xa9"),
    _get("twice", BEARER, BEARER),
    _get("basic", "Authorization: Basic {secret}"),
    _get("alone", "Authorization: {secret}"),
    _get("oversize", BEARER + "x" * SIZE, status=431),
    _get("among-many", BEARER, *(f"X-{number}: y" for number in range(1100)), status=431),
    _get("before-a-flood", BEARER, *(f"X-{number}: {'y' * 1000}" for number in range(80)), status=431),
    _get("proxy", "Proxy-Authorization : Basic {secret}", status=400),
    _get("proxy-well-formed", "Proxy-Authorization: Basic {secret}"),
    _get("cookie-control-byte", "Cookie: __Host-user-pods={secret}; a=\x01", status=400),
    _get("cookie-space", "Cookie : __Host-user-pods={secret}", status=400),
    _get("cookie-non-ascii", "Cookie: __Host-user-pods=1.{secret}\xe9"),
    _get("cookie-halves", "Cookie: __Host-user-pods={secret}", "Cookie: __Host-user-pods={secret}; b"),
    _get("cookie-oversize", "Cookie: __Host-user-pods={secret}; a=" + "x" * SIZE, status=431),
    _get("referer", "Referer: https://{host}/.user-pods/enter?ticket={secret}"),
    _get("ticket", target="/.user-pods/enter?ticket={secret}&to=/"),
    _get("ticket-other-bytes", target="/.user-pods/enter?ticket={secret}\xe9", status=400),
    _get("ticket-oversize", target="/.user-pods/enter?ticket={secret}" + "x" * SIZE, status=414),
    _get("ticket-and-fragment", target="/.user-pods/enter?ticket={secret}#x"),
    _get("in-path", target="/{secret}"),
    _get("in-path-of-a-session", target="/session/{secret}/status"),
    _get("bad-percent", target="/%zz{secret}%"),
    _get("userinfo", target="http://user:{secret}@{host}/x"),
    _get("userinfo-broken", target="http://user:{secret}@[/x", status=400),
    _get("no-path", target="{secret}", status=400),
    _get("host-userinfo", "X-Forwarded-Host: {secret}"),
    _get("second-host", "Host: {secret}", status=400),
    Malformed("host", "GET /x HTTP/1.1\r\nHost: user:{secret}@x\r\nConnection: close\r\n\r\n"),
    Malformed("no-host", "GET /x HTTP/1.1\r\nX-Key: {secret}\r\n\r\n", 400),
    Malformed("0.9", "GET /{secret}\r\n\r\n", 505),
    Malformed("1.9", "GET /{secret} HTTP/1.9\r\nHost: {host}\r\n\r\n", 400),
    Malformed("2.0", "GET /{secret} HTTP/2.0\r\nHost: {host}\r\n\r\n", 505),
    Malformed("version", "GET / {secret}\r\nHost: {host}\r\n\r\n", 400),
    Malformed("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{secret}", 400),
    Malformed("method", "{secret} / HTTP/1.1\r\nHost: {host}\r\n\r\n", 400),
    Malformed("bare-feed", "GET / HTTP/1.1\nHost: {host}\nAuthorization: Bearer {secret}\n\n", 400),
    Malformed("tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03{secret}\r\n\r\n", 400),
    Malformed("connect", "CONNECT {secret}:443 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    _post("coding", BEARER, "Transfer-Encoding: gzip, chunked", body="0\r\n\r\n", status=501),
    _post("coding-named", "Transfer-Encoding: {secret}", status=400),
    _post("length-named", "Content-Length: {secret}", status=400),
    _post("length-twice", BEARER, "Content-Length: 1", "Content-Length: 1", body="x", status=400),
    _post("length-and-chunks", BEARER, "Content-Length: 1", "Transfer-Encoding: chunked", body="0\r\n\r\n", status=400),
    _post("expect", BEARER, "Expect: {secret}", "Content-Length: 0", status=417),
    _post("chunk-size", BEARER, "Transfer-Encoding: chunked", body="{secret}\r\nx\r\n0\r\n\r\n"),
    _post("content-coding", "Content-Encoding: {secret}", "Content-Length: 2", body="{}"),
    _post("body", "Content-Length: 25", body="{secret}\r\n"),
)


async def tell_nothing(case: Malformed, port: int, host: str, records: list[Any], secret: str = SECRET) -> int:
    """The answer's status; the answer is a problem document, and neither it nor the log has the secret."""
    answer = await asked(port, case.request(host, secret))
    problem = answer.problem
    assert 400 <= answer.status < 600
    assert answer.status == (case.status or answer.status), answer
    assert set(problem) >= {"type", "title", "status", "detail", "instance"}
    assert problem["status"] == answer.status
    assert problem["instance"].startswith("urn:request:")
    assert secret not in answer.body.decode("latin-1") + repr(answer.headers)
    assert secret not in logged(records)
    return answer.status
