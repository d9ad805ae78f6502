"""Which session's pod has an address."""

from service.domain.names import SessionId


class PodAddresses:
    """Kept up to date with the pods of a cache, so that a look-up costs nothing."""

    def __init__(self) -> None:
        self._of_pods: dict[str, tuple[str, SessionId]] = {}
        """Name of a pod -> its address, and its session."""
        self._pods: dict[str, set[str]] = {}
        """Address -> the names of the pods that have it."""

    def put(self, name: str, uuid: SessionId, address: str | None) -> None:
        """Store the address of a pod, or that it has none of its own."""
        before = self._of_pods.pop(name, None)
        if before is not None:
            names = self._pods[before[0]]
            names.discard(name)
            if not names:
                del self._pods[before[0]]
        if address is not None:
            self._of_pods[name] = (address, uuid)
            self._pods.setdefault(address, set()).add(name)

    def session(self, address: str) -> SessionId | None:
        """The session whose pods have the address; None when there is none, or more than one."""
        found = {self._of_pods[name][1] for name in self._pods.get(address, ())}
        return found.pop() if len(found) == 1 else None
