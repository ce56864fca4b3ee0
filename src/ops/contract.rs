//! Sums of products: convolutions, matrix products, recurrent cells.

use super::call::{Action, Call, Contraction, Effect, Fact, Groups, Kind, Operand, Refusal, View, Window};
use super::layout::broadcast;
use super::pool::windows;

/// Letters for the window axes of input, weights and output, which no channel may run along.
fn window_letters(first: char, n: usize) -> impl Iterator<Item = char> {
    (0..n).map(move |i| char::from_u32(first as u32 + i as u32).unwrap_or(first))
}

fn view(input: usize, shape: &[usize], letters: impl IntoIterator<Item = char>) -> View {
    View { input, shape: shape.to_vec(), letters: letters.into_iter().collect() }
}

fn product(extents: &[usize]) -> u64 {
    extents.iter().map(|&d| d as u64).fold(1, u64::saturating_mul)
}

/// Groups of a convolution, and the kernel's extents checked against `kernel_shape`.
fn groups(call: &Call, channels: usize, w: &[usize]) -> Result<usize, Refusal> {
    let group = usize::try_from(call.int("group", 1)).ok().filter(|&g| g > 0 && channels.is_multiple_of(g));
    let group = group.ok_or_else(|| {
        Refusal::Invalid(format!("group {} does not divide {channels} channels", call.int("group", 1)))
    })?;
    match call.node.ints("kernel_shape") {
        Some(k) if !k.iter().map(|&k| k as usize).eq(w[2..].iter().copied()) => {
            Err(Refusal::Invalid(format!("kernel_shape {k:?} contradicts the weight's shape {w:?}")))
        }
        _ => Ok(group),
    }
}

/// Which inputs are data, weight and bias; quantised operators put scales and zero points between them.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    pub x: usize,
    pub w: usize,
    pub bias: Option<usize>,
    /// Scale and zero point of the weight: one number, or one a filter.
    pub scales: [Option<usize>; 2],
}

const PLAIN: Slots = Slots { x: 0, w: 1, bias: Some(2), scales: [None, None] };

fn same_rank<'a>(call: &Call<'a>, slots: Slots) -> Result<(&'a [usize], &'a [usize]), Refusal> {
    let (x, w) = (call.shape_of_rank(slots.x, 3)?, call.shape_of_rank(slots.w, 3)?);
    if x.len() != w.len() {
        return Err(Refusal::Invalid(format!("the input has shape {x:?}, the weight {w:?}")));
    }
    Ok((x, w))
}

/// The bias of a convolution must be one number a filter; scales of its weight may be.
fn per_filter(call: &Call, slots: Slots, filters: usize, axis: usize) -> Result<Vec<Operand>, Refusal> {
    let mut out = Vec::new();
    if let Some(bias) = slots.bias.filter(|&i| call.has(i)) {
        match call.shape(bias)? {
            [n] if *n == filters => out.push(Operand::along(bias, axis)),
            b => return Err(Refusal::Invalid(format!("the bias has shape {b:?}, there are {filters} filters"))),
        }
    }
    for i in slots.scales.into_iter().flatten().filter(|&i| call.has(i)) {
        match call.shape(i)? {
            [] | [1] => {}
            [n] if *n == filters => out.push(Operand::along(i, axis)),
            s => return Err(Refusal::Invalid(format!("input {i} has shape {s:?}, there are {filters} filters"))),
        }
    }
    Ok(out)
}

/// Where a grouped convolution keeps its freedom if its groups cannot choose channels of their own ([`own_channels`]).
/// Every group must keep equally many: either each loses the same positions (`g` folds), or whole groups go (`c` and
/// `o` fold); whichever of the two has more choices. A depthwise convolution is the limit of groups of one channel.
fn group_fold(groups: usize, channels: usize) -> Vec<char> {
    if channels > 1 && channels >= groups { vec!['g'] } else { vec!['c', 'o'] }
}

/// Groups of several channels in and out choose for themselves; of groups with one channel only whole ones can go.
fn own_channels(count: usize, channels: usize, filters: usize, letter: char) -> Option<Groups> {
    (count > 1 && channels > 1 && filters > 1).then_some(Groups { count, weight: 1, axis: 1, letter, group: 'g' })
}

/// The windows of a convolution whose output has `positions`. Same padding is what the last window needs, the odd one
/// of it at the end or at the start.
fn conv_windows(call: &Call, x: &[usize], kernel: &[usize], positions: &[usize]) -> Result<Vec<Window>, Refusal> {
    let n = x.len();
    let (strides, dilations) = (call.list("strides", 1, n)?, call.list("dilations", 1, n)?);
    let pads = call.list("pads", 0, 2 * n)?;
    let auto = call.node.string("auto_pad").unwrap_or("NOTSET");
    let before = |i: usize| match auto {
        "SAME_UPPER" | "SAME_LOWER" => {
            let reach = (kernel[i] as i64 - 1).saturating_mul(dilations[i]).saturating_add(1);
            let last = (positions[i] as i64 - 1).saturating_mul(strides[i]).saturating_add(reach);
            let missing = (last - x[i] as i64).max(0);
            if auto == "SAME_UPPER" { missing / 2 } else { missing - missing / 2 }
        }
        "VALID" => 0,
        _ => pads[i],
    };
    let window = |i| Window { stride: strides[i], dilation: dilations[i], before: before(i), transposed: false };
    Ok((0..n).map(window).collect())
}

/// The windows of a transposed convolution, where its padding is stated.
fn transposed_windows(strides: &[i64], dilations: &[i64], pads: &[i64], stated: bool) -> Option<Vec<Window>> {
    let window = |i| Window { stride: strides[i], dilation: dilations[i], before: pads[i], transposed: true };
    stated.then(|| (0..strides.len()).map(window).collect())
}

/// Input `[n, g c, ..]`, weight `[g o, c, ..]`, output `[n, g o, ..]`.
pub(super) fn conv(call: &Call) -> Result<Effect, Refusal> {
    conv_of(call, PLAIN)
}

/// Functions of one number that a fused operator applies to its result.
fn elementwise_activation(call: &Call) -> Result<(), Refusal> {
    const KNOWN: [&str; 9] = ["", "Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh"];
    match call.node.string("activation").unwrap_or("") {
        known if KNOWN.contains(&known) => Ok(()),
        other => Err(Refusal::Unknown(format!("activation '{other}'"))),
    }
}

/// `FusedConv` of com.microsoft: a convolution, an addend of the result's shape, a function of the sum.
pub(super) fn fused_conv(call: &Call) -> Result<Effect, Refusal> {
    elementwise_activation(call)?;
    let mut effect = conv_of(call, PLAIN)?;
    if call.has(3) {
        let rank = call.shape(3)?.len();
        if let Action::Contract(c) = &mut effect.action {
            c.also.push(Operand::whole(3, rank));
        }
    }
    Ok(effect)
}

/// `DeformConv`: the places that each window reads are inputs. With several groups of offsets, which channel is in
/// which hangs on their number, so the channels of the input stay.
pub(super) fn deform_conv(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = conv_of(call, Slots { bias: Some(3), ..PLAIN })?;
    let Action::Contract(c) = &mut effect.action else { return Ok(effect) };
    c.windows = None;
    if call.int("offset_group", 1) != 1 {
        for (operand, own) in c.operands.iter_mut().zip(['\u{400}', '\u{401}']) {
            operand.letters.iter_mut().filter(|l| **l == 'c').for_each(|l| *l = own);
        }
    }
    Ok(effect)
}

pub(super) fn conv_of(call: &Call, slots: Slots) -> Result<Effect, Refusal> {
    let (x, w) = same_rank(call, slots)?;
    let g = groups(call, x[1], w)?;
    if w[1].saturating_mul(g) != x[1] || w[0] % g != 0 {
        return Err(Refusal::Invalid(format!(
            "the weight {w:?} with {g} groups reads {} channels, the input {x:?} has {}",
            w[1].saturating_mul(g),
            x[1]
        )));
    }
    let positions = windows(call, &x[2..], &w[2..], false)?;
    let n = positions.len();
    let y = [&[x[0], w[0]], &positions[..]].concat();
    let contraction = Contraction {
        operands: vec![
            view(
                slots.x,
                &[&[x[0], g, w[1]], &x[2..]].concat(),
                ['n', 'g', 'c'].into_iter().chain(window_letters('\u{100}', n)),
            ),
            view(
                slots.w,
                &[&[g, w[0] / g, w[1]], &w[2..]].concat(),
                ['g', 'o', 'c'].into_iter().chain(window_letters('\u{200}', n)),
            ),
        ],
        output: view(
            0,
            &[&[x[0], g, w[0] / g], &positions[..]].concat(),
            ['n', 'g', 'o'].into_iter().chain(window_letters('\u{300}', n)),
        ),
        also: per_filter(call, slots, w[0], 1)?,
        fold: group_fold(g, w[1]),
        groups: own_channels(g, w[1], w[0] / g, 'c'),
        windows: Some(conv_windows(call, &x[2..], &w[2..], &positions)?),
        macs: product(&y).saturating_mul(product(&w[1..])),
        kind: Kind::Conv,
    };
    Ok(Effect::one(Fact::new(call.dtype(0), y), Action::Contract(contraction)))
}

/// Input `[n, g c, ..]`, weight `[g c, o, ..]`, output `[n, g o, ..]`.
pub(super) fn conv_transpose(call: &Call) -> Result<Effect, Refusal> {
    let (x, w) = same_rank(call, PLAIN)?;
    let g = groups(call, x[1], w)?;
    if w[0] != x[1] {
        return Err(Refusal::Invalid(format!(
            "the weight {w:?} reads {} channels, the input {x:?} has {}",
            w[0], x[1]
        )));
    }
    let n = x.len() - 2;
    let (strides, dilations, extra) =
        (call.list("strides", 1, n)?, call.list("dilations", 1, n)?, call.list("output_padding", 0, n)?);
    let pads = call.list("pads", 0, 2 * n)?;
    let auto = call.node.string("auto_pad").unwrap_or("NOTSET");
    let positions: Vec<i128> = match call.node.ints("output_shape") {
        Some(shape) if shape.len() >= n => shape[shape.len() - n..].iter().map(|&p| p.into()).collect(),
        _ => (0..n)
            .map(|i| match auto {
                "SAME_UPPER" | "SAME_LOWER" => x[2 + i] as i128 * i128::from(strides[i]),
                _ => {
                    let wide = |v: i64| i128::from(v);
                    let pad = if auto == "VALID" { 0 } else { wide(pads[i]) + wide(pads[n + i]) };
                    let reach = (w[2 + i] as i128 - 1) * wide(dilations[i]) + 1;
                    wide(strides[i]) * (x[2 + i] as i128 - 1) + wide(extra[i]) + reach - pad
                }
            })
            .collect(),
    };
    let positions =
        positions.iter().map(|&p| usize::try_from(p).ok().filter(|&p| p < 1 << 32)).collect::<Option<Vec<_>>>();
    let positions = positions.ok_or_else(|| Refusal::Invalid("an output extent is negative".into()))?;
    let (c, o) = (x[1] / g, w[1]);
    let y = [&[x[0], g.saturating_mul(o)], &positions[..]].concat();
    let contraction = Contraction {
        operands: vec![
            view(
                0,
                &[&[x[0], g, c], &x[2..]].concat(),
                ['n', 'g', 'c'].into_iter().chain(window_letters('\u{100}', n)),
            ),
            view(1, &[&[g, c, o], &w[2..]].concat(), ['g', 'c', 'o'].into_iter().chain(window_letters('\u{200}', n))),
        ],
        output: view(
            0,
            &[&[x[0], g, o], &positions[..]].concat(),
            ['n', 'g', 'o'].into_iter().chain(window_letters('\u{300}', n)),
        ),
        also: per_filter(call, PLAIN, y[1], 1)?,
        fold: group_fold(g, c),
        groups: own_channels(g, c, o, 'o'),
        windows: transposed_windows(
            &strides,
            &dilations,
            &pads,
            auto == "NOTSET" && call.node.ints("output_shape").is_none(),
        ),
        macs: product(x).saturating_mul(product(&w[1..])),
        kind: Kind::Conv,
    };
    Ok(Effect::one(Fact::new(call.dtype(0), y), Action::Contract(contraction)))
}

pub(super) fn gemm(call: &Call) -> Result<Effect, Refusal> {
    gemm_of(call, PLAIN)
}

/// `FusedGemm` of com.microsoft: a function of the sum.
pub(super) fn fused_gemm(call: &Call) -> Result<Effect, Refusal> {
    elementwise_activation(call)?;
    gemm_of(call, PLAIN)
}

pub(super) fn gemm_of(call: &Call, slots: Slots) -> Result<Effect, Refusal> {
    let (a, b) = (call.shape(slots.x)?, call.shape(slots.w)?);
    let (&[a0, a1], &[b0, b1]) = (a, b) else {
        return Err(Refusal::Invalid(format!("two axes are needed, not {a:?} and {b:?}")));
    };
    let (ta, tb) = (call.int("transA", 0) != 0, call.int("transB", 0) != 0);
    let (m, k) = if ta { (a1, a0) } else { (a0, a1) };
    let (k2, n) = if tb { (b1, b0) } else { (b0, b1) };
    if k != k2 {
        return Err(Refusal::Invalid(format!("{a:?} and {b:?} do not agree on the summed axis")));
    }
    let mut also = per_filter(call, Slots { bias: None, ..slots }, n, 1)?;
    if let Some(bias) = slots.bias.filter(|&i| call.has(i)) {
        let c = call.shape(bias)?;
        if broadcast(&[&[m, n], c])? != [m, n] {
            return Err(Refusal::Invalid(format!("the addend {c:?} does not fit the result [{m}, {n}]")));
        }
        also.push(Operand::trailing(bias, c.len(), 2));
    }
    let contraction = Contraction {
        operands: vec![
            view(slots.x, a, if ta { ['k', 'm'] } else { ['m', 'k'] }),
            view(slots.w, b, if tb { ['n', 'k'] } else { ['k', 'n'] }),
        ],
        output: view(0, &[m, n], ['m', 'n']),
        also,
        fold: vec!['k'],
        groups: None,
        windows: Some(Vec::new()),
        macs: product(&[m, n, k]),
        kind: Kind::Dense,
    };
    Ok(Effect::one(Fact::new(call.dtype(slots.x), vec![m, n]), Action::Contract(contraction)))
}

/// numpy's matrix product: leading axes broadcast, vectors lose their axis.
pub(super) fn matmul(call: &Call) -> Result<Effect, Refusal> {
    product_of(call, [0, 1], [false; 2])
}

/// `FusedMatMul` of com.microsoft: the last two axes of an operand may be swapped.
pub(super) fn fused_matmul(call: &Call) -> Result<Effect, Refusal> {
    let flag = |name: &str| call.int(name, 0) != 0;
    if flag("transBatchA") || flag("transBatchB") {
        return Err(Refusal::Unknown("transBatchA or transBatchB".into()));
    }
    let swapped = [flag("transA"), flag("transB")];
    for (i, swaps) in swapped.into_iter().enumerate() {
        call.shape_of_rank(i, if swaps { 2 } else { 1 })?;
    }
    product_of(call, [0, 1], swapped)
}

/// The product of two inputs, either of which may have its last two axes swapped.
pub(super) fn product_of(call: &Call, [ia, ib]: [usize; 2], swapped: [bool; 2]) -> Result<Effect, Refusal> {
    let (a, b) = (call.shape_of_rank(ia, 1)?, call.shape_of_rank(ib, 1)?);
    let (batch_a, batch_b) = (a.len().saturating_sub(2), b.len().saturating_sub(2));
    let lead = broadcast(&[&a[..batch_a], &b[..batch_b]])?;
    // The last axis, or the one before where the two are swapped or where they are those of the second operand.
    let inner = |s: &[usize], before: bool| s[s.len().saturating_sub(if before { 2 } else { 1 })];
    let k = inner(a, swapped[0]);
    if k != inner(b, !swapped[1]) {
        return Err(Refusal::Invalid(format!("{a:?} and {b:?} do not agree on the summed axis")));
    }
    // A batch axis that one operand repeats has a letter of its own there, so that it couples to nothing.
    let letters = |shape: &[usize], own: &[char]| -> Vec<char> {
        let batch = shape.len().saturating_sub(2);
        let skip = lead.len() - batch;
        let letter = |i: usize| {
            let base = if shape[i] == lead[skip + i] { '\u{300}' } else { '\u{500}' };
            char::from_u32(base as u32 + (skip + i) as u32).unwrap_or(base)
        };
        (0..batch).map(letter).chain(own.iter().copied()).collect()
    };
    let own = |s: &[usize], outer: char, last: bool| match (s.len(), last) {
        (1, _) => vec!['k'],
        (_, true) => vec!['k', outer],
        (_, false) => vec![outer, 'k'],
    };
    let (own_a, own_b) = (own(a, 'm', swapped[0]), own(b, 'n', !swapped[1]));
    let mut shape = lead.clone();
    let mut out: Vec<char> = window_letters('\u{300}', lead.len()).collect();
    if a.len() > 1 {
        shape.push(inner(a, !swapped[0]));
        out.push('m');
    }
    if b.len() > 1 {
        shape.push(inner(b, swapped[1]));
        out.push('n');
    }
    let contraction = Contraction {
        operands: vec![view(ia, a, letters(a, &own_a)), view(ib, b, letters(b, &own_b))],
        output: view(0, &shape, out),
        also: Vec::new(),
        fold: vec!['k'],
        groups: None,
        windows: Some(Vec::new()),
        macs: product(&shape).saturating_mul(k as u64),
        kind: Kind::Dense,
    };
    Ok(Effect::one(Fact::new(call.dtype(ia), shape), Action::Contract(contraction)))
}

/// Einstein summation as written, without ellipsis or repeated letters in one operand.
pub(super) fn einsum(call: &Call) -> Result<Effect, Refusal> {
    let equation: String = call.node.string("equation").unwrap_or_default().split_whitespace().collect();
    let unknown = || Refusal::Unknown(format!("equation '{equation}'"));
    let (left, right) = equation.split_once("->").ok_or_else(unknown)?;
    let terms: Vec<Vec<char>> = left.split(',').map(|t| t.chars().collect()).collect();
    let repeated = |t: &Vec<char>| t.iter().enumerate().any(|(i, c)| t[..i].contains(c) || !c.is_ascii_alphabetic());
    let output: Vec<char> = right.chars().collect();
    if terms.len() != call.inputs.len() || terms.iter().any(repeated) || repeated(&output) {
        return Err(unknown());
    }
    let mut extents: Vec<(char, usize)> = Vec::new();
    let mut operands = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let shape = call.shape(i)?;
        if shape.len() != term.len() {
            return Err(Refusal::Invalid(format!("equation '{equation}' does not fit operand {i} of shape {shape:?}")));
        }
        for (&c, &d) in term.iter().zip(shape) {
            match extents.iter().find(|(l, _)| *l == c) {
                Some((_, e)) if *e != d => {
                    return Err(Refusal::Invalid(format!("axis '{c}' of '{equation}' has extents {e} and {d}")));
                }
                Some(_) => {}
                None => extents.push((c, d)),
            }
        }
        operands.push(view(i, shape, term.iter().copied()));
    }
    let shape = output.iter().map(|c| extents.iter().find(|(l, _)| l == c).map(|e| e.1)).collect::<Option<Vec<_>>>();
    let shape = shape.ok_or_else(unknown)?;
    let macs = product(&extents.iter().map(|e| e.1).collect::<Vec<_>>());
    let summed = extents.iter().map(|e| e.0).filter(|c| !output.contains(c)).collect();
    let contraction = Contraction {
        operands,
        output: view(0, &shape, output),
        also: Vec::new(),
        fold: summed,
        groups: None,
        windows: Some(Vec::new()),
        macs,
        kind: Kind::Dense,
    };
    Ok(Effect::one(Fact::new(call.dtype(0), shape), Action::Contract(contraction)))
}

/// `LSTM`, `GRU`, `RNN`: the width of the input is read by a contraction; the hidden width is tied to the gates'
/// layout and is pinned.
pub(super) fn recurrent(call: &Call) -> Result<Effect, Refusal> {
    let (x, w, r) = (call.shape_of_rank(0, 3)?, call.shape_of_rank(1, 3)?, call.shape_of_rank(2, 3)?);
    if x[2] != w[2] || w[0] != r[0] || w[1] != r[1] {
        return Err(Refusal::Invalid(format!("the shapes {x:?}, {w:?} and {r:?} do not agree")));
    }
    let (directions, hidden) = (w[0], r[2]);
    let batch_first = call.int("layout", 0) != 0;
    let (steps, batch) = if batch_first { (x[1], x[0]) } else { (x[0], x[1]) };
    let y = if batch_first { vec![batch, steps, directions, hidden] } else { vec![steps, directions, batch, hidden] };
    let last = if batch_first { vec![batch, directions, hidden] } else { vec![directions, batch, hidden] };
    let contraction = Contraction {
        operands: vec![view(0, x, ['s', 'b', 'i']), view(1, w, ['d', 'h', 'i'])],
        output: view(0, &y, window_letters('\u{300}', 4)),
        also: Vec::new(),
        fold: vec![],
        groups: None,
        windows: None,
        macs: product(&[steps, batch]).saturating_mul(product(w).saturating_add(product(r))),
        kind: Kind::Recurrent,
    };
    let dtype = call.dtype(0);
    let mut outputs = vec![Fact::new(dtype, y)];
    outputs.resize(call.output_count().max(1), Fact::new(dtype, last));
    Ok(Effect { outputs, action: Action::Contract(contraction) })
}
