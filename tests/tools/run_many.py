#!/usr/bin/env python3
"""Runs one program on many files, two at a time, and tells how each ended.

    run_many.py PROGRAM ARGUMENT... < FILES

"{}" in an argument stands for the file.  A line of output for each line of input, in JSON: {"file", "status" (negative: a signal), "peak_kib", "out", "err"}.  A program of its own
because the peak that Linux tells of a process counts what the process that started it had: a small parent keeps it true.
"""
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile


def run(file):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([word.replace("{}", file) for word in sys.argv[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for f in (out, err):
            f.seek(0)
            texts.append(f.read().decode(errors="replace"))
        return {"file": file, "status": process.returncode, "peak_kib": usage.ru_maxrss, "out": texts[0], "err": texts[1]}


with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for row in pool.map(run, [line.rstrip("\n") for line in sys.stdin]):
        print(json.dumps(row))
