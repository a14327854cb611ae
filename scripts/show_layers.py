#!/usr/bin/env python3
"""Shows a job's layers as a table, or finds one of its artifacts.

    show_layers.py LAYERS.json                       what GET /v1/jobs/{id}/layers answered
    show_layers.py --artifact NAME ARTIFACTS.json    prints the id of the artifact of that name
"""
import json
import sys


def number(value, form="{:.1f}"):
    return "-" if value is None else form.format(value)


def table(rows):
    yield ["layer", "op", "bits w/a", "weight dB", "output dB", "alone dB", "bytes", ""]
    for r in rows:
        yield [r["name"], r["op"], f"{r['weight_bits'] or '-'}/{r['act_bits'] or '-'}", number(r["weight_sqnr_db"]),
               number(r["accumulated_sqnr_db"]), number(r["isolated_sqnr_db"]),
               f"{r['bytes_before']} -> {r['bytes_after']}", r.get("skip_reason") or ""]


def main():
    if sys.argv[1] == "--artifact":
        with open(sys.argv[3]) as f:
            print(next(a["id"] for a in json.load(f)["data"] if a["name"] == sys.argv[2]))
        return
    with open(sys.argv[1]) as f:
        rows = [list(map(str, r)) for r in table(json.load(f)["data"])]
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    print()
    for r in rows:
        print("  ".join(c.ljust(w) if i in (0, 1, 7) else c.rjust(w) for i, (c, w) in enumerate(zip(r, width))).rstrip())


if __name__ == "__main__":
    main()
