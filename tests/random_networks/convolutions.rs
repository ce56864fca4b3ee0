//! Blocks whose sums are convolutions: chains, branches that meet again, gates.

use super::Block;
use super::draft::{Draft, Value};
use super::shapes::{To, reduce, reshape};
use super::weights::{vector, weight};

pub const BLOCKS: &[(&str, Block)] = &[
    ("chain", chain),
    ("chain", chain),
    ("residual", residual),
    ("residual", residual),
    ("inverted residual", inverted_residual),
    ("dense concat", dense_concat),
    ("gate", gate),
    ("squeeze excite", squeeze_excite),
    ("squeeze excite, dense", squeeze_excite_dense),
    ("transposed", transposed),
    ("shared weight", shared_weight),
    ("difference", difference),
    ("unet", unet),
    ("dead branch", dead_branch),
    ("second output", second_output),
    ("second input", second_input),
    ("as another rank", as_another_rank),
];

/// Numbers of channels that blocks take.
const WIDTHS: [usize; 7] = [2, 4, 4, 6, 8, 8, 12];

pub fn width(d: &mut Draft) -> usize {
    d.random.pick(&WIDTHS)
}

/// What a convolution is asked for.
#[derive(Clone, Copy)]
pub struct Conv {
    pub filters: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
}

impl Conv {
    pub fn point(filters: usize) -> Self {
        Self { filters, kernel: 1, stride: 1, groups: 1 }
    }
}

fn list(n: usize, value: usize) -> String {
    format!("{:?}", vec![value; n])
}

/// A convolution that keeps the extents (divided by the stride).
pub fn conv(d: &mut Draft, x: &Value, of: Conv) -> Value {
    let n = x.rank() - 2;
    let w = weight(d, &[&[of.filters, x.channels() / of.groups], &vec![of.kernel; n][..]].concat());
    let mut attributes = Vec::new();
    if of.kernel > 1 && of.stride == 1 && d.random.chance(15) {
        attributes.push(format!("dilations = {}, pads = {}", list(n, 2), list(2 * n, of.kernel - 1)));
    } else if of.kernel > 1 && d.random.chance(20) {
        attributes.push("auto_pad = \"SAME_UPPER\"".to_owned());
    } else if of.kernel > 1 {
        attributes.push(format!("pads = {}", list(2 * n, of.kernel / 2)));
    }
    if of.groups > 1 {
        attributes.push(format!("group = {}", of.groups));
    }
    if of.stride > 1 {
        attributes.push(format!("strides = {}", list(n, of.stride)));
    }
    if d.random.chance(30) {
        attributes.push(format!("kernel_shape = {}", list(n, of.kernel)));
    }
    let bias = if d.random.chance(60) { Some(vector(d, of.filters)) } else { None };
    let inputs: Vec<&str> = [&x.name, &w].into_iter().chain(&bias).map(String::as_str).collect();
    let name = d.node("Conv", &attributes.join(", "), &inputs);
    let mut dims = x.dims.clone();
    dims[1] = Some(of.filters);
    dims[2..].iter_mut().for_each(|e| *e = e.map(|e| (e - 1) / of.stride + 1));
    Value { name, dims }
}

/// A convolution of any flavour.
pub fn any_conv(d: &mut Draft, x: &Value, filters: usize, stride: usize) -> Value {
    let kernel = d.random.pick(&[1, 3, 3]);
    let fits: Vec<usize> =
        [1, 1, 1, 2, 4].into_iter().filter(|&g| x.channels().is_multiple_of(g) && filters.is_multiple_of(g)).collect();
    let groups = d.random.pick(&fits);
    conv(d, x, Conv { filters, kernel, stride, groups })
}

pub fn depthwise(d: &mut Draft, x: &Value, multiplier: usize, stride: usize) -> Value {
    let c = x.channels();
    conv(d, x, Conv { filters: c * multiplier, kernel: 3, stride, groups: c })
}

pub fn normalised(d: &mut Draft, x: &Value) -> Value {
    let c = x.channels();
    let parts: Vec<String> = (0..4).map(|_| vector(d, c)).collect();
    let inputs: Vec<&str> = [&x.name].into_iter().chain(&parts).map(String::as_str).collect();
    let name = d.node("BatchNormalization", "", &inputs);
    x.named(name)
}

/// A function of one operand, continuous, as a node or several.
pub fn activation(d: &mut Draft, x: &Value) -> Value {
    const PLAIN: [&str; 14] = [
        "Relu",
        "Relu",
        "Relu",
        "Sigmoid",
        "Tanh",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Softplus",
        "HardSigmoid",
        "Softsign",
        "Abs",
        "Erf",
        "Neg",
    ];
    let spread = |n: usize| [&[n][..], &vec![1; x.rank() - 2]].concat();
    match d.random.below(20) {
        0 => {
            let high = d.real(6.0);
            let name = if d.random.chance(50) {
                d.node("Clip", "", &[&x.name, "", &high])
            } else {
                let low = d.real(0.0);
                d.node("Clip", "", &[&x.name, &low, &high])
            };
            x.named(name)
        }
        1 => {
            let slope = d.seeded("float", &spread(x.channels()));
            let name = d.node("PRelu", "", &[&x.name, &slope]);
            x.named(name)
        }
        2 => {
            let s = d.unary("Sigmoid", "", x);
            let name = d.node("Mul", "", &[&x.name, &s.name]);
            x.named(name)
        }
        3 => {
            // GELU as it is exported.
            let (root, one, half) = (d.real(std::f64::consts::SQRT_2), d.real(1.0), d.real(0.5));
            let scaled = d.node("Div", "", &[&x.name, &root]);
            let erf = d.node("Erf", "", &[&scaled]);
            let above = d.node("Add", "", &[&erf, &one]);
            let whole = d.node("Mul", "", &[&x.name, &above]);
            let name = d.node("Mul", "", &[&whole, &half]);
            x.named(name)
        }
        4 => {
            let (zero, slope) = (d.real(0.0), d.real(0.25));
            let above = d.node("Greater", "", &[&x.name, &zero]);
            let small = d.node("Mul", "", &[&x.name, &slope]);
            let name = d.node("Where", "", &[&above, &x.name, &small]);
            x.named(name)
        }
        5 if d.opset >= 14 => d.unary("HardSwish", "", x),
        6 => {
            // A scale of its own for every channel.
            let (s, b) = (d.seeded("float", &spread(x.channels())), d.seeded("float", &spread(x.channels())));
            let scaled = d.node("Mul", "", &[&x.name, &s]);
            let name = d.node("Add", "", &[&scaled, &b]);
            x.named(name)
        }
        7 => {
            // Applied twice by way of the cast that exporters leave behind.
            let y = d.unary("Cast", "to = 11", x);
            d.unary("Cast", "to = 1", &y)
        }
        8 => d.unary("Dropout", "", x),
        _ => {
            let op = d.random.pick(&PLAIN);
            d.unary(op, "", x)
        }
    }
}

/// A convolution with what mostly follows it.
pub fn layer(d: &mut Draft, x: &Value, filters: usize, stride: usize) -> Value {
    let mut y = any_conv(d, x, filters, stride);
    if d.random.chance(40) {
        y = normalised(d, &y);
    }
    if d.random.chance(75) { activation(d, &y) } else { y }
}

/// A stride that the extents allow.
fn stride(d: &mut Draft, x: &Value) -> usize {
    let room = x.dims[2..].iter().all(|e| e.is_none_or(|e| e >= 4 && e % 2 == 0));
    if room && d.random.chance(20) { 2 } else { 1 }
}

fn chain(d: &mut Draft, x: &Value) -> Option<Value> {
    let (filters, stride) = (width(d), stride(d, x));
    Some(layer(d, x, filters, stride))
}

fn residual(d: &mut Draft, x: &Value) -> Option<Value> {
    let stride = stride(d, x);
    let filters = if stride == 1 && d.random.chance(60) { x.channels() } else { width(d) };
    let inner = width(d);
    let y = layer(d, x, inner, stride);
    let y = layer(d, &y, filters, 1);
    let identity = stride == 1 && filters == x.channels();
    let short = if identity { x.clone() } else { conv(d, x, Conv { stride, ..Conv::point(filters) }) };
    let op = d.random.pick(&["Add", "Add", "Add", "Sum", "Max", "Min", "Mul", "Sub"]);
    let name = d.node(op, "", &[&y.name, &short.name]);
    let sum = y.named(name);
    Some(if d.random.chance(50) { activation(d, &sum) } else { sum })
}

fn inverted_residual(d: &mut Draft, x: &Value) -> Option<Value> {
    let (inner, multiplier) = (width(d), d.random.pick(&[1, 1, 2]));
    let y = conv(d, x, Conv::point(inner));
    let y = activation(d, &y);
    let y = depthwise(d, &y, multiplier, 1);
    let y = if d.random.chance(50) { normalised(d, &y) } else { activation(d, &y) };
    let y = conv(d, &y, Conv::point(x.channels()));
    let name = d.node("Add", "", &[&x.name, &y.name]);
    Some(y.named(name))
}

fn dense_concat(d: &mut Draft, x: &Value) -> Option<Value> {
    let mut parts = vec![x.clone()];
    for _ in 0..1 + d.random.below(2) {
        let last = parts.last().expect("one at least").clone();
        let growth = d.random.pick(&[2, 4, 6]);
        parts.push(layer(d, &last, growth, 1));
    }
    if d.random.chance(30) {
        parts.reverse();
    }
    let axis = if d.random.chance(25) { 1 - x.rank() as i64 } else { 1 };
    let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    let name = d.node("Concat", &format!("axis = {axis}"), &names);
    Some(x.with_channels(name, parts.iter().map(Value::channels).sum()))
}

fn gate(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = width(d);
    let (y, g) = (any_conv(d, x, filters, 1), any_conv(d, x, filters, 1));
    let g = d.unary("Sigmoid", "", &g);
    let name = d.node("Mul", "", &[&y.name, &g.name]);
    Some(y.named(name))
}

/// The mean over all positions, extents of 1 kept.
pub fn pooled(d: &mut Draft, x: &Value) -> Value {
    if d.random.chance(50) {
        let op = d.random.pick(&["GlobalAveragePool", "GlobalMaxPool"]);
        let name = d.node(op, "", &[&x.name]);
        let dims = x.dims[..2].iter().copied().chain(vec![Some(1); x.rank() - 2]).collect();
        return Value { name, dims };
    }
    let axes: Vec<i64> = (2..x.rank() as i64).map(|a| if x.rank() == 4 { a - 4 } else { a }).collect();
    let op = d.random.pick(&["ReduceMean", "ReduceMean", "ReduceMax", "ReduceSum"]);
    reduce(d, op, x, &axes, true)
}

fn squeeze_excite(d: &mut Draft, x: &Value) -> Option<Value> {
    let inner = d.random.pick(&[2, 4]);
    let s = pooled(d, x);
    let s = conv(d, &s, Conv::point(inner));
    let s = activation(d, &s);
    let s = conv(d, &s, Conv::point(x.channels()));
    let s = d.unary("Sigmoid", "", &s);
    let name = d.node("Mul", "", &[&x.name, &s.name]);
    Some(x.named(name))
}

fn squeeze_excite_dense(d: &mut Draft, x: &Value) -> Option<Value> {
    let (inner, c) = (d.random.pick(&[2, 4]), x.channels());
    let s = pooled(d, x);
    let flat = d.node("Flatten", "", &[&s.name]);
    let (w, b) = (d.seeded("float", &[inner, c]), vector(d, inner));
    let hidden = d.node("Gemm", "transB = 1", &[&flat, &w, &b]);
    let hidden = d.node("Relu", "", &[&hidden]);
    let (w, b) = (d.seeded("float", &[inner, c]), vector(d, c));
    let out = d.node("Gemm", "", &[&hidden, &w, &b]);
    let out = d.node("Sigmoid", "", &[&out]);
    let out = Value { name: out, dims: s.dims[..2].to_vec() };
    let back = if d.random.chance(50) {
        let axes = d.ints(&(2..x.rank() as i64).collect::<Vec<_>>());
        let name = d.node("Unsqueeze", "", &[&out.name, &axes]);
        s.named(name)
    } else {
        let to: Vec<To> = (0..x.rank()).map(|a| if a < 2 { To::Same(&out, a) } else { To::Number(1) }).collect();
        reshape(d, &out, &to)
    };
    let name = d.node("Mul", "", &[&x.name, &back.name]);
    Some(x.named(name))
}

fn transposed(d: &mut Draft, x: &Value) -> Option<Value> {
    let n = x.rank() - 2;
    // Extents double; do not let them run away.
    if x.positions().is_some_and(|p| p > 128) {
        return None;
    }
    let per_group = d.random.pick(&[2, 3, 4]);
    let fits: Vec<usize> = [1, 1, 2].into_iter().filter(|&g| x.channels().is_multiple_of(g)).collect();
    let groups = d.random.pick(&fits);
    let (kernel, pad) = d.random.pick(&[(2, 0), (4, 1)]);
    let w = weight(d, &[&[x.channels(), per_group], &vec![kernel; n][..]].concat());
    let bias = if d.random.chance(50) { Some(vector(d, per_group * groups)) } else { None };
    let mut attributes = format!("strides = {}, pads = {}", list(n, 2), list(2 * n, pad));
    if groups > 1 {
        attributes += &format!(", group = {groups}");
    }
    let inputs: Vec<&str> = [&x.name, &w].into_iter().chain(&bias).map(String::as_str).collect();
    let name = d.node("ConvTranspose", &attributes, &inputs);
    let mut dims = x.dims.clone();
    dims[1] = Some(per_group * groups);
    dims[2..].iter_mut().for_each(|e| *e = e.map(|e| 2 * e));
    Some(Value { name, dims })
}

fn shared_weight(d: &mut Draft, x: &Value) -> Option<Value> {
    let (n, c) = (x.rank() - 2, x.channels());
    let w = weight(d, &[&[c, c], &vec![1; n][..]].concat());
    let b = vector(d, c);
    let mut y = x.clone();
    for _ in 0..2 {
        let name = d.node("Conv", "", &[&y.name, &w, &b]);
        y = y.named(name);
        y = activation(d, &y);
    }
    Some(y)
}

/// Two branches of one input, subtracted or averaged.
fn difference(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = width(d);
    let (a, b) = (layer(d, x, filters, 1), layer(d, x, filters, 1));
    let op = d.random.pick(&["Sub", "Mean", "Max"]);
    let name = d.node(op, "", &[&a.name, &b.name]);
    Some(a.named(name))
}

/// Down, up to the extents of the way down, and both together.
fn unet(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.dims[2..].iter().any(|e| e.is_some_and(|e| e < 4 || e % 2 != 0)) {
        return None;
    }
    let (filters, up) = (width(d), d.random.pick(&[2, 4]));
    let low = layer(d, x, filters, 2);
    let n = x.rank() - 2;
    let w = weight(d, &[&[filters, up], &vec![2; n][..]].concat());
    let name = d.node("ConvTranspose", &format!("strides = {}", list(n, 2)), &[&low.name, &w]);
    let high = x.with_channels(name, up);
    let name = d.node("Concat", "axis = 1", &[&x.name, &high.name]);
    Some(x.with_channels(name, x.channels() + up))
}

fn dead_branch(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = width(d);
    layer(d, x, filters, 1);
    chain(d, x)
}

fn second_output(d: &mut Draft, x: &Value) -> Option<Value> {
    let y = if d.random.chance(50) { x.clone() } else { any_conv(d, x, 3, 1) };
    d.output(&y);
    chain(d, x)
}

/// Another input, brought to the same channels.
fn second_input(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.dims[2..].iter().any(Option::is_none) {
        return None;
    }
    let mut dims = x.dims.clone();
    dims[1] = Some(3);
    let other = d.input(&dims, &["N", "", "", "", ""]);
    let filters = if d.random.chance(50) { x.channels() } else { width(d) };
    let y = layer(d, &other, filters, 1);
    if filters == x.channels() {
        let name = d.node("Add", "", &[&x.name, &y.name]);
        return Some(x.named(name));
    }
    let name = d.node("Concat", "axis = 1", &[&x.name, &y.name]);
    Some(x.with_channels(name, x.channels() + filters))
}

/// One axis more, a layer, and one axis less.
fn as_another_rank(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.rank() > 4 {
        return None;
    }
    let axes = d.ints(&[2]);
    let name = d.node("Unsqueeze", "", &[&x.name, &axes]);
    let mut dims = x.dims.clone();
    dims.insert(2, Some(1));
    let filters = width(d);
    let y = layer(d, &Value { name, dims }, filters, 1);
    let axes = d.ints(&[2]);
    let name = d.node("Squeeze", "", &[&y.name, &axes]);
    let mut dims = y.dims.clone();
    dims.remove(2);
    Some(Value { name, dims })
}
