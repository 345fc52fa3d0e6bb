"""Event-at-a-time models of the window operator, the interval join and the count window.

Written from the definitions (Flink's semantics, restated below), with no thought for speed: lists of values, one heap of
timers, one watermark. Nothing here is shared with the engine, so that an agreement of the two means something.

An event-time window `[start, end)` has `max_timestamp = end - 1`.
- It fires when the watermark reaches `max_timestamp`, and again with every later element it still takes.
- Its content is dropped when the watermark reaches `cleanup_time = max_timestamp + allowed_lateness` (saturating).
- An element is kept from a window whose cleanup time the watermark has reached. One that no window took is late when, in
  addition, `ts + allowed_lateness <= watermark`. The second condition only matters where sliding windows leave gaps
  (size < slide): an element in a gap belongs to no window and is ignored until it is late.
"""

import heapq

LONG_MIN = -(2**63)
LONG_MAX = 2**63 - 1


def saturating_add(a, b):
    return max(LONG_MIN, min(LONG_MAX, a + b))


class Tumbling:
    """Windows `[offset + n * size, offset + (n + 1) * size)`."""

    merging = False

    def __init__(self, size, offset=0):
        self.size, self.offset = size, offset

    def windows(self, ts):
        start = ts - (ts - self.offset) % self.size
        return [(start, start + self.size)]


class Sliding:
    """Windows `[offset + n * slide, offset + n * slide + size)` for every integer n."""

    merging = False

    def __init__(self, size, slide, offset=0):
        self.size, self.slide, self.offset = size, slide, offset

    def windows(self, ts):
        start = ts - (ts - self.offset) % self.slide
        found = []
        while start + self.size > ts:
            found.append((start, start + self.size))
            start -= self.slide
        return found


class Session:
    """An element at t opens `[t, t + gap)`; windows of a key that overlap or touch become one."""

    merging = True

    def __init__(self, gap):
        self.gap = gap

    def windows(self, ts):
        return [(ts, ts + self.gap)]


class WindowOperator:
    """Keyed event-time windows with the default trigger. Firings are `(key, (start, end), values)`, values in order of arrival."""

    def __init__(self, assigner, allowed_lateness=0):
        self.assigner = assigner
        self.allowed_lateness = allowed_lateness
        self.watermark = LONG_MIN
        self.content = {}  # key -> {window: values}
        self.timers = []  # heap of (time, key, window); one whose window is gone is ignored
        self.seen = {}  # what happened how often, for the coverage of generated cases

    def _count(self, what):
        self.seen[what] = self.seen.get(what, 0) + 1

    def _cleanup_time(self, window):
        return saturating_add(window[1] - 1, self.allowed_lateness)

    def on_element(self, key, ts, value):
        """Returns (firings of this very element, whether it is late)."""
        fired = []
        taken = False
        assigned = self.assigner.windows(ts)
        for window in assigned:
            if self.assigner.merging:
                window, absorbed = self._merged(key, window)
            else:
                absorbed = []
            if self._cleanup_time(window) <= self.watermark:
                # A live window has its cleanup time ahead, and merging never moves it back.
                assert not [w for w in absorbed if w in self.content.get(key, {})], "a late window absorbed a live one"
                self._count("window_skipped")
                continue
            taken = True
            windows = self.content.setdefault(key, {})
            values = [v for w in absorbed for v in windows.pop(w)]
            windows.setdefault(window, []).extend(values + [value])
            if window[1] - 1 <= self.watermark:
                self._count("fired_by_element")
                fired.append((key, window, list(windows[window])))
            else:
                heapq.heappush(self.timers, (window[1] - 1, key, window))
            heapq.heappush(self.timers, (self._cleanup_time(window), key, window))
        late = not taken and saturating_add(ts, self.allowed_lateness) <= self.watermark
        if not assigned:
            self._count("in_gap_late" if late else "in_gap")
        elif late:
            self._count("late")
        elif len(assigned) > 1 and any(self._cleanup_time(w) <= self.watermark for w in assigned):
            self._count("partly_late")
        return fired, late

    def _merged(self, key, window):
        """The session that `window` becomes among the live ones of its key, and those it absorbs (a live equal one included)."""
        start, end = window
        absorbed = [w for w in self.content.get(key, {}) if w[0] <= end and start <= w[1]]
        for w in absorbed:
            if w[0] == end or w[1] == start:
                self._count("touched")
            if w[1] - 1 <= self.watermark:
                self._count("fired_session_refilled")
            if w[1] - 1 <= self.watermark < end - 1:
                self._count("fired_session_reopened")
        if len(absorbed) > 1:
            self._count("sessions_bridged")
        merged = (min([start] + [w[0] for w in absorbed]), max([end] + [w[1] for w in absorbed]))
        if absorbed and saturating_add(end - 1, self.allowed_lateness) <= self.watermark:
            self._count("late_session_saved_by_merging")
        return merged, absorbed

    def on_watermark(self, watermark):
        """Returns the firings, in the order of their timers. A watermark that does not advance does nothing."""
        if watermark <= self.watermark:
            self._count("stale_watermark")
            return []
        self.watermark = watermark
        fired = []
        done = set()  # the two timers of a window coincide without lateness; a window may be registered many times
        while self.timers and self.timers[0][0] <= watermark:
            time, key, window = timer = heapq.heappop(self.timers)
            if timer in done or window not in self.content.get(key, {}):
                continue
            done.add(timer)
            if time == window[1] - 1:
                fired.append((key, window, list(self.content[key][window])))
            if time == self._cleanup_time(window):
                del self.content[key][window]
                if not self.content[key]:
                    del self.content[key]
        return fired


class IntervalJoin:
    """Pairs (left, right) of a key with `left.ts + lower <= right.ts <= left.ts + upper`; an element behind the watermark is late.

    Nothing is ever forgotten here: that a partner of an element that is not late may already have been freed must not show.
    """

    def __init__(self, lower, upper):
        self.lower, self.upper = lower, upper
        self.watermark = LONG_MIN
        self.lefts, self.rights = {}, {}

    def on_left(self, key, ts, value):
        """Returns (pairs, whether the element is late)."""
        if ts < self.watermark:
            return [], True
        self.lefts.setdefault(key, []).append((ts, value))
        return [(value, v) for t, v in self.rights.get(key, []) if ts + self.lower <= t <= ts + self.upper], False

    def on_right(self, key, ts, value):
        """Returns (pairs, whether the element is late)."""
        if ts < self.watermark:
            return [], True
        self.rights.setdefault(key, []).append((ts, value))
        return [(v, value) for t, v in self.lefts.get(key, []) if t + self.lower <= ts <= t + self.upper], False

    def on_watermark(self, watermark):
        self.watermark = max(self.watermark, watermark)


class CountWindow:
    """Fires and purges at `count` elements of a key."""

    def __init__(self, count):
        self.count = count
        self.content = {}

    def on_element(self, key, value):
        """Returns the full window as a list of values, or None."""
        values = self.content.setdefault(key, [])
        values.append(value)
        return self.content.pop(key) if len(values) == self.count else None
