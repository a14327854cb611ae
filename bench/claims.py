#!/usr/bin/env python3
"""A queue of 10,000 jobs of 5 teams: claims, shares, and how long a daemon takes to be ready again.

    bench/claims.py [--jobs 10000] [--dir FOLDER]

The folder (default build/bench) must be on the disk that is meant: each claim is a durable commit.  The goals: claims
p99 <= 5 ms, shares within 10 % of fair, ready <= 3 s after the start.
"""
import argparse
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def ready_after(data):
    """Seconds from the start to 200 from /readyz, and the peak memory then in MiB.  Its jobs' program does nothing, slowly."""
    port_file, begun = os.path.join(data, "port"), time.monotonic()
    slow = os.path.join(data, "slow")
    with open(slow, "w") as f:
        f.write("#!/bin/sh\nread -r line\n")
    os.chmod(slow, 0o755)
    daemon = subprocess.Popen([f"{ROOT}/build/repquantd", "--port=0", f"--port-file={port_file}", f"--data={data}", f"--repquant={slow}",
                               "--drain=0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with open(port_file) as f:
                    urllib.request.urlopen(f"http://127.0.0.1:{f.read().strip()}/readyz").read()
                break
            except (FileNotFoundError, urllib.error.URLError, ValueError):
                if daemon.poll() is not None or time.monotonic() - begun > 60:
                    sys.exit("the daemon does not start")
                time.sleep(0.005)
        took = time.monotonic() - begun
        with open(f"/proc/{daemon.pid}/status") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        return took, peak / 1024
    finally:
        daemon.terminate()
        daemon.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10000)
    parser.add_argument("--dir", default=os.path.join(ROOT, "build", "bench"))
    options = parser.parse_args()
    os.makedirs(options.dir, exist_ok=True)
    data = os.path.join(options.dir, "queue-data")
    shutil.rmtree(data, ignore_errors=True)
    subprocess.run([f"{ROOT}/build/bench/queue", data, str(options.jobs)], check=True)
    seconds, peak = ready_after(data)
    print(f"ready {seconds:.2f} s after the start, {peak:.0f} MiB")
    shutil.rmtree(data)


if __name__ == "__main__":
    main()
