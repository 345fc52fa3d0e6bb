#!/usr/bin/env python3
"""Random transcript cases for windows, interval joins and count windows, with the expected output of every step.

    window_cases.py generate --out FILE.jsonl.gz [--count 600] [--seed N]
    window_cases.py verify FILE.jsonl[.gz]...      replays cases through the model; exit code 1 on a difference

One JSON object a line, in the format of transcripts.jsonl.gz. Timestamps and watermarks are drawn mostly from the edges of the
windows that are open at that moment: that is where operators go wrong, and where a uniform draw hardly ever looks. `generate`
refuses to write a set in which one of the situations of `REQUIRED` is rare.
"""

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from pathlib import Path

from model import LONG_MAX, LONG_MIN, CountWindow, IntervalJoin, Session, Sliding, Tumbling, WindowOperator
from oracle import encode, write

SEED = 20_250_731
KEYS = [["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d", "e"], ["", "A", "a b", "ü"]]
BASES = [0, 0, -40, 7, -100_000, 1_000_000, 1_356_998_400_000, -2_208_988_800_000]  # the last: the year 1900

# Situations (as counted by the model and below) that a set must hold, and how often at least per 600 cases.
REQUIRED = {
    "late": 500, "partly_late": 100, "in_gap": 50, "in_gap_late": 25, "window_skipped": 600, "stale_watermark": 200,
    "fired_by_element": 500, "fired_again_by_watermark": 25, "sessions_bridged": 50, "touched": 100,
    "fired_session_refilled": 50, "fired_session_reopened": 25, "late_session_saved_by_merging": 10,
    "many_firings_of_one_watermark": 100, "join_pairs": 300, "join_late": 200, "join_at_watermark": 25, "count_fired": 200,
}


# Replaying

def operator_of(case):
    """The model of a case's operator, freshly started."""
    if case["kind"] == "interval_join":
        return IntervalJoin(case["lower"], case["upper"])
    if case["kind"] == "count_window":
        return CountWindow(case["count"])
    window = dict(case["window"])
    assigner = {"tumbling": Tumbling, "sliding": Sliding, "session": Session}[window.pop("type")]
    return WindowOperator(assigner(**window), case["allowed_lateness"])


def fired_json(firings):
    return sorted(({"key": key, "start": start, "end": end, "values": sorted(values)} for key, (start, end), values in firings),
                  key=lambda f: (encode(f["key"]), f["start"], f["end"]))


def play(operator, step):
    """Applies a step's input and returns the step with its `expect` and, where it holds, `late`."""
    late = False
    if "watermark" in step:
        expect = fired_json(operator.on_watermark(step["watermark"]) or [])
    elif "element" in step and isinstance(operator, CountWindow):
        values = operator.on_element(step["element"]["key"], step["element"]["value"])
        expect = [{"key": step["element"]["key"], "values": sorted(values)}] if values else []
    elif "element" in step:
        firings, late = operator.on_element(**step["element"])
        expect = fired_json(firings)
    else:
        side = "left" if "left" in step else "right"
        pairs, late = (operator.on_left if side == "left" else operator.on_right)(**step[side])
        expect = sorted(map(list, pairs))
    played = {name: value for name, value in step.items() if name not in ("expect", "late")}
    return {**played, "expect": expect, **({"late": True} if late else {})}


def ending(operator):
    """The fields that follow the steps."""
    if isinstance(operator, WindowOperator):
        return {"expect_at_end": fired_json(operator.on_watermark(LONG_MAX))}
    if isinstance(operator, CountWindow):
        return {"left_over": {key: sorted(values) for key, values in sorted(operator.content.items())}}
    return {}


def verify(path):
    """Prints the cases that the model answers differently and returns (cases, differing ones)."""
    text = path.read_bytes()
    text = gzip.decompress(text) if path.suffix == ".gz" else text
    cases = [json.loads(line) for line in text.splitlines()]
    differing = 0
    for case in cases:
        operator = operator_of(case)
        replayed = {**case, "steps": [play(operator, step) for step in case["steps"]], **ending(operator)}
        if replayed != case:
            differing += 1
            steps = [(n, got, step) for n, (got, step) in enumerate(zip(replayed["steps"], case["steps"])) if got != step]
            print(f"{path.name} {case['name']}: ", *(steps[:1] or ["the ending differs"]))
    return len(cases), differing


# Generating

def window_and_lateness(rng, family):
    """The window of a case and a length on which its events spread."""
    if family == "session":
        gap = rng.choice([1, 2, 5, 10, 10, 30, 1_800_000])
        window, length = {"type": "session", "gap": gap}, gap
    elif family == "tumbling":
        size = rng.choice([1, 2, 7, 10, 60, 1_000, 86_400_000])
        window, length = {"type": "tumbling", "size": size, "offset": offset(rng, size)}, size
    else:
        slide = rng.choice([2, 3, 5, 10, 60_000])
        if family == "sliding-gaps":
            size = max(1, slide * rng.choice([1, 2, 3, 4]) // 5)
        elif family == "sliding-uneven":
            size = slide * rng.randint(1, 4) + rng.randint(1, slide - 1)
        else:
            size = slide * rng.randint(1, 6)
        window, length = {"type": "sliding", "slide": slide, "size": size, "offset": offset(rng, slide)}, max(size, slide)
    # The largest lateness there is overflows in Flink where it merges sessions and where it judges an element in a gap.
    never_late = 10**15 if family in ("session", "sliding-gaps") else LONG_MAX
    lateness = rng.choice([0, 0, 1, length // 2, length, length, 2 * length, 3 * length + 1, never_late])
    return window, lateness, length


def offset(rng, size):
    """Flink takes offsets smaller than the size (or slide), of either sign."""
    return rng.choice([0, 0, rng.randint(1 - size, size - 1), size - 1, 1 - size, -size // 3])


def event_ts(rng, operator, cursor, length, earlier):
    """An event time: near the cursor, on an edge, repeated, or where lateness is decided."""
    kind = rng.random()
    if earlier and kind < 0.12:
        return rng.choice(earlier)
    if earlier and kind < 0.40:
        return rng.choice(earlier) + rng.choice([-1, 1]) * (length + rng.choice([-1, 0, 0, 0, 1]))
    if kind < 0.50:
        start, end = rng.choice(operator.assigner.windows(cursor) or [(cursor, cursor)])
        return rng.choice([start, end - 1, end, start - 1])
    if kind < 0.70 and operator.watermark > LONG_MIN:
        back = operator.allowed_lateness if operator.allowed_lateness < 10 * length else length
        return operator.watermark - rng.choice([0, back // 2, back, back]) + rng.choice([-length, -1, 0, 1, length])
    return cursor + rng.randint(-2 * length, 2 * length)


def watermark(rng, operator, cursor, length):
    """A watermark: at an edge of an open window or of its cleanup, behind the cursor, far ahead, or stale."""
    kind = rng.random()
    reached = [] if operator.watermark == LONG_MIN else [operator.watermark]
    if reached and kind < 0.08:
        return reached[0] - rng.choice([0, 0, 1, length])
    if kind < 0.15:
        return max([cursor, *reached]) + length * rng.choice([5, 40, 1_000])
    open_windows = sorted((key, window) for key, windows in operator.content.items() for window in windows)
    if open_windows and kind < 0.70:
        last = rng.choice(open_windows)[1][1] - 1
        lateness = operator.allowed_lateness
        edge = last + rng.choice([0, lateness if lateness < 10 * length else 0])
        return edge + rng.choice([-1, 0, 0, 0, 1])
    return cursor - rng.randint(0, 2 * length)


def window_case(rng, family, seen):
    window, lateness, length = window_and_lateness(rng, family)
    case = {"kind": "window", "window": window, "allowed_lateness": lateness, "steps": []}
    operator = operator_of(case)
    keys = rng.choice(KEYS)
    same_values = rng.random() < 0.15
    watermark_share = rng.choice([0.1, 0.3, 0.3, 0.5])
    cursor = rng.choice(BASES)
    earlier = {key: [] for key in keys}
    fired_before = set()
    for n in range(1, rng.randint(10, 45)):
        if rng.random() < watermark_share:
            step = {"watermark": watermark(rng, operator, cursor, length)}
            if operator.watermark > LONG_MIN and rng.random() < 0.7:
                cursor = max(cursor, operator.watermark)
        else:
            key = rng.choice(keys)
            ts = event_ts(rng, operator, cursor, length, earlier[key])
            earlier[key] = (earlier[key] + [ts])[-4:]
            step = {"element": {"key": key, "ts": ts, "value": rng.randint(1, 3) if same_values else n}}
            cursor += rng.randint(0, length)
        step = play(operator, step)
        case["steps"].append(step)
        fired = {(f["key"], value) for f in step["expect"] for value in f["values"]}
        if "watermark" in step:
            seen["many_firings_of_one_watermark"] += len(step["expect"]) > 3
            # Only a session that fired, took more and thereby moved its end fires a value again at a watermark.
            seen["fired_again_by_watermark"] += family == "session" and not same_values and bool(fired & fired_before)
        fired_before |= fired
    seen.update(operator.seen)
    return {**case, **ending(operator)}


def join_case(rng, seen):
    spread = rng.choice([5, 20, 60, 1_800_000])
    lower, upper = sorted(rng.choice([0, -spread, spread, rng.randint(-spread, spread)]) for _ in range(2))
    case = {"kind": "interval_join", "lower": lower, "upper": upper, "steps": []}
    join = operator_of(case)
    keys = rng.choice(KEYS[:3] + KEYS[4:])
    watermark_share = rng.choice([0.05, 0.15, 0.3])
    cursor = rng.choice(BASES)
    earlier = [cursor]
    for n in range(1, rng.randint(12, 50)):
        if rng.random() < watermark_share:
            ahead = rng.choice([-spread, 0, 0, 1, 3 * spread]) if rng.random() < 0.5 else rng.randint(-2 * spread, 0)
            case["steps"].append(play(join, {"watermark": cursor + ahead}))
            continue
        side, key = rng.choice(["left", "right"]), rng.choice(keys)
        bound = rng.choice([lower, upper]) * (1 if side == "right" else -1)
        ts = rng.choice([rng.choice(earlier) + bound + rng.choice([-1, 0, 0, 1]), cursor + rng.randint(-spread, spread),
                         max(join.watermark + rng.choice([-1, 0, 0, 1]), cursor - spread)])
        if partner_may_be_freed(join, side, key, ts):
            ts += 1
        step = play(join, {side: {"key": key, "ts": ts, "value": n}})
        seen["join_pairs"] += len(step["expect"])
        seen["join_late"] += "late" in step
        seen["join_at_watermark"] += ts == join.watermark
        case["steps"].append(step)
        earlier = (earlier + [ts])[-6:]
        cursor += rng.randint(0, spread // 2)
    return case


def partner_may_be_freed(join, side, key, ts):
    """Whether an element at the watermark has a partner that Flink has freed: it frees one millisecond before the last
    element that would not be late. By the definition the pair belongs to the result, so such cases decide nothing."""
    if ts != join.watermark:
        return False
    if side == "right":
        return any(t + max(join.upper, 0) <= ts <= t + join.upper for t, _ in join.lefts.get(key, []))
    return any(ts + join.lower <= t and t + max(-join.lower, 0) <= ts for t, _ in join.rights.get(key, []))


def count_case(rng, seen):
    case = {"kind": "count_window", "count": rng.choice([1, 2, 3, 4, 7, 10]), "steps": []}
    operator = operator_of(case)
    keys = rng.choice(KEYS)
    for n in range(1, rng.randint(5, 60)):
        step = play(operator, {"element": {"key": rng.choice(keys), "value": rng.choice([n, n, n, 1])}})
        seen["count_fired"] += len(step["expect"])
        case["steps"].append(step)
    return {**case, **ending(operator)}


def generate(count, seed):
    """The cases and how often each situation occurs in them."""
    rng = random.Random(seed)
    families = ["tumbling", "sliding", "sliding-uneven", "sliding-gaps", "session", "session", "join", "tumbling", "session", "count",
                "sliding-uneven", "join"]
    cases, seen = [], Counter()
    for n in range(count):
        family = families[n % len(families)]
        if family == "join":
            case = join_case(rng, seen)
        elif family == "count":
            case = count_case(rng, seen)
        else:
            case = window_case(rng, family, seen)
        cases.append({"name": f"{seed}-{n}-{family}", **case})
    return cases, seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    generating = commands.add_parser("generate")
    generating.add_argument("--out", type=Path, required=True)
    generating.add_argument("--count", type=int, default=600)
    generating.add_argument("--seed", type=int, default=SEED)
    verifying = commands.add_parser("verify")
    verifying.add_argument("files", nargs="+", type=Path)
    args = parser.parse_args()

    if args.command == "verify":
        differing = 0
        for path in args.files:
            cases, wrong = verify(path)
            differing += wrong
            print(f"{path.name}: {cases - wrong} of {cases} cases agree")
        sys.exit(differing > 0)

    cases, seen = generate(args.count, args.seed)
    for what, least in REQUIRED.items():
        print(f"{seen[what]:7} {what}")
        if seen[what] < least * args.count // 600:
            sys.exit(f"too few of {what}: {seen[what]}; choose another seed or draw them more often")
    text = "".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n" for case in cases)
    write(args.out.with_suffix("") if args.out.suffix == ".gz" else args.out, encode(text),
          gzip_over=0 if args.out.suffix == ".gz" else None)
    print(f"{len(cases)} cases, {sum(len(case['steps']) for case in cases)} steps: {args.out}")


if __name__ == "__main__":
    main()
