"""Whether the outputs of a masked original jump under noise of the size of rounding in its weights.

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


def session(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def jumps(path, reads, least):
    """Whether some output changes by `least`, relative to its magnitude, when the weights change by `NOISE` of theirs."""
    model = masked(path, reads)
    random = np.random.default_rng(0)
    feeds = {}
    plain = session(model)
    for i in plain.get_inputs():
        if i.type != "tensor(float)":
            return False
        shape = [d if isinstance(d, int) and d > 0 else 2 for d in i.shape]
        feeds[i.name] = random.standard_normal(shape).astype(np.float32)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            content = numpy_helper.to_array(tensor)
            noisy = content * (1 + NOISE * random.standard_normal(content.shape))
            tensor.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), tensor.name))
    worst = 0.0
    for a, b in zip(plain.run(None, feeds), session(model).run(None, feeds)):
        if a.dtype.kind == "f" and a.size:
            same = a.shape == b.shape
            worst = max(worst, float(np.abs(a - b).max() / max(1e-6, np.abs(a).max())) if same else float("inf"))
    return worst >= least
