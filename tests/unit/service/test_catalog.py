"""Which model a request means."""

from typing import Any, cast

import msgspec
import pytest

from service.catalog import Catalog, Served
from service.errors import InvalidRequestError, ModelNotFoundError
from tests.fakes import manifest


def served(name: str, version: str, source: str, target: str) -> Served:
    """Return a model without an engine: choosing needs none."""
    plain = manifest()
    card = msgspec.structs.replace(plain.model, source_language=source, target_language=target)
    absent = cast("Any", None)
    return Served(name, version, "cpu", msgspec.structs.replace(plain, model=card), absent, absent, absent)


CATALOG = Catalog(
    [
        served("ko-en", "2", "ko", "en"),
        served("ko-en", "10", "ko", "en"),
        served("en-ko", "1", "en", "ko"),
        served("de-ko", "1", "de", "ko"),
    ]
)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("ko-en", "", ""), ("ko-en", "10")),
        (("ko-en@2", "", ""), ("ko-en", "2")),
        (("", "ko", ""), ("ko-en", "10")),
        (("", "", "en"), ("ko-en", "10")),
        (("", "EN", "ko"), ("en-ko", "1")),
    ],
)
def test_the_choice(asked: tuple[str, str, str], found: tuple[str, str]) -> None:
    """By name, by version, by languages in any case; the newest version where nothing else tells."""
    model = CATALOG.find(*asked)
    assert found == (model.name, model.version)


def test_the_default_version() -> None:
    """Where one is set, it is what name and languages mean; who names another one gets that."""
    catalog = Catalog(CATALOG.models, default={"ko-en": "2"}.get)
    assert ["2", "2", "10"] == [catalog.find(*asked).version for asked in (("ko-en",), ("", "ko", "en"), ("ko-en@10",))]
    catalog.put(CATALOG.models[:2] + CATALOG.models[3:])
    assert "10" == catalog.find("ko-en").version


def test_no_choice() -> None:
    """Several names, no name, and languages that only other models have."""
    with pytest.raises(InvalidRequestError, match="several would do, name one: de-ko, en-ko, ko-en"):
        CATALOG.find()
    with pytest.raises(ModelNotFoundError, match="holds de-ko@1, en-ko@1, ko-en@2, ko-en@10"):
        CATALOG.find("fr-en")
    with pytest.raises(InvalidRequestError, match="target_language_code: 'en' is not supported here; use ko"):
        CATALOG.find("", "de", "en")


def test_the_only_model() -> None:
    """Known by name where there is but one, in whatever versions."""
    catalog = Catalog()
    assert "" == catalog.only
    catalog.put([served("ko-en", "1", "ko", "en"), served("ko-en", "2", "ko", "en")])
    assert "ko-en" == catalog.only
    catalog.put(CATALOG.models)
    assert "" == catalog.only
