"""The figures of a soak as a table."""
import collections

from soak_watch import GROWTH, MIB, WAL, across, growth, heap, lives


def requests_table(requests):
    """A line for each kind of request: how often which status came."""
    by = collections.defaultdict(dict)
    for key, n in requests.items():
        what, status = key.rsplit(" ", 1)
        by[what][status] = n
    for what, statuses in sorted(by.items(), key=lambda row: -sum(row[1].values())):
        yield f"  {what:44} {sum(statuses.values()):8}   " + "  ".join(f"{s}: {n}" for s, n in sorted(statuses.items()))


def spread(numbers, scale=1):
    return f"{min(numbers) / scale:.1f} to {max(numbers) / scale:.1f}" if numbers else "none"


def life_line(life, quiet):
    grew = growth(quiet)
    more = "" if grew is None else f"; warm, grew by {grew / MIB:+.2f} MiB"
    rss = " ".join(f"{row['rss'] / MIB:.1f}" for row in quiet)
    heaps = " ".join(f"{heap(row) / MIB:.1f}" for row in quiet)
    return (f"  life {life}: {quiet[-1]['age']:.0f} s, {len(quiet)} quiet moments; RSS {rss} MiB{more}; heap without SQLite {heaps} MiB; "
            f"descriptors {sorted({r['fds'] for r in quiet})}, threads {sorted({r['threads'] for r in quiet})}")


def summary(told):
    rows, total = told["rows"], collections.Counter()
    for key, n in told["requests"].items():
        total[key.rsplit(" ", 1)[1]] += n
    load, found = [r for r in rows if r["what"] == "load"], lives(rows)
    drift = across(found)
    return "\n".join([
        f"{told['loaded'] / 60:.1f} minutes of load in {told['pieces']} pieces and {told['life']} lives; "
        f"{sum(total.values())} requests: {dict(sorted(total.items()))}",
        *requests_table(told["requests"]),
        f"jobs by their end: {told['states']}",
        "counted: " + ", ".join(f"{k}: {n}" for k, n in sorted(told["counts"].items())),
        f"under load, {len(load)} measurements: RSS {spread([r['rss'] for r in load], MIB)} MiB, PSS {spread([r['pss'] for r in load], MIB)} MiB, "
        f"descriptors {spread([r['fds'] for r in load])}, threads {spread([r['threads'] for r in load])}, "
        f"children {spread([r['children'] for r in load])}, "
        f"WAL at most {max((r['wal'] for r in rows), default=0) / MIB:.1f} MiB (limit {WAL / MIB:.0f}), "
        f"scratch at most {max((r['scratch'] for r in rows), default=0) / MIB:.1f} MiB",
        *(life_line(life, quiet) for life, quiet in sorted(found.items())),
        f"from life to life, at the first quiet moment: {'too few lives' if drift is None else f'{drift / MIB:+.2f} MiB'}; "
        f"limit within a warm life {GROWTH / MIB:.0f} MiB",
        f"at the end: database {rows[-1]['db'] / MIB:.1f} MiB, blobs {rows[-1]['blobs'] / MIB:.1f} MiB" if rows else "nothing measured"])
