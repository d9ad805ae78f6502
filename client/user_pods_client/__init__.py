"""Typed client of user-pods: a pod for every user that sleeps when idle and wakes when its user returns.

    from user_pods_client import Client

    with Client("https://pods.example.com", token) as pods:
        uuid = pods.create("john@example.com").uuid
        pods.wake(uuid)
        pods.wait_ready(uuid)
        print(pods.open(uuid).url)

`AsyncClient` is the same for asyncio. Errors are ClientErrors: `NoAnswer`, `UnexpectedAnswer`, and a `ServiceProblem`
for each type of problem, in `user_pods_client.problems`. What the service answers is in `user_pods_client.models`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from user_pods_client.aio import AsyncClient
    from user_pods_client.errors import (
        ClientError,
        NoAnswer,
        ServiceProblem,
        SessionFailed,
        UnexpectedAnswer,
        WaitTimeout,
    )
    from user_pods_client.models import IdleTimes
    from user_pods_client.sync import Client

__all__ = [
    "AsyncClient", "Client", "ClientError", "IdleTimes", "NoAnswer", "ServiceProblem", "SessionFailed",
    "UnexpectedAnswer", "WaitTimeout",
]  # fmt: skip
__version__ = "0.1.0"
_HOMES = {"AsyncClient": "aio", "Client": "sync", "IdleTimes": "models"}


def __getattr__(name: str) -> Any:
    """Imports on first use: who uses one client does not pay for the other's HTTP library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
