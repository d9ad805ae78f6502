"""The diagrams of the documentation, as SVG: drawn from the settings' defaults, with nothing fetched from elsewhere."""

from collections.abc import Iterator, Sequence
from html import escape

from service.domain.idle_times import IdleTimes

_STYLE = """
text { font: 14px system-ui, sans-serif; fill: #334; } .dim { fill: #667; } .end { text-anchor: end; }
.mid { text-anchor: middle; } .line { stroke: #99a; fill: none; } .dash { stroke: #99a; stroke-dasharray: 4 4; }
.queue { fill: #b7791f; } .pod { fill: #287d3c; } .poll { fill: #fff; stroke: #3b5bdb; stroke-width: 2; }
.seen { fill: #3b5bdb; } .user { fill: #c2255c; } .window { fill: #287d3c; opacity: .25; }
@media (prefers-color-scheme: dark) { text { fill: #dde; } .dim { fill: #99a; } .poll { fill: #1e1e28; } }
"""


def _svg(width: int, height: int, title: str, parts: Iterator[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
    return "\n".join([head, f"<title>{title}</title>", f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, style: str, height: int = 18) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height}" rx="3" class="{style}"/>'


def _line(x: float, y: float, x2: float, y2: float, style: str = "line") -> str:
    return f'<line x1="{x:g}" y1="{y:g}" x2="{x2:g}" y2="{y2:g}" class="{style}"/>'


def idleness(times: IdleTimes) -> str:
    """From a wake over the last activity to sleep: user, queue, KEDA's polls and the pod, to scale."""
    lease, poll, cooldown = (t.total_seconds() for t in (times.lease, times.poll, times.cooldown))
    margin = times.MARGIN.total_seconds()
    last = 4 * poll
    empty = last + lease
    first_poll = poll / 2
    polls = [first_poll + n * poll for n in range(int((empty + cooldown + poll) // poll) + 1)]
    seen = max(at for at in polls if at < empty)
    earliest, latest = empty - poll + cooldown, empty + cooldown + poll + margin
    gone = min(at for at in polls if at >= seen + cooldown)
    left, scale = 150, 850 / (latest + poll)

    def x(seconds: float) -> float:
        return left + seconds * scale

    def parts() -> Iterator[str]:
        for number, label in enumerate(("user", "queue", "KEDA polls", "pod")):
            yield _text(left - 15, 59 + 50 * number, label, "end")
            yield _line(left, 76 + 50 * number, x(latest + poll), 76 + 50 * number)
        for at, label in ((0.0, "wake"), (last, "last activity")):
            yield f'<circle cx="{x(at):g}" cy="54" r="6" class="user"/>'
            yield _text(x(at), 38, label, "mid")
        yield _bar(x(0), 96, (empty) * scale, "queue")
        yield _text(x(empty) + 8, 110, f"empty: the lease of {lease:g} s has run out", "dim")
        for at in polls:
            if at <= gone:
                yield f'<circle cx="{x(at):g}" cy="155" r="4" class="{"seen" if at < empty else "poll"}"/>'
        yield _text(x(seen), 140, "last seen non-empty", "mid dim")
        yield _bar(x(0), 196, gone * scale, "pod")
        yield _bar(x(earliest), 190, (latest - earliest) * scale, "window", 30)
        yield _line(x(seen), 160, x(seen), 250, "dash")
        yield _line(x(gone), 160, x(gone), 250, "dash")
        yield _text(
            (x(seen) + x(gone)) / 2, 246, f"cooldown of {cooldown:g} s, then the next poll (every {poll:g} s)", "mid"
        )
        for at in (0.0, last, empty, earliest, latest):
            yield _line(x(at), 270, x(at), 278)
            yield _text(x(at), 294, f"{at:g} s", "mid dim")
        yield _line(left, 270, x(latest + poll), 270)
        yield _text(
            x(latest),
            318,
            f"it sleeps between {earliest - last:g} and {latest - last:g} s after the last activity",
            "end",
        )

    return _svg(1010, 330, "From the last activity to sleep: lease, polls and cooldown", parts())


_ACTORS = ("browser", "your frontend's server", "service", "gateway", "pod")
_CALLS = (
    (0, 1, "sign in"),
    (1, 2, "POST /session/create"),
    (2, 1, "uuid"),
    (1, 2, "POST /session/{uuid}/open"),
    (2, 1, "url with a ticket, good once"),
    (1, 0, "303 to the url"),
    (0, 3, "GET /.user-pods/enter?ticket=…"),
    (3, 0, "303, cookie of this workspace"),
    (0, 3, "GET / (wakes the pod; a page shows how it gets on)"),
    (3, 4, "the same request, once the pod answers"),
)


def flow(actors: Sequence[str] = _ACTORS, calls: Sequence[tuple[int, int, str]] = _CALLS) -> str:
    """Login, create, open, redirect, as a sequence diagram."""

    def x(actor: int) -> int:
        return 90 + 215 * actor

    def parts() -> Iterator[str]:
        yield '<marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        yield '<path d="M0 0 8 4 0 8z" fill="#99a"/></marker>'
        for number, actor in enumerate(actors):
            yield _text(x(number), 24, actor, "mid")
            yield _line(x(number), 34, x(number), 60 + 40 * len(calls), "dash")
        for number, (source, target, label) in enumerate(calls):
            y = 76 + 40 * number
            yield _text((x(source) + x(target)) / 2, y - 7, label, "mid")
            yield _line(x(source), y, x(target), y, 'line" marker-end="url(#to)')

    return _svg(1040, 80 + 40 * len(calls), "Login, create, open, redirect", parts())


def files() -> dict[str, str]:
    """Path below the checkout -> content."""
    return {"docs/explanation/idleness.svg": idleness(IdleTimes()), "docs/tutorial/flow.svg": flow()}
