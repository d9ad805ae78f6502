"""Whether this replica leads: the leader writes it, and the parts that act for all sessions read it."""


class Leadership:
    """Shared by the parts of one replica. Losing it takes effect at once, before the leader's duties have ended."""

    def __init__(self, *, held: bool = False) -> None:
        self._held = held

    @property
    def held(self) -> bool:
        return self._held

    def acquire(self) -> None:
        self._held = True

    def lose(self) -> None:
        self._held = False
