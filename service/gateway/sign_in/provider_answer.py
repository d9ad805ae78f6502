"""Reads what the identity provider sends the browser back with."""

from aiohttp import web

from service.domain.sign_in_attempts import ProviderAnswer


def read(request: web.BaseRequest) -> ProviderAnswer:
    return ProviderAnswer(
        state=single(request, "state") or "",
        code=single(request, "code"),
        issuer=single(request, "iss"),
        error=single(request, "error"),
    )


def single(request: web.BaseRequest, name: str) -> str | None:
    """The parameter's value; None when it is missing, no text, or given twice: programs might read it differently."""
    values = request.query.getall(name, ())
    return values[0] if len(values) == 1 and values[0].isprintable() else None
