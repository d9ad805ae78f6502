"""What a visit costs is told as ratios of the same round, since the machine is never quiet."""

from dataclasses import fields

from bench.editor import Times, compared


def times(*awake: float, visit: float) -> Times:
    """Rounds whose awake page took these seconds, and whose visit took so many times as long."""
    made = Times(**{each.name: list(awake) for each in fields(Times)})
    made.usable = [seconds * visit for seconds in awake]
    return made


def test_an_image_is_compared_with_the_other_in_the_same_round() -> None:
    figures = {figure.name: figure for figure in compared(times(2, 20, 4, visit=3), times(3, 30, 40, visit=3))}
    ratios = figures["image / other: awake pod: editor usable"]
    assert (ratios.unit, ratios.values) == ("ratio", [2 / 3, 2 / 3, 0.1])
    assert ratios.plain()["p50"] == 2 / 3


def test_a_visit_is_compared_with_the_awake_page_of_its_round() -> None:
    figures = {figure.name: figure for figure in times(2, 20, 4, visit=1.5).figures()}
    assert figures["visit / awake pod: editor usable"].values == [1.5, 1.5, 1.5]
    assert figures["visit: page"].beside == "awake pod: page"
