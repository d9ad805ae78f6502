"""Which parts of the service a process runs."""

from enum import StrEnum


class Role(StrEnum):
    ALL = "all"
    API = "api"
    """The REST API."""
    GATEWAY = "gateway"
    """The reverse proxy to the workspaces."""
    CONTROLLER = "controller"
    """Reconciles sessions, and finishes interrupted creates and deletes."""

    @property
    def serves_api(self) -> bool:
        return self in (Role.ALL, Role.API)

    @property
    def serves_gateway(self) -> bool:
        return self in (Role.ALL, Role.GATEWAY)

    @property
    def controls(self) -> bool:
        return self in (Role.ALL, Role.CONTROLLER)
