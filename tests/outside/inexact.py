#!/usr/bin/env python3
"""Prunes graphs through their norms and judges the result; see tests/outside/inexact.

    inexact.py BINARY SHARED [--through] PATH...

With --through every graph has to lose channels through a norm, those called inexact-refused-* none.

The reference is made from the plan alone: the weights in `reads` are zero, and each node of `inexact` takes its
statistic of the kept elements only, which are counted here and not taken from the plan. Every norm is written out.
"""
import json, os, subprocess, sys, tempfile
import numpy as np, onnx, onnxruntime as ort
from onnx import helper, numpy_helper

ort.set_default_logger_severity(4)
TOLERANCE = 1e-4
SIZES = {"*": 2, "H": 8, "W": 8}
# Of a sum of several operands: which inputs are added, scale, shift.
SKIP = {"SkipLayerNormalization": ([0, 1, 4], 2, 3), "SkipSimplifiedLayerNormalization": ([0, 1, 3], 2, None)}
REDUCTIONS = {"ReduceMean": 0.0, "ReduceSum": 1.0, "ReduceL1": 1.0, "ReduceSumSquare": 1.0, "ReduceL2": 0.5}


def constants(graph):
    out = {t.name: t for t in graph.initializer}
    for n in graph.node:
        if n.op_type == "Constant" and n.attribute[0].name == "value":
            out[n.output[0]] = n.attribute[0].t
    return out


def attribute(node, name, default):
    found = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return found[0] if found else default


def zeroed(model, reads):
    held = constants(model.graph)
    for read in reads:
        tensor = held[read["tensor"]]
        values = numpy_helper.to_array(tensor).copy()
        first, end = read.get("rows") or [0, values.shape[0]]
        at = [slice(None)] * values.ndim
        at[0] = slice(first, end)
        if read["axis"] == 0:
            at[0] = read["removed"]
        else:
            at[read["axis"]] = read["removed"]
        values[tuple(at)] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


class Writer:
    """Nodes that stand for one."""

    def __init__(self, graph, node, count, dtype):
        self.graph, self.node, self.made, self.dtype = graph, node, [], dtype
        self.prefix = f"judge.{count}."
        self.version = None

    def name(self):
        return self.prefix + str(len(self.made) + len(self.graph.initializer))

    def constant(self, values, dtype=None):
        name = self.name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype or self.dtype), name))
        return name

    def do(self, op, *inputs, out=None, **attributes):
        out = out or self.name()
        self.made.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def sum(self, x, axes):
        return self.do("ReduceSum", x, self.constant(axes, np.int64), keepdims=1)


def mask_of(entry, shape):
    *rows, last = entry["axes"]
    count = int(np.prod([shape[a] for a in rows], dtype=int))
    removed = entry["removed"] * count if len(entry["removed"]) == 1 else entry["removed"]
    assert len(removed) == count and shape[last] % entry["parts"] == 0, "removed parts do not fit"
    flags = np.ones((count, entry["parts"]))
    for row, parts in enumerate(removed):
        flags[row, parts] = 0
    flags = np.repeat(flags, shape[last] // entry["parts"], axis=1)
    return flags.reshape([d if a in entry["axes"] else 1 for a, d in enumerate(shape)])


def kept(mask, shape, axes):
    """Elements of each statistic, all and kept: the same for every statistic of the node."""
    per = np.broadcast_to(mask, shape).sum(axis=tuple(axes))
    assert per.size == 0 or per.min() == per.max() > 0, "not every statistic keeps the same share"
    return float(np.prod([shape[a] for a in axes])), float(per.flat[0])


def written(model, node, entry, shape, dtype, count):
    w = Writer(model.graph, node, count, dtype)
    op, rank = node.op_type, len(shape)
    mask = mask_of(entry, shape)
    inputs = list(node.input)
    if op in REDUCTIONS:
        axes = attribute(node, "axes", None)
        if axes is None and len(inputs) > 1 and inputs[1]:
            axes = numpy_helper.to_array(constants(model.graph)[inputs[1]]).tolist()
        axes = sorted(a % rank for a in (axes if axes else range(rank)))
        all_, left = kept(mask, shape, axes)
        x = w.do("Mul", inputs[0], w.constant(mask))
        if op == "ReduceMean":
            y = w.do("Div", w.sum(x, axes), w.constant(left))
        else:
            if op == "ReduceL1":
                x = w.do("Abs", x)
            elif op != "ReduceSum":
                x = w.do("Mul", x, x)
            y = w.sum(x, axes)
            if op == "ReduceL2":
                y = w.do("Sqrt", y)
            y = w.do("Mul", y, w.constant((all_ / left) ** REDUCTIONS[op]))
        to = [d for a, d in enumerate(shape) if a not in axes] if not attribute(node, "keepdims", 1) else None
        if to is None:
            w.do("Identity", y, out=node.output[0])
        else:
            w.do("Squeeze", y, w.constant(axes, np.int64), out=node.output[0])
        return w.made
    if op == "LpNormalization":
        axis = attribute(node, "axis", -1) % rank
        all_, left = kept(mask, shape, [axis])
        p = attribute(node, "p", 2)
        x = w.do("Mul", inputs[0], w.constant(mask))
        power = w.do("Abs", x) if p == 1 else w.do("Mul", x, x)
        length = w.do("Mul", w.sum(power, [axis]), w.constant(all_ / left))
        length = length if p == 1 else w.do("Sqrt", length)
        w.do("Div", x, length, out=node.output[0])
        return w.made
    # A norm: of what, over which axes, in which blocks, with which scale and shift.
    scale, shift, blocks, x = 1, 2, 1, inputs[0]
    if op in SKIP:
        added, scale, shift = SKIP[op]
        for i in added[1:]:
            if i < len(inputs) and inputs[i]:
                x = w.do("Add", x, inputs[i])
        if len(node.output) > 3 and node.output[3]:
            x = w.do("Identity", x, out=node.output[3])
    if op in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"):
        axes = list(range(attribute(node, "axis", -1) % rank, rank))
    elif op in SKIP:
        axes = [rank - 1]
    elif op == "InstanceNormalization":
        axes = list(range(2, rank))
    elif op == "GroupNormalization":
        axes, blocks = list(range(1, rank)), attribute(node, "num_groups", 1)
    else:
        raise AssertionError(f"no reference for {op}")
    view = list(shape)
    if op == "GroupNormalization":
        view = [shape[0], blocks, shape[1] // blocks, *shape[2:]]
        x = w.do("Reshape", x, w.constant(view, np.int64))
        mask = mask.reshape([1, blocks, shape[1] // blocks] + [1] * (rank - 2))
        axes = list(range(2, rank + 1))
    _, left = kept(mask, view, axes)
    m = w.constant(mask)
    if "RMS" not in op and "Simplified" not in op:
        mean = w.do("Div", w.sum(w.do("Mul", x, m), axes), w.constant(left))
        x = w.do("Sub", x, mean)
    x = w.do("Mul", x, m)
    square = w.do("Div", w.sum(w.do("Mul", x, x), axes), w.constant(left))
    epsilon = w.constant(attribute(node, "epsilon", 1e-12 if op in SKIP else 1e-5))
    y = w.do("Div", x, w.do("Sqrt", w.do("Add", square, epsilon)))
    of_channels = op == "InstanceNormalization"
    if op == "GroupNormalization":
        of_channels = model_version(model) >= 21
        if of_channels:
            y = w.do("Reshape", y, w.constant(shape, np.int64))
    for i, act in ((scale, "Mul"), (shift, "Add")):
        if i is None or i >= len(inputs) or not inputs[i]:
            continue
        parameter = inputs[i]
        if op == "GroupNormalization" and not of_channels:
            parameter = w.do("Reshape", parameter, w.constant([1, blocks] + [1] * (rank - 1), np.int64))
        elif of_channels:
            parameter = w.do("Reshape", parameter, w.constant([1, -1] + [1] * (rank - 2), np.int64))
        y = w.do(act, y, parameter)
    w.do("Reshape", y, w.constant(shape, np.int64), out=node.output[0])
    return w.made


def model_version(model):
    return next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))


def feeds(model, seed):
    g, held, out = np.random.default_rng(seed), {t.name for t in model.graph.initializer}, {}
    kinds = {1: np.float32, 10: np.float16, 11: np.float64, 6: np.int32, 7: np.int64, 9: bool}
    for i in model.graph.input:
        if i.name not in held:
            t = i.type.tensor_type
            dims = [d.dim_value or SIZES.get(d.dim_param, SIZES["*"]) for d in t.shape.dim]
            kind = kinds[t.elem_type]
            real = np.issubdtype(kind, np.floating)
            out[i.name] = (g.standard_normal(dims) if real else g.integers(0, 2, dims)).astype(kind)
    return out


def run(model, inputs, names=None):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, folder + "/m.onnx")
        return ort.InferenceSession(folder + "/m.onnx", options, providers=["CPUExecutionProvider"]).run(names, inputs)


def reference(original, plan, inputs):
    assert model_version(original) >= 13, "the reference needs ReduceSum as of version 13"
    model = onnx.ModelProto()
    model.CopyFrom(original)
    zeroed(model, plan["reads"])
    nodes = {n.output[0]: n for n in model.graph.node}
    entries = plan["inexact"]
    names = sorted({nodes[e["output"]].input[e["input"]] for e in entries})
    known = {o.name for o in model.graph.output}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in known)
    seen = dict(zip(names, run(probe, inputs, names))) if names else {}
    made = {}
    for count, entry in enumerate(entries):
        node = nodes[entry["output"]]
        assert node.op_type == entry["op"], f"{entry['output']} is made by {node.op_type}"
        value = seen[node.input[entry["input"]]]
        made[entry["output"]] = written(model, node, entry, value.shape, value.dtype, count)
    graph = [made.get(n.output[0], [n]) for n in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(n for ns in graph for n in ns)
    return model


def prune(binary, source, folder, options):
    out, plan = folder + "/out.onnx", folder + "/plan.json"
    passes = f"prune(ratio=0.5{options})"
    done = subprocess.run([binary, "run", source, "-o", out, "--passes", passes, "--plan", plan],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr.strip()[:200]}")
    return onnx.load(out), json.load(open(plan))


def checks(model):
    try:
        onnx.checker.check_model(model)
        return True
    except onnx.checker.ValidationError:
        return False


def share(plan):
    before, after = plan["cost"]["params"]
    return 100 * (before - after) / before if before else 0.0


def examine(binary, shared, path, through):
    name = os.path.basename(os.path.dirname(path)) + "/" + os.path.basename(path).split(".")[0]
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.endswith(".skel.gz"):
            source = folder + "/original.onnx"
            subprocess.run([sys.executable, shared + "/tools/skeleton.py", "restore", path, source], check=True,
                           capture_output=True)
        try:
            original = onnx.load(source)
            _, exact = prune(binary, source, folder, "")
            pruned, plan = prune(binary, source, folder, ",allow-inexact=norm")
            entries = plan.get("inexact", [])
            if checks(original):
                onnx.checker.check_model(pruned)
            inputs = feeds(original, 1)
            plan["inexact"] = entries
            expected = run(reference(original, plan, inputs), inputs)
            found = run(pruned, inputs)
            error = max(float(np.abs(a.astype("f8") - b.astype("f8")).max() / max(np.abs(a).max(), 1e-6))
                        for a, b in zip(expected, found))
            wrong = None if error <= TOLERANCE else f"differs by {error:.1e}"
            refused = os.path.basename(path).startswith("inexact-refused")
            if not wrong and through and bool(entries) == refused:
                wrong = f"{len(entries)} inexact entries"
        except Exception as e:
            wrong = f"{type(e).__name__}: {str(e)[:300]}"
            error, entries, exact = float("nan"), [], None
    cuts = "" if exact is None else f"parameters {share(exact):.1f} -> {share(plan):.1f} %"
    print("WRONG" if wrong else "right", name, cuts, f"{len(entries)} inexact, error {error:.1e}", wrong or "", flush=True)
    return wrong


def main():
    through = "--through" in sys.argv
    binary, shared, *paths = [a for a in sys.argv[1:] if a != "--through"]
    wrong = [path for path in paths if examine(os.path.abspath(binary), shared, path, through)]
    print(f"{len(paths) - len(wrong)} of {len(paths)} right")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
