"""Makes the page of API documentation from the OpenAPI document: static, without scripts."""

from collections.abc import Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; }
section { border-top: 1px solid #8886; padding: .5rem 0 1rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
"""


_EXAMPLE = """curl -s $SERVICE_URL/session/create -H 'Content-Type: application/json' \\
    -d '{"user_id": "john@example.com"}'
curl -s -X POST $SERVICE_URL/session/abc123xy/wake
curl -s $SERVICE_URL/session/abc123xy/status"""


def page(document: dict[str, Any], problems: Sequence[tuple[str, int, str]]) -> str:
    """HTML for one OpenAPI document as `service.web.operations.openapi` makes it, and for the kinds of problems.

    Each problem is its slug, its status, and what it means.
    """
    sections = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    models = [_model(name, schema) for name, schema in document["components"]["schemas"].items()]
    title, text = escape(document["info"]["title"]), escape(document["info"]["description"])
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}: API</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
            f"<h1>{title}</h1><p>{text}</p>",
            "<p>With keys configured, send one as <code>Authorization: Bearer &lt;key&gt;</code>. For example:</p>",
            f"<pre>{escape(_EXAMPLE)}</pre>",
            '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
            *sections,
            "<h2>Bodies</h2>",
            *models,
            "<h2>Problems</h2><p>Errors are problem documents (RFC 9457); their <code>type</code> leads here.</p>",
            *(
                f"<section id='{slug}'><h3><code>{slug}</code> ({status})</h3><p>{escape(text)}.</p></section>"
                for slug, status, text in problems
            ),
            "</body></html>",
            "",
        ]
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        _row(f"<code>{escape(p['name'])}</code>", escape(_kind(p["schema"])), escape(p.get("description", "")))
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody")
    if body:
        rows.append(
            f"<tr><td>body</td><td></td><td>{_reference(body['content']['application/json']['schema'])}</td></tr>"
        )
    answers = [
        _row(status, escape(answer["description"]), _content(answer))
        for status, answer in operation["responses"].items()
    ]
    return (
        f"<section id='{escape(operation['operationId'])}'><h2><span class='method'>{method.upper()}</span> "
        f"<code>{escape(path)}</code></h2><p>{escape(operation['summary'])}</p>"
        f"{'<table>' + ''.join(rows) + '</table>' if rows else ''}<table>{''.join(answers)}</table></section>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _content(answer: dict[str, Any]) -> str:
    return " ".join(_reference(media["schema"]) for media in answer.get("content", {}).values())


def _reference(schema: dict[str, Any]) -> str:
    name = escape(schema["$ref"].rsplit("/", 1)[1])
    return f"<a href='#{name}'>{name}</a>"


def _model(name: str, schema: dict[str, Any]) -> str:
    rows = [
        _row(f"<code>{escape(member)}</code>", escape(_kind(part)), escape(part.get("description", "")))
        for member, part in schema.get("properties", {}).items()
    ]
    values = " ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", []))
    text = escape(schema.get("description", ""))
    heading = f"<h3>{escape(name)}</h3><p>{text} {values}</p>"
    return f"<section id='{escape(name)}'>{heading}<table>{''.join(rows)}</table></section>"


_BOUNDS = {
    "pattern": "like", "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most",
    "minLength": "characters, at least", "maxLength": "characters, at most", "default": "default",
}  # fmt: skip


def _kind(part: dict[str, Any]) -> str:
    """The type in words, with its bounds."""
    if "anyOf" in part:
        return " or ".join(_kind(option) for option in part["anyOf"])
    if "$ref" in part:
        return str(part["$ref"]).rsplit("/", 1)[1]
    choices = part.get("enum") or ([part["const"]] if "const" in part else [])
    kind = " | ".join(map(str, choices)) or str(part.get("type", ""))
    connection_limits = [
        f"{word} {part[bound]}" for bound, word in _BOUNDS.items() if part.get(bound) not in (None, [], {})
    ]
    return ", ".join([kind, *connection_limits])
