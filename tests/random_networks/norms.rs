//! Blocks that take statistics over channels, for networks whose norms do not pin them.

use super::Block;
use super::convolutions::{activation, any_conv, width};
use super::draft::{Draft, Value};
use super::shapes::{To, reduce, reshape};
use super::tokens::{first, group_norm_written, last, layer_norm, layer_norm_written, unit_length};
use super::weights::vector;

pub const BLOCKS: &[(&str, Block)] = &[
    ("layer norm", layer_norm),
    ("layer norm, written out", layer_norm_written),
    ("layer norm over all", layer_norm_over_all),
    ("group norm", group_norm),
    ("group norm, as instances", group_norm_written),
    ("group norm, of five axes", group_norm_of_five_axes),
    ("response norm, global", response_norm_global),
    ("unit length", unit_length),
    ("unit length, operator", unit_length_operator),
    ("excitation by a mean", excitation_by_a_mean),
    ("a layer", a_layer),
];

/// A vector that runs along the channels.
fn along_channels(d: &mut Draft, x: &Value) -> String {
    let v = vector(d, x.channels());
    let axes: Vec<i64> = (1..=(x.rank() as i64 - 2)).collect();
    let axes = d.ints(&axes);
    d.node("Unsqueeze", "", &[&v, &axes])
}

fn scaled(d: &mut Draft, x: &Value) -> Value {
    let s = along_channels(d, x);
    let name = d.node("Mul", "", &[&x.name, &s]);
    x.named(name)
}

fn a_layer(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = 2 * width(d);
    let y = any_conv(d, x, filters, 1);
    Some(activation(d, &y))
}

/// Mean and variance over channels and positions.
fn layer_norm_over_all(d: &mut Draft, x: &Value) -> Option<Value> {
    if d.opset < 17 {
        return None;
    }
    let (s, b) = (along_channels(d, x), along_channels(d, x));
    // Scale and shift by the channels are those of a group norm of one group; the operator's own is a single number.
    let one = d.stated("float[1]", "1.0");
    let name = d.node("LayerNormalization", "axis = 1, epsilon = 0.01", &[&x.name, &one]);
    let name = d.node("Mul", "", &[&name, &s]);
    let name = d.node("Add", "", &[&name, &b]);
    Some(x.named(name))
}

/// A group's channels, two groups or three.
fn groups(d: &mut Draft, x: &Value) -> Option<usize> {
    let fits: Vec<usize> = [1, 2, 3].into_iter().filter(|&g| x.channels().is_multiple_of(g)).collect();
    (!fits.is_empty()).then(|| d.random.pick(&fits))
}

fn group_norm(d: &mut Draft, x: &Value) -> Option<Value> {
    let groups = groups(d, x).filter(|_| d.opset >= 18)?;
    let (s, b) = (d.seeded("float", &[groups]), d.seeded("float", &[groups]));
    let attributes = format!("num_groups = {groups}, epsilon = 0.01");
    let name = d.node("GroupNormalization", &attributes, &[&x.name, &s, &b]);
    let y = x.named(name);
    Some(scaled(d, &y))
}

fn group_norm_of_five_axes(d: &mut Draft, x: &Value) -> Option<Value> {
    let groups = groups(d, x)?;
    let space = || (2..x.rank()).map(|a| To::Same(x, a));
    let of_groups = [To::Same(x, 0), To::Number(groups), To::Number(x.channels() / groups)];
    let to: Vec<To> = of_groups.into_iter().chain(space()).collect();
    let apart = reshape(d, x, &to);
    let axes: Vec<i64> = (2..apart.rank() as i64).collect();
    let mean = reduce(d, "ReduceMean", &apart, &axes, true);
    let centred = d.node("Sub", "", &[&apart.name, &mean.name]);
    let squared = apart.named(d.node("Mul", "", &[&centred, &centred]));
    let variance = reduce(d, "ReduceMean", &squared, &axes, true);
    let epsilon = d.real(0.01);
    let above = d.node("Add", "", &[&variance.name, &epsilon]);
    let root = d.node("Sqrt", "", &[&above]);
    let normal = apart.named(d.node("Div", "", &[&centred, &root]));
    let to: Vec<To> = [To::Same(x, 0), To::Number(x.channels())].into_iter().chain(space()).collect();
    let y = reshape(d, &normal, &to);
    Some(scaled(d, &y))
}

fn response_norm_global(d: &mut Draft, x: &Value) -> Option<Value> {
    let space: Vec<i64> = (2..x.rank() as i64).collect();
    let length = reduce(d, "ReduceL2", x, &space, true);
    let op = d.random.pick(&["ReduceMean", "ReduceSum", "ReduceL1"]);
    let mean = reduce(d, op, &length, &[1], true);
    let epsilon = d.real(0.01);
    let above = d.node("Add", "", &[&mean.name, &epsilon]);
    let share = d.node("Div", "", &[&length.name, &above]);
    let y = x.named(d.node("Mul", "", &[&x.name, &share]));
    let y = scaled(d, &y);
    let name = d.node("Add", "", &[&y.name, &x.name]);
    Some(x.named(name))
}

fn unit_length_operator(d: &mut Draft, x: &Value) -> Option<Value> {
    let p = d.random.pick(&[1, 2]);
    // A length of zero has no direction, and near it rounding has.
    let x = &d.unary("Sigmoid", "", x);
    if d.random.chance(50) {
        let name = d.node("LpNormalization", &format!("axis = 1, p = {p}"), &[&x.name]);
        return Some(x.named(name));
    }
    let y = last(d, x);
    let name = d.node("LpNormalization", &format!("axis = -1, p = {p}"), &[&y.name]);
    let y = y.named(name);
    Some(first(d, &y))
}

/// Every position weighed by what its channels come to.
fn excitation_by_a_mean(d: &mut Draft, x: &Value) -> Option<Value> {
    let op = d.random.pick(&["ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1"]);
    let mean = reduce(d, op, x, &[1], true);
    let weight = d.unary("Sigmoid", "", &mean);
    let name = d.node("Mul", "", &[&x.name, &weight.name]);
    Some(x.named(name))
}
