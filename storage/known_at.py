"""The table as it was known at a moment: the bars that were stored then, in SQL.

A bar's state at a moment is what its first later revision replaced, or what is stored now if there is none. It was
known at all if it had been revised by then, or if the ledger (``loads``) says that its session had been read.

On PostgreSQL the function ``stock_data_known_at`` returns these rows with their metrics.
"""

from __future__ import annotations

from sqlalchemy import Connection

from domain.models import BAR_COLUMNS, DECIMALS

BARS = ", ".join(BAR_COLUMNS)
VALUES = ", ".join(BAR_COLUMNS[2:])

# Each entry of the ledger as symbols and days: joins by equality stay fast however long either side is.
_LEDGER = {
    "postgresql": """
ledger AS (
    SELECT DISTINCT symbol, date FROM loads
    CROSS JOIN LATERAL jsonb_array_elements(CAST(pairs AS JSONB)) AS entry
    CROSS JOIN LATERAL jsonb_array_elements_text(entry -> 'symbols') AS named(symbol)
    CROSS JOIN LATERAL generate_series(
        CAST(entry ->> 'first' AS TIMESTAMP), CAST(entry ->> 'last' AS TIMESTAMP), '1 day'
    ) AS day(date)
    WHERE loaded_at <= {moment} AND (symbol = '*' OR {where})
)""",
    "sqlite": """
days(symbols, day, last) AS (
    SELECT json_extract(entry.value, '$.symbols'), json_extract(entry.value, '$.first'),
        json_extract(entry.value, '$.last')
    FROM loads, json_each(pairs) AS entry WHERE loaded_at <= {moment}
    UNION ALL
    SELECT symbols, date(day, '+1 day'), last FROM days WHERE day < last
),
ledger AS (
    SELECT DISTINCT symbol, date FROM (
        SELECT named.value AS symbol, day || ' 00:00:00' AS date FROM days, json_each(symbols) AS named
    ) WHERE symbol = '*' OR {where}
)""",
}


def known_bars(dialect: str, moment: str, *, where: str = "true") -> str:
    """Build a query of the bars that were stored at a moment: ``symbol, date, open, high, low, close, volume``.

    Parameters
    ----------
    dialect : {"postgresql", "sqlite"}
    moment : str
        SQL for the moment; on SQLite its text in UTC, as ``replaced_at`` is stored.
    where : str
        A condition on ``symbol`` and ``date``, to read no more than is asked for.
    """
    return f"""
WITH RECURSIVE {_LEDGER[dialect].format(moment=moment, where=where)},
known AS (
    SELECT symbol, date FROM bar_revisions WHERE {where} AND replaced_at <= {moment}
    UNION
    SELECT symbol, date FROM ledger
),
bars AS (
    SELECT {BARS} FROM stock_data AS stored
    WHERE {where} AND NOT EXISTS (
        SELECT 1 FROM bar_revisions AS later
        WHERE later.symbol = stored.symbol AND later.date = stored.date AND later.replaced_at > {moment}
    )
    UNION ALL
    SELECT {BARS} FROM (
        SELECT {BARS}, row_number() OVER (PARTITION BY symbol, date ORDER BY replaced_at, id) AS place
        FROM bar_revisions WHERE {where} AND replaced_at > {moment}
    ) AS replaced
    WHERE place = 1 AND coalesce({VALUES}) IS NOT NULL
)
SELECT {", ".join(f"bars.{name}" for name in BAR_COLUMNS)}
FROM bars
LEFT JOIN known ON known.symbol = bars.symbol AND known.date = bars.date
LEFT JOIN ledger AS market ON market.symbol = '*' AND market.date = bars.date
WHERE known.symbol IS NOT NULL OR market.symbol IS NOT NULL"""


def _rounded(size: str, divisor: str, quotient: str, sign: str) -> str:
    """Round half to even, given the quotient of :func:`_quotient`, to the number that the product stores."""
    tie = f"{quotient} * 2 * {divisor} = 2 * {size} + {divisor}"
    whole = f"{quotient} - CASE WHEN {tie} THEN mod({quotient}, 2) ELSE 0 END"
    return f"({sign} * ({whole}) * 1e-{DECIMALS})::float8::text::numeric"  # a product is exact, a quotient is not


def _quotient(size: str, divisor: str) -> str:
    """Round half up, exactly; both are positive."""
    return f"div(2 * {size} + {divisor}, 2 * {divisor})"


_SPREAD = f"(abs(high - low) * 1e{DECIMALS + 2})"
_SUM = f"(abs(sum(close) OVER recent) * 1e{DECIMALS})"
_PREVIOUS = "nullif(lag(close) OVER history, 0)"
_MOVE = f"(abs(close - {_PREVIOUS}) * 1e{DECIMALS + 2})"

# Window functions keep the inner SELECT apart, so that each quotient is computed once per row; and as they are
# partitioned by symbol, a condition on the symbol reaches the tables.
CREATE_FUNCTION = f"""
CREATE OR REPLACE FUNCTION stock_data_known_at(moment timestamptz)
RETURNS TABLE (
    date timestamp, symbol varchar, open numeric, high numeric, low numeric, close numeric, volume bigint,
    volatility numeric, rolling_avg numeric, daily_pct_change numeric
)
LANGUAGE sql STABLE PARALLEL SAFE AS $function$
SELECT date, symbol, open, high, low, close, volume,
    {_rounded(_SPREAD, "abs(close)", "spread", "sign(high - low) * sign(close)")},
    CASE WHEN closes = 5 THEN {_rounded("size", "5", "average", "sign(total)")} END,
    {_rounded("move", "abs(previous)", "change", "sign(close - previous) * sign(previous)")}
FROM (
    SELECT date, symbol, open, high, low, close, volume,
        {_quotient(_SPREAD, "abs(nullif(close, 0))")} AS spread,
        sum(close) OVER recent AS total, {_SUM} AS size, count(close) OVER recent AS closes,
        {_quotient(_SUM, "5")} AS average,
        {_PREVIOUS} AS previous, {_MOVE} AS move, {_quotient(_MOVE, f"abs({_PREVIOUS})")} AS change
    FROM ({known_bars("postgresql", "moment")}) AS known_then
    WINDOW history AS (PARTITION BY symbol ORDER BY date), recent AS (history ROWS 4 PRECEDING)
) AS windows
$function$
"""


def create_known_at(connection: Connection) -> None:
    """Create the function ``stock_data_known_at`` where the database is PostgreSQL."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(CREATE_FUNCTION)
