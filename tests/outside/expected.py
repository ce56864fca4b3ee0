#!/usr/bin/env python3
"""Holds the results of a run over models against what is expected of each.

    expected.py RESULTS.json

A model counts as right if it was judged right, or if the original itself is one that onnxruntime or onnx.checker
refuses and nothing was found but that. Prints what is wrong and a closing line; exit 0 if nothing is.
"""
import json, sys

results = json.load(open(sys.argv[1]))
wrong = []
for name, r in results.items():
    judged = r.get("judge", {}), r.get("full_judge", {})
    ran = r["prune_only"]["code"] == 0 and r["full"]["code"] == 0
    own_fault = [f for j in judged for f in j.get("failed", ["not judged"])]
    broken_original = any(j.get("original") for j in judged)
    if not ran or (own_fault and not broken_original):
        wrong.append((name, own_fault or [r["prune_only"]["err"], r["full"]["err"]]))
for name, why in wrong:
    print("wrong:", name, why)
print(f"{len(results) - len(wrong)} passed, {len(wrong)} failed")
sys.exit(bool(wrong))
