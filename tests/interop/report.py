"""One check: measure, compare with what is expected, print one line, count."""

import time
import traceback


def at_most(limit):
    return f"at most {limit:g}" if isinstance(limit, float) else f"at most {limit:,}", lambda value: value <= limit


def at_least(limit):
    return f"at least {limit:,}", lambda value: value >= limit


def equal(expected):
    return f"expected {expected!r}", lambda value: value == expected


def between(low, high):
    return f"between {low:g} and {high:g}", lambda value: low <= value <= high


class Report:
    """Counts the checks; `finish()` prints the totals and is the exit status."""

    def __init__(self, title):
        self.title, self.passed, self.failed, self.started = title, 0, 0, time.monotonic()

    def check(self, name, measure, expectation):
        """Passes if `measure()` meets `expectation`; an exception is a failure that says where."""
        wanted, holds = expectation
        try:
            value = measure()
            held = bool(holds(value))
            seen = f"{value:.7g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else repr(value)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            held, seen = False, f"{type(error).__name__} in {place.name}: {error}"
        if held:
            self.passed += 1
            print(f"ok    {name}: {shortened(seen)}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {name}: {seen}, {wanted}", flush=True)

    def finish(self):
        print(f"{self.title}: {time.monotonic() - self.started:.0f} s")
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0


def shortened(text, limit=60):
    return text if len(text) <= limit else text[: limit - 1] + "…"
