#!/usr/bin/env python3
"""Holds the list of supported operators against ONNX's own list of all versions.

    operators.py SUPPORTED-OPS.md

Every operator of the standard domain must be named, and none may be known from before its first version. Exit 0 if so.
"""
import re, sys
import onnx

schemas = {}
for schema in onnx.defs.get_all_schemas_with_history():
    if schema.domain == "":
        first = schemas.get(schema.name, schema.since_version)
        schemas[schema.name] = min(first, schema.since_version)
text = open(sys.argv[1]).read()
standard, rest = text.split("## onnxruntime", 1)
rows = {m[1]: int(m[2]) for m in re.finditer(r"^\| (\w+) \| (\d+) \|", standard, re.M)}
absent = set(re.findall(r"[\w.]+", rest.split("## Without a row", 1)[1]))
wrong = [name for name in schemas if name not in rows and name not in absent]
early = [name for name in rows if name in schemas and rows[name] < schemas[name]]
for name in sorted(wrong):
    print("not named:", name)
for name in sorted(early):
    print(f"known from version {rows[name]}, first of {schemas[name]}:", name)
print(f"{len(schemas)} operators of ONNX, {len(rows)} rows, {len(wrong) + len(early)} wrong")
sys.exit(bool(wrong or early))
