#!/usr/bin/env python3
"""openapi_json.py [--check] - api/openapi.json, which the daemon serves, from api/openapi.yaml, which people edit.

The JSON is committed, so that the build needs no Python.  --check only tells whether the two agree.
"""
import json
import pathlib
import sys

import yaml

api = pathlib.Path(__file__).resolve().parent.parent / "api"
text = json.dumps(yaml.safe_load((api / "openapi.yaml").read_text()), indent=1) + "\n"
target = api / "openapi.json"
if "--check" not in sys.argv[1:]:
    target.write_text(text)
elif target.read_text() != text:
    sys.exit("api/openapi.json is not what api/openapi.yaml says; run scripts/openapi_json.py")
