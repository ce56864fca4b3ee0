//! Blocks that take channels apart and put them together again.

use super::Block;
use super::convolutions::{Conv, activation, any_conv, conv, layer, width};
use super::draft::{Draft, Value};
use super::shapes::{To, reshape};

pub const BLOCKS: &[(&str, Block)] = &[
    ("split", split),
    ("split", split),
    ("split and add", split_and_add),
    ("shuffle", shuffle),
    ("depth to space", depth_to_space),
    ("depth to space, written out", depth_to_space_written),
    ("space to depth", space_to_depth),
    ("strided slices", strided_slices),
    ("gather", gather),
    ("padded channels", padded_channels),
    ("stacked", stacked),
    ("tiled", tiled),
];

/// Parts of a value along its channels, by one of the operators that do that.
fn parts(d: &mut Draft, x: &Value, sizes: &[usize]) -> Vec<Value> {
    let negative = d.random.chance(30);
    let axis = if negative { 1 - x.rank() as i64 } else { 1 };
    let equal = sizes.iter().all(|&s| s == sizes[0]);
    let names = match d.random.below(3) {
        0 if equal && d.opset < 18 => d.node_of("Split", &format!("axis = {axis}"), &[&x.name], sizes.len()),
        0 if equal => {
            d.node_of("Split", &format!("axis = {axis}, num_outputs = {}", sizes.len()), &[&x.name], sizes.len())
        }
        0 | 1 => {
            let split = d.ints(&sizes.iter().map(|&s| s as i64).collect::<Vec<_>>());
            d.node_of("Split", &format!("axis = {axis}"), &[&x.name, &split], sizes.len())
        }
        _ => {
            let (c, mut start) = (x.channels(), 0);
            let mut names = Vec::new();
            for (i, &size) in sizes.iter().enumerate() {
                let last = i + 1 == sizes.len();
                let end = match d.random.below(3) {
                    0 if last => i64::MAX,
                    1 if !last => (start + size) as i64 - c as i64,
                    _ => (start + size) as i64,
                };
                let (from, to, axes) = (d.ints(&[start as i64]), d.ints(&[end]), d.ints(&[axis]));
                names.push(d.node("Slice", "", &[&x.name, &from, &to, &axes]));
                start += size;
            }
            names
        }
    };
    names.into_iter().zip(sizes).map(|(name, &size)| x.with_channels(name, size)).collect()
}

fn join(d: &mut Draft, parts: &[Value]) -> Value {
    let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
    let name = d.node("Concat", "axis = 1", &names);
    parts[0].with_channels(name, parts.iter().map(Value::channels).sum())
}

fn split(d: &mut Draft, x: &Value) -> Option<Value> {
    let c = x.channels();
    if c < 4 {
        return None;
    }
    let sizes: Vec<usize> = match d.random.below(3) {
        0 => vec![2, c - 2],
        1 if c.is_multiple_of(3) => vec![c / 3; 3],
        _ => vec![c / 2, c - c / 2],
    };
    let mut out = Vec::new();
    for part in parts(d, x, &sizes) {
        out.push(match d.random.below(3) {
            0 => part,
            1 => activation(d, &part),
            _ => {
                let filters = width(d);
                layer(d, &part, filters, 1)
            }
        });
    }
    if d.random.chance(40) {
        out.reverse();
    }
    Some(join(d, &out))
}

fn split_and_add(d: &mut Draft, x: &Value) -> Option<Value> {
    let half = x.channels() / 2;
    if !x.channels().is_multiple_of(2) || half < 2 {
        return None;
    }
    let halves = parts(d, x, &[half, half]);
    let second = d.unary("Sigmoid", "", &halves[1]);
    let op = d.random.pick(&["Add", "Mul"]);
    let name = d.node(op, "", &[&halves[0].name, &second.name]);
    Some(halves[0].named(name))
}

fn space<'a>(x: &'a Value) -> Vec<To<'a>> {
    (2..x.rank()).map(|a| To::Same(x, a)).collect()
}

fn shuffle(d: &mut Draft, x: &Value) -> Option<Value> {
    let c = x.channels();
    let fits: Vec<usize> = [2, 3, 4].into_iter().filter(|&g| c.is_multiple_of(g) && c > g).collect();
    if fits.is_empty() {
        return None;
    }
    let groups = d.random.pick(&fits);
    let to = [vec![To::Same(x, 0), To::Number(groups), To::Rest(Some(c / groups))], space(x)].concat();
    let apart = reshape(d, x, &to);
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..apart.rank()).collect();
    let swapped = d.transpose(&apart, &perm);
    let to = [vec![To::Same(x, 0), To::Rest(Some(c))], space(x)].concat();
    let y = reshape(d, &swapped, &to);
    Some(y)
}

fn doubled(d: &mut Draft, x: &Value, filters: usize) -> Option<Value> {
    if x.rank() != 4 || x.positions().is_some_and(|p| p > 64) {
        return None;
    }
    Some(any_conv(d, x, 4 * filters, 1))
}

fn depth_to_space(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = d.random.pick(&[2, 3, 4]);
    let y = doubled(d, x, filters)?;
    let mode = d.random.pick(&["DCR", "CRD"]);
    let name = d.node("DepthToSpace", &format!("blocksize = 2, mode = \"{mode}\""), &[&y.name]);
    let dims = vec![x.dims[0], Some(filters), x.dims[2].map(|e| 2 * e), x.dims[3].map(|e| 2 * e)];
    Some(Value { name, dims })
}

fn depth_to_space_written(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = d.random.pick(&[2, 3, 4]);
    let [Some(h), Some(w)] = x.dims[2..] else { return None };
    let y = doubled(d, x, filters)?;
    let two = To::Number(2);
    let apart = reshape(d, &y, &[To::Same(x, 0), To::Number(filters), two, two, To::Same(x, 2), To::Same(x, 3)]);
    let moved = d.transpose(&apart, &[0, 1, 4, 2, 5, 3]);
    let y = reshape(d, &moved, &[To::Same(x, 0), To::Number(filters), To::Number(2 * h), To::Number(2 * w)]);
    Some(y)
}

fn even(x: &Value) -> bool {
    x.rank() == 4 && x.dims[2..].iter().all(|e| e.is_some_and(|e| e % 2 == 0 && e >= 4))
}

fn space_to_depth(d: &mut Draft, x: &Value) -> Option<Value> {
    if !even(x) {
        return None;
    }
    let name = d.node("SpaceToDepth", "blocksize = 2", &[&x.name]);
    let half = |e: Option<usize>| e.map(|e| e / 2);
    Some(Value { name, dims: vec![x.dims[0], Some(4 * x.channels()), half(x.dims[2]), half(x.dims[3])] })
}

/// Every second position of each axis, four times, side by side along the channels.
fn strided_slices(d: &mut Draft, x: &Value) -> Option<Value> {
    if !even(x) {
        return None;
    }
    let mut out = Vec::new();
    for (row, column) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let mut y = x.clone();
        for (axis, start) in [(2, row), (3, column)] {
            let (from, to, axes, steps) = (d.ints(&[start]), d.ints(&[i64::MAX]), d.ints(&[axis]), d.ints(&[2]));
            let name = d.node("Slice", "", &[&y.name, &from, &to, &axes, &steps]);
            y = y.named(name);
        }
        y.dims[2..].iter_mut().for_each(|e| *e = e.map(|e| e / 2));
        out.push(y);
    }
    Some(join(d, &out))
}

/// Channels picked by their numbers: all in another order, or some of them, some twice.
fn gather(d: &mut Draft, x: &Value) -> Option<Value> {
    let c = x.channels();
    let mut order = d.random.order(c);
    if d.random.chance(30) {
        order.truncate(c.div_ceil(2).max(2));
    } else if d.random.chance(20) {
        order[0] = order[c - 1];
    }
    let indices: Vec<i64> =
        order.iter().map(|&i| if d.random.chance(15) { i as i64 - c as i64 } else { i as i64 }).collect();
    let at = d.ints(&indices);
    let name = d.node("Gather", "axis = 1", &[&x.name, &at]);
    Some(x.with_channels(name, order.len()))
}

/// A shortcut to more channels by zeros.
fn padded_channels(d: &mut Draft, x: &Value) -> Option<Value> {
    let (before, after) = d.random.pick(&[(0, 2), (1, 1), (2, 2)]);
    let mut pads = vec![0; 2 * x.rank()];
    (pads[1], pads[x.rank() + 1]) = (before as i64, after as i64);
    let amounts = d.ints(&pads);
    let name = d.node("Pad", "", &[&x.name, &amounts]);
    let wide = x.with_channels(name, x.channels() + before + after);
    if d.random.chance(30) {
        return Some(wide);
    }
    let y = layer(d, x, wide.channels(), 1);
    let name = d.node("Add", "", &[&y.name, &wide.name]);
    Some(wide.named(name))
}

/// Two branches on an axis of their own, reduced over it.
fn stacked(d: &mut Draft, x: &Value) -> Option<Value> {
    let filters = width(d);
    let mut parts = Vec::new();
    for _ in 0..2 {
        let y = conv(d, x, Conv::point(filters));
        let axes = d.ints(&[1]);
        let name = d.node("Unsqueeze", "", &[&y.name, &axes]);
        let mut dims = y.dims.clone();
        dims.insert(1, Some(1));
        parts.push(Value { name, dims });
    }
    let name = d.node("Concat", "axis = 1", &[&parts[0].name, &parts[1].name]);
    let both = parts[0].with_channels(name, 2);
    let op = d.random.pick(&["ReduceSum", "ReduceMax", "ReduceMean"]);
    Some(super::shapes::reduce(d, op, &both, &[1], false))
}

/// Every channel twice, one copy after the other.
fn tiled(d: &mut Draft, x: &Value) -> Option<Value> {
    let mut repeats = vec![1; x.rank()];
    repeats[1] = 2;
    let repeats = d.ints(&repeats);
    let name = d.node("Tile", "", &[&x.name, &repeats]);
    Some(x.with_channels(name, 2 * x.channels()))
}
