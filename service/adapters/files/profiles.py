"""The file of profiles, for example from a mounted ConfigMap. It is read once, at the start."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from service.domain.names import is_dns_label
from service.domain.permissions import CallerRole
from service.domain.profiles import Profile

SET_BY_THE_SERVICE = ("uuid", "user", "profile", "group", "autoscaling", "redis", "gateway", "global")
"""Values that are the session's own or follow from the settings, so a profile must not have them."""
_Seconds = Annotated[float, Field(ge=0, le=31_536_000, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Limits(_Strict):
    cooldown: Annotated[_Seconds, Field(ge=1)] | None = None
    background: _Seconds | None = None


class _Entry(_Strict):
    description: Annotated[str, Field(max_length=200, strict=True)] = ""
    values: dict[str, Any] = {}
    roles: Annotated[list[CallerRole], Field(min_length=1)] = list(CallerRole)
    limits: _Limits = _Limits()

    @field_validator("description")
    @classmethod
    def _line(cls, value: str) -> str:
        if value and not value.isprintable():
            raise ValueError("write one line of printable characters")
        return value

    @field_validator("values")
    @classmethod
    def _not_the_services(cls, value: dict[str, Any]) -> dict[str, Any]:
        if found := [name for name in SET_BY_THE_SERVICE if name in value]:
            raise ValueError(f"a profile must not set {', '.join(found)}: the service does")
        return value


_FILE = TypeAdapter(dict[str, _Entry])


def read_profiles(path: Path) -> Sequence[Profile]:
    """Raises ValueError that says what is wrong with which profile."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if document is not None and not isinstance(document, dict):
        raise ValueError(f"{path} does not hold a mapping of names to profiles")
    if wrong := [name for name in document or () if not (isinstance(name, str) and is_dns_label(name))]:
        raise ValueError(f"{wrong[0]!r:.70} is no name of a profile: use up to 63 of a-z, 0-9 and -")
    try:
        entries = _FILE.validate_python(document or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
    return [_profile(name, entry) for name, entry in entries.items()]


def _profile(name: str, entry: _Entry) -> Profile:
    return Profile(
        name=name,
        description=entry.description,
        values=entry.values,
        roles=frozenset(entry.roles),
        cooldown=None if entry.limits.cooldown is None else timedelta(seconds=entry.limits.cooldown),
        background=None if entry.limits.background is None else timedelta(seconds=entry.limits.background),
    )
