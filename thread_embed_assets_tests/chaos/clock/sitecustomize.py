"""Sleep for processes under libfaketime 0.9.10, which moves even the monotonic times that Python sleeps until (EINVAL)."""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
