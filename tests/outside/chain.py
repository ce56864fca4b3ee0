#!/usr/bin/env python3
"""Chains of tools: simplify then prune, and prune then simplify.

    chain.py SECATEUR MODEL_DIR

For a few models of different exporters: what onnxslim and onnxsim write is pruned and verified by the program itself;
what the program writes goes through them, and onnxruntime gives the same outputs before and after. Needs onnx,
onnxruntime, onnxslim, onnxsim, numpy.
"""
import os, subprocess, sys, tempfile
import numpy as np, onnx, onnxruntime as ort, onnxsim, onnxslim

secateur, folder = sys.argv[1:3]
NAMES = ["cifar_resnet20_legacy_bn", "cifar_resnet20_dynamo", "mlperf_ic_resnet8_keras", "armkws_DS_CNN_S",
         "fsdd_dcase21net", "ultraface_slim320", "yunet_n_dynamic", "ppocr_mobile_v2_cls"]
ort.set_default_logger_severity(3)
TOOLS = {"onnxslim": lambda m: onnxslim.slim(m), "onnxsim": lambda m: onnxsim.simplify(m)[0]}


def outputs(path):
    s = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    g = np.random.default_rng(0)
    sizes = lambda shape: [d if isinstance(d, int) and d > 0 else (1 if i == 0 else 96) for i, d in enumerate(shape)]
    feeds = {i.name: g.standard_normal(sizes(i.shape)).astype(np.float32) for i in s.get_inputs()}
    return s.run(None, feeds)


def same(a, b):
    return all(x.shape == y.shape and np.abs(x - y).max() <= 1e-3 * max(1e-6, np.abs(x).max()) for x, y in zip(a, b))


def prune(source, target):
    p = subprocess.run([secateur, "prune", source, "-o", target, "--ratio", "0.5"], capture_output=True, text=True)
    return p.returncode, "verified:" in p.stdout, p.stderr[-200:]


wrong = 0
for name in NAMES:
    source = os.path.join(folder, name + ".onnx")
    if not os.path.exists(source):
        print("skipped", name)
        continue
    with tempfile.TemporaryDirectory() as d:
        code, _, err = prune(source, d + "/pruned.onnx")
        for tool, simplify in TOOLS.items():
            faults = [] if code == 0 else [err]
            try:
                onnx.save(simplify(onnx.load(source)), d + "/simple.onnx")
            except Exception as e:  # the tool itself cannot
                print("skipped", name, tool, str(e)[:100])
                continue
            again, verified, err = prune(d + "/simple.onnx", d + "/simple-pruned.onnx")
            if again != 0 or not verified:
                faults.append(f"{tool} then prune: exit {again}, verified {verified}: {err}")
            if code == 0:
                onnx.save(simplify(onnx.load(d + "/pruned.onnx")), d + "/pruned-simple.onnx")
                if not same(outputs(d + "/pruned.onnx"), outputs(d + "/pruned-simple.onnx")):
                    faults.append(f"prune then {tool}: the outputs differ")
            wrong += bool(faults)
            print("FAIL" if faults else "ok  ", name, tool, faults or "", flush=True)
print(f"{wrong} chains wrong")
sys.exit(bool(wrong))
