#!/usr/bin/env python3
"""Runs one command and prints a JSON line: wall seconds, CPU seconds, peak anonymous memory in bytes.

usage: measure.py [--pid PID] -- COMMAND..
Anonymous memory (RssAnon) leaves mapped file pages aside; it is sampled every 10 ms over the command's
process group. With --pid, the memory and CPU time of that process are measured while COMMAND runs.
"""
import json
import os
import pathlib
import subprocess
import sys
import time


def anonymous(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def cpu(pid):
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


arguments = sys.argv[1:]
watched = None
if arguments[0] == "--pid":
    watched = int(arguments[1])
    arguments = arguments[2:]
assert arguments[0] == "--", __doc__
before = cpu(watched) if watched else 0.0
start = time.monotonic()
process = subprocess.Popen(arguments[1:], stdout=subprocess.DEVNULL)
peak = 0
peak_watched = 0
while process.poll() is None:
    peak = max(peak, anonymous(process.pid))
    if watched:
        peak_watched = max(peak_watched, anonymous(watched))
    time.sleep(0.01)
wall = time.monotonic() - start
usage = __import__("resource").getrusage(__import__("resource").RUSAGE_CHILDREN)
row = {
    "wall_s": round(wall, 3),
    "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
    "peak_anon_bytes": peak,
    "exit": process.returncode,
}
if watched:
    row["watched_cpu_s"] = round(cpu(watched) - before, 3)
    row["watched_peak_anon_bytes"] = peak_watched
print(json.dumps(row))
sys.exit(process.returncode)
