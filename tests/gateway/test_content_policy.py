"""Which policies of pages let the companion run: a script of the page's origin, and a WebSocket to it."""

import time

import pytest

from service.gateway.injection.content_policy import Origin, is_sandboxed

SCRIPT, SOCKET = "/.user-pods/companion.js", "/.user-pods/companion"
ALLOWED = [
    "",
    ";;",
    "img-src 'none'",
    "default-src 'self'",
    "DEFAULT-SRC 'SELF'",
    "default-src *",
    "default-src 'none'; script-src 'self'; connect-src 'self'",
    "script-src 'self' 'unsafe-eval' 'nonce-1nline-m4p' blob: 'sha256-HcKJ5brlVW66rsFLbutSdT8Mtnm8pD3tRE2Gp1pGWaM='",
    "script-src 'none'; script-src-elem 'self'",
    "script-src 'self'; script-src 'none'",
    "script-src http: https:; connect-src ws: wss: https:",
    "script-src https://vs-code-abc123xy.pods.test; connect-src wss://*.pods.test",
    "script-src vs-code-abc123xy.pods.test:443/.user-pods/",
    "script-src vs-code-abc123xy.pods.test/.user-pods/companion.js",
    "script-src VS-Code-abc123xy.pods.test/%2Euser-pods/",
    "script-src *:*",
    "connect-src ws:",
    "script-src https://*",
    "sandbox allow-scripts allow-same-origin allow-forms",
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; upgrade-insecure-requests; report-uri /x",
    "script-src 'self' 'unsafe-inline'; style-src 'none'; connect-src 'self'",
    "default-src 'self' 'strict-dynamic'; script-src 'self'",
    "script-src-attr 'none'; worker-src 'none'",
]
FORBIDDEN = [
    "default-src 'none'",
    "default-src",
    "script-src",
    "script-src 'none'",
    "default-src 'none'; script-src 'self'",
    "script-src 'self'; connect-src 'none'",
    "script-src 'self'; connect-src https://api.example.com",
    "connect-src https:",
    "script-src 'nonce-abc'",
    "script-src 'sha256-HcKJ5brlVW66rsFLbutSdT8Mtnm8pD3tRE2Gp1pGWaM='",
    "script-src 'self' 'strict-dynamic' 'nonce-abc'",
    "script-src * 'Strict-Dynamic'",
    "default-src 'self' 'strict-dynamic'",
    "script-src 'unsafe-inline' 'unsafe-eval' blob: data:",
    "script-src 'self'; script-src-elem 'none'",
    "script-src http://other.test https://vs-code-abc123xy.pods.test:8443",
    "script-src *.vs-code-abc123xy.pods.test",
    "script-src pods.test",
    "script-src vs-code-abc123xy.pods.test/static/",
    "script-src vs-code-abc123xy.pods.test/.user-pods",
    "script-src self",
    "script-src ftp://vs-code-abc123xy.pods.test",
]
SANDBOXED = ["sandbox", "sandbox allow-scripts", "sandbox allow-same-origin allow-forms", "Sandbox Allow-Scripts"]
"""These make a sandbox, unless they are in a `meta` element."""


@pytest.fixture
def origin() -> Origin:
    return Origin("https", "vs-code-abc123xy.pods.test", script=SCRIPT, socket=SOCKET)


@pytest.mark.parametrize("policy", ALLOWED)
def test_a_policy_that_names_the_page_itself_lets_the_companion_run(origin: Origin, policy: str) -> None:
    assert origin.is_allowed_by(policy)
    assert origin.is_allowed_by_headers([policy])


@pytest.mark.parametrize("policy", FORBIDDEN)
def test_a_policy_that_forbids_a_script_or_a_websocket_of_the_page_itself_does_not(origin: Origin, policy: str) -> None:
    assert not origin.is_allowed_by(policy)
    assert not origin.is_allowed_by_headers([policy])


@pytest.mark.parametrize("policy", SANDBOXED)
def test_a_sandbox_without_scripts_or_an_origin_is_told_apart(origin: Origin, policy: str) -> None:
    assert origin.is_allowed_by(policy)
    assert is_sandboxed([policy])
    assert is_sandboxed([f"default-src 'self', {policy}"])


@pytest.mark.parametrize("policy", ALLOWED)
def test_no_other_page_is_in_a_sandbox(policy: str) -> None:
    assert not is_sandboxed([policy])


def test_all_policies_must_allow_it(origin: Origin) -> None:
    assert origin.is_allowed_by_headers(["default-src 'self', img-src 'none'", "script-src *"])
    assert not origin.is_allowed_by_headers(["default-src 'self', script-src 'none'"])
    assert not origin.is_allowed_by_headers(["default-src 'self'", "connect-src 'none'"])


def test_a_comma_separates_policies_only_in_a_header(origin: Origin) -> None:
    assert origin.is_allowed_by_headers(["img-src 'none', script-src 'self'"])
    assert origin.is_allowed_by("img-src 'none', script-src 'none'")


@pytest.mark.parametrize(
    ("authority", "policy", "allowed"),
    [
        ("vs-code-abc123xy.localhost:8081", "default-src 'self'", True),
        ("vs-code-abc123xy.localhost:8081", "script-src vs-code-abc123xy.localhost:8081; connect-src ws:", True),
        ("vs-code-abc123xy.localhost:8081", "script-src vs-code-abc123xy.localhost", False),
        ("vs-code-abc123xy.localhost:8081", "script-src vs-code-abc123xy.localhost:*", True),
        ("vs-code-abc123xy.localhost:8081", "script-src https:", False),
        ("vs-code-abc123xy.localhost:8081", "connect-src wss:", False),
        ("vs-code-abc123xy.localhost", "script-src http://vs-code-abc123xy.localhost", True),
    ],
)
def test_scheme_and_port_are_the_pages(authority: str, policy: str, allowed: bool) -> None:
    assert Origin("http", authority, script=SCRIPT, socket=SOCKET).is_allowed_by(policy) is allowed


@pytest.mark.parametrize("policy", ["; " * 30_000, "script-src " + "a." * 30_000, "script-src " + "'x' " * 15_000])
def test_no_policy_takes_long_to_read(origin: Origin, policy: str) -> None:
    begun = time.process_time()
    origin.is_allowed_by_headers([policy])
    assert time.process_time() - begun < 1
