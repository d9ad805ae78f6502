"""What sleeping sessions cost while the system is idle, and what the service needs to start with them."""

from bench.figures import Figure
from bench.ground import Ground
from bench.metrics import PARTS, Cost


async def cost(ground: Ground, seconds: float, label: str, before: Cost | None) -> tuple[Cost, list[Figure]]:
    """Measure the existing sessions; `before` is the cost of the cluster without any."""
    found, size = await ground.metrics.idle(seconds), len(ground.herd.uuids)
    figures = [
        Figure(f"{label}: Redis connections", size, "", [found.connections]),
        Figure(f"{label}: data in Redis", size, "MB", [found.data]),
        Figure(f"{label}: HPAs", size, "", [found.hpas]),
        Figure(f"{label}: API requests per minute", size, "", [found.requests_per_minute]),
        Figure(f"{label}: CPU of all parts", size, "% of a core", [found.total_cpu]),
        *(Figure(f"{label}: CPU of {part}", size, "% of a core", [found.cpu[part]]) for part in PARTS),
        *(Figure(f"{label}: memory of {part}", size, "MB", [found.memory[part]]) for part in PARTS),
    ]
    if before is not None:
        added = found.total_cpu - before.total_cpu
        figures.append(Figure(f"{label}: CPU added by sleepers", size, "% of a core", [added]))
    return found, figures


async def starts(ground: Ground, rounds: int) -> list[Figure]:
    """Time from process start until /readyz answers 200, and the memory used then."""
    seconds, memory = [], []
    for _ in range(rounds):
        seconds.append(await ground.restart())
        memory.append(ground.metrics.memory())
    size = len(ground.herd.uuids)
    return [
        Figure("service: start until ready", size, "s", seconds),
        Figure("service: memory after start", size, "MB", memory),
    ]
