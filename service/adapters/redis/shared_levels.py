"""The SharedLevels port on Redis.

user-pods:rate:<name>   string   a level, and when it was that high, in ms; expires when it has drained away
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.domain.rate_limits import LevelChange

# KEYS levels; ARGV for each what to add, by how much it falls a second, and how high it may be. Returns the levels, as
# texts. By Redis' own clock, because the clocks of replicas may differ. Anything else under a key is replaced, also a
# level that is too high: nobody here has written it.
_ADD = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local levels = {}
for number, key in ipairs(KEYS) do
  local count, fall = tonumber(ARGV[3 * number - 2]), tonumber(ARGV[3 * number - 1])
  local highest = tonumber(ARGV[3 * number])
  local level, at = 0, now
  if redis.call('TYPE', key).ok == 'string' then
    local kept, when = string.match(redis.call('GET', key), '^([0-9.]+) ([0-9]+)$')
    kept, when = tonumber(kept), tonumber(when)
    if kept and when and kept <= highest then level, at = kept, when end
  end
  level = math.min(highest, math.max(0, level - math.max(0, now - at) / 1000 * fall) + count)
  local life = math.ceil(level / fall * 1000) + 1
  redis.call('SET', key, string.format('%.3f %.0f', level, now), 'PX', string.format('%.0f', life))
  levels[number] = string.format('%.3f', level)
end
return levels
"""


class RedisSharedLevels:
    """See `service.domain.rate_limits.SharedLevels`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._run = CommandRunner.shared(redis).run
        self._add = redis.register_script(_ADD)

    async def add(self, changes: Sequence[LevelChange]) -> Sequence[float]:
        keys = [f"user-pods:rate:{change.name}" for change in changes]
        args = [argument for change in changes for argument in _arguments(change)]
        return [float(level) for level in await self._run(self._add(keys=keys, args=args))]


def _arguments(change: LevelChange) -> tuple[int, float, float]:
    return change.count, change.per_second, change.highest
