"""Many invocations of the handler at once, as forks of one process that has imported it; some are killed midway.

The process reads one order as JSON on standard input (:class:`Order`), and prints a list of :class:`Invocation`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLL = 0.005  # seconds


@dataclass
class Invocation:
    """An invocation: its event and its time, and how it ended.

    Attributes
    ----------
    event : dict
    seconds : float
        What Lambda would give it.
    kill_after : float or None
        Kill it after so many seconds.
    taken : float
        The seconds that it ran.
    killed : bool
    result : dict or None
        What the handler returned; None if it raised or was killed.
    output : str
        All that it wrote, with the traceback of what it raised.
    """

    event: dict[str, Any]
    seconds: float
    kill_after: float | None = None
    taken: float = 0.0
    killed: bool = False
    result: dict[str, Any] | None = None
    output: str = ""


@dataclass(frozen=True)
class Context:
    """Lambda's context."""

    seconds: float
    aws_request_id: str = "storm"
    started: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> float:
        """Milliseconds until Lambda would stop this invocation."""
        return max(self.started + self.seconds - time.monotonic(), 0) * 1000


def invoke_many(
    invocations: Sequence[Invocation], environment: Mapping[str, str], folder: Path, *, at_once: int, lease: float
) -> list[Invocation]:
    """Run the invocations in order, so many at once, in forks of a fresh process.

    Parameters
    ----------
    invocations : sequence of Invocation
    environment : mapping of str to str
        The settings.
    folder : Path
        Where they may write.
    at_once : int
    lease : float
        Seconds after which another run may take the place of one that was killed.

    Returns
    -------
    list of Invocation
        Completed, in the same order.
    """
    order = {"invocations": [asdict(each) for each in invocations], "at_once": at_once, "lease": lease}
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.invocations"],
        input=json.dumps(order),
        env={**inherited, **environment, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [Invocation(**each) for each in json.loads(done.stdout)]


def main() -> None:
    """Run what standard input orders."""
    import entrypoints.telemetry
    import pipeline.audit
    import pipeline.run
    import pipeline.weekly_report
    import storage.locks
    from lambda_main import handler

    del entrypoints  # a warm process has imported it
    order = json.load(sys.stdin)
    storage.locks.LEASE_SECONDS = order["lease"]
    vars(pipeline.run)["RENEW_SECONDS"] = order["lease"] / 3
    waiting = [Invocation(**each) for each in order["invocations"]]
    invocations, running = list(waiting), dict[int, tuple[Invocation, int, float]]()
    while waiting or running:
        while waiting and len(running) < order["at_once"]:
            invocation, number = waiting[0], len(invocations) - len(waiting)
            waiting.pop(0)
            child = os.fork()
            if child == 0:
                _run(handler, invocation, number)
            running[child] = invocation, number, time.monotonic()
        for child, (invocation, number, started) in list(running.items()):
            invocation.taken = time.monotonic() - started
            if invocation.kill_after is not None and invocation.taken > invocation.kill_after:
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                invocation.killed = os.WIFSIGNALED(status)
                invocation.output = Path(f"{number}.log").read_text(encoding="utf-8", errors="replace")
                result = Path(f"{number}.json")
                invocation.result = json.loads(result.read_text()) if result.exists() else None
                del running[child]
        time.sleep(POLL)
    print(json.dumps([asdict(each) for each in invocations]))


def _run(handler: Any, invocation: Invocation, number: int) -> None:
    """Run one invocation and end this process."""
    output = os.open(f"{number}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        result = handler(invocation.event, Context(invocation.seconds))
        Path(f"{number}.part").write_text(json.dumps(result))
        Path(f"{number}.part").rename(f"{number}.json")
    except Exception:  # noqa: BLE001 - the runtime, too, shows whatever is raised
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
