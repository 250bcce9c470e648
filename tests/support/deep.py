"""How far ``make test-deep`` goes: more of everything, for as long as it may take."""

from __future__ import annotations

import os
import time

DEEPER = int(os.environ.get("DEEPER", "1"))
"""How many times as many random lives as usual in the deep tests."""

SECONDS = float(os.environ.get("DEEP_SECONDS", "inf"))
"""The time limit. Once it is over, no deep test starts another round of lives, and the remaining tests are skipped."""

_started = time.monotonic()


def time_is_up() -> bool:
    """Whether the time limit is over, counted from the start of this worker."""
    return time.monotonic() - _started > SECONDS
