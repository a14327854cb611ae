#!/usr/bin/env python3
"""soak.py N - piece N of an hour of mixed load on one data folder, build/soak: 1 to 9 are 400 seconds of load each, `end` is the judgement.

Pieces 1 to 4 are one life of a daemon, which goes on between them. In the others it is ended or killed every minute or two, and at the end
of each a day passes. A piece goes on where the one before was put away, and needs it; piece 1 begins anew. `stop` ends a daemon that a piece
left; `figures` prints what was counted so far.
Exit status 1: something does not hold, see tests/api/soak.py and soak_watch.py.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "api"))

from soak import Soak                                       # noqa: E402
from soak_report import summary                             # noqa: E402

FOLDER = ROOT / "build" / "soak"
PIECES, ONE_LIFE, MOMENTS = 9, 4, 3
SECONDS = int(os.environ.get("SOAK_SECONDS", 400))          # of load in a piece


def restarts(rng, seconds):
    """(at, signal): every minute or two, one in three a kill."""
    at, found = rng.uniform(20, 60), []
    while at < seconds - 10:
        found.append((at, rng.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])))
        at += rng.uniform(50, 110)
    return found


def stop():
    """A daemon that an earlier run has left."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if f"--data={FOLDER / 'data'}" in words and "--port=0" in words:
            os.kill(int(folder.name), signal.SIGKILL)


def piece(soak, number):
    rng = random.Random(f"soak {number}")
    for _ in range(MOMENTS):
        soak.load(SECONDS / MOMENTS, restarts(rng, SECONDS / MOMENTS) if number > ONE_LIFE else ())
        soak.quiet()
        if soak.wrong:
            break
    soak.stop_clients()
    if number > ONE_LIFE and not soak.wrong:
        soak.pass_a_day()
    soak.pieces = number


def run(what):
    if what == "1":
        stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
    soak = Soak(FOLDER, ROOT / "build" / "tools" / "either_job")
    try:
        soak.begin() if what == "1" else soak.take_up()
        if what == "end":
            soak.judge()
        elif soak.pieces != int(what) - 1:
            soak.wrong.append(f"{soak.pieces} pieces have run, so {what} is not the next one")
        else:
            piece(soak, int(what))
            if not soak.wrong:
                soak.put_away()
    except Exception:                                       # told with the figures
        soak.wrong.append(traceback.format_exc())
    finally:
        soak.save()
        if soak.wrong:
            stop()
    return soak


def main():
    what = (sys.argv[1:] or [""])[0]
    if what == "stop":
        return stop()
    if what == "figures":
        return print(summary(json.loads((FOLDER / "figures.json").read_text())))
    if what not in [*map(str, range(1, PIECES + 1)), "end"]:
        sys.exit(__doc__)
    if what != "1" and not (FOLDER / "state").exists():
        sys.exit("soak.py: the piece before has not been put away; rm -f build/test-long/soak-*.done, and begin with the first")
    soak = run(what)
    print(summary(json.loads((FOLDER / "figures.json").read_text())))
    for text in soak.wrong[:50]:
        print("WRONG:", text)
    sys.exit(bool(soak.wrong))


main()
