#!/usr/bin/env python3
"""fields_md.py [--check] - the table of recipe fields in docs/methods.md, from the program's JSON Schema, that is from core/recipe/field.c.

The program is $REPQUANT or build/repquant.  --check only tells whether the two agree.
"""
import json
import os
import pathlib
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
target = root / "docs" / "methods.md"
START, END = "<!-- made by scripts/fields_md.py from core/recipe/field.c -->\n", "<!-- end of what is made -->\n"


def words(values):
    return ", ".join(f"`{v if isinstance(v, str) else format(v, 'g') if isinstance(v, float) else json.dumps(v)}`" for v in values)


def accepted(schema):
    if "anyOf" in schema:
        return " or ".join(map(accepted, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return words(schema.get("enum") or [schema["const"]])
    if schema["type"] == "boolean":
        return words([True, False])
    if schema["type"] == "array":
        return f"a list of at most {schema['maxItems']}"
    if schema["type"] == "string":
        return f"text: `{schema['pattern']}`"
    return f"{'a whole number, ' if schema['type'] == 'integer' else ''}{schema['minimum']} to {schema['maximum']}"


def row(name, schema):
    default = words([schema["default"]]) if "default" in schema else "must be given"
    return f"| `{name}` | {accepted(schema)} | {default} | {schema['description'].replace('|', chr(92) + '|')} |"


def table(schema):
    lines = ["| field | values | default | what it is |", "| --- | --- | --- | --- |"]
    for key, value in schema["anyOf"][0]["properties"].items():
        inner = value.get("properties")
        lines += [row(f"{key}.{name}", one) for name, one in inner.items()] if inner else [row(key, value)]
    return "\n".join(lines) + "\n"


program = os.environ.get("REPQUANT", root / "build" / "repquant")
text = target.read_text()
before, rest = text.split(START)
made = before + START + table(json.loads(subprocess.run([program, "recipes", "--schema"], capture_output=True, text=True, check=True).stdout))
made += END + rest.split(END)[1]
if "--check" not in sys.argv[1:]:
    target.write_text(made)
elif text != made:
    sys.exit("docs/methods.md is not what core/recipe/field.c says; run scripts/fields_md.py")
