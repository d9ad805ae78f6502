"""Why sessions do not get ready, in groups that an operator can work through."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """`name` is for addresses; `count` sessions have the reason that `words` tell."""

    name: str
    words: str
    count: int


_WORDS: Mapping[str, tuple[str, str]] = {
    "image": ("cannot pull its image", "cannot pull their image"),
    "crash": ("crashes at its start", "crash at their start"),
    "container": ("cannot start its container", "cannot start their container"),
    "room": ("waits for room on a node", "wait for room on a node"),
    "pod": ("may not create its pod", "may not create their pod"),
    "node": ("has lost its pod on a node", "have lost their pod on a node"),
    "release": ("lacks a part of its release", "lack a part of their release"),
    "paused": ("is paused by an operator", "are paused by an operator"),
    "other": ("does not get ready for another reason", "do not get ready for other reasons"),
}
"""Of one session, and of several."""
_NAMES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName",
            "RegistryUnavailable", "SignatureValidationFailed",
        ),
        "image",
    ),
    **dict.fromkeys(
        (
            "CreateContainerConfigError", "CreateContainerError", "PostStartHookError", "PreCreateHookError",
            "PreStartHookError", "RunContainerError",
        ),
        "container",
    ),
    **dict.fromkeys(("Evicted", "NodeAffinity", "NodeLost", "OutOfcpu", "OutOfmemory", "OutOfpods"), "node"),
    "CrashLoopBackOff": "crash",
    "Unschedulable": "room",
    "FailedCreate": "pod",
}  # fmt: skip
"""By Kubernetes' own name of the reason."""
_BEGINNINGS = (("the release", "release"), ("the Deployment", "release"), ("the ScaledObject", "release"))


def name_of(reason: str) -> str:
    """The name of the group that the reason belongs to. `reason` begins with Kubernetes' name of it."""
    known = _NAMES.get(reason.partition(":")[0].strip())
    if known is not None:
        return known
    if "paused" in reason:
        return "paused"
    return next((name for beginning, name in _BEGINNINGS if reason.startswith(beginning)), "other")


def is_name(text: str) -> bool:
    return text in _WORDS


def groups(reasons: Iterable[str]) -> Sequence[Group]:
    """The largest group first."""
    counted = Counter(map(name_of, reasons))
    return [
        Group(name, f"{count:,} session{'s' * (count > 1)} {_WORDS[name][count > 1]}", count)
        for name, count in sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    ]
