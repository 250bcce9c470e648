"""The local AWS: an endpoint that runs a template's functions, schedules and state machines on this machine.

It is the package ministack in its own environment. Functions run in the local Python: it enforces roles and timeouts,
but no memory limit, no read-only task root and no size of layers.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import boto3

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-e2e" / "bin" / "python"
REGION = "eu-west-1"
PATIENCE = 60.0

Made = subprocess.CompletedProcess[str]


def free_port() -> int:
    """Find a free local port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quoted_for_dotenv(value: str) -> str:
    """Write a value as it stands in a file of lines ``Name='value'``."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class LocalAws:
    """The endpoint, as a context manager; its state is in a folder and in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.stages = folder / "stages"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAM_CLI_POLL_DELAY": "0.5",  # seconds; this AWS is near
        }

    def __enter__(self) -> LocalAws:
        if not PYTHON.exists():
            raise RuntimeError(f"{PYTHON} is missing: make e2e installs the local AWS")
        options = {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self._port),
            "MINISTACK_HOST": "127.0.0.1",
            "AUTH": "true",  # deny what no policy allows, as on AWS
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.1",  # a minute on AWS
            "SFN_WAIT_SCALE": "0.01",
            "TMPDIR": str(self._folder),
            "PATH": os.environ["PATH"],
        }
        self._log = (self._folder / "ministack.log").open("w")
        self._process = subprocess.Popen(
            [str(PYTHON), "-m", "ministack"],
            cwd=self._folder,
            env={**self.environment, **options},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the local AWS does not start; see {self._log.name}")
            time.sleep(0.1)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        self._log.close()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.environment['AWS_ENDPOINT_URL']}/_ministack/health", timeout=5):
                return True
        except (URLError, ConnectionError):
            return False

    def client(self, service: str) -> Any:
        """A boto3 client of a service."""
        return boto3.client(
            service,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def run_make(self, target: str, *variables: str, secrets: Mapping[str, str] | None = None) -> Made:
        """Run a make target against this AWS; the stages are in a folder of their own."""
        return subprocess.run(
            ["make", target, f"STAGES={self.stages}", *variables],
            cwd=ROOT,
            env={**self.environment, "PATH": os.environ["PATH"], "HOME": str(self._folder), **(secrets or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def make(self, target: str, *variables: str, secrets: Mapping[str, str] | None = None) -> str:
        """Run a make target that succeeds, and return its output."""
        done = self.run_make(target, *variables, secrets=secrets)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write_stage(self, name: str, values: Mapping[str, str]) -> None:
        """Write the file of a stage, as a person would."""
        lines = [f"{key}={quoted_for_dotenv(value)}\n" for key, value in {"Region": REGION, **values}.items()]
        self.stages.mkdir(exist_ok=True)
        (self.stages / f"{name}.env").write_text("".join(lines), encoding="utf-8")
