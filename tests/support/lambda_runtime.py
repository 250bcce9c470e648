"""AWS Lambda as a function sees it, without AWS: the runtime API, and a container to run in.

The function runs in a process of its own under ``awslambdaric``, AWS's own runtime client. It asks this module's server
for events and answers there, by the protocol that AWS documents as the runtime API. Its whole file system is read-only
but for one folder that stands for /tmp; its working directory holds what is deployed, and nothing else of the project.
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

from layer.function import PACKAGES, function_files
from sandbox.local_http import LocalServer, Reply, Request

ROOT = Path(__file__).parents[2]
API = "/2018-06-01/runtime"
PATIENCE = 60.0  # seconds

# Everything is mounted read-only, each mount for itself, in a mount namespace that ends with the process.
READ_ONLY = r"""
mount --bind "$TMPDIR" "$TMPDIR"
cut -d ' ' -f 2 /proc/self/mounts | sort -u | while read -r place; do
    [ "$place" = "$TMPDIR" ] || mount -o remount,bind,ro "$place" 2>/dev/null || true
done
exec "$@"
"""


def alone(*command: str) -> list[str]:
    """A command in a mount namespace of its own; as another user than root, by a user namespace as well."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", "--mount", *user, "sh", "-euc", READ_ONLY, "sh", *command]


def why_not(folder: Path) -> str:
    """Why a read-only file system cannot be had here; empty if it can."""
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
    """What the runtime was told of an event: its result, or its error as Lambda reports it."""

    result: Any = None
    error: dict[str, Any] | None = None


class Container:
    """One container of a function, warm from its first event until it is stopped.

    Parameters
    ----------
    folder : Path
        For the task root, ``/tmp`` and the log.
    environment : dict of str to str
        The function's.
    missing : sequence of str
        Packages that no layer brings.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *, missing: Sequence[str] = ()) -> None:
        self._events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Answer]] = queue.Queue()
        self._server = LocalServer(self._respond)
        self._server.start()
        self.task_root, self.tmp, self._log = folder / "task", folder / "tmp", folder / "log"
        for place in (self.task_root, self.tmp):
            place.mkdir(parents=True)
        for name, content in function_files(ROOT).items():
            file = self.task_root / name
            file.parent.mkdir(exist_ok=True)
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
        """Send an event and wait for what the function makes of it, within as many seconds."""
        request_id = str(uuid.uuid4())
        self._events.put((request_id, json.dumps(event).encode(), time.time() + seconds))
        answered, answer = self._answers.get(timeout=PATIENCE)
        assert answered in (request_id, "init")  # a function that cannot be imported fails before it asks for an event
        return answer

    @property
    def lines(self) -> list[str]:
        """What the function has logged so far."""
        return self._log.read_text(encoding="utf-8").splitlines()

    @property
    def peak_memory(self) -> float:
        """The most memory that the function's process has held so far, in MB, as the kernel counts it."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0]) / 1024

    @property
    def files(self) -> set[str]:
        """What the function left in its task root that was not deployed, and in /tmp."""
        deployed = {file.name for file in ROOT.glob("*.py")} | set(PACKAGES)
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
