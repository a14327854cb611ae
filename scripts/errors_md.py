#!/usr/bin/env python3
"""errors_md.py [--check] - docs/errors.md, the page of error codes, from their one table in core/base/err.h.

--check only tells whether the two agree.
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
target = root / "docs" / "errors.md"
HEAD = """# Error codes

Every error has a code that stays. Over HTTP it is a problem (RFC 9457): `type` is `urn:repquant:problem:CODE`, `code` the code alone, `status` as below,
`detail` says what is wrong and what to do, `pointer` or `where` which field, node or tensor, `retryable` whether the same request may do better later; then
`Retry-After` says when, where that is known. `repquant` prints it in brackets behind the sentence and ends with the exit status (so does `repquantd`, without the
code): 1 the input is at fault, 2 the use or the configuration, 3 the environment, 4 a bug of ours. `repquantctl` prints it, too; its exit statuses are in
`docs/client.md`. A job that failed has the same problem in its row.

Made by `scripts/errors_md.py` from the table in `core/base/err.h`.
"""
ROW = re.compile(r'X\((\w+), "([\w.]+)", (\d+), (\d), ([01]), "(.*)"\)')


def page(table):
    lines = [HEAD]
    for line in table.splitlines():
        group, row = re.search(r"/\* (.*?) \*/", line), ROW.search(line)
        if group:
            lines += [f"\n## {group[1][0].upper()}{group[1][1:]}\n", "| code | status | exit | retry | title |", "| --- | --- | --- | --- | --- |"]
        elif row:
            _, code, status, leaves, retry, title = row.groups()
            lines.append(f"| `{code}` | {status} | {leaves} | {'yes' if retry == '1' else 'no'} | {title} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


source = (root / "core" / "base" / "err.h").read_text()
start = source.index("#define ERR_CODES(X)")
text = page(source[start:source.index("enum err_code", start)])
if "--check" not in sys.argv[1:]:
    target.write_text(text)
elif target.read_text() != text:
    sys.exit("docs/errors.md is not what core/base/err.h says; run scripts/errors_md.py")
