"""Lambda's share of a core and its memory for a process, by Linux control groups, of version 2 or 1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD = 20_000  # microseconds, as Lambda has it
MEGABYTE = 2**20
WHOLE_CORE = 1_769  # MB of a function that has one


class Group:
    """A control group of its own for one process after the other, with the memory of a function.

    Parameters
    ----------
    megabytes : int
        They also set the share of a core.
    """

    def __init__(self, megabytes: int) -> None:
        self._megabytes = megabytes
        name = f"stock-tracker-{os.getpid()}"
        self._unified = (ROOT / "cgroup.controllers").exists()
        parents = [ROOT] if self._unified else [ROOT / "cpu", ROOT / "memory"]
        if self._unified:
            (ROOT / "cgroup.subtree_control").write_text("+cpu +memory")
        self._folders = [parent / name for parent in parents]
        for folder in self._folders:
            folder.mkdir()
        self._cpu, self._memory = self._folders[0], self._folders[-1]

    def add(self, pid: int) -> None:
        """Take a process that has just started; it has a whole core, as at INIT."""
        file = "memory.max" if self._unified else "memory.limit_in_bytes"
        (self._memory / file).write_text(str(self._megabytes * MEGABYTE))
        self._set_quota(None)
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def throttle(self) -> None:
        """Leave the process its share of a core, as in an invocation."""
        self._set_quota(round(PERIOD * min(self._megabytes / WHOLE_CORE, 1)))

    def _set_quota(self, quota: int | None) -> None:
        if self._unified:
            (self._cpu / "cpu.max").write_text(f"{'max' if quota is None else quota} {PERIOD}")
        else:
            (self._cpu / "cpu.cfs_period_us").write_text(str(PERIOD))
            (self._cpu / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))

    def close(self) -> None:
        """Remove the group; its processes have ended."""
        for folder in self._folders:
            folder.rmdir()


@contextmanager
def control_group(megabytes: int) -> Iterator[Group | None]:
    """Make a group; None where this process may not."""
    try:
        group = Group(megabytes)
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        group.close()
