"""AWS Lambda without AWS: the runtime API, and a container for the function.

The function runs in its own process under ``awslambdaric``, AWS's runtime client, which talks to this module's server
by the documented runtime API. Its file system is read-only except for one folder that stands for /tmp. Its working
directory contains what is deployed and nothing else of the project.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layer.bytecode import with_bytecode
from layer.function import PACKAGES, function_files
from sandbox.local_http import LocalServer, Reply, Request

ROOT = Path(__file__).parents[2]
API = "/2018-06-01/runtime"
PATIENCE = 60.0  # seconds

# Remount every mount read-only, in a mount namespace that ends with the process.
READ_ONLY = r"""
mount --bind "$TMPDIR" "$TMPDIR"
cut -d ' ' -f 2 /proc/self/mounts | sort -u | while read -r place; do
    [ "$place" = "$TMPDIR" ] || mount -o remount,bind,ro "$place" 2>/dev/null || true
done
exec "$@"
"""


def alone(*command: str) -> list[str]:
    """Wrap a command in its own mount namespace, and for other users than root in a user namespace too."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", "--mount", *user, "sh", "-euc", READ_ONLY, "sh", *command]


def why_not(folder: Path) -> str:
    """Why this machine cannot provide a read-only file system; empty if it can."""
    if not shutil.which("unshare"):
        return "a read-only task root needs Linux with unshare (util-linux)"
    probe = f'touch "$TMPDIR/probe" && ! touch {folder}/probe 2>/dev/null'
    inside = folder / "probe-tmp"
    inside.mkdir()
    done = subprocess.run(
        alone("sh", "-c", probe), env={**os.environ, "TMPDIR": str(inside)}, capture_output=True, text=True, check=False
    )
    said = " ".join(done.stderr.split()) or f"status {done.returncode}"
    return "" if done.returncode == 0 else f"a read-only task root needs the right to mount: {said}"


@dataclass(frozen=True)
class Answer:
    """The result of an event, or its error as Lambda reports it."""

    result: Any = None
    error: dict[str, Any] | None = None


class Container:
    """A container of the function, which stays warm until it is stopped.

    Parameters
    ----------
    folder : Path
        For the task root, ``/tmp`` and the log.
    environment : dict of str to str
        The function's environment variables.
    missing : sequence of str
        Packages that are missing in the layers.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *, missing: Sequence[str] = ()) -> None:
        self._events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Answer]] = queue.Queue()
        self._server = LocalServer(self._respond)
        self._server.start()
        self.task_root, self.tmp, self._log = folder / "task", folder / "tmp", folder / "log"
        for place in (self.task_root, self.tmp):
            place.mkdir(parents=True)
        for name, content in with_bytecode(function_files(ROOT), str(self.task_root)).items():
            file = self.task_root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for package in missing:
            says = f"raise ModuleNotFoundError(\"No module named '{package}'\")\n"
            (self.task_root / f"{package}.py").write_text(says, encoding="utf-8")
        given = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.tmp),
            "TZ": "UTC",
            "AWS_LAMBDA_RUNTIME_API": self._server.url.removeprefix("http://"),
            "AWS_LAMBDA_FUNCTION_NAME": "stock-tracker",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "LAMBDA_TASK_ROOT": str(self.task_root),
            "AWS_REGION": "us-east-1",
            **environment,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                alone(sys.executable, "-m", "awslambdaric", "lambda_main.handler"),
                env=given,
                cwd=self.task_root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def invoke(self, event: Any, *, seconds: float = 300.0) -> Answer:
        """Send an event with that many seconds until its deadline, and wait for the answer."""
        request_id = str(uuid.uuid4())
        self._events.put((request_id, json.dumps(event).encode(), time.time() + seconds))
        answered, answer = self._answers.get(timeout=PATIENCE)
        assert answered in (request_id, "init")  # a function that fails to import answers before it gets an event
        return answer

    @property
    def lines(self) -> list[str]:
        """The function's log so far."""
        return self._log.read_text(encoding="utf-8").splitlines()

    @property
    def peak_memory(self) -> float:
        """The function's peak memory so far in MB, as the kernel counts it."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) / 1024

    @property
    def files(self) -> set[str]:
        """The names of files that the function created in its task root and in /tmp."""
        deployed = {file.name for file in ROOT.glob("*.py")} | {*PACKAGES, "__pycache__"}
        left = {file.name for file in self.task_root.iterdir()} - deployed
        return left | {file.name for file in self.tmp.iterdir()}

    def stop(self) -> None:
        """End the process and the server."""
        self._process.kill()
        self._process.wait()
        self._events.put(("", b"", 0.0))
        self._server.stop()

    def _respond(self, request: Request) -> Reply | None:
        if (request.method, request.target) == ("GET", f"{API}/invocation/next"):
            return self._next()
        if match := re.fullmatch(rf"{API}/(?:invocation/([^/]+)/(response|error)|init/error)", request.target):
            said = json.loads(request.body)
            answer = Answer(result=said) if match[2] == "response" else Answer(error=said)
            self._answers.put((match[1] or "init", answer))
            return Reply(202, b'{"status": "OK"}', {"Content-Type": "application/json"})
        return Reply(404, b"{}")

    def _next(self) -> Reply | None:
        request_id, event, deadline = self._events.get()
        if not request_id:
            return None
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(round(deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:stock-tracker",
            "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
        }
        return Reply(200, event, headers)
