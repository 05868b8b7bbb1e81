"""The return key: what was made here is read back, and nothing else is."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depesche.schemas.identity import new_job_id, unit_id
from depesche.schemas.return_key import LENGTH, MAX_NUMBER, Purpose, ReturnKeys

KEYS = ReturnKeys({"1": bytes(range(32))})
ALPHABET = string.ascii_lowercase + "234567"

jobs = st.uuids(version=4).map(str) | st.just(new_job_id())
numbers = st.integers(0, MAX_NUMBER)
purposes = st.sampled_from(Purpose)


@given(purposes, jobs, numbers)
def test_a_key_names_its_unit_and_fits_a_local_part(purpose: Purpose, job: str, number: int) -> None:
    token = KEYS.token(purpose, job, number)
    assert len(token) == LENGTH <= 64
    assert set(token[3:]) <= set(ALPHABET)
    assert KEYS.unit(purpose, token) == unit_id(job, number)
    assert KEYS.token(purpose, job, number) == token


@given(purposes, jobs, numbers, st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH))
def test_any_case_will_do(purpose: Purpose, job: str, number: int, upper: list[bool]) -> None:
    token = KEYS.token(purpose, job, number)
    shouted = "".join(c.upper() if up else c for c, up in zip(token, upper, strict=True))
    assert KEYS.unit(purpose, shouted) == unit_id(job, number)


@given(jobs, numbers, st.permutations(list(Purpose)))
def test_a_key_for_one_purpose_is_worthless_for_another(job: str, number: int, order: list[Purpose]) -> None:
    mine, other = order[0], order[1]
    token = KEYS.token(mine, job, number)
    assert KEYS.unit(other, token) is None
    assert KEYS.unit(other, other.value + token[1:]) is None


def test_whichever_bit_is_flipped_nothing_is_left() -> None:
    token = KEYS.token(Purpose.BOUNCE, new_job_id(), 7)
    for at in range(3, LENGTH):
        for bit in range(5):
            flipped = token[:at] + ALPHABET[ALPHABET.index(token[at]) ^ 1 << bit] + token[at + 1 :]
            assert KEYS.unit(Purpose.BOUNCE, flipped) is None, (at, bit)


def test_a_hundred_thousand_guesses_find_nothing() -> None:
    chance = random.Random(20)
    guesses = ("b1-" + "".join(chance.choices(ALPHABET, k=LENGTH - 3)) for _ in range(100_000))
    assert not any(KEYS.unit(Purpose.BOUNCE, guess) for guess in guesses)


@given(st.text(max_size=70) | st.from_regex(r"[bhu][0-9]-[a-zA-Z0-9=ıK]{50,60}", fullmatch=True))
def test_whatever_a_stranger_writes_is_only_not_a_key(text: str) -> None:
    assert all(KEYS.unit(purpose, text) is None for purpose in Purpose)


def test_a_new_secret_makes_new_keys_and_the_old_ones_are_still_read() -> None:
    job = new_job_id()
    old = KEYS.token(Purpose.HEADER, job, 0)
    both = ReturnKeys({"1": bytes(range(32)), "2": b"2" * 32}, current="2")
    new = both.token(Purpose.HEADER, job, 0)
    assert (old[1], new[1]) == ("1", "2")
    assert both.unit(Purpose.HEADER, old) == both.unit(Purpose.HEADER, new) == unit_id(job, 0)
    # The figure is bound in: an old key does not become a new one by saying so.
    assert both.unit(Purpose.HEADER, "h2" + old[2:]) is None
    assert ReturnKeys({"2": b"2" * 32}, "2").unit(Purpose.HEADER, old) is None


@pytest.mark.parametrize(
    ("job", "number"),
    [("not a uuid", 0), (new_job_id().upper(), 0), (new_job_id(), -1), (new_job_id(), MAX_NUMBER + 1)],
)
def test_what_is_no_unit_has_no_key(job: str, number: int) -> None:
    with pytest.raises(ValueError, match=r"unit|UUID"):
        KEYS.token(Purpose.BOUNCE, job, number)


@pytest.mark.parametrize(("secrets", "current"), [({"0": b"0" * 32}, "0"), ({"1": b"short"}, "1"), ({}, "1")])
def test_unfit_secrets_are_refused(secrets: dict[str, bytes], current: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        ReturnKeys(secrets, current)
