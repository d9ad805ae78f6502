"""The idleness table: sleeps are false or missed by the limits that the docs promise; a slow machine is no verdict."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import async_playwright

from bench import idleness, judgement, people
from bench.judgement import COOLDOWN, LEASE, LIMIT, POLL, Input, Row, Seen, Sleep, judged
from bench.people import PATTERNS, Person

GOOD = Row("VS Code", "typing", sleeps=1, seconds=25.2)


def at(*times: float, took: float = 0.0) -> list[Input]:
    return [Input(each, each + took) for each in times]


def asleep(*times: float, known_within: float = 0.2) -> Seen:
    return Seen([Sleep(each - known_within, each) for each in times])


def test_the_limits_are_those_of_the_docs() -> None:
    assert LIMIT == LEASE + COOLDOWN + POLL + 2
    assert f"due by {LIMIT:g} s" in idleness.DOCUMENT.read_text()
    # The service refuses a shorter lease, and the gateway reports the last input of five seconds at their end.
    assert max(2 * POLL, 5 + POLL) + 2 < LEASE


def test_a_sleep_within_the_limits_is_neither_false_nor_missed() -> None:
    row = judged("p", "q", at(100.0, 110.0), asleep(110.0 + COOLDOWN + 3))
    assert (row.sleeps, row.false, row.missed, row.seconds) == (1, 0, 0, COOLDOWN + 3)
    assert row.is_good


def test_a_sleep_before_the_cooldown_is_false() -> None:
    row = judged("p", "q", at(100.0, 110.0), asleep(100.0 + 9, 110.0 + COOLDOWN + 1))
    assert (row.sleeps, row.false, row.missed, row.is_good) == (2, 1, 0, False)
    assert row.findings == ["asleep 9.0 s after an input"]


def test_a_sleep_while_a_page_is_opened_is_false_from_the_visit_on() -> None:
    row = judged("p", "q", [Input(100.0, 108.0), Input(120.0, 120.0)], asleep(110.0, 150.0 - 3))
    assert row.false == 1


def test_a_sleep_that_is_late_or_never_comes_is_missed() -> None:
    late = judged("p", "q", at(100.0), asleep(100.0 + LIMIT + 1))
    assert (late.missed, late.is_good) == (1, False)
    never = judged("p", "q", at(100.0), Seen())
    assert (never.missed, never.seconds, never.is_good) == (1, None, False)


def test_a_false_sleep_does_not_stand_for_the_one_after_the_last_input() -> None:
    row = judged("p", "q", at(100.0, 120.0), asleep(105.0))
    assert (row.false, row.missed) == (1, 1)


def test_a_wake_without_an_input_is_a_missed_sleep() -> None:
    seen = asleep(100.0 + COOLDOWN + 5)
    seen.wakes.append(100.0 + COOLDOWN + 8)
    row = judged("p", "q", at(100.0), seen)
    assert (row.missed, row.findings) == (1, ["awake again 3.0 s after the sleep, without an input"])


def test_a_wake_before_the_last_input_is_what_somebody_did_after_a_false_sleep() -> None:
    seen = asleep(110.0, 150.0)
    seen.wakes.append(112.0)
    row = judged("p", "q", at(100.0, 111.0, 125.0), seen)
    assert (row.false, row.missed) == (1, 0)


@pytest.mark.parametrize(
    ("inputs", "sleep"),
    [
        pytest.param(at(100.0), Sleep(100.0 + LIMIT - 1, 100.0 + LIMIT + 1), id="late, perhaps"),
        pytest.param(at(100.0, took=2.0), Sleep(101.0 + LIMIT, 101.1 + LIMIT), id="late after an input that was slow"),
        pytest.param(at(100.0), Sleep(100.0 + COOLDOWN - 1, 100.0 + COOLDOWN + 1), id="early, perhaps"),
        pytest.param(at(100.0, took=3.0), Sleep(101.0 + COOLDOWN, 101.1 + COOLDOWN), id="early after a slow input"),
    ],
)
def test_what_was_too_slow_to_tell_is_a_doubt_and_no_verdict(inputs: list[Input], sleep: Sleep) -> None:
    row = judged("p", "q", inputs, Seen([sleep]))
    assert (row.false, row.missed, len(row.doubts), row.is_good) == (0, 0, 1, False)


def test_an_input_that_may_have_come_before_or_after_a_sleep_hides_no_false_one() -> None:
    row = judged("p", "q", at(100.0, 104.9), Seen([Sleep(104.8, 105.0), Sleep(129.0, 129.1)]))
    assert row.false == 1


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "idleness.md"
    document.write_text(f"before\n{judgement.BEGIN}\nold\n{judgement.END}\nafter\n")
    judgement.write(document, [GOOD, Row("JupyterLab", "phone", missed=1)])
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| VS Code | typing | 1 | 0 | 0 | 25.2 s |" in text
    assert "| JupyterLab | phone | 0 | 0 | 1 | never |" in text
    assert "old" not in text
    document.write_text("nothing")
    with pytest.raises(ValueError, match="has no place for the table"):
        judgement.write(document, [GOOD])


def test_rows_are_kept_as_json_until_they_are_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, keys = tmp_path / "results" / "idleness.json", [("VS Code", "typing"), ("VS Code", "phone")]
    first = judgement.Results(path, keys)
    first.add(Row("VS Code", "phone", false=1, findings=["asleep 3.0 s after an input"]))
    assert not first.is_complete
    assert json.loads(path.read_text())["rows"][0]["findings"] == ["asleep 3.0 s after an input"]
    second = judgement.Results(path, keys)
    second.add(GOOD)
    assert (second.is_complete, [row.pattern for row in second.rows]) == (True, ["typing", "phone"])
    second.add(Row("VS Code", "phone", sleeps=1, seconds=25.0))
    assert [row.is_good for row in judgement.Results(path, keys).rows] == [True, True]
    monkeypatch.setitem(judgement._LIMITS, "cooldown", COOLDOWN + 1)
    assert judgement.Results(path, keys).rows == [], "they were measured with other limits"


def test_the_document_shows_one_sleep_and_nothing_false_or_missed_in_every_row() -> None:
    _, _, rest = idleness.DOCUMENT.read_text().partition(judgement.BEGIN)
    written, end, _ = rest.partition(judgement.END)
    assert end
    head, _, *rows = written.strip().splitlines()
    assert head == judgement.table([]).splitlines()[0]
    keys = {(program.name, pattern) for program in idleness.PROGRAMS for pattern in PATTERNS}
    for row in rows:
        program, pattern, sleeps, false, missed, seconds = (cell.strip() for cell in row.strip("|").split("|"))
        keys.remove((program, pattern))
        assert (sleeps, false, missed) == ("1", "0", "0")
        assert COOLDOWN <= float(seconds.removesuffix(" s")) <= LIMIT + 0.5
    assert len(rows) > len(keys), "most of them have been measured"


@pytest.mark.parametrize("name", PATTERNS)
async def test_no_pause_of_a_pattern_lets_its_workspace_sleep(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    who, slept = AsyncMock(), AsyncMock()
    who.machine = Mock()
    monkeypatch.setattr(asyncio, "sleep", slept)
    await PATTERNS[name].act(who)
    pauses = [next(each for each in call.args if isinstance(each, float)) for call in who.mock_calls if _is_input(call)]
    assert len(pauses) >= 6
    assert 3 < max(pauses) < COOLDOWN
    assert sum(pauses) < 60, "all of them have to fit into ten minutes"


def _is_input(call: Any) -> bool:
    return call[0] in ("key", "scroll", "point", "touch")


@pytest.fixture
async def who() -> AsyncIterator[Person]:
    """Somebody before a page that notes what happens to it."""
    if people.missing() and not os.environ.get("CI"):
        pytest.skip("a browser needs the Debian package chromium")
    async with async_playwright() as playwright, people.person(playwright) as somebody:
        await somebody.page.goto(f"data:text/html,{quote(_NOTING)}")
        yield somebody


_NOTING = """<!doctype html><title>noting</title><body style="height: 9999px"><script>
const noted = { events: [], gap: 0 };
let last = performance.now();
setInterval(() => { noted.gap = Math.max(noted.gap, performance.now() - last); last = performance.now(); }, 20);
for (const kind of ["keydown", "mousemove", "wheel", "touchstart", "freeze", "visibilitychange"])
    document.addEventListener(kind, (event) => event.isTrusted && noted.events.push(kind));
</script>"""


@pytest.mark.browser
async def test_each_input_is_noted_and_reaches_the_page_as_its_users_own(who: Person) -> None:
    await who.key(0)
    await who.point(who.page, 0, 50)
    await who.scroll(0)
    await who.hold_a_phone()
    await who.touch(0)
    assert len(who.inputs) == 4
    assert all(each.began <= each.done for each in who.inputs)
    for kind in ("keydown", "mousemove", "wheel", "touchstart"):
        await who.page.wait_for_function("kind => noted.events.includes(kind)", arg=kind)


@pytest.mark.browser
async def test_behind_another_tab_a_page_is_hidden_and_then_frozen(who: Person) -> None:
    await who.leave(0.2)
    async with aiohttp.ClientSession(who.machine.address, trust_env=False) as http:
        async with http.get("/json/list") as answer:
            (tab,) = [each for each in await answer.json() if each["title"] == "noting"]
        async with http.ws_connect(tab["webSocketDebuggerUrl"]) as devtools:
            events = await people._call(devtools, "Runtime.evaluate", expression="noted.events.join()")
    assert events["result"]["value"] == "visibilitychange,freeze"


@pytest.mark.browser
async def test_behind_a_closed_lid_nothing_runs_and_goes_on_when_it_is_opened(who: Person) -> None:
    who.machine.suspend()
    await asyncio.sleep(0.5)
    who.machine.resume()
    await who.page.wait_for_function("noted.gap >= 500")
