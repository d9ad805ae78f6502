"""What to do about a session that does not start."""

from collections.abc import Mapping

_DOCTOR = "`user-pods doctor` shows whether somebody has changed it by hand"
_OPERATORS: Mapping[str, str] = {
    **dict.fromkeys(
        ("ErrImageNeverPull", "ErrImagePull", "ImageInspectError", "ImagePullBackOff", "InvalidImageName"),
        f"compare the image's name with the values of every session; {_DOCTOR}",
    ),
    "CrashLoopBackOff": f"the log of its pod says why its program ends; {_DOCTOR}",
    "Unschedulable": "`user-pods top` shows the room on the nodes",
}
"""What an operator can do about a failure, by Kubernetes' own name of the reason."""


def next_step(uuid: str, reason: str | None) -> str:
    """What to do about a session that has failed for the reason."""
    step = _OPERATORS.get((reason or "").partition(":")[0].strip(), "`user-pods doctor` says what to do")
    return f"Users: tell your operator the id {uuid}. Operators: {step}."
