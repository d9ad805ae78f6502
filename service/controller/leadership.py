"""Whether this replica leads: the leader writes it, and the parts that act for all sessions read it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Leadership:
    """Shared by the parts of one replica. Losing it takes effect at once, before the leader's duties have ended."""

    held: bool = False
