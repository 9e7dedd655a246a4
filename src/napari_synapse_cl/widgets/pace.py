"""How fast a training goes."""

import time


class Pace:
    """How long a step takes: a mean that forgets slowly."""

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start to measure at a step."""
        self._step = step
        self._seconds: float | None = None
        self._last: float | None = time.monotonic()

    def interrupt(self) -> None:
        """Leave out the time until the next step."""
        self._last = None

    def take(self, step: int) -> None:
        """Note that a step is done now."""
        now = time.monotonic()
        if self._last is not None and step > self._step:
            seconds = (now - self._last) / (step - self._step)
            before = seconds if self._seconds is None else self._seconds
            self._seconds = 0.9 * before + 0.1 * seconds
        self._step, self._last = step, now

    def seconds_for(self, steps: int) -> float | None:
        """Return how long further steps will take, None if no step was measured."""
        return None if self._seconds is None else steps * self._seconds
