"""Which closes are suspect, how a restatement is measured, and what becomes of history out of the plan's reach."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

import database
from config import Settings
from domain.calendar import last_sessions
from domain.clock import Deadline
from domain.coverage import Coverage, Reading
from domain.models import Request, Split
from domain.planner import RangeCall
from pipeline.context import RunContext
from pipeline.plan import plan_restatements
from pipeline.run import Run, journaled
from pipeline.splits import (
    MIN_OVERLAP,
    is_suspect,
    mark_restated,
    off_factors,
    rescale_unreachable,
)
from storage.engine import database_time, open_engine, transaction
from tests.support.clocks import FrozenClock
from transformations import clean

AS_OF = date(2013, 3, 2)
DAYS = last_sessions(40, AS_OF)


def closes(values: Sequence[float], symbol: str = "IBM", days: Sequence[date] = DAYS) -> pd.DataFrame:
    """Closes of a symbol, of one session after another."""
    dates = np.array(days[: len(values)], dtype="datetime64[s]")
    return pd.DataFrame({"symbol": symbol, "date": dates, "close": np.array(values, dtype=np.float64)})


def history(values: Sequence[float], days: Sequence[date] = DAYS) -> pd.DataFrame:
    """Bars of IBM with these closes, as validation accepts them."""
    bars = closes(values, days=days)
    close = bars["close"]
    return pd.DataFrame(
        {
            **bars[["symbol", "date"]],
            "open": close,
            "high": close * 1.5,
            "low": close / 2,
            "close": close,
            "volume": 90.0,
        }
    )


@pytest.fixture
def run(sqlite_url: str) -> Run:
    """A run whose row, beside the tables, is in a database of its own."""
    context = RunContext(Settings(), open_engine(sqlite_url), Deadline(None, FrozenClock()))
    run = Run(Request("daily_update", ("FB", "IBM"), AS_OF), context)
    with journaled(run):
        pass
    return run


@pytest.fixture
def connection(run: Run) -> Iterator[Connection]:
    with transaction(run.context.engine) as connection:
        yield connection


class TestIsSuspect:
    @pytest.mark.parametrize(
        "factors",
        [
            [0.5],
            [2.0],
            [0.89],
            [1.11],
            [0.95, 0.95],
            [1.05, 0.97, 1.0505],
            [1.05, 1.05 * 1.001],
            [1.002, 1.002],
            [0.05, 1.02],
        ],
    )
    def test_two_by_one_factor_or_one_by_over_ten_percent_are(self, factors: list[float]) -> None:
        assert is_suspect(factors)
        assert is_suspect(factors[::-1])

    @pytest.mark.parametrize(
        "factors", [[], [1.0999], [0.9001], [1.05], [0.95, 1.05], [1.05, 1.052], [1.02, 1.03, 1.04, 0.98, 0.97]]
    )
    def test_single_corrections_are_not(self, factors: list[float]) -> None:
        assert not is_suspect(factors)
        assert not is_suspect(factors[::-1])

    @given(st.lists(st.floats(0.91, 1.09), max_size=6), st.floats(0.91, 1.09))
    def test_it_does_not_matter_what_else_was_corrected(self, others: list[float], factor: float) -> None:
        assert is_suspect([factor, *others, factor])


class TestOffFactors:
    def test_closes_that_differ_by_more_than_a_thousandth_are_off(self) -> None:
        stored, new = closes([100, 100, 100, 100, 100]), closes([100, 100.05, 100.2, 50, 99.8])
        found = off_factors(stored, new)
        assert found["factor"].tolist() == pytest.approx([1.002, 0.5, 0.998])
        assert set(found["symbol"]) == {"IBM"}

    def test_only_the_same_session_of_the_same_symbol_is_compared(self) -> None:
        stored = pd.concat([closes([100, 50]), closes([10, 10], "FB")])
        new = pd.concat([closes([100], days=DAYS[2:]), closes([20], "FB", DAYS[1:]), closes([7], "GOOG")])
        found = off_factors(stored, new)
        assert found.to_dict("list") == {"symbol": ["FB"], "factor": [2.0]}

    @pytest.mark.parametrize("stored", [np.nan, 0.0])
    def test_a_stored_row_without_a_price_is_not_off(self, stored: float) -> None:
        assert off_factors(closes([stored]), closes([100])).empty

    def test_without_a_bar_nothing_is_off(self) -> None:
        assert off_factors(closes([]), closes([100])).empty
        assert off_factors(closes([100]), closes([])).empty


class TestRescaleUnreachable:
    """The plan reaches back to session 10; sessions 0 to 9 are kept history."""

    def test_history_out_of_reach_is_rescaled_by_the_median_factor(self, run: Run) -> None:
        stored = history([100.0 + n for n in range(40)])
        values = [(100.0 + n) / 4 for n in range(10, 40)]
        values[3] *= 1.5  # one that was corrected as well
        restated = clean(history(values, DAYS[10:]))

        rescaled, moved = rescale_unreachable(run, "IBM", stored, restated, DAYS[10])

        assert moved == []
        assert rescaled["date"].dt.date.tolist() == DAYS[:10]
        assert rescaled["close"].tolist() == [(100.0 + n) / 4 for n in range(10)]
        assert rescaled["high"].tolist() == [(100.0 + n) / 4 * 1.5 for n in range(10)]
        assert rescaled["volume"].tolist() == [360] * 10
        assert list(rescaled.columns) == list(restated.columns)
        assert (rescaled.dtypes == restated.dtypes).all()
        assert run.warnings == [f"10 bars of IBM before {DAYS[10]} are out of reach: rescaled by 0.25"]

    def test_it_is_not_rescaled_twice(self, run: Run) -> None:
        stored = history([100.0 + n for n in range(40)])
        restated = clean(history([(100.0 + n) / 4 for n in range(10, 40)], DAYS[10:]))
        rescaled, _ = rescale_unreachable(run, "IBM", stored, restated, DAYS[10])
        run.warnings.clear()

        again, moved = rescale_unreachable(run, "IBM", pd.concat([rescaled, restated]), restated, DAYS[10])

        assert (len(again), moved, run.warnings) == (0, [], [])

    def test_prices_are_rounded_to_six_decimals(self, run: Run) -> None:
        stored = history([100.0] * 40)
        rescaled, _ = rescale_unreachable(run, "IBM", stored, clean(history([100 / 3] * 30, DAYS[10:])), DAYS[10])
        assert rescaled["close"].tolist() == [33.333333] * 10

    def test_a_basis_that_has_not_changed_leaves_it_as_it_is(self, run: Run) -> None:
        stored = history([100.0] * 40)
        rescaled, moved = rescale_unreachable(run, "IBM", stored, clean(history([100.05] * 30, DAYS[10:])), DAYS[10])
        assert (len(rescaled), moved, run.warnings) == (0, [], [])

    def test_history_within_reach_needs_no_factor(self, run: Run) -> None:
        stored = history([100.0] * 5)
        rescaled, moved = rescale_unreachable(run, "IBM", stored, clean(history([50.0] * 5)), DAYS[0])
        assert (len(rescaled), moved, run.warnings) == (0, [], [])

    @pytest.mark.parametrize("overlap", [0, 1, MIN_OVERLAP - 1])
    def test_with_too_few_sessions_to_measure_by_it_is_moved_to_rejected_bars(self, run: Run, overlap: int) -> None:
        stored = history([100.0] * (10 + overlap))
        restated = clean(history([25.0] * 30, DAYS[10:]))

        rescaled, moved = rescale_unreachable(run, "IBM", stored, restated, DAYS[10])

        assert len(rescaled) == 0
        assert [(bar.symbol, bar.date) for bar in moved] == [("IBM", day) for day in DAYS[:10]]
        assert {bar.reason for bar in moved} == {
            f"its adjustment basis is unknown: only {overlap} later sessions overlap with the restated history"
        }
        assert json.loads(moved[0].bar)["close"] == 100.0
        (warning,) = run.warnings
        assert warning.startswith(f"10 bars of IBM before {DAYS[10]} moved to rejected_bars: ")

    def test_as_many_sessions_as_are_needed_are_enough(self, run: Run) -> None:
        stored = history([100.0] * (10 + MIN_OVERLAP))
        rescaled, moved = rescale_unreachable(run, "IBM", stored, clean(history([25.0] * 30, DAYS[10:])), DAYS[10])
        assert (len(rescaled), moved) == (10, [])

    def test_a_kept_row_without_a_price_is_left_as_it_is(self, run: Run) -> None:
        stored = history([np.nan, *[100.0] * 39])
        rescaled, _ = rescale_unreachable(run, "IBM", stored, clean(history([25.0] * 30, DAYS[10:])), DAYS[10])
        assert rescaled["date"].dt.date.tolist() == DAYS[1:10]


class TestPlanRestatements:
    def test_a_suspect_is_read_over_all_that_is_read_or_wanted_of_it(self, run: Run, connection: Connection) -> None:
        database.record_suspects(connection, {"IBM": "off", "GOOG": "off"}, run_id=run.run_id, at=run.context.now())
        coverage: Coverage = {"IBM": (Reading(DAYS[3], DAYS[20], DAYS[20], DAYS[20]),)}

        assert plan_restatements(run.request.symbols, connection, DAYS[30:], coverage) == [
            RangeCall("IBM", DAYS[3], DAYS[39], restates=True)
        ], "GOOG is not a symbol of this run"

    def test_it_is_not_read_beyond_the_plans_first_day(self, run: Run, connection: Connection) -> None:
        database.record_suspects(connection, {"IBM": "off"}, run_id=run.run_id, at=run.context.now())
        coverage: Coverage = {"*": (Reading(DAYS[3], DAYS[20], DAYS[20], DAYS[20]),)}

        (call,) = plan_restatements(run.request.symbols, connection, [], coverage, DAYS[10])

        assert call == RangeCall("IBM", DAYS[10], DAYS[20], restates=True)

    def test_a_split_waits_until_its_history_was_read_again(self, run: Run, connection: Connection) -> None:
        splits = [Split("IBM", DAYS[5], 1, 2), Split("FB", DAYS[6], 1, 2)]
        database.record_splits(connection, splits, pending={"IBM"}, now=run.context.now())

        assert [call.symbol for call in plan_restatements(run.request.symbols, connection, DAYS, {})] == ["IBM"]

    def test_what_is_neither_stored_nor_wanted_needs_no_call(self, run: Run, connection: Connection) -> None:
        database.record_suspects(connection, {"IBM": "off"}, run_id=run.run_id, at=run.context.now())
        assert plan_restatements(run.request.symbols, connection, [], {}) == []


class TestMarkRestated:
    def marked(
        self, run: Run, connection: Connection, execution: date | None, factor: float
    ) -> tuple[list[str], list[str], int]:
        """What a restatement by a factor says: its splits, its warnings, and the splits and suspects that are left."""
        at = database_time(connection)
        database.record_suspects(connection, {"IBM": "off"}, run_id=run.run_id, at=at)
        if execution:
            database.record_splits(connection, [Split("IBM", execution, 1, 2)], pending={"IBM"}, now=at)
        mark_restated(run, connection, "IBM", history([100.0] * 39), history([100.0 * factor] * 40))
        left = "SELECT (SELECT count(*) FROM splits WHERE restated_at IS NULL) + (SELECT count(*) FROM suspects)"
        return run.splits, run.warnings, connection.exec_driver_sql(left).scalar_one()

    def test_a_listed_split_is_done_once_history_was_read_again(self, run: Run, connection: Connection) -> None:
        assert self.marked(run, connection, DAYS[20], 0.5) == ([f"IBM 2:1 on {DAYS[20]}: history restated"], [], 0)

    def test_a_restatement_by_no_listed_split_is_named(self, run: Run, connection: Connection) -> None:
        assert self.marked(run, connection, None, 0.5) == (["IBM: history restated, by no listed split"], [], 0)

    def test_history_that_is_as_it_was_is_not_named(self, run: Run, connection: Connection) -> None:
        assert self.marked(run, connection, None, 1.0) == ([], [], 0)

    def test_on_the_morning_of_the_split_the_provider_may_be_late(self, run: Run, connection: Connection) -> None:
        warning = f"IBM 2:1 on {AS_OF}: the provider has not restated its history yet; the next run asks again"
        assert self.marked(run, connection, AS_OF, 1.0) == ([], [warning], 1)

    def test_on_the_morning_of_the_split_the_provider_may_be_in_time(self, run: Run, connection: Connection) -> None:
        assert self.marked(run, connection, AS_OF, 0.5) == ([f"IBM 2:1 on {AS_OF}: history restated"], [], 0)

    def test_a_split_that_was_stored_as_restated_before_is_done(self, run: Run, connection: Connection) -> None:
        assert self.marked(run, connection, DAYS[20], 1.0) == ([f"IBM 2:1 on {DAYS[20]}: history restated"], [], 0)
