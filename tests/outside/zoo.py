#!/usr/bin/env python3
"""Prunes and judges graphs; see tests/outside/zoo.

    zoo.py BINARY SHARED [--full] [PATH...]

A graph is right if the program's own verdict is `equal` (or `cannot`, with its reason), and evaluate.py finds nothing
wrong but what is wrong with the original itself.
"""
import contextlib, glob, json, os, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor

import ties

HERE = os.path.dirname(os.path.abspath(__file__))
DEGREE = "by=degree"
RANDOM = "by=random,seed=7"
# Files of more megabytes are judged one at a time, for the memory that it takes, and without --full by degree only.
LARGE = 150
ONE_LARGE = threading.Lock()
# Of the multiply-accumulates in groups that the options ask for, at ratio 0.5.
LEAST_CUT = 0.95


def call(command, **kw):
    return subprocess.run(command, capture_output=True, text=True, **kw)


def settings(full, megabytes):
    """Ratio, options of the prune, and whether the whole command repairs: seconds a graph that only --full spends."""
    if full:
        return [(ratio, options, (ratio, options) == ("0.5", DEGREE)) for ratio in ("0.25", "0.5") for options in (DEGREE, RANDOM)]
    return [("0.5", DEGREE, False)] + ([("0.5", RANDOM, False)] if megabytes <= LARGE else [])


def judge(binary, shared, source, folder, ratio, options, repair):
    """One run of evaluate.py: its verdict, and the verified plan that the program made."""
    out, plan = folder + "/out.json", folder + "/plan.json"
    for old in (out, plan):
        if os.path.exists(old):
            os.remove(old)
    env = os.environ | {"ZOO_BINARY": os.path.abspath(binary), "ZOO_OPTIONS": options, "ZOO_PLAN": plan, "ZOO_REPAIR": "yes" if repair else "no"}
    tool = [sys.executable, shared + "/tools/evaluate.py", HERE + "/stand_in", out]
    call(tool + ["--ratio", ratio, "--limit-mb", "4000", "--timeout", "900", source], env=env)
    result = next(iter(json.load(open(out)).values()), {}) if os.path.exists(out) else {}
    return result, json.load(open(plan)) if os.path.exists(plan) else None


def verdict(result):
    """What evaluate.py holds against the program, and what it holds against the original."""
    judged = result.get("judge", {}), result.get("full_judge", {})
    failed = [f for j in judged for f in j.get("failed", ["not judged"])]
    for run in ("prune_only", "full"):
        if result.get(run, {}).get("code") != 0:
            failed.append(f"exit code {result.get(run, {}).get('code')}: {result.get(run, {}).get('err', '').strip()[:160]}")
    original = [o for j in judged for o in j.get("original", [])]
    ran = all(result.get(run, {}).get("code") == 0 for run in ("prune_only", "full"))
    return (failed if not (ran and original) else []), original


def share(part, whole):
    return None if not whole else part / whole


def percent(x):
    return "-" if x is None else f"{100 * x:.1f}"


def examine(binary, shared, path, full):
    name = os.path.basename(os.path.dirname(path)) + "/" + os.path.basename(path).replace(".skel.gz", "").replace(".onnx", "")
    row = dict(name=name, runs={}, wrong=[], original=[])
    started = time.time()
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.endswith(".skel.gz"):
            source = f"{folder}/{os.path.basename(path)[:-8]}.onnx"
            call([sys.executable, shared + "/tools/skeleton.py", "restore", path, source], check=True)
        row["mb"] = os.path.getsize(source) / 1e6
        with ONE_LARGE if row["mb"] > LARGE else contextlib.nullcontext():
            inspected = call([binary, "inspect", source, "--json"])
            row["inspected"] = json.loads(inspected.stdout) if inspected.returncode == 0 else None
            if row["inspected"] is None:
                row["wrong"].append("inspect: " + inspected.stderr.strip()[:160])
            for ratio, options, repair in settings(full, row["mb"]):
                result, plan = judge(binary, shared, source, folder, ratio, options, repair)
                label = ratio + (" random" if options == RANDOM else " degree")
                failed, original = verdict(result)
                error = result.get("judge", {}).get("masked_error")
                differs = [f for f in failed if f.startswith("pruned and masked original differ")]
                if differs and plan and error and ties.jumps(source, plan["reads"], error / 10):
                    failed = [f for f in failed if f not in differs]
                    row["ties"] = True
                row["wrong"] += [f"{label}: {f}" for f in failed]
                row["original"] += [o for o in original if o not in row["original"]]
                run = row["runs"][label] = dict(error=result.get("judge", {}).get("masked_error"))
                if plan is None:
                    continue
                verified = plan["verified"] or {}
                cut = any(g["verdict"] == "pruned" for g in plan["groups"])
                run["verified"] = verified.get("outcome", "none" if cut else "nothing cut")
                run["reason"] = verified.get("reason")
                if run["verified"] not in ("equal", "cannot", "nothing cut"):
                    row["wrong"].append(f"{label}: in process: {run['verified']}")
                cost, reach = plan["cost"], plan["reach"]
                run["params"], run["macs"] = (share(a - b, a) for a, b in (cost["params"], cost["macs"]))
                run["asked"] = share(reach["cut"]["macs"], reach["asked"]["macs"])
                run["allowed"] = share(reach["cut"]["macs"], reach["allowed"]["macs"])
                run["groups"] = [sum(g["verdict"] == v for g in plan["groups"]) for v in ("pruned", "kept", "pinned")]
                silent = [g["id"] for g in plan["groups"] if g["verdict"] != "pruned" and not g.get("reason")]
                row["wrong"] += [f"{label}: group {g} has no reason" for g in silent]
                if ratio == "0.5" and run["asked"] is not None and run["asked"] < LEAST_CUT:
                    row["wrong"].append(f"{label}: only {percent(run['asked'])} % of the MACs that may be cut are in cut groups")
    row["seconds"] = time.time() - started
    runs = row["runs"].values()
    print("WRONG" if row["wrong"] else "right", name, f"{row['seconds']:.0f} s", *[
        f"[{label}: {'/'.join(map(str, run.get('groups', [])))} cut {percent(run.get('params'))} {run.get('verified')}]"
        for label, run in row["runs"].items()
    ], *row["wrong"][:2], flush=True)
    return row


def line(row):
    def of(ratio, key):
        return row["runs"].get(ratio + " degree", {}).get(key)
    seen = row["inspected"] or {}
    both = lambda key: f"{percent(of('0.25', key))} / {percent(of('0.5', key))}"
    groups = of("0.5", "groups")
    outcomes = sorted({run.get("verified", "none") for run in row["runs"].values()})
    reasons = [run["reason"] for run in row["runs"].values() if run.get("reason")]
    errors = [run["error"] for run in row["runs"].values() if run.get("error") is not None]
    outside = "wrong: " + "; ".join(row["wrong"]) if row["wrong"] else "right"
    if row.get("ties"):
        outside += "; its ranking hangs on rounding, in the masked original too (tests/outside/ties.py)"
    if row["original"]:
        outside += "; the original: " + row["original"][0]
    pins = seen.get("pins", [])
    pin = "" if not pins else f"{pins[0]['node'] or '-'} ({pins[0]['rule']}, {percent(share(pins[0]['macs'], seen['macs']))} % of MACs)"
    cells = [
        row["name"], seen.get("nodes", "?"), seen.get("opset", "?"), both("params"), both("macs"),
        "/".join(map(str, groups)) if groups else "-", f"{percent(of('0.5', 'asked'))} / {percent(of('0.5', 'allowed'))}",
        ", ".join(outcomes) + (f": {reasons[0]}" if reasons else ""), outside,
        f"{max(errors):.1e}" if errors else "-", pin,
    ]
    return "| " + " | ".join(str(c).replace("|", "/").replace("\n", " ")[:240] for c in cells) + " |"


HEAD = """# Coverage

`tests/outside/zoo --full` writes this table: every graph of `../shared/zoo` and every file of `../shared/models`, pruned at
ratios 0.25 and 0.5, by degree and by random with a seed. Cuts, groups and shares are those of the runs by degree, in
percent; verdicts are of all four.

- *parameters*, *MACs*: what went, of all that the model has, at 0.25 / 0.5
- *groups*: pruned / kept / pinned, at 0.5
- *MACs in cut groups*: of the multiply-accumulates of contractions that a removable channel runs through (that read it or
  make it), those of contractions that a channel of a group that was cut runs through, at 0.5. First of the groups that
  the options ask for, which leave dense layers whole, then of all
- *in process*: the program's own verdict against the masked original; *outside*: that of `../shared/tools/evaluate.py`
- *error*: the largest relative difference that the latter found
- *what pins the most*: the costliest cause for which contractions cannot become smaller at all

| graph | nodes | opset | parameters | MACs | groups | MACs in cut groups | in process | outside | error | what pins the most |
|---|---:|---:|---:|---:|---:|---:|---|---|---:|---|
"""


def main():
    args = sys.argv[1:]
    full = "--full" in args
    binary, shared, *paths = [a for a in args if a != "--full"]
    every = not paths
    if every:
        paths = sorted(glob.glob(shared + "/models/*.onnx")) + sorted(glob.glob(shared + "/zoo/*/*.skel.gz"))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        rows = list(pool.map(lambda p: examine(binary, shared, p, full), paths))
    wrong = [r for r in rows if r["wrong"]]
    for row in wrong:
        print("wrong:", row["name"], *row["wrong"], sep="\n    ")
    print(f"{len(rows) - len(wrong)} of {len(rows)} right")
    if full and every:
        with open(os.path.join(HERE, "../../docs/coverage.md"), "w") as f:
            f.write(HEAD + "".join(line(r) + "\n" for r in rows))
    elif full:
        print(*map(line, rows), sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
