//! A contraction as what it is for a regression: rows of inputs, columns of weights, outputs.
//!
//! Guarantees: for every operator whose row in the table says that it is linear, `output = weights * columns + addend`
//! with the columns, weights and outputs given here; convolutions of any rank, stride, dilation, padding and number of
//! groups, transposed ones, and products of matrices are one case.
//! Refuses: sums of products without a constant factor, and those whose windows hang on data.
//! How: the letters of a [`Contraction`]'s views say which axis is what; offsets into the tensors are sums of strides.

use crate::analysis::{Shapes, evaluate_constant};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::{self, Action, Addend, Call, Contraction, View, Window};

/// A linear contraction with a constant factor.
#[derive(Debug, Clone)]
pub struct Linear {
    pub node: NodeId,
    /// What it reads, and the constant factor.
    pub data: ValueId,
    pub weight: ValueId,
    /// Which input of the node the weight is.
    pub weight_input: usize,
    pub output: ValueId,
    pub addend: Addend,
    /// Groups, each with columns and outputs of its own.
    pub groups: usize,
    /// Summed channels of one group; a column is a channel and a tap, the taps of a channel side by side.
    pub channels: usize,
    pub taps: usize,
    /// Outputs of one group.
    pub outs: usize,
    /// Output places of one group: rows of the regression.
    pub rows: usize,
    data_shape: Vec<usize>,
    output_shape: Vec<usize>,
    weight_shape: Vec<usize>,
    x: Offsets,
    w: Offsets,
    y: Offsets,
    windows: Vec<Axis>,
    /// Extents of the letters that number rows: those that pass from the data, then places of windows.
    passing: Vec<usize>,
    places: Vec<usize>,
}

/// Strides of a view, by the part that an axis plays.
#[derive(Debug, Clone, Default)]
struct Offsets {
    group: Vec<(usize, usize)>,
    channel: Vec<(usize, usize)>,
    out: Vec<(usize, usize)>,
    passing: Vec<(usize, usize)>,
    /// Places of the output, positions of the data, or taps of the weight, along each window axis.
    window: Vec<(usize, usize)>,
}

/// One axis along which a window moves over the data.
#[derive(Debug, Clone)]
struct Axis {
    window: Window,
    taps: usize,
    /// Of the data along it.
    extent: usize,
    stride: usize,
}

impl Axis {
    /// The offset into the data for a place of the output and a tap; `None` in the padding.
    fn at(&self, place: usize, tap: usize) -> Option<usize> {
        self.window.input_at(place, tap, self.extent).map(|at| at * self.stride)
    }
}

/// All offsets of a list of (extent, stride), the last running fastest.
fn all_offsets(axes: &[(usize, usize)]) -> Vec<usize> {
    let mut out = vec![0];
    for &(extent, stride) in axes {
        out = out.iter().flat_map(|&o| (0..extent).map(move |i| o + i * stride)).collect();
    }
    out
}

fn count(axes: &[(usize, usize)]) -> usize {
    axes.iter().map(|a| a.0).product()
}

impl Linear {
    /// `Err` says why the node is none. `constant` tells which values are computed from constants alone.
    pub fn of(
        model: &Model,
        shapes: &Shapes,
        constant: &dyn Fn(ValueId) -> bool,
        node: NodeId,
    ) -> Result<Self, &'static str> {
        let n = model.node(node);
        let effect = match shapes.effect(node) {
            Some(Ok(effect)) => effect,
            _ => return Err("its shapes are not known"),
        };
        let Action::Contract(c) = &effect.action else { return Err("it is no sum of products") };
        let (row, version) = ops::lookup(model, n).map_err(|_| "its operator is not known")?;
        let facts = shapes.inputs(n);
        let call = Call { node: n, version, inputs: &facts };
        let addend = (row.addend)(&call).ok_or("it is not linear in its weights")?;
        let windows = c.windows.as_deref().ok_or("its windows hang on data")?;
        let of_constant = |v: &&View| n.input(v.input).is_some_and(constant);
        let [a, b] = &c.operands[..] else { return Err("it has more than two factors") };
        let (x, w) = match (of_constant(&a), of_constant(&b)) {
            (false, true) => (a, b),
            (true, false) => (b, a),
            (true, true) => return Err("it is constant"),
            (false, false) => return Err("both of its factors depend on the input"),
        };
        Self::build(model, node, c, x, w, windows, addend)
    }

    fn build(
        model: &Model,
        node: NodeId,
        c: &Contraction,
        x: &View,
        w: &View,
        windows: &[Window],
        addend: Addend,
    ) -> Result<Self, &'static str> {
        let y = &c.output;
        let n = model.node(node);
        let roles = Roles::of(x, w, y)?;
        let (mut xo, mut wo, yo) = (roles.offsets(x), roles.offsets(w), roles.offsets(y));
        if windows.is_empty() {
            // An axis that is repeated for the other factor.
            let repeated = |axes: &[(usize, usize)]| axes.iter().all(|a| a.0 == 1);
            if !repeated(&xo.window) || !repeated(&wo.window) || !yo.window.is_empty() {
                return Err("it sums over an axis of one factor alone");
            }
            xo.window.clear();
            wo.window.clear();
        }
        if [&xo.window, &wo.window, &yo.window].iter().any(|v| v.len() != windows.len()) {
            return Err("its windows are not those of a convolution");
        }
        let axis = |i: usize| {
            let ((taps, _), (extent, stride)) = (wo.window[i], xo.window[i]);
            Axis { window: windows[i], taps, extent, stride }
        };
        let (data, weight) = (n.input(x.input).ok_or("no data")?, n.input(w.input).ok_or("no weight")?);
        let passing: Vec<usize> = yo.passing.iter().map(|a| a.0).collect();
        let places: Vec<usize> = yo.window.iter().map(|a| a.0).collect();
        Ok(Self {
            node,
            data,
            weight,
            weight_input: w.input,
            output: n.output(0).ok_or("its output is left out")?,
            addend,
            groups: count(&wo.group),
            channels: count(&wo.channel),
            taps: count(&wo.window),
            outs: count(&wo.out),
            rows: passing.iter().chain(&places).product(),
            data_shape: x.shape.clone(),
            output_shape: y.shape.clone(),
            weight_shape: w.shape.clone(),
            windows: (0..windows.len()).map(axis).collect(),
            x: xo,
            w: wo,
            y: yo,
            passing,
            places,
        })
    }

    /// Columns of one group.
    pub fn columns(&self) -> usize {
        self.channels * self.taps
    }

    /// The weight, `[groups][outs][columns]`.
    pub fn weights(&self, model: &Model, shapes: &Shapes) -> Option<Vec<f64>> {
        let tensor = evaluate_constant(model, shapes, self.weight)?;
        let values = tensor.to_f64()?;
        let order = self.weight_order();
        (order.len() == values.len()).then(|| order.iter().map(|&o| values[o]).collect())
    }

    /// Where in the weight's tensor each of [`Linear::weights`] lies.
    fn weight_order(&self) -> Vec<usize> {
        let axes = [&self.w.group[..], &self.w.out, &self.w.channel, &self.w.window].concat();
        all_offsets(&axes)
    }

    /// Weights in the order of the weight's tensor.
    pub fn weight_tensor(&self, weights: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; weights.len()];
        self.weight_order().into_iter().zip(weights).for_each(|(o, &w)| out[o] = w);
        out
    }

    /// Whether a tensor of data, and an output of so many elements, have the shapes that this was made for.
    pub fn fits(&self, data: &Tensor, output: usize) -> bool {
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        data.elements() == elements(&self.data_shape)
            && output == elements(&self.output_shape)
            && self.weight_shape.iter().product::<usize>() == self.groups * self.outs * self.columns()
    }

    /// Writes the columns of some rows of a group to `out`, column by column: `out[column][first + i]` for row
    /// `rows[i]`, each column `stride` long.
    pub fn gather(&self, data: &[f32], group: usize, rows: &[usize], out: &mut [f32], stride: usize, first: usize) {
        let base = all_offsets(&self.x.group)[group];
        let channels = all_offsets(&self.x.channel);
        let mut taps: Vec<Option<usize>> = Vec::with_capacity(self.taps);
        for (i, &row) in rows.iter().enumerate() {
            let start = base + self.row_taps(row, &mut taps);
            for (c, &channel) in channels.iter().enumerate() {
                for (t, tap) in taps.iter().enumerate() {
                    let value = tap.map_or(0.0, |at| data[start + channel + at]);
                    out[(c * self.taps + t) * stride + first + i] = value;
                }
            }
        }
    }

    /// Writes the outputs of some rows of a group to `out`, as [`Linear::gather`] does the columns.
    pub fn outputs(&self, output: &[f32], group: usize, rows: &[usize], out: &mut [f32], stride: usize, first: usize) {
        let base = all_offsets(&self.y.group)[group];
        let outs = all_offsets(&self.y.out);
        let axes = [&self.y.passing[..], &self.y.window].concat();
        for (i, &row) in rows.iter().enumerate() {
            let start = base + offset_of(row, &axes);
            for (o, &at) in outs.iter().enumerate() {
                out[o * stride + first + i] = output[start + at];
            }
        }
    }

    /// Where in the data the first channel of each tap of some rows lies, row by row; `None` for padding.
    pub fn reads(&self, rows: &[usize]) -> Vec<Option<usize>> {
        let mut taps = Vec::with_capacity(self.taps);
        let mut out = Vec::with_capacity(rows.len() * self.taps);
        for &row in rows {
            let start = self.row_taps(row, &mut taps);
            out.extend(taps.iter().map(|t| t.map(|t| t + start)));
        }
        out
    }

    /// Where in the output the first output of each row lies.
    pub fn writes(&self) -> Vec<usize> {
        all_offsets(&[&self.y.passing[..], &self.y.window].concat())
    }

    /// Whether what it reads is laid out as the output of another, of one group each: the same channels at the same offsets.
    pub fn reads_output_of(&self, writer: &Self) -> bool {
        self.groups == 1
            && writer.groups == 1
            && self.data_shape.iter().product::<usize>() == writer.output_shape.iter().product::<usize>()
            && all_offsets(&self.x.channel) == all_offsets(&writer.y.out)
    }

    /// The offset at which a row's data begins, and the offsets of its taps from there.
    fn row_taps(&self, row: usize, taps: &mut Vec<Option<usize>>) -> usize {
        let places: usize = self.places.iter().product();
        let start = offset_of(row / places.max(1), &self.x.passing);
        debug_assert_eq!(self.passing.len(), self.x.passing.len());
        let mut rest = row % places.max(1);
        let mut place = vec![0; self.places.len()];
        for (i, &extent) in self.places.iter().enumerate().rev() {
            place[i] = rest % extent;
            rest /= extent;
        }
        taps.clear();
        taps.push(Some(0));
        for (axis, &p) in self.windows.iter().zip(&place) {
            let along: Vec<Option<usize>> = (0..axis.taps).map(|t| axis.at(p, t)).collect();
            *taps = taps.iter().flat_map(|&t| along.iter().map(move |&a| Some(t? + a?))).collect();
        }
        start
    }

    /// For each output, in the order `[groups][outs]`, its position along the only axis of the output that numbers them;
    /// `None` where there are several such axes, or another.
    pub fn output_axis(&self, shape: &[usize]) -> Option<usize> {
        let outputs = self.groups * self.outs;
        let numbering: Vec<usize> = (0..shape.len())
            .filter(|&a| {
                let run: usize = shape[a + 1..].iter().product();
                let order: Vec<usize> = all_offsets(&[&self.y.group[..], &self.y.out].concat());
                shape[a] == outputs && order.iter().enumerate().all(|(i, &o)| o == i * run)
            })
            .collect();
        numbering.first().copied()
    }
}

fn offset_of(mut index: usize, axes: &[(usize, usize)]) -> usize {
    let mut at = 0;
    for &(extent, stride) in axes.iter().rev() {
        at += index % extent * stride;
        index /= extent;
    }
    at
}

/// The letters of a contraction by the part that they play; each list in one order for all three views.
struct Roles {
    group: Vec<char>,
    channel: Vec<char>,
    out: Vec<char>,
    passing: Vec<char>,
}

impl Roles {
    fn of(x: &View, w: &View, y: &View) -> Result<Self, &'static str> {
        for view in [x, w, y] {
            if (0..view.letters.len()).any(|i| view.letters[..i].contains(&view.letters[i])) {
                return Err("an axis occurs twice in a factor");
            }
        }
        let of = |view: &View, in_x: bool, in_w: bool, in_y: bool| -> Vec<char> {
            let is = |l: &char| {
                x.letters.contains(l) == in_x && w.letters.contains(l) == in_w && y.letters.contains(l) == in_y
            };
            view.letters.iter().copied().filter(is).collect()
        };
        Ok(Self {
            group: of(w, true, true, true),
            channel: of(w, true, true, false),
            out: of(y, false, true, true),
            passing: of(y, true, false, true),
        })
    }

    /// Extents and strides of a view's axes, by part. What no other view has is a window's.
    fn offsets(&self, view: &View) -> Offsets {
        let mut stride = 1;
        let mut axes = Vec::new();
        for (&letter, &extent) in view.letters.iter().zip(&view.shape).rev() {
            axes.push((letter, (extent, stride)));
            stride *= extent;
        }
        axes.reverse();
        let of = |letters: &[char]| -> Vec<(usize, usize)> {
            letters.iter().filter_map(|l| axes.iter().find(|a| a.0 == *l)).map(|a| a.1).collect()
        };
        let shared = [&self.group[..], &self.channel, &self.out, &self.passing].concat();
        Offsets {
            group: of(&self.group),
            channel: of(&self.channel),
            out: of(&self.out),
            passing: of(&self.passing),
            window: axes.iter().filter(|a| !shared.contains(&a.0)).map(|a| a.1).collect(),
        }
    }
}
