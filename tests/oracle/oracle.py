#!/usr/bin/env python3
"""Expected results of the queries O1..O9 and B1..B4, computed one event at a time from their definitions.

    oracle.py QUERY... --data DIR --out DIR     writes <name>.csv: a header, then the rows sorted bytewise
    oracle.py QUERY... --data DIR --check DIR   compares with DIR/<name>.csv[.gz] instead; exit code 1 on a difference

QUERY is one of the names below or `all`. The slow and obvious way is taken throughout: this is what the engine is measured against.
"""

import argparse
import gzip
import hashlib
import json
import re
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path

from model import LONG_MAX, LONG_MIN, CountWindow, IntervalJoin, Session, Sliding, Tumbling, WindowOperator

MINUTE = 60_000
HOUR = 60 * MINUTE


# Input

def lines(path):
    """Lines of a gzipped file without their ends; only a line feed ends a line."""
    with gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def table(path, separator=","):
    """Rows below the header, split without quoting."""
    rows = lines(path)
    next(rows)
    return (row.split(separator) for row in rows)


def epoch_ms(iso):
    """Epoch milliseconds of `2013-01-01T06:00:00[.123]Z`."""
    delta = datetime.fromisoformat(iso.replace("Z", "+00:00")) - datetime.fromtimestamp(0, timezone.utc)
    return (delta.days * 86_400 + delta.seconds) * 1_000 + delta.microseconds // 1_000


def departures(data):
    """Dictionaries of the columns that queries use, in file order."""
    for row in table(data / "streams/departures.csv.gz"):
        seq, actual_ts, sched_ts, carrier, _flight, tailnum, origin, _dest, delay, _air_time, _distance = row
        yield {"seq": seq, "actual_ts": int(actual_ts), "sched_ts": int(sched_ts), "carrier": carrier,
               "tailnum": tailnum, "origin": origin, "delay": int(delay)}


def web_log(data):
    """(host, ts_ms, url, response, bytes) of the NASA log, in file order."""
    for row in table(data / "nasa-http/nasa_19950801.tsv.gz", "\t"):
        yield row[0], int(row[2]) * 1_000, row[4], row[5], int(row[6])


def verses(data):
    """(reference, words) of each verse."""
    for line in lines(data / "kjv/kjv.txt.gz"):
        reference, _, text = line.partition(" ")
        # ASCII only: str.lower would also fold letters that the definition does not know.
        lowered = "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)
        yield reference, re.findall("[a-z]+", lowered)


# The event-time loop that the windowed queries share

def run(operator, records, bound):
    """Feeds (key, ts, value) with a watermark after every record: (firings, late records), both in order of appearance."""
    firings, late = [], []
    max_ts = LONG_MIN
    for key, ts, value in records:
        fired, is_late = operator.on_element(key, ts, value)
        firings += fired
        if is_late:
            late.append((key, ts, value))
        max_ts = max(max_ts, ts)
        firings += operator.on_watermark(max_ts - bound - 1)
    return firings + operator.on_watermark(LONG_MAX), late


def totals(values):
    """Count and sum."""
    return len(values), sum(values)


# Queries: each returns {name: (header, rows)}; rows are tuples of fields

def o1(data):
    records = ((d["carrier"], d["actual_ts"], d["delay"]) for d in departures(data))
    firings, _ = run(WindowOperator(Tumbling(HOUR)), records, 0)
    return {"O1_carrier_tumbling_1h": (
        "carrier,window_start_ms,count,sum_dep_delay_min",
        [(key, start, *totals(values)) for key, (start, _), values in firings])}


def hourly_by_schedule(data, allowed_lateness):
    """Input and windows of O2 and B1; late rows are (origin, sched_ts_ms, seq)."""
    records = ((d["origin"], d["sched_ts"], (d["delay"], d["seq"])) for d in departures(data))
    firings, late = run(WindowOperator(Tumbling(HOUR), allowed_lateness), records, 5 * MINUTE)
    fired = [(key, start, [delay for delay, _ in values]) for key, (start, _), values in firings]
    return fired, [(key, ts, seq) for key, ts, (_, seq) in late]


def o2(data):
    fired, late = hourly_by_schedule(data, 0)
    return {
        "O2_origin_tumbling_1h_late5m": (
            "origin,window_start_ms,count,sum_dep_delay_min",
            [(key, start, *totals(delays)) for key, start, delays in fired]),
        "O2_late_records": ("origin,sched_ts_ms,seq", late)}


def o3(data):
    arrivals = ((int(row[1]), "arrival", row[4], row[0]) for row in table(data / "streams/arrivals.csv.gz"))
    starts = ((d["actual_ts"], "departure", d["tailnum"], d["seq"]) for d in departures(data) if d["tailnum"])
    join = IntervalJoin(30 * MINUTE, 6 * HOUR)
    pairs = []
    for ts, side, tailnum, seq in sorted([*arrivals, *starts], key=lambda event: event[0]):
        feed = join.on_left if side == "arrival" else join.on_right
        found, late = feed(tailnum, ts, (ts, seq))
        assert not late, "both streams are in order"
        pairs += [(tailnum, left[1], right[1], right[0] - left[0]) for left, right in found]
        join.on_watermark(ts - 1)
    return {"O3_interval_join_turnaround": ("tailnum,arrival_seq,departure_seq,gap_ms", pairs)}


def o4(data):
    records = ((host, ts, size) for host, ts, _, _, size in web_log(data))
    firings, _ = run(WindowOperator(Session(30 * MINUTE)), records, 0)
    return {"O4_host_sessions_30m": (
        "host,window_start_ms,window_end_ms,count,sum_bytes",
        [(key, *window, *totals(values)) for key, window, values in firings])}


def o5(data):
    records = (("", ts, url) for _, ts, url, _, _ in web_log(data))
    firings, _ = run(WindowOperator(Sliding(10 * MINUTE, MINUTE)), records, 0)
    rows = []
    for _, (start, _), urls in firings:
        ranked = sorted(Counter(urls).items(), key=lambda item: (-item[1], encode(item[0])))
        rows += [(start, rank, count, url) for rank, (url, count) in enumerate(ranked[:5], 1)]
    return {"O5_top5_urls_sliding_10m_1m": ("window_start_ms,rank,count,url", rows)}


def o6(data):
    counts = Counter(word for _, words in verses(data) for word in words)
    return {"O6_kjv_word_count": ("word,count", list(counts.items()))}


def o7(data):
    def edits():
        for line in lines(data / "wikiticker/wikiticker-2015-09-12-sampled.json.gz"):
            edit = json.loads(line)
            if edit["time"].startswith("2015-09-12"):
                yield edit["channel"], epoch_ms(edit["time"]), (edit["added"], edit["deleted"], edit["user"])

    firings, _ = run(WindowOperator(Tumbling(5 * MINUTE)), edits(), 0)
    return {"O7_wiki_channel_tumbling_5m": (
        "channel,window_start_ms,edits,sum_added,sum_deleted,distinct_users",
        [(key, start, len(values), sum(v[0] for v in values), sum(v[1] for v in values), len({v[2] for v in values}))
         for key, (start, _), values in firings])}


def o8(data):
    records = ((row[4], int(row[0]), None) for row in table(data / "us-flights-2001/flights-3m.csv.gz"))
    firings, _ = run(WindowOperator(Tumbling(6 * HOUR)), records, 0)
    return {"O8_us_dest_tumbling_6h": (
        "destination,window_start_ms,count", [(key, start, len(values)) for key, (start, _), values in firings])}


def o9(data):
    combined = re.compile(r'\S+ \S+ \S+ \[([^]]+)\] ".*?" (\d{3}) (\d+|-)(?: |$)')

    def requests():
        for line in lines(data / "apache-log/apache_logs.gz"):
            time, status, size = combined.match(line).groups()
            ts = int(datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z").timestamp()) * 1_000
            yield status, ts, (0 if size == "-" else int(size), line)

    firings, late = run(WindowOperator(Tumbling(HOUR)), requests(), MINUTE)
    return {
        "O9_apache_status_tumbling_1h_bound60s": (
            "status,window_start_ms,count,sum_bytes",
            [(key, start, *totals([size for size, _ in values])) for key, (start, _), values in firings]),
        "O9_late_records": ("status,ts_ms,line", [(key, ts, line) for key, ts, (_, line) in late])}


def b1(data):
    fired, late = hourly_by_schedule(data, 60 * MINUTE)
    number = Counter()
    rows = []
    for key, start, delays in fired:
        number[key, start] += 1
        rows.append((key, start, number[key, start], *totals(delays)))
    return {
        "B1_firings": ("origin,window_start_ms,firing,count,sum_dep_delay_min", rows),
        "B1_dropped_records": ("origin,sched_ts_ms,seq", late)}


def b2(data):
    weather = defaultdict(dict)  # origin -> {ts: wind speed}; of rows with the same hour the last would win, but there are none
    for row in table(data / "nycflights13/weather.csv.gz"):
        origin, ts, wind_speed = row[0], epoch_ms(row[14]), row[9]
        assert ts not in weather[origin], "two weather rows for one hour: the newest is not defined"
        weather[origin][ts] = "" if wind_speed == "NA" else wind_speed
    hours = {origin: sorted(rows) for origin, rows in weather.items()}
    groups = defaultdict(list)
    for d in departures(data):
        older = hours.get(d["origin"], [])
        at = bisect_right(older, d["actual_ts"])
        row = (older[at - 1], weather[d["origin"]][older[at - 1]]) if at else ("", "")
        groups[(d["origin"], *row)].append(d["delay"])
    return {"B2_asof_join_weather": (
        "origin,weather_ts_ms,wind_speed,flights,sum_dep_delay_min",
        [(*group, *totals(delays)) for group, delays in groups.items()])}


def b3(data):
    misses = defaultdict(list)
    rows = []
    for host, now, _, response, _ in web_log(data):
        if response != "404":
            continue
        misses[host] = [ts for ts in misses[host] if now - ts <= 10 * MINUTE] + [now]
        if len(misses[host]) == 3:
            rows.append((host, misses[host][0], now))
            del misses[host]
    return {"B3_alerts": ("host,first_ts_ms,alert_ts_ms", rows)}


def b4(data):
    windows = CountWindow(100)
    number = Counter()
    rows = []
    for reference, words in verses(data):
        for word in words:
            if windows.on_element(word, reference):
                number[word] += 1
                rows.append((word, number[word], reference))
    return {"B4_count_windows": ("word,window_no,reference", rows)}


QUERIES = {"O1": o1, "O2": o2, "O3": o3, "O4": o4, "O5": o5, "O6": o6, "O7": o7, "O8": o8, "O9": o9,
           "B1": b1, "B2": b2, "B3": b3, "B4": b4}


# Output

def encode(text):
    return text.encode("utf-8", "surrogateescape")


def document(header, rows):
    """The bytes of a result file."""
    body = sorted(encode(",".join(map(str, row))) for row in rows)
    return b"".join(line + b"\n" for line in [encode(header), *body])


def write(path, content, gzip_over):
    """Writes PATH, or PATH.gz when the content is larger than `gzip_over` bytes; the archive carries no name and no time."""
    if gzip_over is None or len(content) <= gzip_over:
        path.write_bytes(content)
        return path
    packed = path.with_name(path.name + ".gz")
    with open(packed, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(content)
    return packed


def matches(expected_dir, name, content):
    """Whether the expected file has the same bytes; a file without rows may end in an empty line."""
    plain, packed = expected_dir / f"{name}.csv", expected_dir / f"{name}.csv.gz"
    expected = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    return expected.rstrip(b"\n") == content.rstrip(b"\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queries", nargs="+", metavar="QUERY", choices=[*QUERIES, "all"], help=", ".join([*QUERIES, "all"]))
    parser.add_argument("--data", type=Path, required=True, help="folder with streams/, nycflights13/, kjv/ ...")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="folder to write results and manifest.csv to")
    target.add_argument("--check", type=Path, help="folder of expected results to compare with")
    parser.add_argument("--gzip-over", type=int, metavar="BYTES", help="gzip results larger than this (default: none)")
    args = parser.parse_args()

    manifest = ["query,file,rows,sha256_of_uncompressed_content"]
    failed = False
    for query in QUERIES if "all" in args.queries else args.queries:
        for name, (header, rows) in QUERIES[query](args.data).items():
            content = document(header, rows)
            if args.check:
                same = matches(args.check, name, content)
                failed |= not same
                print(f"{'equal' if same else 'DIFFERENT':9} {len(rows):7} rows  {name}", flush=True)
            else:
                args.out.mkdir(parents=True, exist_ok=True)
                path = write(args.out / f"{name}.csv", content, args.gzip_over)
                manifest.append(f"{query},{path.name},{len(rows)},{hashlib.sha256(content).hexdigest()}")
                print(f"{len(rows):7} rows  {path}", flush=True)
    if args.out:
        (args.out / "manifest.csv").write_text("\n".join(manifest) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
