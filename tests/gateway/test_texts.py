"""The texts for people: complete in every language, and chosen by what the browser asks for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.texts import catalogue


@pytest.mark.parametrize("language", sorted(catalogue.LANGUAGES))
def test_every_language_has_the_same_texts_with_the_same_placeholders(language: str) -> None:
    here, english = catalogue.LANGUAGES[language], catalogue.LANGUAGES["en"]
    assert sorted(here) == sorted(english)
    for key, text in here.items():
        assert text.strip() == text != "", key
        assert sorted(re.findall(r"\{\w*\}", text)) == sorted(re.findall(r"\{\w*\}", english[key])), key
        assert not re.search(r"[{}]", re.sub(r"\{[a-z_]+\}", "", text)), key


def test_there_is_german_besides_english() -> None:
    assert {"de", "en"} <= set(catalogue.LANGUAGES)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-at,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR,fr;q=0.9,de;q=0.5,en;q=0.4", "de"),
        ("fr", "en"),
        ("en-GB,de;q=0.9", "en"),
        ("de;q=0.1 , en;q=0.2", "en"),
        ("de;q=0", "en"),
        ("de;q=nan,en", "en"),
        ("*", "en"),
        ("xx," * 100 + "de", "en"),
    ],
)
def test_the_language_is_the_one_that_the_browser_likes_best(accepted: str, language: str) -> None:
    assert catalogue.language(accepted) == language
    assert catalogue.texts(accepted) is catalogue.LANGUAGES[language]


@given(st.text(max_size=400))
def test_no_header_is_an_error(accepted: str) -> None:
    assert catalogue.language(accepted) in catalogue.LANGUAGES
