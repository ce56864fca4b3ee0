//! Blocks with channels last: dense layers, attention, normalisations over channels, recurrent cells.

use super::Block;
use super::convolutions::{Conv, activation, conv, width};
use super::draft::{Draft, Value};
use super::shapes::{To, reduce, reshape};
use super::weights::{vector, weight};

pub const BLOCKS: &[(&str, Block)] = &[
    ("channels last", channels_last),
    ("mlp", mlp),
    ("attention", attention),
    ("attention", attention),
    ("layer norm", layer_norm),
    ("layer norm, written out", layer_norm_written),
    ("instance norm", instance_norm),
    ("group norm, written out", group_norm_written),
    ("response norm", response_norm),
    ("softmax", softmax),
    ("unit length", unit_length),
    ("recurrent", recurrent),
    ("einsum", einsum),
    ("products of positions", products_of_positions),
];

pub fn last(d: &mut Draft, x: &Value) -> Value {
    let perm: Vec<usize> = std::iter::once(0).chain(2..x.rank()).chain([1]).collect();
    d.transpose(x, &perm)
}

pub fn first(d: &mut Draft, x: &Value) -> Value {
    let rank = x.rank();
    let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    d.transpose(x, &perm)
}

/// A dense layer over the last axis.
fn dense(d: &mut Draft, x: &Value, to: usize) -> Value {
    let from = x.dims[x.rank() - 1].expect("the width is known");
    let w = weight(d, &[from, to]);
    let mut name = d.node("MatMul", "", &[&x.name, &w]);
    if d.random.chance(60) {
        let b = vector(d, to);
        name = d.node("Add", "", &[&name, &b]);
    }
    let mut dims = x.dims.clone();
    *dims.last_mut().expect("an axis") = Some(to);
    Value { name, dims }
}

fn channels_last(d: &mut Draft, x: &Value) -> Option<Value> {
    let (filters, y) = (width(d), last(d, x));
    let y = dense(d, &y, filters);
    let op = d.random.pick(&["Relu", "Sigmoid", "Tanh"]);
    let y = d.unary(op, "", &y);
    Some(first(d, &y))
}

pub fn mlp(d: &mut Draft, x: &Value) -> Option<Value> {
    let inner = width(d);
    let y = last(d, x);
    let hidden = dense(d, &y, inner);
    let hidden = d.unary("Relu", "", &hidden);
    let out = dense(d, &hidden, x.channels());
    let name = d.node("Add", "", &[&y.name, &out.name]);
    let out = out.named(name);
    Some(first(d, &out))
}

/// All positions in a row, channels last.
fn tokens(d: &mut Draft, x: &Value) -> Value {
    let flat = match x.rank() {
        3 => x.clone(),
        _ => reshape(d, x, &[To::Same(x, 0), To::Same(x, 1), To::Rest(x.positions())]),
    };
    d.transpose(&flat, &[0, 2, 1])
}

/// Back to the extents of `like`.
fn map(d: &mut Draft, tokens: &Value, like: &Value) -> Value {
    let turned = d.transpose(tokens, &[0, 2, 1]);
    let space = (2..like.rank()).map(|a| To::Same(like, a));
    let to: Vec<To> = [To::Same(&turned, 0), To::Same(&turned, 1)].into_iter().chain(space).collect();
    reshape(d, &turned, &to)
}

/// Heads apart: `[n, t, h d]` to `[n, h, t, d]`, or transposed for the keys.
fn heads(d: &mut Draft, x: &Value, heads: usize, keys: bool) -> Value {
    let width = x.dims[2].expect("the width is known");
    let to = [To::Same(x, 0), To::Same(x, 1), To::Number(heads), To::Number(width / heads)];
    let apart = reshape(d, x, &to);
    d.transpose(&apart, if keys { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] })
}

fn attention(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.positions().is_some_and(|p| p > 144) {
        return None;
    }
    let count = d.random.pick(&[1, 2, 2, 3]);
    let inner = count * d.random.pick(&[2, 3, 4]);
    let row = tokens(d, x);
    let (q, k, v) = if d.random.chance(30) {
        // One product for all three, taken apart afterwards.
        let all = dense(d, &row, 3 * inner);
        let split = d.ints(&[inner as i64; 3]);
        let names = d.node_of("Split", "axis = -1", &[&all.name, &split], 3);
        let part = |name: &String| Value { name: name.clone(), dims: vec![all.dims[0], all.dims[1], Some(inner)] };
        (part(&names[0]), part(&names[1]), part(&names[2]))
    } else {
        (dense(d, &row, inner), dense(d, &row, inner), dense(d, &row, inner))
    };
    let (q, k, v) = (heads(d, &q, count, false), heads(d, &k, count, true), heads(d, &v, count, false));
    let scores = d.node("MatMul", "", &[&q.name, &k.name]);
    let scale = d.real(0.5);
    let scaled = d.node("Mul", "", &[&scores, &scale]);
    let soft = d.node("Softmax", "axis = -1", &[&scaled]);
    let name = d.node("MatMul", "", &[&soft, &v.name]);
    let mixed = v.named(name);
    let together = d.transpose(&mixed, &[0, 2, 1, 3]);
    let rows = reshape(d, &together, &[To::Same(&row, 0), To::Same(&row, 1), To::Rest(Some(inner))]);
    let rows = Value { dims: vec![row.dims[0], row.dims[1], Some(inner)], ..rows };
    let out = dense(d, &rows, x.channels());
    let out = if d.random.chance(60) {
        let name = d.node("Add", "", &[&row.name, &out.name]);
        out.named(name)
    } else {
        out
    };
    Some(map(d, &out, x))
}

pub fn layer_norm(d: &mut Draft, x: &Value) -> Option<Value> {
    if d.opset < 17 {
        return None;
    }
    let (y, s, b) = (last(d, x), vector(d, x.channels()), vector(d, x.channels()));
    let name = d.node("LayerNormalization", "axis = -1", &[&y.name, &s, &b]);
    let y = y.named(name);
    Some(first(d, &y))
}

pub fn layer_norm_written(d: &mut Draft, x: &Value) -> Option<Value> {
    let y = last(d, x);
    let mean = reduce(d, "ReduceMean", &y, &[-1], true);
    let centred = d.node("Sub", "", &[&y.name, &mean.name]);
    let two = d.real(2.0);
    let name = d.node("Pow", "", &[&centred, &two]);
    let squared = y.named(name);
    let variance = reduce(d, "ReduceMean", &squared, &[-1], true);
    let epsilon = d.real(0.01);
    let above = d.node("Add", "", &[&variance.name, &epsilon]);
    let root = d.node("Sqrt", "", &[&above]);
    let name = d.node("Div", "", &[&centred, &root]);
    let y = y.named(name);
    Some(first(d, &y))
}

fn instance_norm(d: &mut Draft, x: &Value) -> Option<Value> {
    let (s, b) = (vector(d, x.channels()), vector(d, x.channels()));
    let name = d.node("InstanceNormalization", "epsilon = 0.01", &[&x.name, &s, &b]);
    Some(x.named(name))
}

/// As exporters write it: groups side by side as the channels of an instance normalisation.
pub fn group_norm_written(d: &mut Draft, x: &Value) -> Option<Value> {
    if !x.channels().is_multiple_of(2) {
        return None;
    }
    let (ones, zeros) = (d.stated("float[2]", "1.0, 1.0"), d.stated("float[2]", "0.0, 0.0"));
    let apart = reshape(d, x, &[To::Same(x, 0), To::Number(2), To::Rest(None)]);
    let name = d.node("InstanceNormalization", "epsilon = 0.01", &[&apart.name, &ones, &zeros]);
    let apart = apart.named(name);
    let to: Vec<To> = (0..x.rank()).map(|a| To::Same(x, a)).collect();
    let y = reshape(d, &apart, &to);
    Some(activation(d, &y))
}

fn response_norm(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.rank() != 4 {
        return None;
    }
    let name = d.node("LRN", "size = 3", &[&x.name]);
    Some(x.named(name))
}

fn softmax(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = width(d);
    let y = conv(d, x, Conv::point(filters));
    Some(d.unary("Softmax", "axis = 1", &y))
}

/// Every position's channels divided by their length.
pub fn unit_length(d: &mut Draft, x: &Value) -> Option<Value> {
    let norm = reduce(d, "ReduceL2", x, &[1], true);
    let epsilon = d.real(0.1);
    let above = d.node("Add", "", &[&norm.name, &epsilon]);
    let name = d.node("Div", "", &[&x.name, &above]);
    Some(x.named(name))
}

fn recurrent(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.rank() != 3 {
        return None;
    }
    let steps = d.transpose(x, &[2, 0, 1]);
    let (c, hidden) = (x.channels(), 3);
    let (op, gates) = d.random.pick(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
    let (w, r) = (d.seeded("float", &[1, gates * hidden, c]), d.seeded("float", &[1, gates * hidden, hidden]));
    let whole = d.fresh();
    if d.random.chance(50) {
        let b = d.seeded("float", &[1, 2 * gates * hidden]);
        d.node_into(op, "hidden_size = 3", &[&steps.name, &w, &r, &b], std::slice::from_ref(&whole));
    } else {
        d.node_into(op, "hidden_size = 3", &[&steps.name, &w, &r], std::slice::from_ref(&whole));
    }
    let axes = d.ints(&[1]);
    let name = d.node("Squeeze", "", &[&whole, &axes]);
    let rows = Value { name, dims: vec![steps.dims[0], steps.dims[1], Some(hidden)] };
    Some(d.transpose(&rows, &[1, 2, 0]))
}

fn einsum(d: &mut Draft, x: &Value) -> Option<Value> {
    let space = &"xyz"[..x.rank() - 2];
    let filters = width(d);
    let w = weight(d, &[filters, x.channels()]);
    let name = d.node("Einsum", &format!("equation = \"nc{space},oc->no{space}\""), &[&x.name, &w]);
    Some(x.with_channels(name, filters))
}

/// Every position against every other, by what two layers make of them, without a softmax.
fn products_of_positions(d: &mut Draft, x: &Value) -> Option<Value> {
    let positions = x.positions().filter(|&p| p <= 64)?;
    let inner = width(d);
    let (a, b) = (conv(d, x, Conv::point(inner)), conv(d, x, Conv::point(inner)));
    let (a, b) = if d.random.chance(50) { (activation(d, &a), b) } else { (a, activation(d, &b)) };
    let rows = reshape(d, &a, &[To::Same(x, 0), To::Number(inner), To::Rest(Some(positions))]);
    let rows = d.transpose(&rows, &[0, 2, 1]);
    let columns = reshape(d, &b, &[To::Same(x, 0), To::Number(inner), To::Rest(Some(positions))]);
    let scale = d.real(0.125);
    let product = d.node("MatMul", "", &[&rows.name, &columns.name]);
    let name = d.node("Mul", "", &[&product, &scale]);
    // Positions are the channels of what follows.
    let space = (2..x.rank()).map(|a| To::Same(x, a));
    let to: Vec<To> = [To::Same(x, 0), To::Number(positions)].into_iter().chain(space).collect();
    let grid = Value { name, dims: vec![x.dims[0], Some(positions), Some(positions)] };
    let y = reshape(d, &grid, &to);
    Some(conv(d, &y, Conv::point(4)))
}
