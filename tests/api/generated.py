"""Requests made of openapi.yaml by Hypothesis, and whether an answer is one that the document tells of.

Values are drawn from the schemas, from objects that exist, and from what breaks programs; what was drawn is compared with the schemas
again, so that both are known: requests the document allows and requests it does not.
"""
import datetime
import json
import re
import urllib.parse

import jsonschema
from hypothesis import strategies as st

JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([2**31, 2**53 + 1, 2**63, -2**63, 10**30]), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40), st.sampled_from(["", "\0", "a\0b", "../../etc/passwd", "%00", "\ud7ff", "\U0001f980", "x" * 5000, "'; DROP TABLE jobs; --", "sha256:"]),
    st.lists(st.integers(), max_size=4), st.dictionaries(st.text(max_size=8), st.integers(), max_size=3),
    st.just([[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]))


FORMATS = jsonschema.FormatChecker(())
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
FORMATS.checks("date-time")(lambda value: not isinstance(value, str) or bool(RFC3339.fullmatch(value)))


def bytes_at_most(validator, limit, value, schema):
    """The document's maxLength, as its conventions have it."""
    if isinstance(value, str) and len(value.encode(errors="surrogatepass")) > limit:
        yield jsonschema.ValidationError(f"{value[:100]!r} has more than {limit} bytes")


VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"maxLength": bytes_at_most})


class Document:
    def __init__(self, document):
        self.document, self.checkers = document, {}

    def follow(self, node):
        """The node a $ref leads to; else the node."""
        while isinstance(node, dict) and "$ref" in node:
            found = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def operations(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method != "parameters":
                    yield f"{method.upper()} {path}", item.get("parameters", []) + operation.get("parameters", []), operation

    def valid(self, value, schema):
        """None, or what the schema says against the value."""
        if id(schema) not in self.checkers:
            whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": self.document["components"], "allOf": [schema]}
            self.checkers[id(schema)] = VALIDATOR(whole, format_checker=FORMATS)
        return next((error.message[:300] for error in self.checkers[id(schema)].iter_errors(value)), None)

    # ---- values of a schema ----

    def merged(self, schema):
        """An allOf of objects as one."""
        whole = {}
        for part in map(self.follow, schema["allOf"]):
            whole = {**whole, **part, "properties": {**whole.get("properties", {}), **part.get("properties", {})}}
        return whole

    def values(self, schema):
        schema = self.follow(schema)
        if "allOf" in schema:
            schema = self.merged(schema)
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kinds = schema.get("type", "object" if "properties" in schema else [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return st.one_of([self.of_kind(kind, schema) for kind in kinds]) if kinds else JUNK

    def of_kind(self, kind, schema):
        if kind == "string" and schema.get("format") == "date-time":
            return st.datetimes(datetime.datetime(2031, 1, 1), datetime.datetime(2099, 1, 1)).map(lambda t: t.isoformat() + "Z")
        if kind == "string" and "pattern" in schema:
            return st.from_regex(schema["pattern"], fullmatch=True)
        if kind == "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 60), 300))
        if kind == "integer":
            low, high = schema.get("minimum"), schema.get("maximum")
            return st.one_of(st.integers(low, high), *[st.just(x) for x in (low, high) if x is not None])
        if kind == "array":
            return st.lists(self.values(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 4), 4))
        if kind == "object":
            return self.objects(schema)
        return {"null": st.none(), "boolean": st.booleans(), "number": st.floats(allow_nan=False, allow_infinity=False)}[kind]

    def objects(self, schema):
        members = {name: self.values(s) for name, s in schema.get("properties", {}).items()}
        required = set(schema.get("required", []))
        alternatives = [set(one.get("required", [])) for one in schema.get("oneOf", []) + schema.get("anyOf", [])] or [set()]
        others = schema.get("additionalProperties")
        if not members and isinstance(others, dict):
            return st.dictionaries(st.text(min_size=1, max_size=20), self.values(others), max_size=4)
        every = set().union(*alternatives)

        def of(chosen):
            must = required | chosen
            return st.fixed_dictionaries({n: s for n, s in members.items() if n in must},
                                         optional={n: s for n, s in members.items() if n not in must | (every - chosen)})
        return st.sampled_from(alternatives).flatmap(of)

    # ---- one request ----

    def body(self, draw, operation, objects):
        """(bytes or None, media type or None, what the document has against it)"""
        described = self.follow(operation.get("requestBody", {}))
        content = described.get("content", {})
        if not content:
            return None, None, None
        if "application/json" not in content:
            absent = not described.get("required") and draw(st.booleans())
            return (None, None, None) if absent else (draw(st.one_of(st.binary(max_size=200), st.sampled_from(objects["bytes"]))), next(iter(content)), None)
        if not described.get("required") and draw(st.booleans()):
            return None, None, None
        schema = content["application/json"].get("schema", {})
        value = self.with_objects(draw, draw(self.values(schema)), objects)
        how = draw(st.integers(0, 9))
        if how >= 7:
            value = spoil(draw, value)
        text = json.dumps(value).encode()
        objection = self.valid(value, schema) or ("U+0000" if b"\\u0000" in text else None)
        if how == 6:
            text, objection = text[:len(text) // 2], "the JSON is cut" if len(text) > 1 else "no JSON"
        if how == 5:
            return text, "text/plain", "the media type"
        return text, "application/json", objection

    def with_objects(self, draw, value, objects):
        """Members that name something name what there is, mostly."""
        if isinstance(value, dict):
            return {n: draw(st.sampled_from(objects[n])) if n in objects and type(v) in map(type, objects[n]) and draw(st.integers(0, 9)) < 9
                    else self.with_objects(draw, v, objects) for n, v in value.items()}
        return value

    def parameter(self, draw, described, objects):
        """(text, objection); text None: left out."""
        schema, name = self.follow(described["schema"]), described["name"]
        if not described.get("required") and draw(st.booleans()):
            return None, None
        known = objects.get(name, [])
        how = draw(st.integers(0, 9))
        value = draw(st.sampled_from(known)) if known and how < 7 else draw(self.values(schema)) if how < 9 else draw(JUNK)
        text = value if isinstance(value, str) else json.dumps(value)
        if described["in"] == "header":
            text = re.sub(r"[^\x20-\x7e]", "?", text).strip() or "?"
        elif described["in"] == "path":
            text = text.encode(errors="replace").decode()[:400]
            if text in ("", ".", ".."):     # would be another path
                text = "x"
        number = schema.get("type") == "integer" and re.fullmatch(r"-?\d{1,18}", text)
        truth = schema.get("type") == "boolean" and text in ("true", "false")
        return text, self.valid(json.loads(text) if number or truth else text, schema)

    def request(self, draw, name, parameters, operation, objects):
        method, path = name.split(" ")
        query, headers, objections = [], {}, []
        for described in map(self.follow, parameters):
            text, objection = self.parameter(draw, described, objects)
            if text is None:
                continue
            objections += [f"{described['name']}: {objection}"] if objection else []
            if described["in"] == "path":
                path = path.replace("{" + described["name"] + "}", urllib.parse.quote(text, safe=""))
            elif described["in"] == "query":
                query.append((described["name"], text.encode(errors="replace")))
            else:
                headers[described["name"]] = text
        if draw(st.integers(0, 9)) == 9:
            query.append((draw(st.text(alphabet="abcdefgh_", min_size=1, max_size=9)) + "_x", draw(st.text(max_size=9))))
            objections.append("a query parameter that is not described")
        accept = draw(st.sampled_from([None, None, "*/*", "application/json", "text/html;q=0.5, */*"]))
        headers.update({"Accept": accept} if accept else {})
        body, media, objection = self.body(draw, operation, objects)
        objections += [f"body: {objection}"] if objection else []
        headers.update({"Content-Type": media} if media else {})
        return method, path + ("?" + urllib.parse.urlencode(query) if query else ""), headers, body, objections

    # ---- an answer ----

    def objection(self, operation, answer):
        """What the document has against an answer; None if nothing."""
        if answer.status_code >= 500:
            return f"status {answer.status_code}"
        responses = operation["responses"]
        described = self.follow(responses.get(str(answer.status_code)) or (responses.get("default") if answer.status_code >= 400 else None))
        if described is None:
            return f"status {answer.status_code} is not described"
        media = answer.headers.get("Content-Type", "").split(";")[0]
        content = described.get("content", {})
        if not content or not answer.content:
            return None if not answer.content or "application/octet-stream" in content else f"a body of type {media} is not described"
        if media not in content:
            return f"type {media} is not one of {list(content)}"
        if not media.endswith(("/json", "+json")):
            return None
        try:
            value = json.loads(answer.content)
        except ValueError as e:
            return f"the body is no JSON: {e}"
        if media == "application/problem+json" and value.get("status") != answer.status_code:
            return "the problem's status is another one"
        return self.valid(value, content[media].get("schema", {}))


def spoil(draw, value):
    """The value with one thing changed that should not be."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: spoil(draw, value[name])}
    if isinstance(value, dict):
        name = draw(st.sampled_from(sorted(value))) if value else "x"
        how = draw(st.integers(0, 2))
        if how == 0:
            return {n: v for n, v in value.items() if n != name}
        if how == 1:
            return {**value, "unknown_" + name: 1}
    return draw(JUNK)
