"""API keys: only hashes are stored, several are valid at once, and one bad line costs no other its key."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import api_keys
from service.domain.api_keys import KEY_ROLES, ApiKeys, ApiKeysUnreadable, BadKeyLine, new_api_key, parse_line
from service.domain.permissions import SERVICE, Caller, CallerRole
from tests.fakes import MemoryApiKeyFile
from tests.waiting import until

FRONTEND, VIEWER = CallerRole.FRONTEND, CallerRole.VIEWER


def test_no_key_has_the_name_under_which_the_service_itself_acts() -> None:
    with pytest.raises(BadKeyLine, match="its name must have"):
        new_api_key(SERVICE, FRONTEND)


@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True).filter(
        lambda name: name not in api_keys._RESERVED
    ),
    role=st.sampled_from(KEY_ROLES),
    user_id=st.none() | st.from_regex(r"[!-~]{1,254}", fullmatch=True),
)
def test_a_line_says_everything_about_a_key_but_the_key(name: str, role: CallerRole, user_id: str | None) -> None:
    key, stored = new_api_key(name, role, user_id)
    assert parse_line(stored.line) == stored
    assert stored.caller == Caller(name=name, role=role, user_id=user_id, key_id=key[4:14])
    assert key[15:] not in stored.line


def test_a_key_has_256_random_bits() -> None:
    keys = {new_api_key("shop", FRONTEND)[0] for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {len("upk_") + 10 + 1 + 43}


async def test_keys_of_one_name_are_valid_at_once_and_an_unknown_one_is_not() -> None:
    (old, old_stored), (new, new_stored) = new_api_key("shop", FRONTEND), new_api_key("shop", FRONTEND)
    keys = ApiKeys(MemoryApiKeyFile(f"# of the shop\n\n{old_stored.line}\n{new_stored.line}\n"), ["k" * 16])
    await keys.load()
    assert (keys.caller(old), keys.caller(new)) == (old_stored.caller, new_stored.caller)
    assert keys.caller("k" * 16) == Caller(name="api", role=CallerRole.OPERATOR)
    other, _ = new_api_key("shop", FRONTEND)
    for wrong in (other, old[:-1], old + "x", old[:14] + new[14:], old.upper(), "", "upk_", "k" * 17, "\udcff"):
        assert keys.caller(wrong) is None, wrong


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("name=a role=viewer id=0123456789", "must have name, role, id, sha256"),
        ("name=a role=viewer id=0123456789 sha256={0} expires=never", "at most user"),
        ("name=a name=b role=viewer id=0123456789 sha256={0}", "each once"),
        ("name=A role=viewer id=0123456789 sha256={0}", "its name"),
        ("name=visit role=viewer id=0123456789 sha256={0}", "its name must be none of"),
        ("name=a role=root id=0123456789 sha256={0}", "operator, frontend, viewer"),
        ("name=a role=user id=0123456789 sha256={0} user=ann", "its role"),
        ("name=a role=viewer id=012345678 sha256={0}", "its id or sha256"),
        ("name=a role=viewer id=0123456789 sha256=zz", "its id or sha256"),
        ("name=a role=viewer id=0123456789 sha256={0} user=\u00e9", "its user is no user id"),
        ("name=a role=viewer id=0123456789 sha256={0} user=", "its user is no user id"),
        ("name=a role=viewer id=0123456789 sha256={0} group=", "its group must"),
        ("name=a role=viewer id=0123456789 sha256={0} group=A", "its group must"),
        ("upk_0123456789_secretsecretsecret", "must have name"),
    ],
)
async def test_a_bad_line_is_named_by_its_number_and_costs_no_other_its_key(
    line: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, stored = new_api_key("shop", FRONTEND)
    line = line.format("0" * 64)
    with pytest.raises(BadKeyLine, match=why):
        parse_line(line)
    keys = ApiKeys(MemoryApiKeyFile(f"{line}\n{stored.line}\n"))
    await keys.load()
    assert keys.caller(key) == stored.caller
    remark = keys.remark()
    assert remark is not None
    assert "line 1 is left out" in remark
    assert why in remark
    for text in (remark, caplog.text):
        assert "secret" not in text
        assert "0" * 64 not in text


async def test_the_first_of_two_lines_with_one_id_is_valid() -> None:
    key, stored = new_api_key("shop", FRONTEND)
    _, other = new_api_key("other", VIEWER)
    copied = other.line.replace(str(other.caller.key_id), str(stored.caller.key_id))
    keys = ApiKeys(MemoryApiKeyFile(f"{stored.line}\n{copied}\n"))
    await keys.load()
    assert keys.caller(key) == stored.caller
    assert "line 2" in str(keys.remark())


async def test_a_changed_file_takes_effect_and_an_unreadable_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "RELOAD_SECONDS", 0.001)
    (old, old_stored), (new, new_stored) = new_api_key("shop", FRONTEND), new_api_key("shop", FRONTEND)
    file = MemoryApiKeyFile(old_stored.line)
    keys = ApiKeys(file)
    await keys.load()
    following = asyncio.create_task(keys.run())
    file.text = new_stored.line
    await until(lambda: keys.caller(new) is not None)
    assert keys.caller(old) is None
    file.text = None
    await until(lambda: keys.remark() is not None)
    assert keys.caller(new) is not None
    file.text = ""
    await until(lambda: keys.caller(new) is None)
    assert keys.remark() is None
    following.cancel()


async def test_a_file_that_is_missing_at_the_start_is_an_error() -> None:
    with pytest.raises(ApiKeysUnreadable):
        await ApiKeys(MemoryApiKeyFile(None)).load()
