//! Numbers of sums of products, and what a stored weight does with each channel that it reads.

use super::flow::{Numbering, aligned};
use super::number::{Number, Numbers, Reals, each};
use crate::ir::{NodeId, ValueId};
use crate::onnx::tensor::DataType;
use crate::ops::{Addend, Call, Contraction, Effect, Row, View, array};

/// A weight seen from the channels that it reads: its taps are summed up.
#[derive(Debug, Clone)]
pub(super) struct Taps {
    /// Axes of the output's view that number the weight's filters, ascending.
    pub out_axes: Vec<usize>,
    /// Filters.
    pub outs: usize,
    /// Channels that are read: positions along the summed axes of both operands.
    pub columns: usize,
    /// By filter and channel: the sum of the taps.
    pub sum: Vec<f64>,
    /// By filter and channel: whether any tap is not zero.
    pub live: Vec<bool>,
}

/// The letters that two operands share and the output does not have, in the order of the first.
pub(super) fn summed(c: &Contraction, x: &View, w: &View) -> Vec<char> {
    let shared = |l: &char| w.letters.contains(l) && !c.output.letters.contains(l);
    x.letters.iter().copied().filter(shared).collect()
}

/// Axes of a view by letter, in the order of the letters.
pub(super) fn axes_of(view: &View, letters: &[char]) -> Vec<usize> {
    letters.iter().filter_map(|l| view.letters.iter().position(|m| m == l)).collect()
}

impl Numbering<'_> {
    /// What node `n` adds to its sums; `None` where it computes on other than plain real numbers.
    pub fn addend(&self, n: NodeId, row: &Row) -> Option<Addend> {
        let node = self.model.node(n);
        let facts = self.world.shapes.inputs(node);
        let version = self.model.opset(row.domain)?;
        let real =
            |t: DataType| matches!(t, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16);
        if !facts.first().copied().flatten().and_then(|f| f.dtype).is_some_and(real) {
            return None;
        }
        (row.addend)(&Call { node, version, inputs: &facts })
    }

    /// The operands of a product as (data, weight): the weight is the one whose content is known, if one is.
    pub fn data_and_weight<'c>(&mut self, n: NodeId, c: &'c Contraction) -> Option<(&'c View, &'c View, bool)> {
        let [a, b] = &c.operands[..] else { return None };
        let mut stored = |view: &View| self.model.node(n).input(view.input).is_some_and(|v| self.content(v).is_some());
        match (stored(a), stored(b)) {
            (false, true) => Some((a, b, true)),
            (true, false) => Some((b, a, true)),
            (false, false) => Some((a, b, false)),
            (true, true) => None,
        }
    }

    /// The taps of a stored weight.
    pub fn taps(&mut self, c: &Contraction, x: &View, w: &View, weight: ValueId) -> Option<Taps> {
        let tensor = self.content(weight)?;
        let reals = Reals::of(&tensor)?;
        let out_axes: Vec<usize> = (0..c.output.letters.len())
            .filter(|&a| w.letters.contains(&c.output.letters[a]) && c.output.shape[a] > 1)
            .collect();
        let outs: Vec<char> = out_axes.iter().map(|&a| c.output.letters[a]).collect();
        let letters = [&outs[..], &summed(c, x, w)[..]].concat();
        let axes = axes_of(w, &letters);
        // Slices are numbered along ascending axes; filters and channels come in the order of the letters.
        let mut ascending = axes.clone();
        ascending.sort_unstable();
        let count: usize = ascending.iter().map(|&a| w.shape[a]).product();
        let (mut sum, mut live) = (vec![0.0; count], vec![false; count]);
        each(&w.shape, &ascending, |slot, i| {
            let x = reals.at(i);
            sum[slot] += x;
            live[slot] |= x != 0.0;
        });
        let sizes: Vec<usize> = ascending.iter().map(|&a| w.shape[a]).collect();
        let order: Vec<usize> = axes.iter().map(|a| ascending.iter().position(|b| a == b).expect("the same")).collect();
        let columns = axes[outs.len()..].iter().map(|&a| w.shape[a]).product();
        Some(Taps {
            out_axes,
            outs: axes[..outs.len()].iter().map(|&a| w.shape[a]).product(),
            columns,
            sum: array::permute(&sum, &sizes, &order),
            live: array::permute(&live, &sizes, &order),
        })
    }

    pub(super) fn contract(&mut self, n: NodeId, row: &Row, effect: &Effect, c: &Contraction) {
        let node = self.model.node(n);
        let Some(out) = node.output(0) else { return };
        let inputs: Option<Vec<ValueId>> = c.operands.iter().map(|v| node.input(v.input)).collect();
        let Some(inputs) = inputs else { return };
        let addend = self.addend(n, row);
        let mut axes: Vec<usize> = Vec::new();
        for (view, &v) in c.operands.iter().zip(&inputs) {
            let own = self.shape(v).unwrap_or(&[]);
            let varying = match self.content(v) {
                Some(_) => (0..view.shape.len()).collect(),
                None => {
                    let numbers = self.numbers(v);
                    self.reshaped(numbers, own, &view.shape).axes
                }
            };
            axes.extend(varying.iter().filter_map(|&a| c.output.letters.iter().position(|l| *l == view.letters[a])));
        }
        axes.retain(|&a| c.output.shape[a] > 1);
        axes.sort_unstable();
        axes.dedup();
        let extents: Vec<usize> = axes.iter().map(|&a| c.output.shape[a]).collect();
        let count = extents.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if count > self.most_slices() {
            return;
        }
        let letters: Vec<char> = axes.iter().map(|&a| c.output.letters[a]).collect();
        let mut operands = Vec::new();
        for (view, &v) in c.operands.iter().zip(&inputs) {
            let from: Vec<(usize, usize)> = (0..view.letters.len())
                .filter(|&a| view.shape[a] > 1)
                .filter_map(|a| Some((a, letters.iter().position(|l| *l == view.letters[a])?)))
                .collect();
            let own: Vec<usize> = from.iter().map(|f| f.0).collect();
            let ids = self.over_view(v, &view.shape, &own);
            operands.push(aligned(&ids, &view.shape, &from, &extents));
        }
        let mentioned: Vec<usize> = c.operands.iter().map(|o| o.input).chain(c.also.iter().map(|o| o.input)).collect();
        let parameters = self.parameters(n, &mentioned);
        let by = self.signature(n);
        let sums = match addend {
            Some(addend) => self.constant_sums(n, c, addend, &axes),
            None => vec![None; count],
        };
        let ids = (0..count)
            .map(|r| match sums[r] {
                Some(x) => self.table.constant(x),
                None => {
                    let of = operands.iter().map(|o| o[r]).chain(parameters.iter().copied()).collect();
                    self.table.made(by, of, Vec::new())
                }
            })
            .collect();
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let sum = self.reshaped(Numbers { axes, ids }, &c.output.shape, &shape);
        let result = self.with_addends(n, c, addend, sum, &shape);
        self.set(Some(out), result);
    }

    /// The constants among sums over the output's view: every product is zero, or is of constants and the same
    /// everywhere.
    fn constant_sums(&mut self, n: NodeId, c: &Contraction, addend: Addend, axes: &[usize]) -> Vec<Option<f64>> {
        let count = axes.iter().map(|&a| c.output.shape[a]).product();
        let none = vec![None; count];
        let Some((x, w, true)) = self.data_and_weight(n, c) else { return none };
        let node = self.model.node(n);
        let (Some(data), Some(weight)) = (node.input(x.input), node.input(w.input)) else { return none };
        let Some(taps) = self.taps(c, x, w, weight) else { return none };
        let outs: Vec<char> = taps.out_axes.iter().map(|&a| c.output.letters[a]).collect();
        let shared: Vec<char> = outs.iter().copied().filter(|l| x.letters.contains(l)).collect();
        let Some(read) = self.columns(data, x, &shared, &summed(c, x, w)) else { return none };
        // Filters share the data of their group.
        let sizes: Vec<usize> = taps.out_axes.iter().map(|&a| c.output.shape[a]).collect();
        let strides = array::strides(
            &shared.iter().map(|l| sizes[outs.iter().position(|o| o == l).expect("shared")]).collect::<Vec<_>>(),
        );
        let stride: Vec<usize> =
            outs.iter().map(|l| shared.iter().position(|s| s == l).map_or(0, |i| strides[i])).collect();
        let groups: Vec<usize> = (0..read.len() / taps.columns.max(1)).collect();
        let group = array::strided(&groups, &sizes, &stride);
        let constant: Vec<Option<f64>> = read.iter().map(|&id| self.table.as_constant(id)).collect();
        let of_filter: Vec<Option<f64>> = (0..taps.outs)
            .map(|o| {
                (0..taps.columns).try_fold(0.0, |total, q| {
                    let (at, x) = (o * taps.columns + q, constant[group[o] * taps.columns + q]);
                    match x {
                        _ if !taps.live[at] => Some(total),
                        Some(0.0) => Some(total),
                        Some(x) if addend.steady => Some(total + x * taps.sum[at]),
                        _ => None,
                    }
                })
            })
            .collect();
        // The filters' axes are among those that are numbered.
        let own = array::strides(&sizes);
        let extents: Vec<usize> = axes.iter().map(|&a| c.output.shape[a]).collect();
        let stride: Vec<usize> =
            axes.iter().map(|a| taps.out_axes.iter().position(|o| o == a).map_or(0, |i| own[i])).collect();
        if of_filter.is_empty() { none } else { array::strided(&of_filter, &extents, &stride) }
    }

    /// Numbers of data by the axes that filters share with it, and by the channels that are summed.
    pub fn columns(&mut self, data: ValueId, x: &View, shared: &[char], summed: &[char]) -> Option<Vec<Number>> {
        let axes = axes_of(x, &[shared, summed].concat());
        let real: Vec<usize> = axes.iter().copied().filter(|&a| x.shape[a] > 1).collect();
        let mut ascending = real.clone();
        ascending.sort_unstable();
        let count = real.iter().map(|&a| x.shape[a]).fold(1usize, usize::saturating_mul);
        if count > self.most_slices() {
            return None;
        }
        let ids = self.over_view(data, &x.shape, &ascending);
        let sizes: Vec<usize> = ascending.iter().map(|&a| x.shape[a]).collect();
        let order: Vec<usize> = real.iter().map(|a| ascending.iter().position(|b| a == b).expect("the same")).collect();
        Some(array::permute(&ids, &sizes, &order))
    }

    /// The numbers after what acts place by place on the sums: a bias, or the scales of quantised filters.
    fn with_addends(
        &mut self,
        n: NodeId,
        c: &Contraction,
        addend: Option<Addend>,
        sum: Numbers,
        shape: &[usize],
    ) -> Numbers {
        let plain = addend.is_some_and(|a| a.of_sum == 1.0);
        if c.also.is_empty() && (plain || addend.is_none()) {
            return sum;
        }
        let extents: Vec<usize> = sum.axes.iter().map(|&a| shape[a]).collect();
        let mut added = Vec::new();
        for operand in &c.also {
            let Some(v) = self.model.node(n).input(operand.input) else { continue };
            let own = self.shape(v).unwrap_or(&[]).to_vec();
            let from: Vec<(usize, usize)> = (0..own.len())
                .filter(|&a| own[a] > 1)
                .filter_map(|a| Some((a, sum.axes.iter().position(|&x| Some(x) == operand.axes[a])?)))
                .collect();
            let ids = self.over(v, &from.iter().map(|f| f.0).collect::<Vec<_>>());
            added.push((operand.input, aligned(&ids, &own, &from, &extents)));
        }
        let by = self.signature(n);
        let ids = sum.ids.iter().enumerate().map(|(r, &id)| {
            let constants: Option<Vec<f64>> = added.iter().map(|(_, ids)| self.table.as_constant(ids[r])).collect();
            match (addend, self.table.as_constant(id), constants) {
                (Some(a), Some(x), Some(b)) => {
                    let total = a.of_sum * x + b.iter().sum::<f64>() * a.of_addend;
                    self.table.constant(total)
                }
                _ => {
                    let of = std::iter::once(id).chain(added.iter().map(|(_, ids)| ids[r])).collect();
                    self.table.made(by, of, vec![0])
                }
            }
        });
        Numbers { ids: ids.collect(), axes: sum.axes.clone() }
    }
}
