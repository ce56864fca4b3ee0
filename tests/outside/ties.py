"""Whether the outputs of a masked original jump under noise of the size of rounding.

A detector of untrained weights ranks scores that are all but equal: which of them come first, and so which boxes are
given out, hangs on the last bit. A pruned model sums in another order, so that it cannot be compared with its masked
original by such outputs, and neither can the masked original with itself.
"""
import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

ort.set_default_logger_severity(4)
NOISE = 1e-6


def masked(path, reads):
    model = onnx.load(path)
    tensors = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    for read in reads:
        tensor = tensors[read["tensor"]]
        content = np.array(numpy_helper.to_array(tensor))
        at = [slice(None)] * content.ndim
        at[0] = slice(*read.get("rows", [0, content.shape[0]]))
        at[read["axis"]] = read["removed"]
        content[tuple(at)] = 0
        tensor.CopyFrom(numpy_helper.from_array(content, tensor.name))
    return model


def jumps(path, reads, least):
    """Whether some output changes by `least`, relative to its magnitude, when the inputs change by `NOISE` of theirs."""
    model = masked(path, reads)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds, noisy = {}, {}
    for i in session.get_inputs():
        if i.type != "tensor(float)":
            return False
        shape = [d if isinstance(d, int) and d > 0 else 2 for d in i.shape]
        feeds[i.name] = random.standard_normal(shape).astype(np.float32)
        noisy[i.name] = feeds[i.name] * (1 + NOISE * random.standard_normal(shape)).astype(np.float32)
    worst = 0.0
    for a, b in zip(session.run(None, feeds), session.run(None, noisy)):
        if a.dtype.kind == "f" and a.size:
            same = a.shape == b.shape
            worst = max(worst, float(np.abs(a - b).max() / max(1e-6, np.abs(a).max())) if same else float("inf"))
    return worst >= least
