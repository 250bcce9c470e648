"""A plan makes the fewest calls that fetch what is missing."""

from collections import Counter
from datetime import date
from itertools import product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from domain.audit import plan_audit
from domain.calendar import last_sessions
from domain.planner import GroupedCall, RangeCall, minimum_cover, places, plan_calls

AS_OF = date(2013, 3, 2)
SYMBOLS = [f"S{number:05d}" for number in range(11_000)]
SESSIONS = last_sessions(500, AS_OF)


def day(text):
    return date.fromisoformat(text)


def bits(grid):
    """The rows of a grid as integers."""
    return [int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little") for row in grid]


def plan(symbols, sessions, missing):
    return plan_calls(symbols, sessions, bits(missing))


def cover(edges):
    """The smallest cover as two masks."""
    chosen, crossed = minimum_cover(bits(edges))
    rows, columns = (np.zeros(length, dtype=bool) for length in edges.shape)
    rows[chosen] = True
    columns[places(crossed)] = True
    return rows, columns


def all_missing(symbols, sessions):
    return SYMBOLS[:symbols], SESSIONS[-sessions:], np.ones((symbols, sessions), dtype=bool)


def kinds(calls):
    counted = Counter(type(call) for call in calls)
    return counted[RangeCall], counted[GroupedCall]


def fetched(calls, symbols, sessions):
    """The pairs that the calls fetch."""
    grid = np.zeros((len(symbols), len(sessions)), dtype=bool)
    for call in calls:
        columns = [call.first <= session <= call.last for session in sessions]
        if isinstance(call, GroupedCall):
            grid[:, columns] = True
        else:
            grid[symbols.index(call.symbol), columns] = True
    return grid


def matching_size(edges):
    """The size of a maximum matching by networkx, which by Kőnig's theorem is that of a minimum vertex cover."""
    rows, columns = np.nonzero(edges)
    if not len(rows):
        return 0
    top = {("row", row) for row in rows.tolist()}
    graph = nx.Graph()
    graph.add_edges_from(
        (("row", row), ("column", column)) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    )
    return len(nx.bipartite.hopcroft_karp_matching(graph, top)) // 2


def smallest_covers(edges):
    """The size of the smallest covers, and the most rows that one of them has, by trying all covers."""
    covers = []
    for chosen in product([False, True], repeat=edges.shape[0]):
        rows = np.array(chosen, dtype=bool)
        columns = edges[~rows].any(axis=0)  # what the rows leave, columns must cover
        covers.append((int(rows.sum() + columns.sum()), int(rows.sum())))
    size = min(size for size, _ in covers)
    return size, max(rows for total, rows in covers if total == size)


def random_grids(count, *, largest, seed):
    random = np.random.default_rng(seed)
    for _ in range(count):
        shape = random.integers(0, largest + 1, 2)
        yield random.random(shape) < random.random()


def assert_covers(edges, rows, columns):
    assert (rows.shape, columns.shape) == (edges.shape[:1], edges.shape[1:])
    assert not edges[~rows][:, ~columns].any()


class TestMinimumCover:
    def test_it_is_the_smallest_cover_with_the_most_rows_on_thousands_of_grids(self):
        for edges in random_grids(2_000, largest=5, seed=1):
            rows, columns = cover(edges)
            assert_covers(edges, rows, columns)
            assert (rows.sum() + columns.sum(), rows.sum()) == smallest_covers(edges)

    def test_it_is_as_large_as_a_maximum_matching_on_ten_thousand_grids(self):
        for edges in random_grids(10_000, largest=8, seed=2):
            rows, columns = cover(edges)
            assert_covers(edges, rows, columns)
            assert rows.sum() + columns.sum() == matching_size(edges)

    def test_it_is_as_large_as_a_maximum_matching_on_sparse_grids_with_long_paths(self):
        random = np.random.default_rng(3)
        for _ in range(60):
            shape = random.integers(20, 90, 2)
            edges = random.random(shape) < random.uniform(0.5, 4) / shape.max()
            rows, columns = cover(edges)
            assert_covers(edges, rows, columns)
            assert rows.sum() + columns.sum() == matching_size(edges)

    @given(edges=npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)))
    def test_a_transposed_grid_has_a_cover_of_the_same_size(self, edges):
        upright, lying = cover(edges), cover(edges.T)
        assert sum(part.sum() for part in upright) == sum(part.sum() for part in lying)

    @pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 3)])
    def test_nothing_needs_no_cover(self, shape):
        rows, columns = cover(np.zeros(shape, dtype=bool))
        assert (rows.tolist(), columns.tolist()) == ([False] * shape[0], [False] * shape[1])

    def test_a_single_cell_is_covered_by_its_row(self):
        edges = np.zeros((4, 3), dtype=bool)
        edges[2, 1] = True
        rows, columns = cover(edges)
        assert (np.flatnonzero(rows).tolist(), columns.any()) == ([2], False)


class TestPlan:
    @pytest.mark.parametrize(
        ("symbols", "sessions", "ranges", "grouped"),
        [
            (5, 70, 5, 0),
            (5, 1, 0, 1),
            (1, 1, 1, 0),
            (1, 70, 1, 0),
            (70, 70, 70, 0),
            (71, 70, 0, 70),
            (11_000, 500, 0, 500),
            (11_000, 1, 0, 1),
            (0, 70, 0, 0),
            (5, 0, 0, 0),
        ],
    )
    def test_a_full_grid_takes_as_many_calls_as_its_shorter_side(self, symbols, sessions, ranges, grouped):
        assert kinds(plan(*all_missing(symbols, sessions))) == (ranges, grouped)

    def test_a_range_reaches_from_the_first_to_the_last_missing_session(self):
        missing = np.zeros((1, 70), dtype=bool)
        missing[0, [10, 20, 40]] = True
        sessions = SESSIONS[-70:]
        assert plan(["GOOG"], sessions, missing) == [RangeCall("GOOG", sessions[10], sessions[40])]

    def test_a_range_ends_where_grouped_calls_fetch_the_rest(self):
        symbols, sessions = SYMBOLS[:5], SESSIONS[-70:]
        missing = np.zeros((5, 70), dtype=bool)
        missing[:, [0, 69]] = True
        missing[0] = True
        assert plan(symbols, sessions, missing) == [
            GroupedCall(sessions[0]),
            RangeCall(symbols[0], sessions[1], sessions[68]),
            GroupedCall(sessions[69]),
        ]

    def test_a_new_symbol_and_a_new_session_take_two_calls(self):
        symbols, sessions = SYMBOLS[:6], SESSIONS[-70:]
        missing = np.zeros((6, 70), dtype=bool)
        missing[:, -1] = True
        missing[3] = True
        assert plan(symbols, sessions, missing) == [
            RangeCall(symbols[3], sessions[0], sessions[-2]),
            GroupedCall(sessions[-1]),
        ]

    def test_a_missed_week_of_five_symbols_is_fetched_by_symbol_as_that_is_smaller(self):
        assert kinds(plan(*all_missing(5, 5))) == (5, 0)
        assert kinds(plan(*all_missing(5, 4))) == (0, 4)

    def test_nothing_missing_is_no_call(self):
        symbols, sessions, missing = all_missing(5, 70)
        assert plan(symbols, sessions, ~missing) == []

    def test_the_whole_market_is_fetched_by_session(self):
        sessions = SESSIONS[-3:]
        missing = np.array([[True, False, True]])
        assert plan(["*"], sessions, missing) == [GroupedCall(sessions[0]), GroupedCall(sessions[2])]

    def test_the_whole_market_for_one_session_is_never_a_range(self):
        assert plan(["*"], SESSIONS[-1:], np.array([[True]])) == [GroupedCall(SESSIONS[-1])]

    def test_what_a_whole_market_call_fetches_is_not_fetched_again(self):
        sessions = SESSIONS[-4:]
        missing = np.array([[True, True, False, False], [True, True, True, True], [False, True, False, False]])
        assert plan(["*", "GOOG", "MSFT"], sessions, missing) == [
            GroupedCall(sessions[0]),
            GroupedCall(sessions[1]),
            RangeCall("GOOG", sessions[2], sessions[3]),
        ]

    def test_calls_are_ordered_by_session(self):
        for missing in random_grids(200, largest=8, seed=4):
            calls = plan(SYMBOLS[: len(missing)], SESSIONS[: missing.shape[1]], missing)
            assert [call.first for call in calls] == sorted(call.first for call in calls)

    def test_an_ordinary_morning_of_five_symbols_is_four_grouped_calls(self):
        symbols, sessions = SYMBOLS[:5], SESSIONS[-70:]
        wanted = np.zeros((5, 70), dtype=bool)
        wanted[:, -4:] = True
        assert plan(symbols, sessions, wanted) == [GroupedCall(sessions[n]) for n in (-4, -3, -2, -1)]

    def test_an_ordinary_morning_of_up_to_four_symbols_is_a_range_of_each(self):
        symbols, sessions = SYMBOLS[:4], SESSIONS[-70:]
        wanted = np.zeros((4, 70), dtype=bool)
        wanted[:, -4:] = True
        assert plan(symbols, sessions, wanted) == [RangeCall(each, sessions[-4], sessions[-1]) for each in symbols]

    def test_the_plan_is_the_same_each_time(self):
        missing = np.random.default_rng(5).random((40, 40)) < 0.1
        first = plan(SYMBOLS[:40], SESSIONS[:40], missing)
        assert first == plan(SYMBOLS[:40], SESSIONS[:40], missing.copy())

    @settings(max_examples=200)
    @given(
        missing=npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)),
        whole_market=st.booleans(),
    )
    def test_a_plan_fetches_every_missing_pair_in_the_fewest_calls(self, missing, whole_market):
        symbols, sessions = SYMBOLS[: len(missing)], SESSIONS[: missing.shape[1]]
        if whole_market:
            symbols = ["*", *symbols[1:]]
        calls = plan(symbols, sessions, missing)
        assert len(set(calls)) == len(calls)
        assert not (missing & ~fetched(calls, symbols, sessions)).any()
        assert "*" not in {call.symbol for call in calls if isinstance(call, RangeCall)}
        forced = missing[0] if whole_market else np.zeros(len(sessions), dtype=bool)
        assert len(calls) == forced.sum() + matching_size(missing & ~forced)

    def test_a_call_prints_what_it_fetches(self):
        assert str(RangeCall("GOOG", day("2013-02-25"), day("2013-03-01"))) == "GOOG from 2013-02-25 to 2013-03-01"
        assert str(GroupedCall(day("2013-03-01"))) == "all symbols on 2013-03-01"


class TestAudit:
    """An audit repeats the readings that are oldest, by as many calls as it may."""

    DAYS = SESSIONS[-70:]

    def ages(self, *rows):
        """One age per symbol for all its sessions."""
        return np.repeat(np.array(rows, dtype=np.int32)[:, None], 70, axis=1)

    def test_a_short_list_is_audited_whole(self):
        assert plan_audit(SYMBOLS[:5], self.DAYS, self.ages(3, 1, 2, 5, 4), 5) == [
            RangeCall(symbol, self.DAYS[0], self.DAYS[-1]) for symbol in SYMBOLS[:5]
        ]

    def test_of_a_longer_list_the_symbols_read_longest_ago_come_first(self):
        calls = plan_audit(SYMBOLS[:5], self.DAYS, self.ages(3, 1, 2, 5, 4), 2)
        assert [getattr(call, "symbol", None) for call in calls] == [SYMBOLS[1], SYMBOLS[2]]

    def test_of_the_whole_market_the_sessions_read_longest_ago_come_first(self):
        ages = np.full((1, 70), 9, dtype=np.int32)
        ages[0, [7, 3, 60]] = [1, 3, 2]
        calls = plan_audit(["*"], self.DAYS, ages, 3)
        assert calls == [GroupedCall(self.DAYS[n]) for n in (7, 60, 3)]

    def test_a_call_is_as_old_as_the_oldest_of_its_readings(self):
        ages = self.ages(5, 5, 5)
        ages[2, 40] = 1
        assert [getattr(call, "symbol", None) for call in plan_audit(SYMBOLS[:3], self.DAYS, ages, 1)] == [SYMBOLS[2]]

    def test_what_is_not_to_be_read_makes_no_call_and_no_call_older(self):
        ages = self.ages(0, 4, 3)
        ages[1, :10] = 0
        assert plan_audit(SYMBOLS[:3], self.DAYS, ages, 1) == [RangeCall(SYMBOLS[2], self.DAYS[0], self.DAYS[-1])]
        assert plan_audit(SYMBOLS[:3], self.DAYS, ages, 9) == [
            RangeCall(SYMBOLS[2], self.DAYS[0], self.DAYS[-1]),
            RangeCall(SYMBOLS[1], self.DAYS[10], self.DAYS[-1]),
        ]

    @pytest.mark.parametrize("most", [0, 5])
    def test_nothing_settled_is_nothing_to_audit(self, most):
        assert plan_audit(SYMBOLS[:5], self.DAYS, self.ages(0, 0, 0, 0, 0), most) == []

    def test_without_calls_nothing_is_audited(self):
        assert plan_audit(SYMBOLS[:5], self.DAYS, self.ages(1, 1, 1, 1, 1), 0) == []

    @settings(max_examples=100)
    @given(
        ages=npst.arrays(np.int32, npst.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 9)),
        most=st.integers(0, 6),
    )
    def test_no_call_that_is_left_out_is_older_than_one_that_is_made(self, ages, most):
        symbols, sessions = SYMBOLS[: len(ages)], SESSIONS[: ages.shape[1]]
        everything = plan(symbols, sessions, ages > 0)
        calls = plan_audit(symbols, sessions, ages, most)
        assert len(calls) == min(most, len(everything))
        assert set(calls) <= set(everything)

        def oldest(call):
            line = (
                ages[:, sessions.index(call.first)]
                if isinstance(call, GroupedCall)
                else ages[symbols.index(call.symbol)]
            )
            return line[line > 0].min()

        left = [oldest(call) for call in everything if call not in calls]
        assert max(map(oldest, calls), default=0) <= min(left, default=10)


def weighted_matching_size(missing):
    """The size of a maximum matching by networkx' maximum flow, with equal rows and equal columns merged."""
    _, place, many = np.unique(missing, axis=0, return_index=True, return_counts=True)
    missing, row_capacity = missing[place], many
    _, place, many = np.unique(missing, axis=1, return_index=True, return_counts=True)
    missing, column_capacity = missing[:, place], many
    graph = nx.DiGraph()
    graph.add_nodes_from(["source", "sink"])
    for row, capacity in enumerate(row_capacity.tolist()):
        graph.add_edge("source", ("row", row), capacity=capacity)
    for column, capacity in enumerate(column_capacity.tolist()):
        graph.add_edge(("column", column), "sink", capacity=capacity)
    graph.add_edges_from(
        (("row", row), ("column", column)) for row, column in zip(*map(np.ndarray.tolist, np.nonzero(missing)))
    )
    return nx.maximum_flow_value(graph, "source", "sink")


class TestWholeMarket:
    """11,000 symbols over 500 sessions, each symbol with one of a few hundred histories."""

    def planned(self, missing):
        calls = plan(SYMBOLS, SESSIONS, missing)
        rows = {call.symbol for call in calls if isinstance(call, RangeCall)}
        columns = {call.session for call in calls if isinstance(call, GroupedCall)}
        lacking = missing[[symbol not in rows for symbol in SYMBOLS]][:, [day not in columns for day in SESSIONS]]
        assert not lacking.any(), "every missing pair is brought"
        return len(calls)

    def test_listings_over_time_take_the_fewest_calls(self):
        random = np.random.default_rng(6)
        known_since = random.choice(random.integers(1, 501, 300), 11_000)
        missing = np.arange(500) < known_since[:, None]
        missing[random.random(11_000) < 0.9] = False
        assert self.planned(missing) == weighted_matching_size(missing)

    def test_symbols_that_lack_a_few_sessions_each_take_the_fewest_calls(self):
        random = np.random.default_rng(7)
        histories = random.random((250, 500)) < 0.004
        histories[random.random(250) < 0.1] = True
        missing = histories[random.integers(0, 250, 11_000)]
        missing[random.random(11_000) < 0.97] = False
        assert self.planned(missing) == weighted_matching_size(missing)

    def test_rare_histories_take_the_fewest_calls(self):
        random = np.random.default_rng(8)
        missing = np.zeros((11_000, 500), dtype=bool)
        missing[random.choice(11_000, 400, replace=False)] = random.random((400, 500)) < 0.003
        assert self.planned(missing) == weighted_matching_size(missing)
