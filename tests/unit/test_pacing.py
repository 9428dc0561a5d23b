"""The token bucket, by a clock that moves only when it sleeps or is told to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_references.aws.pacing import TokenBucket


class Time:
    """A clock to look at, to sleep by and to move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def bucket_of(rate: float) -> tuple[TokenBucket, Time]:
    time = Time()
    return TokenBucket(rate, clock=time, sleep=time.pass_by), time


def taken_within(bucket: TokenBucket, time: Time, seconds: float) -> int:
    end, count = time.now + seconds, 0
    while True:
        bucket.take()
        if time.now > end + 1e-9:
            return count
        count += 1


@given(rate=st.floats(0.05, 50), pauses=st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=30))
def test_however_it_is_asked_it_never_gives_more_than_its_rate_and_a_second_s_worth(
    rate: float, pauses: list[tuple[float, bool]]
) -> None:
    bucket, time = bucket_of(rate)
    start, times = time.now, []
    for pause, is_rest in pauses:
        if is_rest:
            bucket.rest()
        time.pass_by(pause)
        if is_rest:
            bucket.wake()
        bucket.take()
        times.append(time.now)
    burst = max(1.0, rate)
    for first, begin in enumerate([start, *times]):
        for last, end in enumerate(times[first:], first):
            assert last - first + 1 <= rate * (end - begin) + burst + 1 + 1e-6


def test_it_starts_empty_and_keeps_its_rate() -> None:
    bucket, time = bucket_of(4)
    assert taken_within(bucket, time, 10) == 40


def test_what_writing_took_is_made_up_for() -> None:
    bucket, time = bucket_of(4)
    count = 0
    for _ in range(20):
        count += taken_within(bucket, time, 4.5)
        time.pass_by(0.5)
    assert count == pytest.approx(4 * 100, rel=0.05)


@pytest.mark.parametrize(("rate", "rest", "at_once"), [(4, 3600, 2), (4, 0.75, 3), (4, 0.25, 1), (0.5, 3600, 1)])
def test_after_a_freeze_it_has_saved_two_tokens_at_most_and_after_a_short_rest_what_it_had(
    rate: float, rest: float, at_once: int
) -> None:
    bucket, time = bucket_of(rate)
    bucket.take()
    bucket.rest()
    time.pass_by(rest)
    bucket.wake()
    assert bucket.is_empty == (at_once == 0)
    assert taken_within(bucket, time, 0.1) == at_once


def test_it_is_empty_while_the_next_token_is_to_be_waited_for() -> None:
    bucket, time = bucket_of(4)
    for pause, is_empty in ((0.0, True), (0.24, True), (0.01, False), (10, False)):
        time.pass_by(pause)
        assert bucket.is_empty == is_empty
    for _ in range(4):
        assert not bucket.is_empty
        bucket.take()
    assert bucket.is_empty


def test_refusals_slow_it_down_and_their_absence_brings_it_back() -> None:
    bucket, time = bucket_of(4)
    for _ in range(20):
        bucket.take()
        bucket.yield_rate()
    assert taken_within(bucket, time, 2) < 3
    time.pass_by(30)
    bucket.take()
    time.pass_by(1)
    taken_within(bucket, time, 1)
    assert taken_within(bucket, time, 10) in (39, 40, 41)
