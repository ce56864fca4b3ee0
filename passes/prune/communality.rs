//! What readers lose with a channel, from the weights alone.
//!
//! Where there is no data, what filters have in common they are taken to compute in common: the products of the filters
//! stand for the second moments of what they compute, and every reader's relative error is worth the same. So the cost
//! of a channel is `||readers' weights||^2 / [G^-1]_ii`, one minus its communality weighed with what it is used for. All
//! readers of a group see the same products, so that their weights' own can be added up.

use crate::analysis::{Atom, Coupling, Group, filters};
use crate::importance::gram::{Matrix, Rows, gram};
use crate::importance::reconstruction::Readout;
use crate::ir::{Model, NodeId, ValueId};
use crate::repair::Linear;
use crate::repair::response::{channel_columns, column_classes, transposed};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// For products of weights, which are all that there is of each filter.
const RIDGE: f64 = 1e-2;
/// Rows of a reader's weight that are looked at, evenly taken: sums over more say the same.
const MOST_ROWS: usize = 4096;

/// All readers of each group as one; `None` for groups whose filters are not known, or that nothing reads.
pub(super) fn readouts(model: &Model, coupling: &Coupling, groups: &[Group]) -> Vec<Option<Readout>> {
    let grams: Vec<Option<Matrix>> = groups.par_iter().map(|g| products(model, coupling, g)).collect();
    let mut place: BTreeMap<Atom, (usize, usize)> = BTreeMap::new();
    for (g, group) in groups.iter().enumerate().filter(|(g, _)| grams[*g].is_some()) {
        place.extend(group.classes.iter().enumerate().map(|(i, c)| (c.root, (g, i))));
    }
    let mut sums: Vec<Option<Matrix>> = groups.iter().map(|_| None).collect();
    for &n in model.graph(model.main()).nodes() {
        let Some(reader) = reader(model, coupling, &place, groups, n) else { continue };
        // The variance of the reader's outputs, were the products of filters those of what they compute.
        let shared = |(g, own): &(usize, Matrix)| -> f64 {
            let of = grams[*g].as_ref().map_or(&[][..], |m| m.entries());
            of.iter().zip(own.entries()).map(|(m, v)| m * v).sum()
        };
        let variance = reader.other + reader.by_group.iter().map(shared).sum::<f64>();
        if !(variance > 0.0 && variance.is_finite()) {
            continue;
        }
        for (g, own) in reader.by_group {
            let sum = sums[g].get_or_insert_with(|| Matrix::filled(own.size(), 0.0));
            sum.entries_mut().iter_mut().zip(own.entries()).for_each(|(s, v)| *s += v / variance);
        }
    }
    let one = |(moments, sum): (&Option<Matrix>, &Option<Matrix>)| {
        let (moments, sum) = (moments.as_ref()?, sum.as_ref()?);
        Readout::of_products(moments, sum, (0..moments.size()).map(|i| vec![i]).collect(), RIDGE, 1.0)
    };
    grams.par_iter().zip(&sums).map(one).collect()
}

/// What a reader does with the channels of groups.
struct Reader {
    /// For each group that it reads, the products of the weights that its classes meet.
    by_group: Vec<(usize, Matrix)>,
    /// The squared weights that all else meets.
    other: f64,
}

fn reader(
    model: &Model,
    coupling: &Coupling,
    place: &BTreeMap<Atom, (usize, usize)>,
    groups: &[Group],
    n: NodeId,
) -> Option<Reader> {
    let world = coupling.worlds.first()?;
    let constant = |v: ValueId| coupling.constant[v.index()];
    let linear = Linear::of(model, &world.shapes, &constant, n).ok()?;
    let classes = column_classes(model, coupling, &linear)?;
    if classes.iter().all(|c| !place.contains_key(c)) {
        return None;
    }
    let weights = linear.weights(model, &world.shapes)?;
    let size = linear.outs * linear.columns();
    let mut found: BTreeMap<usize, Matrix> = BTreeMap::new();
    let mut other = 0.0;
    for g in 0..linear.groups {
        let all = &classes[g * linear.channels..(g + 1) * linear.channels];
        let channels = channel_columns(&linear, all);
        let own: Vec<Option<(usize, usize)>> =
            channels.iter().map(|c| place.get(&all[c[0] / linear.taps]).copied()).collect();
        let rows = transposed(&weights[g * size..(g + 1) * size], linear.columns(), &channels);
        let step = (rows.len() / channels.len().max(1)).div_ceil(MOST_ROWS).max(1);
        let taken: Vec<&[f64]> = rows.chunks_exact(channels.len().max(1)).step_by(step).collect();
        let mut read: Vec<usize> = own.iter().flatten().map(|p| p.0).collect();
        read.sort_unstable();
        read.dedup();
        for group in read {
            // By class: where a reader meets a class twice, it meets the same numbers twice.
            let mut met = vec![0.0; groups[group].classes.len() * taken.len()];
            for (c, _) in own.iter().enumerate().filter(|(_, p)| p.is_some_and(|p| p.0 == group)) {
                let class = own[c].map_or(0, |p| p.1);
                let met = &mut met[class * taken.len()..(class + 1) * taken.len()];
                met.iter_mut().zip(&taken).for_each(|(m, row)| *m += row[c]);
            }
            let mut products = gram(&Wide { data: &met, width: taken.len() });
            products.entries_mut().iter_mut().for_each(|p| *p *= step as f64);
            match found.get_mut(&group) {
                Some(sum) => sum.entries_mut().iter_mut().zip(products.entries()).for_each(|(s, p)| *s += p),
                None => _ = found.insert(group, products),
            }
        }
        let free = own.iter().enumerate().filter(|(_, p)| p.is_none());
        other += free.map(|(c, _)| taken.iter().map(|r| r[c] * r[c]).sum::<f64>() * step as f64).sum::<f64>();
    }
    Some(Reader { by_group: found.into_iter().collect(), other })
}

/// Inner products of the filters of a group's classes, relative to their mean square.
fn products(model: &Model, coupling: &Coupling, group: &Group) -> Option<Matrix> {
    let n = group.classes.len();
    let mut sum = Matrix::filled(n, 0.0);
    for (m, member) in group.members.iter().enumerate() {
        let Some(source) = member.source else { continue };
        let (tensor, _, channels, taps) = filters(model, coupling, &coupling.sources[source])?;
        let data: Vec<f64> = tensor.to_f32()?.iter().map(|&v| f64::from(v)).collect();
        let products = gram(&Wide { data: &data, width: channels * taps });
        for (i, a) in group.classes.iter().enumerate() {
            for (j, b) in group.classes.iter().enumerate() {
                let pairs = a.filters[m].iter().zip(&b.filters[m]);
                sum.row_mut(i)[j] += pairs.map(|(&f, &g)| products.row(f as usize)[g as usize]).sum::<f64>();
            }
        }
    }
    let mean = (0..n).map(|i| sum.row(i)[i]).sum::<f64>() / n.max(1) as f64;
    if !(mean > 0.0 && mean.is_finite()) {
        return None;
    }
    sum.entries_mut().iter_mut().for_each(|x| *x /= mean);
    Some(sum)
}

/// Rows side by side.
struct Wide<'a> {
    data: &'a [f64],
    width: usize,
}

impl Rows for Wide<'_> {
    fn rows(&self) -> usize {
        self.data.len().checked_div(self.width).unwrap_or(0)
    }

    fn columns(&self) -> usize {
        self.width
    }

    fn read(&self, row: usize, from: usize, out: &mut [f64]) {
        let at = row * self.width + from;
        out.copy_from_slice(&self.data[at..at + out.len()]);
    }
}
