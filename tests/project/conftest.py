"""The charts' fixtures, for tests of what a release publishes."""

from tests.chart.conftest import helm

__all__ = ["helm"]
