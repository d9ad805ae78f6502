"""What stands behind an error, for one line of a log."""

from service.domain.errors import ClusterUnavailable, RedisUnavailable, causes


def test_the_causes_of_an_error_are_listed_nearest_first_and_truncated() -> None:
    assert causes(RedisUnavailable()) is None
    error = RedisUnavailable()
    error.__cause__ = TimeoutError()
    error.__cause__.__cause__ = OSError("no route")
    assert causes(error) == "TimeoutError; OSError: no route"
    long = ClusterUnavailable()
    long.__cause__ = OSError("x" * 1000)
    assert len(causes(long) or "") == 300
