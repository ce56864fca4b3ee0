//! Small models of many operators, and what is done to them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use secateur::onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto, tensor_shape_proto, type_proto};

pub const SEEDS: [&str; 5] = [
    r#"
# secateur: seed=1
<ir_version: 8, opset_import: ["" : 17]>
residual (float[N, 2, 8, 8] x) => (float[N, 3] y)
<float[6, 2, 3, 3] w1, float[6] b1, float[6] s, float[6] t, float[6] m, float[6] v, float[6, 6, 3, 3] w2,
 float[6, 1, 3, 3] dw, float[8, 12, 1, 1] w3, float[3, 8] w4, float[3] b4>
{
    [conv1] a = Conv <pads = [1, 1, 1, 1], strides = [1, 1], group = 1> (x, w1, b1)
    [conv2] b = Conv <pads = [1, 1, 1, 1], dilations = [1, 1]> (a, w2)
    [add] c = Add (a, b)
    [depth] d = Conv <group = 6, pads = [1, 1, 1, 1]> (c, dw)
    [cat] e = Concat <axis = 1> (c, d)
    [conv3] f = Conv <kernel_shape = [1, 1]> (e, w3)
    [pool] g = GlobalAveragePool (f)
    [flat] h = Flatten <axis = 1> (g)
    [fc] y = Gemm <transB = 1, alpha = 1.0, beta = 1.0> (h, w4, b4)
}
"#,
    r#"
# secateur: seed=2
<ir_version: 8, opset_import: ["" : 17]>
layout (float[2, 4, 6, 6] x) => (float[2, 4, 6, 6] y)
<float[8, 4, 1, 1] w1, float[8, 4, 3, 3] w2, float[4, 8, 2, 2] w3, int64[5] shuffle = {0, 2, 4, 6, 6}, int64[4] back = {0, 8, 6, 6},
 int64[2] halves = {4, 4}, int64[1] starts = {1}, int64[1] ends = {7}, int64[1] axes = {1}, int64[1] steps = {1},
 int64[8] pads = {0, 1, 0, 0, 0, 1, 0, 0}, int64[2] picks = {3, 1}, int64[4] repeats = {1, 2, 1, 1}>
{
    [conv1] a = Conv (x, w1)
    [split5] b = Reshape (a, shuffle)
    [swap] c = Transpose <perm = [0, 2, 1, 3, 4]> (b)
    [join] d = Reshape (c, back)
    [split] e, f = Split <axis = 1> (d, halves)
    [slice] g = Slice (d, starts, ends, axes, steps)
    [pad] h = Pad <mode = "constant"> (g, pads)
    [conv2] i = Conv <group = 2, pads = [1, 1, 1, 1]> (h, w2)
    [pick] j = Gather <axis = 1> (i, picks)
    [tile] k = Tile (j, repeats)
    [both] l = Add (e, k)
    [deep] m = DepthToSpace <blocksize = 2> (l)
    [wide] n = SpaceToDepth <blocksize = 2> (m)
    [sum] o = Add (n, f)
    [up] p = ConvTranspose <strides = [2, 2], pads = [0, 0, 0, 0], output_padding = [0, 0]> (o, w3)
    [down] q = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 0> (p)
    [soft] r = Softmax <axis = 1> (q)
    [short] s, t = Split <axis = 1> (r, halves)
    y = Identity (s)
}
"#,
    r#"
# secateur: seed=3
<ir_version: 8, opset_import: ["" : 17]>
shapes (float[N, 3, H, W] x) => (float[N, 5] y)
<float[6, 3, 3, 3] w1, float[6] b1, int64 zero = {0}, int64[1] front = {0}, int64[2] outer = {0, 2}, int64[1] rest = {-1}, float[6, 6] w2,
 float[6, 5] w3, float[5] b3, int64[2] spatial = {2, 3}, float half = {0.5}, float[4] scales = {1.0, 1.0, 2.0, 2.0}, int64[3] wide = {1, 6, 1}>
{
    [conv1] a = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w1, b1)
    [act] b = Mul (a, half)
    [up] r = Resize <mode = "nearest"> (b, , scales)
    [mean] c = ReduceMean <axes = [2, 3], keepdims = 0> (r)
    [shape] s = Shape (c)
    [n] n = Gather <axis = 0> (s, zero)
    [n1] nv = Unsqueeze (n, front)
    [target] t = Concat <axis = 0> (nv, rest)
    [again] d = Reshape (c, t)
    [cube] cube = ConstantOfShape (wide)
    [cast] cast = Cast <to = 1> (cube)
    [flat] flat = Squeeze (cast, outer)
    [plus] f = Add (d, flat)
    [mm] g = MatMul (f, w2)
    [tall] y = Gemm <alpha = 1.0> (g, w3, b3)
}
"#,
    r#"
# secateur: seed=4
<ir_version: 8, opset_import: ["" : 17]>
attention (float[2, 7, 8] x) => (float[2, 7, 8] y)
<float[8, 12] wq, float[8, 12] wk, float[8, 12] wv, float[12, 8] wo, float[8] scale, float[8] shift,
 int64[4] heads = {0, 0, 3, 4}, int64[3] whole = {0, 0, 12}, float root = {0.5}>
{
    [norm] n = LayerNormalization <axis = -1> (x, scale, shift)
    [q] q = MatMul (n, wq)
    [k] k = MatMul (n, wk)
    [v] v = MatMul (n, wv)
    [q4] qh = Reshape (q, heads)
    [k4] kh = Reshape (k, heads)
    [v4] vh = Reshape (v, heads)
    [qt] qt = Transpose <perm = [0, 2, 1, 3]> (qh)
    [kt] kt = Transpose <perm = [0, 2, 3, 1]> (kh)
    [vt] vt = Transpose <perm = [0, 2, 1, 3]> (vh)
    [scores] s = MatMul (qt, kt)
    [scaled] ss = Mul (s, root)
    [soft] p = Softmax <axis = -1> (ss)
    [mix] m = MatMul (p, vt)
    [mt] mt = Transpose <perm = [0, 2, 1, 3]> (m)
    [flat] f = Reshape (mt, whole)
    [out] o = MatMul (f, wo)
    [res] y = Add (o, x)
}
"#,
    r#"
# secateur: seed=5
<ir_version: 8, opset_import: ["" : 17]>
batch (float[1, 3, 9] x) => (float[1, 4, 7] y)
<float[4, 3, 3] w1, float[4] s1, float[4] t1, float[4] m1, float[4, 4, 1] w2, float[4] slope, float[2, 2] scratch, int64[2] turned = {4, 1}>
{
    [conv1] a = Conv (x, w1)
    [bn] b = InstanceNormalization <epsilon = 0.001> (a, s1, t1)
    [prelu0] p = Reshape (slope, turned)
    [prelu] c = PRelu (b, p)
    [conv2] d = Conv (c, w2)
    [ein] e = Einsum <equation = "nct,ndt->ncd"> (d, c)
    [gate] g = Sigmoid (a)
    [se] h = Mul (d, g)
    [erf] i = Erf (h)
    y = Clip (i)
}
"#,
];

pub struct Random(pub ChaCha8Rng);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }

    pub fn number(&mut self) -> i64 {
        const ODD: [i64; 24] = [
            0,
            1,
            -1,
            2,
            3,
            -2,
            4,
            5,
            7,
            8,
            16,
            63,
            64,
            255,
            1000,
            65536,
            1 << 20,
            1 << 31,
            (1 << 32) + 1,
            1 << 40,
            1 << 62,
            i64::MAX,
            i64::MIN,
            -7,
        ];
        match self.below(6) {
            0 => self.0.next_u64() as i64,
            1 | 2 => self.below(12) as i64 - 2,
            _ => ODD[self.below(ODD.len())],
        }
    }
}

pub const OPERATORS: [&str; 42] = [
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "Einsum",
    "Reshape",
    "Transpose",
    "Concat",
    "Split",
    "Slice",
    "Gather",
    "Pad",
    "Tile",
    "Expand",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "DepthToSpace",
    "SpaceToDepth",
    "Resize",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Softmax",
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "Add",
    "Mul",
    "Div",
    "Mod",
    "Where",
    "Shape",
    "Size",
    "ConstantOfShape",
    "Range",
    "Cast",
    "LSTM",
    "QuantizeLinear",
    "DequantizeLinear",
];
pub const ATTRIBUTES: [&str; 16] = [
    "group",
    "pads",
    "perm",
    "axis",
    "strides",
    "dilations",
    "kernel_shape",
    "axes",
    "blocksize",
    "keepdims",
    "output_padding",
    "output_shape",
    "transA",
    "to",
    "start",
    "allowzero",
];

/// One structured mutation of a decoded model.
pub fn mutate(model: &mut ModelProto, random: &mut Random) {
    let Some(graph) = model.graph.as_mut() else { return };
    let nodes = graph.node.len();
    let names: Vec<String> = graph
        .node
        .iter()
        .flat_map(|n| n.output.clone())
        .chain(graph.initializer.iter().map(|t| t.name().to_owned()))
        .collect();
    let at = random.below(nodes);
    match random.below(15) {
        0..=2 => {
            if let Some(node) = graph.node.get_mut(at) {
                change_attribute(node, random);
            }
        }
        3 => {
            if let Some(node) = graph.node.get_mut(at) {
                let ints = (0..random.below(6)).map(|_| random.number()).collect();
                let name = ATTRIBUTES[random.below(ATTRIBUTES.len())].to_owned();
                node.attribute.retain(|a| a.name() != name);
                let (i, list) = if random.below(2) == 0 { (Some(random.number()), vec![]) } else { (None, ints) };
                let r#type = Some(if i.is_some() { 2 } else { 7 });
                node.attribute.push(AttributeProto { name: Some(name), i, ints: list, r#type, ..Default::default() });
            }
        }
        4 => {
            // Another shape for a constant, often with the same number of elements.
            let i = random.below(graph.initializer.len());
            if let Some(t) = graph.initializer.get_mut(i) {
                match random.below(4) {
                    0 => t.dims.reverse(),
                    1 => t.dims.push(1),
                    2 => drop(t.dims.pop()),
                    _ => {
                        let d = random.below(t.dims.len());
                        let number = random.number();
                        t.dims.get_mut(d).into_iter().for_each(|d| *d = number);
                    }
                }
            }
        }
        5 => {
            let shapes: Vec<usize> =
                (0..graph.initializer.len()).filter(|&i| graph.initializer[i].data_type == Some(7)).collect();
            if let Some(&i) = random.pick(&shapes) {
                change_integers(&mut graph.initializer[i], random);
            }
        }
        6 => {
            if let Some(node) = graph.node.get_mut(at)
                && node.input.len() > 1
            {
                let (i, j) = (random.below(node.input.len()), random.below(node.input.len()));
                node.input.swap(i, j);
            }
        }
        7 => {
            if let (Some(node), Some(name)) = (graph.node.get_mut(at), random.pick(&names)) {
                let i = random.below(node.input.len() + 1);
                match node.input.get_mut(i) {
                    Some(input) => *input = name.clone(),
                    None => node.input.push(name.clone()),
                }
            }
        }
        8 => {
            let i = random.below(graph.initializer.len());
            if i < graph.initializer.len() {
                graph.initializer.remove(i);
            }
        }
        9 => {
            if let (Some(node), Some(name)) = (graph.node.get_mut(at), random.pick(&names)) {
                node.output.push(name.clone());
            }
        }
        10 | 11 => {
            if let Some(node) = graph.node.get_mut(at) {
                node.op_type = Some(OPERATORS[random.below(OPERATORS.len())].to_owned());
            }
        }
        12 => (1..nodes).rev().for_each(|i| graph.node.swap(i, random.below(i + 1))),
        13 => {
            let i = random.below(graph.input.len());
            let Some(port) = graph.input.get_mut(i) else { return };
            let Some(type_proto::Value::TensorType(t)) = port.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
                return;
            };
            let Some(shape) = t.shape.as_mut() else { return };
            let d = random.below(shape.dim.len());
            let value = tensor_shape_proto::dimension::Value::DimValue(random.number());
            shape.dim.get_mut(d).into_iter().for_each(|d| d.value = Some(value.clone()));
        }
        _ => {
            if nodes > 0 {
                match random.below(3) {
                    0 => drop(graph.node.remove(at)),
                    1 => graph.node[at].input.truncate(1),
                    _ => model.opset_import.iter_mut().for_each(|o| o.version = Some(random.below(30) as i64)),
                }
            }
        }
    }
}

pub fn change_attribute(node: &mut NodeProto, random: &mut Random) {
    let i = random.below(node.attribute.len());
    let Some(a) = node.attribute.get_mut(i) else { return };
    if let Some(i) = a.i.as_mut() {
        *i = random.number();
    }
    if let Some(f) = a.f.as_mut() {
        *f = f32::from_bits(random.0.next_u32());
    }
    match random.below(3) {
        0 => drop(a.ints.pop()),
        1 => a.ints.push(random.number()),
        _ => {
            let i = random.below(a.ints.len());
            let number = random.number();
            a.ints.get_mut(i).into_iter().for_each(|x| *x = number);
        }
    }
}

/// Shapes, bounds, axes: integers of a constant, wherever they are stored.
pub fn change_integers(tensor: &mut TensorProto, random: &mut Random) {
    let number = random.number();
    let i = random.below(tensor.int64_data.len());
    tensor.int64_data.get_mut(i).into_iter().for_each(|x| *x = number);
    if let Some(raw) = &tensor.raw_data
        && raw.len() >= 8
    {
        let mut bytes = raw.to_vec();
        let at = random.below(bytes.len() / 8) * 8;
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        tensor.raw_data = Some(bytes.into());
    }
}

/// The bytes of a damaged model.
pub fn damaged(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let seed = random.below(seeds.len());
    let mut bytes = seeds[seed].clone();
    if random.below(10) < 7 {
        let mut model = secateur::onnx::read_bytes(bytes.into(), None).expect("a seed is a model");
        (0..1 + random.below(3)).for_each(|_| mutate(&mut model, random));
        let mut out = Vec::new();
        secateur::onnx::write_to(&model, &mut out).expect("memory takes anything");
        return out;
    }
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            let length = random.below(64).min(bytes.len() - from);
            let piece = bytes[from..from + length].to_vec();
            bytes.splice(to..to, piece);
        }
        _ => {
            for _ in 0..1 + random.below(4) {
                // Structure lies at both ends, weights between them.
                let reach = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(1500) };
                let at = if random.below(2) == 0 { random.below(reach) } else { bytes.len() - 1 - random.below(reach) };
                bytes[at] =
                    if random.below(2) == 0 { bytes[at] ^ 1 << random.below(8) } else { random.0.next_u32() as u8 };
            }
        }
    }
    bytes
}
