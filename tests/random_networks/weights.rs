//! Where weights live: stored as they are read, or behind nodes that compute them from what is stored.

use super::draft::Draft;

/// A weight of the given shape.
pub fn weight(d: &mut Draft, dims: &[usize]) -> String {
    if d.random.chance(55) {
        return d.seeded("float", dims);
    }
    let rank = dims.len();
    match d.random.below(14) {
        0 => {
            let w = d.seeded("float", dims);
            d.node("Identity", "", &[&w])
        }
        1 => {
            let perm = d.random.order(rank);
            let mut stored = vec![0; rank];
            perm.iter().enumerate().for_each(|(to, &from)| stored[from] = dims[to]);
            let w = d.seeded("float", &stored);
            d.node("Transpose", &format!("perm = {perm:?}"), &[&w])
        }
        2 => {
            let w = d.seeded("float16", dims);
            d.node("Cast", "to = 1", &[&w])
        }
        3 => {
            let w = d.seeded("double", dims);
            d.node("Cast", "to = 1", &[&w])
        }
        4 => {
            let (w, scale) = (d.seeded("int8", dims), d.real(0.125));
            d.node("DequantizeLinear", "", &[&w, &scale])
        }
        5 => {
            let axis = d.random.below(2.min(rank));
            let (w, scale) = (d.seeded("int8", dims), d.seeded("float", &dims[axis..=axis]));
            if d.random.chance(50) {
                return d.node("DequantizeLinear", &format!("axis = {axis}"), &[&w, &scale]);
            }
            let zeros = vec!["0"; dims[axis]].join(", ");
            let zero = d.stated(&format!("int8[{}]", dims[axis]), &zeros);
            d.node("DequantizeLinear", &format!("axis = {axis}"), &[&w, &scale, &zero])
        }
        6 => {
            let flat = [dims[0], dims[1..].iter().product()];
            let w = d.seeded("float", &flat);
            let shape = d.ints(&dims.iter().map(|&n| n as i64).collect::<Vec<_>>());
            d.node("Reshape", "", &[&w, &shape])
        }
        7 if rank > 2 && dims[2..].iter().all(|&n| n == 1) => {
            let w = d.seeded("float", &dims[..2]);
            let axes = d.ints(&(2..rank as i64).collect::<Vec<_>>());
            d.node("Unsqueeze", "", &[&w, &axes])
        }
        8 => {
            // A norm of its own for every filter, or for every channel that is read.
            let (mut scales, axis) = (vec![1; rank], d.random.below(2.min(rank)));
            scales[axis] = dims[axis];
            let (w, g) = (d.seeded("float", dims), d.seeded("float", &scales));
            d.node("Mul", "", &[&w, &g])
        }
        9 => {
            // A stored update beside the weight.
            let (w, update) = (d.seeded("float", dims), d.seeded("float", dims));
            let op = d.random.pick(&["Add", "Sub", "Sum", "Mul"]);
            d.node(op, "", &[&w, &update])
        }
        10 if dims[0].is_multiple_of(2) => {
            // Two halves that were stored apart.
            let half: Vec<usize> = std::iter::once(dims[0] / 2).chain(dims[1..].iter().copied()).collect();
            let (a, b) = (d.seeded("float", &half), d.seeded("float", &half));
            d.node("Concat", "axis = 0", &[&a, &b])
        }
        11 if rank == 2 => {
            // Of low rank.
            let (a, b) = (d.seeded("float", &[dims[0], 2]), d.seeded("float", &[2, dims[1]]));
            d.node("MatMul", "", &[&a, &b])
        }
        12 => {
            // What is read is not zero where what is stored is.
            let (low, high) = (d.real(0.125), d.real(1.0));
            let w = d.seeded("float", dims);
            d.node("Clip", "", &[&w, &low, &high])
        }
        13 if rank == 2 => {
            // Integers with a zero of their own, transposed before they become numbers.
            let (w, scale, zero) = (d.seeded("int8", &[dims[1], dims[0]]), d.real(0.125), d.stated("int8", "1"));
            let turned = d.node("Transpose", "perm = [1, 0]", &[&w]);
            d.node("DequantizeLinear", "", &[&turned, &scale, &zero])
        }
        _ => {
            // Written out in a node where it is small.
            let elements: usize = dims.iter().product();
            if elements > 48 {
                return d.seeded("float", dims);
            }
            let extents: Vec<String> = dims.iter().map(usize::to_string).collect();
            let numbers: Vec<String> = (0..elements).map(|_| format!("{:?}", number(d))).collect();
            d.node("Constant", &format!("value = float[{}] {{{}}}", extents.join(", "), numbers.join(", ")), &[])
        }
    }
}

/// From -1 to 1, no zero, few digits.
fn number(d: &mut Draft) -> f64 {
    let magnitude = 0.125 * (1 + d.random.below(8)) as f64;
    if d.random.chance(50) { magnitude } else { -magnitude }
}

/// One number a channel: a bias, a scale, a variance. From 0.5 to 1.5 where it is seeded.
pub fn vector(d: &mut Draft, n: usize) -> String {
    match d.random.below(8) {
        0 => {
            let v = d.seeded("float", &[n]);
            d.node("Identity", "", &[&v])
        }
        1 => {
            let numbers: Vec<String> = (0..n).map(|_| format!("{:?}", number(d).abs())).collect();
            d.stated(&format!("float[{n}]"), &numbers.join(", "))
        }
        2 => {
            let v = d.seeded("double", &[n]);
            d.node("Cast", "to = 1", &[&v])
        }
        _ => d.seeded("float", &[n]),
    }
}
