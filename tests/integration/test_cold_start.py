"""What is left for the first invocation of a cold container on Lambda, after INIT."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.local_http import LocalServer, Reply
from storage.engine import open_engine
from tests.conftest import SYMBOLS
from tests.support.mail_server import Box, smtp_server
from tests.support.tables import scalar

ROOT = Path(__file__).parents[2]
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(1000)
PROGRAM = """
import json, sys
import lambda_main
class Context:
    aws_request_id = "cold"
    def get_remaining_time_in_millis(self):
        return 300_000
prepared = set(sys.modules)
result = lambda_main.handler(json.loads(sys.argv[1]), Context())
print(json.dumps([result["status"], sorted(set(sys.modules) - prepared)]))
"""


@pytest.fixture
def invoke_cold(market, tcp_url, tmp_path):
    """Invoke the function in a new process; return the result's status, and the modules imported after INIT."""
    charts = LocalServer(lambda _: Reply(200, PICTURE, {"Content-Type": "image/png"}))
    charts.start()
    with smtp_server(Box()) as port:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "AWS_LAMBDA_FUNCTION_NAME": "stock-tracker",
            "DATABASE_URL": tcp_url,
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "QUICKCHART_URL": f"{charts.url}/chart",
            "SYMBOLS": ",".join(SYMBOLS),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "MAIL_FROM": "me@example.com",
            "MAIL_TO": "me@example.com",
        }

        def invoke(**event):
            command = [sys.executable, "-c", PROGRAM, json.dumps(event)]
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            status, imported = json.loads(done.stdout.splitlines()[-1])
            return status, imported

        yield invoke
    charts.stop()


def test_the_first_invocation_of_each_job_imports_next_to_nothing(invoke_cold, tcp_url):
    small = {"encodings.ascii", "pandas.api.internals"}  # by libraries, a millisecond each
    for job, as_of, expected in [
        ("initialize", "2013-03-01", "ok"),
        ("daily_update", "2013-03-02", "ok"),
        ("weekly_report", "2013-03-02", "sent"),
    ]:
        status, imported = invoke_cold(job_type=job, as_of=as_of)

        assert status == expected
        assert set(imported) <= small, job
    assert scalar(open_engine(tcp_url), "SELECT count(*) FROM job_runs") == 3, "the rehearsal is no run"


HEAVY = {"boto3", "exchange_calendars", "numpy", "pandas", "pyarrow", "requests", "rich.progress"}
COMMAND = """
import json, runpy, sys
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["status", "--json"], ["symbols"]])
def test_a_command_that_only_reads_values_waits_for_no_library_of_data(job, database_url, tmp_path, arguments):
    job("initialize", as_of="2013-03-01")
    open_engine(database_url).dispose()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "SYMBOLS": ",".join(SYMBOLS),
    }
    command = [sys.executable, "-c", COMMAND, str(ROOT / "main.py"), *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert HEAVY & set(json.loads(done.stderr.splitlines()[-1])) == set()
