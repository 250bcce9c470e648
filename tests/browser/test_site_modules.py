"""The pages' pure modules, run in a browser and compared with the report's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from report import formatting
from web.build import APP
from web.server import SiteServer

SEED = 7


@pytest.fixture(scope="module")
def modules(chromium: Browser) -> Iterator[Page]:
    """A page that may import the sources."""
    with SiteServer(APP) as server:
        page = chromium.new_page()
        page.goto(server.url + "src/format.js")
        yield page
        page.close()


def call(page: Page, module: str, function: str, *lists: list[Any]) -> list[Any]:
    """Call an exported function with the first of each list, then the second, and so on."""
    return page.evaluate(
        """async ([module, name, lists]) => {
             const found = await import(`/src/${module}.js`);
             return lists[0].map((_, at) => found[name](...lists.map((list) => list[at])));
           }""",
        [module, function, list(lists)],
    )


def numbers() -> list[float]:
    """Ties, tiny and huge numbers, and random ones of 0 to 9 decimals."""
    draw = random.Random(SEED)
    some = [round(draw.uniform(-1, 1) * 10 ** draw.randint(-3, 9), draw.randint(0, 9)) for _ in range(3_000)]
    ties = [sign * n / 1000 for sign in (1, -1) for n in range(5, 4_000, 10)]
    return [0.0, -0.0, 1e-7, -1.5e-9, 0.005, 2.675, 1e15, 999.995, 123456789.125, *some, *ties]


@pytest.mark.parametrize("name", ["percent", "change", "ratio", "direction"])
def test_figures_read_as_in_the_report(modules: Page, name: str) -> None:
    values = numbers()
    expected = [getattr(formatting, name)(value).replace("-", "−" if name != "direction" else "-") for value in values]
    assert call(modules, "format", name, values) == expected


def test_a_number_keeps_every_digit_in_a_file(modules: Page) -> None:
    values = numbers()
    texts = call(modules, "format", "decimal", values)
    assert [float(text) for text in texts] == values
    assert [Decimal(text) for text in texts] == [Decimal(repr(value)) for value in values]
    assert not any("e" in text for text in texts)


def test_a_price_has_the_digits_of_the_table_and_at_least_two(modules: Page) -> None:
    values = [430.47, 438.1799, 1234567.5, 12, 0.00012, 1e-7, 464.5, 0]
    assert call(modules, "format", "price", values) == [
        "430.47", "438.1799", "1,234,567.50", "12.00", "0.00012", "0.0000001", "464.50", "0.00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["price", "average", "percent", "change", "ratio", "number", "count", "share", "short", "day"]
)
def test_an_unknown_value_is_a_dash(modules: Page, name: str) -> None:
    assert call(modules, "format", name, [None]) == [formatting.UNKNOWN]


def test_a_share_is_shown_in_percent_without_a_change_of_digits(modules: Page) -> None:
    assert call(modules, "format", "share", [0.6, 0.575, 0.0005, 1, 0.29]) == [
        "60.0%",
        "57.5%",
        "0.0%",
        "100.0%",
        "29.0%",
    ]


def test_large_numbers_are_short_on_axes(modules: Page) -> None:
    assert call(modules, "format", "short", [950, 4_000, 1_500_000, 2e9, -40_000]) == [
        "950",
        "4K",
        "1.5M",
        "2B",
        "−40K",
    ]


def test_cells_of_a_file_are_quoted_and_run_no_formula(modules: Page) -> None:
    (text,) = call(modules, "format", "csv", [["symbol", "n"]], [[["=A1", 1e-7], ['a "b", c', None], ["-X", -2.5]]])
    assert text == 'symbol,n\r\n\'=A1,0.0000001\r\n"a ""b"", c",\r\n\'-X,-2.5\r\n'


@pytest.mark.parametrize("symbol", ["AAPL", "BRK.B", "A/B", "A?B", "A%B", "<b>", "ü", "KIMpL"])
def test_any_symbol_survives_the_address(modules: Page, symbol: str) -> None:
    (address,) = call(modules, "router", "symbolAddress", [symbol])
    (parsed,) = call(modules, "router", "parse", [address])
    assert (parsed["page"], parsed["argument"]) == ("symbol", symbol)


@pytest.mark.parametrize(
    "text", ["", "#", "#/", "#//", "#/%E0%A4%A", "#/symbol", "#/symbol/?a=1?b", "#?x", "#/__proto__/x"]
)
def test_no_address_breaks_the_router(modules: Page, text: str) -> None:
    (parsed,) = call(modules, "router", "parse", [text])
    assert parsed["page"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.5", 12.5),
        ("-3", -3),
        ("−3", -3),
        ("1,000", 1000),
        ("2.5M", 2_500_000),
        ("1e5", None),
        ("x", None),
        ("", None),
        ("0x1", None),
    ],
)
def test_a_filter_takes_numbers_as_people_write_them(modules: Page, text: str, number: float | None) -> None:
    assert call(modules, "screen", "parseNumber", [text]) == [number]


def test_the_screener_agrees_with_python(modules: Page) -> None:
    draw = random.Random(SEED)
    rows: list[dict[str, Any]] = [
        {
            "symbol": f"S{n:04}",
            "close": draw.choice([None, round(draw.uniform(1, 99), 2)]),
            "cross": draw.choice([None, "golden", "death"]),
        }
        for n in range(500)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    found = modules.evaluate(
        """async (columns) => {
             const { fromQuery, screen, toQuery } = await import("/src/screen.js");
             const known = Object.keys(columns);
             const state = fromQuery(new URLSearchParams("q=s0&close=20..80&cross=golden&sort=-close"), known);
             const again = fromQuery(new URLSearchParams(toQuery(state)), known);
             return [[...screen(columns, state)], [...screen(columns, again)]];
           }""",
        columns,
    )
    kept = [n for n, row in enumerate(rows) if row["cross"] == "golden" and row["close"] and 20 <= row["close"] <= 80]
    expected = sorted(kept, key=lambda n: (-rows[n]["close"], n))
    assert len(expected) > 20
    assert found == [expected, expected]
