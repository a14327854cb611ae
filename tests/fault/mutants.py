#!/usr/bin/env python3
"""mutants.py [--list] [--part I/N] [--seconds N] [NAME...] - takes one safeguard away at a time; the test that stands for it must notice.

Each row of tests/fault/mutants.txt names a file, a text in it, what to put in its place, and the test that must then fail: a unit program
(daemon/test_x) or arguments of pytest. The sources are copied to build/mutants and built there. What was caught is remembered there for
the present commit, so a run that was stopped goes on where it was. A test that fails, or is not found, with all safeguards in their places
shows nothing, so each runs once like that before. Exit status 1: a mutant lived, a test failed before, or a row does not fit the sources any more.
"""
import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COPY = ROOT / "build" / "mutants" / "tree"
CAUGHT = ROOT / "build" / "mutants" / "caught"
BECAME = {True: "lived", False: "caught", None: "its test has no end"}      # by how that test ended


def rows():
    """{name, file, old, new, test} of each block; blocks are separated by empty lines."""
    found = []
    for block in (ROOT / "tests/fault/mutants.txt").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines:
            found.append(dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines))
    return found


def copy():
    """The tracked sources as they are now; objects of an earlier run stay."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        source, target = ROOT / name, COPY / name
        if source.exists() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    venv = COPY / ".venv"
    if not venv.exists():
        venv.symlink_to((ROOT / ".venv").resolve())


def build(test):
    unit = test.split("/")[0] in ("core", "daemon", "client")
    wanted = [f"build/unit/{test}"] if unit else ["programs"]
    made = subprocess.run(["make", "-j2", *wanted, "CFLAGS=-Wno-error"], cwd=COPY, capture_output=True, text=True)
    return made.returncode == 0 or print(made.stderr[-2000:])


def passes(test):
    """None if it has no end."""
    if test.split("/")[0] in ("core", "daemon", "client"):
        command = [f"build/unit/{test}"]
    else:
        command = [".venv/bin/python", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", *shlex.split(test)]
    environment = {**os.environ, **{name: str(COPY / "build" / name.lower()) for name in ("REPQUANT", "REPQUANTD", "REPQUANTCTL")}}
    try:
        return subprocess.run(command, cwd=COPY, capture_output=True, env=environment, timeout=300).returncode == 0
    except subprocess.TimeoutExpired:
        return None


def try_one(row):
    """What became of it: "caught", "lived", or why that is not known."""
    path = COPY / row["file"]
    text = path.read_text()
    if text.count(row["old"]) != 1:
        return "does not fit"
    path.write_text(text.replace(row["old"], row["new"]))
    try:
        return BECAME[passes(row["test"])] if build(row["test"]) else "does not build"
    finally:
        path.write_text(text)


def failing(tests):
    """Those that fail with all safeguards in their places."""
    found = [test for test in tests if not (build(test) and passes(test))]
    for test in found:
        print(f"mutants: {test} fails with nothing taken away", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=int, default=540, help="no mutant is begun after so many; run again for the rest")
    parser.add_argument("--part", default="1/1", help="I/N: every N-th mutant, beginning with the I-th")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    chosen = [row for row in rows() if not options.names or row["name"] in options.names][part - 1::parts]
    if options.list:
        print("\n".join(row["name"] for row in chosen))
        return 0
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    CAUGHT.parent.mkdir(parents=True, exist_ok=True)
    known = CAUGHT.read_text().splitlines() if CAUGHT.exists() else []
    done = set(known[1:]) if known[:1] == [commit] else set()
    copy()
    begun, bad, left = time.monotonic(), 0, 0
    chosen = [row for row in chosen if options.names or row["name"] not in done]
    useless = failing(sorted({row["test"] for row in chosen}))
    for row in chosen:
        if row["test"] in useless:
            bad += 1
            continue
        if time.monotonic() - begun > options.seconds:
            left += 1
            continue
        became = try_one(row)
        print(f"mutants: {row['name']}: {became} ({row['test'].split(' ')[0]})", flush=True)
        bad += became != "caught"
        if became == "caught":
            done.add(row["name"])
            CAUGHT.write_text("\n".join([commit, *sorted(done)]) + "\n")
    print(f"mutants: {len(done)} caught, {bad} not, {left} left" + ("; run it again" if left else ""))
    return bad > 0 or (left > 0 and 2)


if __name__ == "__main__":
    sys.exit(main())
