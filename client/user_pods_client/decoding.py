"""JSON to dataclasses and back. Unknown members are ignored: a newer service may answer with more."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from user_pods_client.errors import UnexpectedAnswer

T = TypeVar("T")


class Model:
    """What the service's answers have in common. `dataclass` would compile it for each class, at every start."""

    def __repr__(self) -> str:
        members = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({members})"

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))


def decode(kind: type[T], value: object, place: str = "the answer") -> T:
    """The value as `kind`, a dataclass or anything that its members can be. Raises UnexpectedAnswer.

    A member that may be null may also be missing: an older service does not know it. A string that is none of a
    member's known values passes: a newer service may have more.
    """
    return typing.cast("T", _decode(kind, value, place))


def encode(value: object) -> object:
    """A body as JSON. A dataclass in it is an object without the members that are None."""
    if isinstance(value, dict):
        return {name: encode(member) for name, member in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: encode(member) for name, member in members.items() if member is not None}
    return value


def to_json(value: Any) -> Any:
    """A model as JSON with all its members, for people and scripts: times in ISO 8601."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def _decode(kind: Any, value: object, place: str) -> object:
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, place)
    if origin is list and isinstance(value, list):
        return [_decode(arguments[0], each, place) for each in value]
    if origin is dict and isinstance(value, dict):
        return {str(name): _decode(arguments[1], each, f"{place}.{name}") for name, each in value.items()}
    return _scalar(str if origin is typing.Literal else kind, value, place)


def _object(kind: Any, value: object, place: str) -> object:
    if not isinstance(value, dict):
        raise UnexpectedAnswer(f"{place} is not an object, as {kind.__name__} is")
    members = {}
    for name, member, optional in _members(kind):
        if name in value:
            members[name] = _decode(member, value[name], f"{place}.{name}")
        elif not optional:
            if not _allows_null(member):
                raise UnexpectedAnswer(f"{place} has no `{name}`")
            members[name] = None
    return kind(**members)


@cache
def _members(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name and type of each member, and whether it has a default."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (
            field.name,
            hints[field.name],
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    )


def _allows_null(kind: Any) -> bool:
    return type(None) in typing.get_args(kind)


def _union(kinds: tuple[Any, ...], value: object, place: str) -> object:
    """Null, or the first kind: unions in answers are `X | None`, or several sets of strings."""
    if value is None and type(None) in kinds:
        return None
    return _decode(next(kind for kind in kinds if kind is not type(None)), value, place)


def _scalar(kind: Any, value: object, place: str) -> object:
    if kind is datetime and isinstance(value, str):
        return _time(value, place)
    if kind is float and type(value) in (int, float):
        return _number(typing.cast("float", value), place)
    if type(value) is not kind:
        raise UnexpectedAnswer(f"{place} is not of the expected type")
    return value


def _time(value: str, place: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise UnexpectedAnswer(f"{place} is not a time") from None
    # Without a zone it could be any hour; and in the first and last year, other zones are out of range.
    if at.tzinfo is None or not 1 < at.year < 9999:
        raise UnexpectedAnswer(f"{place} is not a time with its zone")
    return at


def _number(value: float, place: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UnexpectedAnswer(f"{place} is not a finite number")
    return number


def as_object(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None
