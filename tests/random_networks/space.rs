//! Blocks that change positions and leave channels as they are, and the heads in which networks end.

use super::Block;
use super::convolutions::{Conv, activation, conv, layer, pooled, width};
use super::draft::{Draft, Value};
use super::shapes::{To, extent, reduce, reshape};
use super::weights::{vector, weight};

pub const BLOCKS: &[(&str, Block)] = &[
    ("pool", pool),
    ("resize", resize),
    ("resize to a skip", resize_to_a_skip),
    ("pad", pad),
    ("crop", crop),
    ("one axis of positions", one_axis_of_positions),
    ("context", context),
];

fn pool(d: &mut Draft, x: &Value) -> Option<Value> {
    let n = x.rank() - 2;
    let op = d.random.pick(&["MaxPool", "AveragePool"]);
    let roomy = x.dims[2..].iter().all(|e| e.is_none_or(|e| e >= 4 && e % 2 == 0));
    let (attributes, halves) = if roomy && d.random.chance(50) {
        (format!("kernel_shape = {:?}, strides = {:?}", vec![2; n], vec![2; n]), true)
    } else {
        (format!("kernel_shape = {:?}, pads = {:?}", vec![3; n], vec![1; 2 * n]), false)
    };
    let name = d.node(op, &attributes, &[&x.name]);
    let mut y = x.named(name);
    if halves {
        y.dims[2..].iter_mut().for_each(|e| *e = e.map(|e| e / 2));
    }
    Some(y)
}

fn resize(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.rank() != 4 || x.positions().is_some_and(|p| p > 64) {
        return None;
    }
    let scales = d.stated("float[4]", "1.0, 1.0, 2.0, 2.0");
    let mode = "mode = \"nearest\", nearest_mode = \"floor\", coordinate_transformation_mode = \"asymmetric\"";
    let name = d.node("Resize", mode, &[&x.name, "", &scales]);
    let mut y = x.named(name);
    y.dims[2..].iter_mut().for_each(|e| *e = e.map(|e| 2 * e));
    Some(y)
}

/// Down, and up again to the sizes of what is joined.
fn resize_to_a_skip(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.rank() != 4 || x.dims[2..].iter().any(|e| e.is_some_and(|e| e < 4)) {
        return None;
    }
    let filters = width(d);
    let low = conv(d, x, Conv { filters, kernel: 3, stride: 2, groups: 1 });
    let sizes: Vec<String> =
        [(&low, 0), (&low, 1), (x, 2), (x, 3)].into_iter().map(|(v, axis)| extent(d, v, axis)).collect();
    let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
    let sizes = d.node("Concat", "axis = 0", &sizes);
    let mode = "mode = \"nearest\", nearest_mode = \"floor\", coordinate_transformation_mode = \"asymmetric\"";
    let name = d.node("Resize", mode, &[&low.name, "", "", &sizes]);
    let high = x.with_channels(name, filters);
    let name = d.node("Concat", "axis = 1", &[&high.name, &x.name]);
    Some(x.with_channels(name, filters + x.channels()))
}

fn pad(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.dims[2..].iter().any(|e| e.is_some_and(|e| e < 3)) {
        return None;
    }
    let mut pads = vec![0; 2 * x.rank()];
    (2..x.rank()).for_each(|a| (pads[a], pads[x.rank() + a]) = (1, 1));
    let amounts = d.ints(&pads);
    let mode = d.random.pick(&["constant", "reflect", "edge"]);
    let name = d.node("Pad", &format!("mode = \"{mode}\""), &[&x.name, &amounts]);
    let mut y = x.named(name);
    y.dims[2..].iter_mut().for_each(|e| *e = e.map(|e| e + 2));
    Some(y)
}

fn crop(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.dims[2..].iter().any(|e| e.is_none_or(|e| e < 4)) {
        return None;
    }
    let axes: Vec<i64> = (2..x.rank() as i64).collect();
    let (from, to) = (d.ints(&vec![1; axes.len()]), d.ints(&vec![-1; axes.len()]));
    let axes = d.ints(&axes);
    let name = d.node("Slice", "", &[&x.name, &from, &to, &axes]);
    let mut y = x.named(name);
    y.dims[2..].iter_mut().for_each(|e| *e = e.map(|e| e - 2));
    Some(y)
}

/// All positions on one axis, a layer over it, and back to the extents of the input.
fn one_axis_of_positions(d: &mut Draft, x: &Value) -> Option<Value> {
    if x.rank() == 3 {
        return None;
    }
    let flat = reshape(d, x, &[To::Same(x, 0), To::Same(x, 1), To::Rest(x.positions())]);
    let filters = width(d);
    let y = layer(d, &flat, filters, 1);
    let space = (2..x.rank()).map(|a| To::Same(x, a));
    let to: Vec<To> = [To::Same(&y, 0), To::Same(&y, 1)].into_iter().chain(space).collect();
    Some(reshape(d, &y, &to))
}

/// What all positions have in common, brought to each of them.
fn context(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = width(d);
    let y = pooled(d, x);
    let y = conv(d, &y, Conv::point(filters));
    let y = activation(d, &y);
    let parts: Vec<String> =
        (0..x.rank()).map(|a| if a == 1 { d.ints(&[filters as i64]) } else { extent(d, x, a) }).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let shape = d.node("Concat", "axis = 0", &parts);
    let name = d.node("Expand", "", &[&y.name, &shape]);
    let wide = x.with_channels(name, filters);
    let name = d.node("Concat", "axis = 1", &[&x.name, &wide.name]);
    Some(x.with_channels(name, x.channels() + filters))
}

/// Ends a network: one output at least.
pub fn head(d: &mut Draft, x: &Value) {
    let classes = d.random.pick(&[2, 3]);
    let y = match (d.random.below(6), x.positions()) {
        (0, _) => conv(d, x, Conv::point(classes)),
        (1, Some(positions)) if positions * x.channels() <= 2048 => {
            let name = d.node("Flatten", "", &[&x.name]);
            let flat = Value { name, dims: vec![x.dims[0], Some(positions * x.channels())] };
            classifier(d, flat, classes)
        }
        (2, Some(positions)) if positions * x.channels() <= 2048 => {
            let flat = reshape(d, x, &[To::Same(x, 0), To::Rest(Some(positions * x.channels()))]);
            classifier(d, flat, classes)
        }
        (3, _) => {
            // Scores of every position, channels last, several maps end to end.
            let maps: Vec<Value> = (0..2)
                .map(|_| {
                    let y = conv(d, x, Conv::point(2 * classes));
                    let perm: Vec<usize> = std::iter::once(0).chain(2..x.rank()).chain([1]).collect();
                    let last = d.transpose(&y, &perm);
                    reshape(d, &last, &[To::Same(x, 0), To::Rest(None), To::Number(classes)])
                })
                .collect();
            let name = d.node("Concat", "axis = 1", &[&maps[0].name, &maps[1].name]);
            Value { name, dims: vec![x.dims[0], None, Some(classes)] }
        }
        (4, _) => {
            let axes: Vec<i64> = (2..x.rank() as i64).collect();
            let flat = reduce(d, "ReduceMean", x, &axes, false);
            classifier(d, flat, classes)
        }
        _ => {
            let y = pooled(d, x);
            let flat = d.node("Flatten", "", &[&y.name]);
            classifier(d, Value { name: flat, dims: x.dims[..2].to_vec() }, classes)
        }
    };
    d.output(&y);
}

/// Dense layers on rows of numbers.
fn classifier(d: &mut Draft, x: Value, classes: usize) -> Value {
    let mut y = x;
    let hidden = d.random.below(3);
    for i in 0..=hidden {
        let (from, to) = (y.channels(), if i == hidden { classes } else { width(d) });
        let name = match d.random.below(4) {
            0 => {
                let (w, b) = (weight(d, &[to, from]), vector(d, to));
                d.node("Gemm", "transB = 1", &[&y.name, &w, &b])
            }
            1 => {
                let w = weight(d, &[from, to]);
                d.node("Gemm", "", &[&y.name, &w])
            }
            2 => {
                let (w, b) = (weight(d, &[to, from]), vector(d, to));
                let turned = d.node("Transpose", "perm = [1, 0]", &[&w]);
                let product = d.node("MatMul", "", &[&y.name, &turned]);
                d.node("Add", "", &[&product, &b])
            }
            _ => {
                let (w, b) = (weight(d, &[from, to]), vector(d, to));
                let product = d.node("MatMul", "", &[&y.name, &w]);
                d.node("Add", "", &[&b, &product])
            }
        };
        y = Value { name, dims: vec![y.dims[0], Some(to)] };
        if i < hidden {
            let op = d.random.pick(&["Relu", "Sigmoid", "Tanh"]);
            y = d.unary(op, "", &y);
        }
    }
    if d.random.chance(40) { d.unary("Softmax", "axis = -1", &y) } else { y }
}
