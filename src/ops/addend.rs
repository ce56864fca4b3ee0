//! Linear operators: what they add to their sum of products, and whether the sum is the same everywhere.

use super::Call;

/// A linear operator computes `of_sum * sum of products + of_addend * addend`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Addend {
    /// The input that is added; `None` for operators that add nothing.
    pub input: Option<usize>,
    pub of_sum: f64,
    pub of_addend: f64,
    /// Whether every element of the output sums over all taps of its filter: not so where a window may leave the map.
    pub steady: bool,
}

const PLAIN: Addend = Addend { input: None, of_sum: 1.0, of_addend: 1.0, steady: true };

fn all(call: &Call, name: &str, value: i64) -> bool {
    call.node.ints(name).is_none_or(|list| list.iter().all(|&x| x == value))
}

fn single_tap(call: &Call) -> bool {
    call.shape(1).is_ok_and(|w| w.iter().skip(2).all(|&d| d == 1))
}

/// No padding, whatever the extents in space. "Same" padding of a single tap is none.
pub(super) fn conv(call: &Call) -> Option<Addend> {
    let steady = match call.node.string("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" => all(call, "pads", 0),
        "VALID" => true,
        _ => single_tap(call),
    };
    Some(Addend { input: Some(2), steady, ..PLAIN })
}

/// The taps that reach an element depend on its place, unless there is one tap and no stride.
pub(super) fn conv_transpose(call: &Call) -> Option<Addend> {
    let plain = all(call, "strides", 1) && all(call, "pads", 0) && all(call, "output_padding", 0);
    let steady = plain && single_tap(call) && call.node.ints("output_shape").is_none();
    Some(Addend { input: Some(2), steady, ..PLAIN })
}

pub(super) fn gemm(call: &Call) -> Option<Addend> {
    let factor = |name: &str| f64::from(call.node.float(name).unwrap_or(1.0));
    Some(Addend { input: Some(2), of_sum: factor("alpha"), of_addend: factor("beta"), steady: true })
}

/// `MatMul` and `Einsum`.
pub(super) fn product(_: &Call) -> Option<Addend> {
    Some(PLAIN)
}
