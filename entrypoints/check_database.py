"""Check the database: the connection, the tables, the right to write, and the connections that are left."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

import utils
from domain.errors import ConfigError, CredentialsError, StockTrackerError
from entrypoints.checks import Check, Setup, failed, no_database, ok, refused_login, skipped, try_folder, warning
from entrypoints.places import reject_local_database
from pipeline.context import RunContext, ensure_same_provider
from storage.engine import LOCAL_HOSTS, database_exists, database_time, open_engine, redacted_url, transaction
from storage.migration import SchemaState, schema_state
from storage.rights import try_to_write
from storage.server import count_connections, encryption, is_pooled, server_version
from storage.shape import RENAME

FEW_CONNECTIONS = 5
NOT_ENCRYPTED = "not encrypted"
NO_TABLES = "none yet: the first run makes them"
FOUND: dict[SchemaState, str] = {
    "none": NO_TABLES,
    "current": "all are there, of this version",
    "earlier": "of an earlier version: the next run brings them up to this one",
    "adoptable": "a table stock_data of the right shape: the first run adopts it with its rows",
}


def check_database(setup: Setup) -> Check:
    """Connect and log in; a SQLite file may be absent."""
    place = setup.place("DATABASE_URL")
    try:
        if setup.on_lambda:
            reject_local_database(setup.settings)
        engine = open_engine(setup.settings.database_url.get_secret_value())
    except ConfigError as error:
        return failed("database", str(error), f"correct DATABASE_URL in {place}")
    try:
        found = _connect(setup, engine)
    except CredentialsError as error:
        return refused_login("database", error, place)
    except (StockTrackerError, OSError) as error:
        return failed("database", str(error), _cure(setup, engine, str(error)))
    setup.engine = engine
    if NOT_ENCRYPTED in found:
        return warning("database", found, f"add sslmode=verify-full to DATABASE_URL in {place}")
    return ok("database", found)


def _connect(setup: Setup, engine: Engine) -> str:
    """Return what there is to say of the database."""
    if not database_exists(engine):
        try_folder(Path(str(engine.url.database)).parent)
        return f"{redacted_url(engine)} is made by the first run"
    with transaction(setup.limited(engine), write=False) as connection:
        if engine.dialect.name == "sqlite":
            version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
            return f"{redacted_url(engine)}, version {version}"
        setup.drifts["the database"] = database_time(connection) - setup.now()
        version, tls = server_version(connection), encryption(connection)
    is_local = "unix_sock" in engine.url.query or engine.url.host in LOCAL_HOSTS
    return f"{redacted_url(engine)}, version {version}, {tls or ('on this machine' if is_local else NOT_ENCRYPTED)}"


def _cure(setup: Setup, engine: Engine, message: str) -> str:
    place = setup.place("DATABASE_URL")
    if engine.dialect.name == "sqlite":
        return f"make its folder, with the right to write there, or correct DATABASE_URL in {place}"
    if "certificate" in message.lower():
        return f"name its authority's file by sslrootcert in DATABASE_URL in {place}"
    network = "lets the function in" if setup.on_lambda else "lets this machine in"
    return f"check host, port and name in DATABASE_URL in {place}, and that the server runs and {network}"


def check_tables(setup: Setup) -> Check:
    """Say what the next run finds, and what it would refuse."""
    if setup.engine is None:
        return no_database("tables")
    if not database_exists(setup.engine):
        return ok("tables", NO_TABLES)
    context = RunContext(setup.settings, setup.engine, setup.limit())
    try:
        with transaction(context.engine, write=False) as connection:
            state = schema_state(connection)
            if state == "current" and setup.has_key:
                ensure_same_provider(context, utils.read_providers(connection))
    except StockTrackerError as error:
        return _refused_tables(str(error))
    return ok("tables", FOUND[state])


def _refused_tables(message: str) -> Check:
    """A failed check whose error mostly says itself what to do."""
    problem, separator, statement = message.partition("; run: ")
    if separator:
        return failed("tables", problem, f"run: {statement}")
    problem, separator, rest = message.partition(": set DATABASE_URL")
    if separator:
        return failed("tables", problem, f"set DATABASE_URL{rest} (make reset)")
    return failed("tables", message, f"do so, or set the table aside: {RENAME}")


def check_rights(setup: Setup, tables: Check) -> Check:
    """Write in a transaction that is rolled back."""
    if setup.engine is None:
        return no_database("rights")
    if tables["status"] == "failed":
        return skipped("rights", "the tables are refused", "mend the tables first")
    if not database_exists(setup.engine):
        return ok("rights", "the folder can be written")
    try:
        with transaction(setup.limited(setup.engine), write=False) as connection:
            refused = try_to_write(connection)
    except StockTrackerError as error:
        return failed("rights", str(error), "another session may be at work: run doctor again")
    if refused:
        return failed("rights", f"writing was refused: {refused.message}", refused.cure)
    return ok("rights", "tables can be made and written (tried, and rolled back)")


def check_pool(setup: Setup) -> Check:
    """Count the connections that are left; a run needs one."""
    if setup.engine is None:
        return no_database("pool")
    if setup.engine.dialect.name == "sqlite":
        return ok("pool", "a file has no connections to run out of")
    try:
        with transaction(setup.limited(setup.engine), write=False) as connection:
            most, used = count_connections(connection)
            through = "through a pooler; " if is_pooled(connection) else ""
    except StockTrackerError as error:
        return failed("pool", str(error), "run doctor again")
    found = f"{through}{used} of {most} connections are used, and a run needs one"
    if most - used < FEW_CONNECTIONS:
        return warning("pool", found, "end idle sessions, or put the address of a pooler into DATABASE_URL")
    return ok("pool", found)
