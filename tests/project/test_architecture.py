"""docs/architecture.md names every package, every module of the controller and every port."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from service.domain import identity, journal, metrics, observers, ports
from stack.stack import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def protocols(*modules: ModuleType) -> Iterator[str]:
    for module in modules:
        for name, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__ and getattr(found, "_is_protocol", False):
                yield name


@pytest.mark.parametrize("name", [*protocols(ports, observers, journal, metrics, identity)])
def test_the_architecture_page_names_every_port(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("path", sorted((ROOT / "service" / "controller").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_the_architecture_page_names_every_controller_module(path: Path) -> None:
    assert f"`{path.name}`" in PAGE


@pytest.mark.parametrize("path", sorted((ROOT / "service").glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_the_architecture_page_names_every_package_of_the_service(path: Path) -> None:
    assert f"service/{path.parent.name}/" in PAGE
