#!/usr/bin/env python3
"""Cuts the repository's sample out of the full data set: `sample.py --data DIR --out examples/data`.

The sample keeps the relative paths and the lines of the full set, so that every program reads either. The cut is at midnight in
New York, when next to nothing flies: a prefix of the streams, the weather rows up to there, and the book of Genesis.
"""

import argparse
import shutil
from pathlib import Path

from oracle import encode, epoch_ms, lines, write

CUT = "2013-01-15T05:00:00Z"


def cut(data, out, path, keep, header=True):
    """Copies the header and the lines for which `keep(line)` holds."""
    source = lines(data / path)
    kept = [next(source)] if header else []
    kept += filter(keep, source)
    target = out / path.removesuffix(".gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, b"".join(encode(line) + b"\n" for line in kept), gzip_over=0)
    print(f"{len(kept) - header:6} rows  {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the full set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sample")
    args = parser.parse_args()
    end = epoch_ms(CUT)

    for stream in ["departures", "arrivals"]:
        cut(args.data, args.out, f"streams/{stream}.csv.gz", lambda line: int(line.split(",")[1]) < end)
    cut(args.data, args.out, "nycflights13/weather.csv.gz", lambda line: epoch_ms(line.rpartition(",")[2]) < end)
    cut(args.data, args.out, "kjv/kjv.txt.gz", lambda line: line.startswith("Ge"), header=False)
    shutil.copyfile(args.data / "nycflights13/airlines.csv", args.out / "nycflights13/airlines.csv")
    transcripts = "expected/transcripts.jsonl.gz"
    (args.out / "expected").mkdir(exist_ok=True)
    shutil.copyfile(args.data / transcripts, args.out / transcripts)


if __name__ == "__main__":
    main()
