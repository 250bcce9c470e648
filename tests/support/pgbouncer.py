"""A pooler in transaction mode in front of PostgreSQL, as hosted services have it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tests.support.tcp_proxy import TcpProxy

BUILT = Path(__file__).parents[2] / "build" / "pgbouncer"  # where `make build/pgbouncer` puts Debian's package


def program() -> str | None:
    """The path of pgbouncer: on PATH, where Debian installs it, or where the Makefile unpacks it."""
    places = [os.environ["PATH"], "/usr/sbin", str(BUILT / "usr" / "sbin")]
    return shutil.which("pgbouncer", path=os.pathsep.join(places))


@contextmanager
def pooler(url: str, *, connections: int) -> Iterator[str]:
    """Run pgbouncer in transaction mode over so many connections to a database; yield the URL of its TCP port."""
    target, path = make_url(url), program()
    assert path, "pgbouncer is not installed"
    server = TcpProxy(url)  # pgbouncer may not enter the folder of a Unix socket
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = target.username or "postgres"
    password = f" password={target.password}" if target.password else ""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "pgbouncer.ini"
        users = Path(folder) / "users.txt"
        users.write_text(f'"{user}" ""\n')
        settings.write_text(
            f"[databases]\n{target.database} = host=127.0.0.1 port={server.port}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = {connections}\n"
            "max_client_conn = 200\nlogfile = /dev/null\n"
        )
        command = [path, str(settings)]
        libraries = os.pathsep.join(str(folder) for folder in BUILT.glob("usr/lib/*-linux-gnu"))
        options: dict[str, Any] = {"stderr": subprocess.DEVNULL, "env": {**os.environ, "LD_LIBRARY_PATH": libraries}}
        if os.geteuid() == 0:  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            for file in (Path(folder), settings, users):
                os.chown(file, nobody.pw_uid, nobody.pw_gid)
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid}
        process = subprocess.Popen(command, **options)
        try:
            _wait_until_open(port)
            pooled = target.set(drivername="postgresql", host="127.0.0.1", port=port, username=user, query={})
            yield pooled.render_as_string(hide_password=False)
        finally:
            process.terminate()
            process.wait(timeout=10)
            server.close()


def _wait_until_open(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "pgbouncer does not start"
            time.sleep(0.02)
