"""A client of a container registry, for archives: the part of the OCI distribution API that takes and gives blobs.

An archive is the only layer of a manifest, which a tag names. What comes out of a registry is as trustworthy as the
registry: who calls has to know the content's digest from elsewhere.
"""

import base64
import hashlib
import json
import re
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from devcluster.errors import DevclusterError

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_EMPTY = b"{}"
_EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
_MOST_OF_A_MANIFEST = 1 << 20
_CHUNK = 1 << 18
_HOST = r"([A-Za-z0-9.-]+|\[[0-9a-f:]+\])(:\d+)?"
_REPOSITORY = r"[a-z0-9]+([._/-]+[a-z0-9]+)*"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class RegistryFailed(DevclusterError):
    """The registry gave an answer that is of no use: an error, or content with another digest than it promised."""


class RegistryUnreachable(RegistryFailed):
    """No answer in time."""


@dataclass(frozen=True)
class Timeouts:
    """How long to wait, in seconds: for a connection, for the next bytes, and for an archive altogether."""

    connect: float = 5
    read: float = 15
    archive: float = 600


class Registry:
    """One repository of a registry, for example ``ghcr.io/example/user-pods/tools``.

    TLS always, but for registries on this machine. `HTTPS_PROXY` and `NO_PROXY` apply. `credentials` are a user and a
    password or token, for pushes and for repositories that are not public.
    """

    def __init__(
        self, address: str, credentials: tuple[str, str] | None = None, *, timeouts: Timeouts | None = None
    ) -> None:
        host, _, repository = address.partition("/")
        if not re.fullmatch(_HOST, host) or not re.fullmatch(_REPOSITORY, repository):
            raise DevclusterError(f"{address!r} is no repository of a registry: write host/path, in small letters")
        self.address = address
        self._host = host
        self._repository = repository
        self._credentials = credentials
        self._timeouts = timeouts or Timeouts()
        self._local = re.sub(r":\d+$", "", host) in _LOCAL
        self._root = f"{'http' if self._local else 'https'}://{host}/v2/{repository}"
        self._http = _pool(host, local=self._local)
        self._token = ""
        self._closed = threading.Event()

    def close(self) -> None:
        """End downloads of other threads soon."""
        self._closed.set()

    # --- pull ---

    def layer(self, tag: str) -> str | None:
        """The digest of the archive under a tag; None if there is no such tag."""
        answer = self._call("GET", f"{self._root}/manifests/{tag}", headers={"Accept": _MANIFEST})
        try:
            if answer.status in (401, 403, 404):  # registries do not tell strangers what does not exist
                return None
            self._expect(answer, 200)
            return self._layer_of(self._body(answer, _MOST_OF_A_MANIFEST))
        finally:
            answer.close()

    def download(self, digest: str, target: Path, limit: int) -> None:
        """Write a blob of at most `limit` bytes to a file. A file that is there is its beginning, and continued.

        Raises RegistryFailed if the content has not the digest or is longer; then the file is gone. If it breaks off,
        it stays. Raises OSError if the file cannot be written.
        """
        deadline = time.monotonic() + self._timeouts.archive
        size = target.stat().st_size if target.exists() else 0
        headers = {"Range": f"bytes={size}-"} if size else {}
        answer = self._call("GET", f"{self._root}/blobs/{digest}", headers=headers)
        try:
            if answer.status != 416:  # 416: all of it is there already
                self._expect(answer, 200, 206)
                with target.open("ab" if answer.status == 206 else "wb") as file:
                    for chunk in self._chunks(answer, deadline):
                        file.write(chunk)
                        if file.tell() > limit:
                            target.unlink()
                            raise RegistryFailed(f"{self.address} sends more than {limit} bytes for {digest}")
        finally:
            answer.close()
        found = _sha256(target)
        if found != digest:
            target.unlink()
            if size:  # what was there was not its beginning
                self.download(digest, target, limit)
                return
            raise RegistryFailed(f"{self.address} sent {found} for {digest}")

    def _chunks(self, answer: urllib3.BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
        """What is wrong with the file that they are written to is not caught here."""
        try:
            for chunk in answer.stream(_CHUNK, decode_content=False):
                yield chunk
                if self._closed.is_set():
                    raise RegistryFailed("interrupted")
                if time.monotonic() > deadline:
                    raise RegistryUnreachable(f"{self.address} is too slow")
        except (HTTPError, OSError) as error:
            raise self._stopped(error) from None

    def _layer_of(self, manifest: bytes) -> str:
        try:
            (layer,) = json.loads(manifest)["layers"]
            digest = layer["digest"]
        except (ValueError, KeyError, TypeError, RecursionError):
            digest = None
        if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise RegistryFailed(f"{self.address} has something else than an archive under this tag")
        return digest

    # --- push ---

    def push(self, tag: str, archive: Path, annotations: Mapping[str, str]) -> str:
        """Upload an archive and let the tag name it. Returns the digest of its manifest."""
        digest, size = _sha256(archive), archive.stat().st_size
        with archive.open("rb") as content:
            self._upload(digest, size, content)
        empty = f"sha256:{hashlib.sha256(_EMPTY).hexdigest()}"
        self._upload(empty, len(_EMPTY), _EMPTY)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "artifactType": "application/vnd.user-pods.tool",
            "config": {"mediaType": _EMPTY_CONFIG, "digest": empty, "size": len(_EMPTY)},
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": size}],
            "annotations": dict(annotations),
        }
        body = json.dumps(manifest, sort_keys=True).encode()
        url = f"{self._root}/manifests/{tag}"
        answer = self._call("PUT", url, headers={"Content-Type": _MANIFEST}, body=body)
        self._expect(answer, 201)
        answer.close()
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def _upload(self, digest: str, size: int, content: Any) -> None:
        known = self._call("HEAD", f"{self._root}/blobs/{digest}")
        known.close()
        if known.status == 200:
            return
        begun = self._call("POST", f"{self._root}/blobs/uploads/", headers={"Content-Length": "0"})
        self._expect(begun, 202)
        begun.close()
        place = urllib3.util.parse_url(str(begun.geturl() or self._root))
        location = begun.headers["Location"]
        url = location if "://" in location else f"{place.scheme}://{place.netloc}{location}"
        url += f"{'&' if '?' in url else '?'}digest={digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        done = self._call("PUT", url, headers=headers, body=content)
        self._expect(done, 201)
        done.close()

    # --- HTTP ---

    def _call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> urllib3.BaseHTTPResponse:
        """One request, after a login if the registry demands one."""
        answer = self._send(method, url, headers or {}, body)
        challenge = answer.headers.get("WWW-Authenticate", "")
        try:
            if answer.status != 401 or not challenge or not self._log_in(challenge):
                return answer
        except RegistryUnreachable:
            answer.close()
            raise
        answer.close()
        if hasattr(body, "seek"):
            body.seek(0)
        return self._send(method, url, headers or {}, body)

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> urllib3.BaseHTTPResponse:
        own = {"Authorization": self._token} if self._token else {}
        try:
            return self._http.request(
                method, url, headers={**headers, **own}, body=body, preload_content=False,
                timeout=urllib3.Timeout(connect=self._timeouts.connect, read=self._timeouts.read),
                retries=urllib3.Retry(redirect=5, connect=0, read=0, status=0, other=0),
            )  # fmt: skip
        except (HTTPError, OSError) as error:
            raise RegistryUnreachable(f"{self._host} cannot be reached: {_reason(error)}") from None

    def _log_in(self, challenge: str) -> bool:
        """Follow a registry's WWW-Authenticate. Returns whether the request is worth repeating."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            self._token = self._basic() if self._credentials else ""
            return bool(self._token)
        words = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = words.pop("realm", "")
        # Else the password would go in plain text, to where an answer in plain text says.
        if scheme.lower() != "bearer" or not (self._local or realm.startswith("https://")):
            return False
        self._token = ""
        login = {"Authorization": self._basic()} if self._credentials else {}
        answer = self._send("GET", f"{realm}?{_query(words)}", login, None)
        try:
            found = json.loads(self._body(answer, _MOST_OF_A_MANIFEST)) if answer.status == 200 else None
        except (ValueError, RecursionError):
            found = None
        finally:
            answer.close()
        token = found.get("token") or found.get("access_token") if isinstance(found, dict) else None
        if isinstance(token, str) and re.fullmatch(r"[!-~]+", token):
            self._token = f"Bearer {token}"
        return bool(self._token)

    def _basic(self) -> str:
        assert self._credentials is not None  # noqa: S101
        return f"Basic {base64.b64encode(':'.join(self._credentials).encode()).decode()}"

    def _expect(self, answer: urllib3.BaseHTTPResponse, *statuses: int) -> None:
        if answer.status not in statuses:
            try:
                text = self._body(answer, 500).decode(errors="replace")
            finally:
                answer.close()
            raise RegistryFailed(f"{self.address} answered {answer.status}: {text}")

    def _body(self, answer: urllib3.BaseHTTPResponse, limit: int) -> bytes:
        """At most `limit` bytes of an answer. Raises RegistryUnreachable if it breaks off."""
        try:
            return answer.read(limit)
        except (HTTPError, OSError) as error:
            raise self._stopped(error) from None

    def _stopped(self, error: BaseException) -> RegistryUnreachable:
        return RegistryUnreachable(f"{self.address} stopped answering: {_reason(error)}")


def _pool(host: str, *, local: bool) -> urllib3.PoolManager:
    proxy = urllib.request.getproxies_environment().get("https")
    if local or not proxy or urllib.request.proxy_bypass(host):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy)


def _query(words: Mapping[str, str]) -> str:
    return urllib.parse.urlencode({name: words[name] for name in ("service", "scope") if name in words})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _reason(error: BaseException) -> str:
    """The innermost error, without the pools and objects that urllib3 names around it."""
    inner = getattr(error, "reason", None)
    return _reason(inner) if isinstance(inner, BaseException) else str(error).rpartition("): ")[2]
