"""Readings: what is unread, provisional or settled, and how few ranges remember it."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.audit import settled_ages
from domain.calendar import sessions_between
from domain.coverage import (
    Reading,
    Readings,
    add_reading,
    is_settled,
    provisional_pairs,
    unread_pairs,
    unread_ranges,
)

DAYS = sessions_between(date(2013, 1, 2), date(2013, 6, 28))


def day(text):
    return date.fromisoformat(text)


def read(first, last, seen_to=None, oldest=None):
    return Reading(first, last, seen_to or last, oldest or seen_to or last)


def shown(days, count):
    """The bits of an integer, the first session first."""
    assert days < 1 << count
    return "".join(".x"[days >> place & 1] for place in range(count))


class TestUnreadPairs:
    days = sessions_between(day("2013-02-25"), day("2013-03-08"))

    def shown(self, symbols, coverage, sessions=None):
        sessions = self.days if sessions is None else sessions
        return [shown(days, len(sessions)) for days in unread_pairs(symbols, sessions, coverage)]

    def test_without_coverage_everything_is_unread(self):
        assert self.shown(["GOOG", "MSFT"], {}) == ["xxxxxxxxxx", "xxxxxxxxxx"]

    def test_both_ends_of_a_range_are_covered(self):
        coverage = {"GOOG": (read(day("2013-02-26"), day("2013-02-28")),)}
        assert self.shown(["GOOG", "MSFT"], coverage) == ["x...xxxxxx", "xxxxxxxxxx"]

    def test_ranges_may_be_many_and_reach_beyond(self):
        coverage = {
            "GOOG": (
                read(day("2012-01-03"), day("2013-02-25")),
                read(day("2013-03-01"), day("2013-03-01")),
                read(day("2013-03-07"), day("2013-12-31")),
            )
        }
        assert self.shown(["GOOG"], coverage) == [".xxx.xxx.."]

    def test_ranges_elsewhere_cover_nothing(self):
        coverage = {
            "GOOG": (
                read(day("2012-01-03"), day("2013-02-22")),
                read(day("2013-03-11"), day("2013-03-28")),
            )
        }
        assert self.shown(["GOOG"], coverage) == ["xxxxxxxxxx"]

    def test_a_range_may_end_between_sessions(self):
        coverage = {"GOOG": (read(day("2013-02-24"), day("2013-03-03")),)}
        assert self.shown(["GOOG"], coverage) == [".....xxxxx"]

    def test_what_the_whole_market_covers_is_covered_for_every_symbol(self):
        coverage = {
            "*": (read(day("2013-02-27"), day("2013-02-28")),),
            "GOOG": (read(day("2013-03-08"), day("2013-03-08")),),
        }
        assert self.shown(["GOOG", "MSFT", "*"], coverage) == ["xx..xxxxx.", "xx..xxxxxx", "xx..xxxxxx"]

    def test_what_a_symbol_covers_is_not_covered_for_the_whole_market(self):
        coverage = {"GOOG": (read(day("2013-01-02"), day("2013-12-31")),)}
        assert self.shown(["*", "GOOG"], coverage) == ["xxxxxxxxxx", ".........."]

    def test_symbols_differ_by_case(self):
        assert self.shown(["KIMpL"], {"KIMPL": [read(self.days[0], self.days[-1])]}) == ["xxxxxxxxxx"]

    @pytest.mark.parametrize(("symbols", "sessions"), [([], 3), (["GOOG"], 0), ([], 0)])
    def test_nothing_wanted_is_nothing_unread(self, symbols, sessions):
        coverage = {"GOOG": (read(self.days[0], self.days[-1]),), "*": (read(self.days[0], self.days[-1]),)}
        assert unread_pairs(symbols, self.days[:sessions], coverage) == [0] * len(symbols)


class TestProvisionalPairs:
    def test_the_last_sessions_before_what_was_seen_are_provisional(self):
        readings = {"GOOG": (read(DAYS[0], DAYS[9]),)}
        (days,) = provisional_pairs(["GOOG"], DAYS[:11], readings, 3)
        assert shown(days, 11) == ".......xxx."

    def test_what_was_read_when_the_latest_session_was_published_is_not_read_again(self):
        assert provisional_pairs(["GOOG"], DAYS[:10], {"GOOG": (read(DAYS[0], DAYS[9]),)}, 3) == [0]

    def test_a_session_is_settled_by_what_the_provider_showed_beyond_the_sessions_asked_for(self):
        readings = {"GOOG": (read(DAYS[0], DAYS[9], DAYS[12]),)}
        assert provisional_pairs(["GOOG"], DAYS[:10], readings, 3) == [0]

    def test_nothing_is_provisional_without_later_sessions_to_wait_for(self):
        assert provisional_pairs(["GOOG"], DAYS[:11], {"GOOG": (read(DAYS[0], DAYS[9]),)}, 0) == [0]

    def test_a_reading_of_the_whole_market_settles_a_symbol(self):
        readings = {"GOOG": (read(DAYS[0], DAYS[5]),), "*": (read(DAYS[0], DAYS[5], DAYS[10]),)}
        (days,) = provisional_pairs(["GOOG"], DAYS[:12], readings, 3)
        assert shown(days, 12)[:6] == "......"

    @given(st.data())
    def test_a_session_is_provisional_as_long_as_no_reading_of_it_saw_enough(self, data):
        places = st.integers(0, 30)
        found = data.draw(st.lists(st.tuples(places, places, places), max_size=4))
        spans = [(first, last, max(last, seen)) for first, last, seen in found if first <= last]
        count, settle = data.draw(st.integers(0, 25)), data.draw(st.integers(0, 4))
        readings = tuple(read(DAYS[first], DAYS[last], DAYS[seen]) for first, last, seen in spans)
        (days,) = provisional_pairs(["A"], DAYS[:count], {"A": readings}, settle)
        seen_to = [max((seen for first, last, seen in spans if first <= n <= last), default=None) for n in range(count)]
        again = [to is not None and to - n < settle and to < count - 1 for n, to in enumerate(seen_to)]
        assert shown(days, count) == "".join(".x"[each] for each in again)


class TestSettledAges:
    def test_what_was_read_since_the_latest_session_was_published_is_not_audited(self):
        readings = {"GOOG": (read(DAYS[0], DAYS[9], DAYS[20]),)}
        assert not settled_ages(["GOOG"], DAYS[:10], readings, 3, DAYS[20]).any()
        assert settled_ages(["GOOG"], DAYS[:10], readings, 3, DAYS[21]).tolist() == [[DAYS[20].toordinal()] * 10]

    def test_provisional_sessions_are_not_audited(self):
        readings = {"GOOG": (read(DAYS[0], DAYS[9]),)}
        ages = settled_ages(["GOOG"], DAYS[:10], readings, 3, DAYS[30])
        assert (ages > 0).tolist() == [[True] * 7 + [False] * 3]


class TestAddReading:
    def test_mornings_of_a_year_leave_a_handful_of_ranges(self):
        days = sessions_between(date(2012, 1, 3), date(2012, 12, 31))
        readings: Readings = ()
        for n, latest in enumerate(days):
            readings = add_reading(readings, days[max(n - 3, 0)], latest, latest, 3)
        assert len(readings) <= 6
        assert [reading.first for reading in readings] == sorted(reading.first for reading in readings)
        assert not unread_ranges(readings, days[0], days[-1])

    def test_seen_to_never_goes_back(self):
        readings = add_reading((read(DAYS[0], DAYS[9], DAYS[20]),), DAYS[0], DAYS[9], DAYS[12], 3)
        assert readings[0].seen_to == DAYS[20]

    def test_an_answer_in_doubt_changes_no_state_and_counts_for_the_audits_order(self):
        before = (read(DAYS[0], DAYS[9], DAYS[10]),)
        readings = add_reading(before, DAYS[0], DAYS[15], DAYS[20], 3, trusted=False)
        assert readings == (Reading(DAYS[0], DAYS[9], DAYS[10], DAYS[20]),)

    def test_ranges_do_not_merge_over_a_session_that_is_unread(self):
        readings = add_reading((read(DAYS[0], DAYS[3], DAYS[30]),), DAYS[5], DAYS[8], DAYS[30], 3)
        assert unread_ranges(readings, DAYS[0], DAYS[8]) == ((DAYS[4], DAYS[4]),)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.integers(0, 70), st.booleans()), max_size=12),
        st.integers(0, 4),
    )
    def test_merged_ranges_remember_the_state_of_every_session(self, steps, settle):
        readings: Readings = ()
        seen: dict[date, date] = {}
        now = 0
        for first, length, published, trusted in steps:
            now = max(now, published)
            last = min(first + length, now)
            if last < first:
                continue
            readings = add_reading(readings, DAYS[first], DAYS[last], DAYS[now], settle, trusted=trusted)
            for session in DAYS[first : last + 1] if trusted else []:
                seen[session] = DAYS[now]
        for session in DAYS:
            found = [reading for reading in readings if reading.first <= session <= reading.last]
            assert len(found) == (session in seen)
            for reading in found:
                known = is_settled(session, seen[session], settle)
                assert is_settled(session, reading.seen_to, settle) == known
                assert known or reading.seen_to == seen[session]
                assert reading.oldest <= DAYS[now]
        (unread,) = unread_pairs(["A"], DAYS, {"A": readings})
        assert shown(unread, len(DAYS)) == "".join(".x"[session not in seen] for session in DAYS)
