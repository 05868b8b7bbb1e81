"""Every error has all its faces, and none of them leaks."""

import pytest

from depesche.schemas import errors
from depesche.schemas.errors import DepescheError, Outage, Refusal, SetupError

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DepescheError)]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_has_all_its_faces(kind: type[DepescheError]) -> None:
    assert 400 <= kind.status < 600
    assert kind.reply // 100 in (4, 5)
    assert kind.enhanced.startswith(f"{kind.reply // 100}.")
    assert kind.title
    assert kind.code == kind.code.lower()
    assert kind.__doc__


@pytest.mark.parametrize("kind", [k for k in ALL if issubclass(k, Outage)])
def test_an_outage_never_refuses_for_good(kind: type[DepescheError]) -> None:
    assert kind.reply // 100 == 4
    assert kind.status in (429, 503)
    assert kind.retryable


@pytest.mark.parametrize("kind", [k for k in ALL if issubclass(k, Refusal)])
def test_a_refusal_is_not_worth_retrying(kind: type[DepescheError]) -> None:
    assert not kind.retryable
    assert kind.status < 500 or kind is errors.NotAvailableError


@pytest.mark.parametrize("kind", [k for k in ALL if k is not SetupError])
def test_the_inner_text_is_not_the_public_one(kind: type[DepescheError]) -> None:
    fault = kind("kafka://secret-broker:9092 refused")
    assert "secret-broker" not in fault.public
    assert "secret-broker" in str(fault)


def test_the_tree_at_the_top_of_the_file_names_every_error() -> None:
    assert errors.__doc__
    for kind in ALL:
        assert kind.__name__ in errors.__doc__
