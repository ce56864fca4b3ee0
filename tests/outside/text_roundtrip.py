"""Does onnx.parser agree with our textual syntax?

    text_roundtrip.py ONNX_TEXT FILE...

ONNX_TEXT is the built example `onnx_text`. A model (.onnx) is printed by it, read by onnx.parser and compared with the
original, up to what the syntax has no words for. A text (.onnxtxt) is read by both, and the bytes must be the same.
Needs `pip install onnx`.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, parser

# What the syntax cannot say, by message; documented in src/onnx/text/mod.rs.
UNSAID = {
    "ModelProto": ["training_info", "configuration"],
    "GraphProto": ["doc_string", "metadata_props", "sparse_initializer", "quantization_annotation"],
    "NodeProto": ["doc_string", "metadata_props", "device_configurations"],
    "ValueInfoProto": ["doc_string", "metadata_props"],
    "TensorProto": ["doc_string", "metadata_props"],
    "AttributeProto": ["doc_string"],
    "FunctionProto": ["metadata_props"],
    "TypeProto": ["denotation"],
    "Dimension": ["denotation"],
}
PAYLOADS = ["float_data", "int32_data", "int64_data", "double_data", "uint64_data"]
# Read by the parser without a field when they are empty, or with one that is.
EMPTY_IS_ABSENT = {
    "NodeProto": ["domain", "overload"],
    "OperatorSetIdProto": ["domain"],
    "TensorProto": ["name"],
    "FunctionProto": ["domain", "name"],
    "GraphProto": ["name"],
}


def plain(message, inner=False):
    """Drops what cannot be said and brings the rest to one form."""
    kind = type(message).__name__
    for field in UNSAID.get(kind, []):
        message.ClearField(field)
    if kind == "TensorProto":
        if message.data_type != TensorProto.STRING and message.data_location != TensorProto.EXTERNAL:
            content = onnx.numpy_helper.to_array(message).tobytes()
            for field in PAYLOADS:
                message.ClearField(field)
            message.raw_data = content
        if message.data_location == TensorProto.DEFAULT:
            message.ClearField("data_location")
        if inner and not message.name.isidentifier():
            message.ClearField("name")
    if kind == "GraphProto" and inner:
        # A graph within an attribute has a plain name; others are changed and noted.
        message.name = "".join(c if c.isalnum() and c.isascii() else "_" for c in message.name)
        if message.name[:1].isdigit() or not message.name:
            message.name = "_" + message.name
    if kind == "AttributeProto" and message.type == AttributeProto.UNDEFINED and not message.ref_attr_name:
        held = [field.name for field, _ in message.ListFields() if field.name != "name"]
        names = {"t": "TENSOR", "g": "GRAPH", "tp": "TYPE_PROTO", "i": "INT", "f": "FLOAT", "s": "STRING"}
        message.type = AttributeProto.AttributeType.Value(names.get(held[0], held[0].upper()))
    if kind == "ValueInfoProto" and not message.type.WhichOneof("value"):
        message.ClearField("type")
    if kind == "NodeProto" and not message.domain.replace(".", "_").isidentifier():
        message.domain = ".".join(part if part.isidentifier() else "_" + part for part in message.domain.split("."))
    for field in EMPTY_IS_ABSENT.get(kind, []):
        if not getattr(message, field):
            message.ClearField(field)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if hasattr(value, "__len__") and not hasattr(value, "ListFields") else [value]:
                plain(one, inner or kind == "AttributeProto")
    return message


def first_difference(ours, theirs, where=""):
    """The path of the first field that differs."""
    if ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True):
        return None
    for field in ours.DESCRIPTOR.fields:
        a, b, path = getattr(ours, field.name), getattr(theirs, field.name), f"{where}.{field.name}"
        if hasattr(a, "SerializeToString"):
            if ours.HasField(field.name) != theirs.HasField(field.name):
                return f"{path}: present {ours.HasField(field.name)}, {theirs.HasField(field.name)}"
            if found := first_difference(a, b, path):
                return found
        elif field.message_type is not None:
            if len(a) != len(b):
                return f"{path}: {len(a)} and {len(b)}"
            for i, (x, y) in enumerate(zip(a, b)):
                if found := first_difference(x, y, f"{path}[{i}]"):
                    return found
        elif str(a)[:400] != str(b)[:400] or np.array(a).tobytes() != np.array(b).tobytes():
            return f"{path}: {str(a)[:200]} and {str(b)[:200]}"
        elif not hasattr(a, "append") and ours.HasField(field.name) != theirs.HasField(field.name):
            return f"{path}: present {ours.HasField(field.name)}, {theirs.HasField(field.name)}"
    return where


def check(binary, path, folder):
    if path.suffix == ".onnxtxt":
        out = folder / "out.onnx"
        subprocess.run([binary, path, out], check=True)
        text = path.read_text()
        ours, theirs = onnx.load(out, load_external_data=False), parser.parse_model(text)
        if "# secateur: seed=" in text:
            return None  # They have no seeds; that they read the text is all that can be asked.
        return first_difference(ours, theirs)
    out = folder / "out.onnxtxt"
    subprocess.run([binary, path, out, "100"], check=True)
    parser.parse_model(out.read_text())
    subprocess.run([binary, path, out], check=True)
    text = out.read_text()
    original = onnx.load(path, load_external_data=False)
    found = first_difference(plain(original), plain(parser.parse_model(text)))
    lost = text.count("# lost: ")
    return found and f"{found} ({lost} lines say that something was lost)"


def main():
    binary, *paths = sys.argv[1:]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            try:
                found = check(pathlib.Path(binary).resolve(), pathlib.Path(path), pathlib.Path(folder))
            except (parser.ParseError, subprocess.CalledProcessError) as error:
                found = str(error)[:500]
            failed += found is not None
            if found is not None:
                print(f"{path}: {found}")
    print(f"{len(paths)} files, {failed} differ")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
