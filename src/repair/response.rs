//! What each layer reads, and what its errors are worth to the outputs.
//!
//! Guarantees: the same numbers for any number of threads. Refuses: models that the interpreter cannot run.
//! How: the model runs once over the data, and at each contraction the second moments of what it reads are taken, tap
//! by tap, or channel by channel where that would be too many. Then some of its channels are done without, the rest
//! takes over as well as it can, and the model runs on: how far the outputs move, for the error made here, is what a
//! unit of error is worth. That is where a layer's importance for the result comes in; errors of layers are comparable
//! only so.

use super::draw;
use super::linear::Linear;
use super::outputs::{compared, drift, of_run};
use super::solve::{Moments, Observations};
use crate::analysis::{Atom, Coupling, PINNED, Shapes, contraction, infer};
use crate::importance::gram::Matrix;
use crate::importance::reconstruction::{Readout, path};
use crate::importance::{Filters, Member};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::step::Step;
use crate::run::{Batches, CannotRun, Stepwise, admit_size};
use nalgebra::DMatrix;
use std::collections::{BTreeMap, BTreeSet};

/// Relative to the mean moment of a column: what is added so that moments can be factored, far below what is correlated.
/// More where single precision has left a little less than nothing of a column that others explain.
const SEEN_RIDGES: [f64; 4] = [1e-9, 1e-8, 1e-7, 1e-6];
/// Relative to the mean moment of a column: what a regression is held back by.
pub const RIDGE: f64 = 1e-3;
/// Columns beyond which moments are taken channel by channel.
const MOST_COLUMNS: usize = 1200;
/// Observations for each column.
const PER_COLUMN: usize = 16;
/// Observations of each column that are needed to take the columns one by one.
pub const LEAST_A_COLUMN: usize = 4;
/// Rows of the data that moments are taken on.
const ROWS: usize = 512;
/// Multiply-accumulates that may be spent on finding out what errors are worth.
const PROBE_MACS: f64 = 3e10;
/// Rows of the data for each probe.
const PROBE_ROWS: usize = 512;
/// Multiply-accumulates beyond which the weights of a disturbed layer are not computed.
const MOST_REFITTED: f64 = 4e9;
/// The share of its channels that a reader does without in a probe.
const PROBE_SHARE: f64 = 0.25;

/// A contraction that reads channels which may go.
#[derive(Debug, Clone)]
pub struct Reader {
    pub node: NodeId,
    /// Each group of a grouped convolution reads channels of its own.
    pub parts: Vec<Part>,
    /// What a unit of squared error of its output is worth.
    pub worth: f64,
}

/// What one group of a reader reads.
#[derive(Debug, Clone)]
pub struct Part {
    /// Second moments of its columns, about their means.
    pub moments: Matrix,
    /// What they were taken of.
    pub observations: usize,
    pub mean: Vec<f64>,
    /// `[outs][columns]`.
    pub weights: Vec<f64>,
    /// The class of each column; [`PINNED`] for what stays.
    pub classes: Vec<Atom>,
    /// The columns of the weight that belong to each channel.
    pub channels: Vec<Vec<usize>>,
}

impl Part {
    /// This part as a readout of these classes; `None` where it reads none of them.
    pub fn readout(&self, classes: &BTreeMap<Atom, usize>, worth: f64, ridge: f64) -> Option<Readout> {
        let mut columns = vec![Vec::new(); classes.len()];
        for (i, class) in self.classes.iter().enumerate() {
            if let Some(&c) = classes.get(class) {
                columns[c].push(i);
            }
        }
        if columns.iter().all(Vec::is_empty) {
            return None;
        }
        Readout::new(&self.moments, &self.weights, columns, ridge, worth)
    }

    /// What it sees of each of these classes, as vectors whose inner products are covariances, summed over taps; `None`
    /// where it reads none of them, or nothing varies.
    fn seen(&self, classes: &BTreeMap<Atom, usize>) -> Option<Member<'static>> {
        let d = self.moments.size();
        let columns: Vec<Vec<usize>> = match d == self.channels.iter().map(Vec::len).sum::<usize>() {
            true => self.channels.clone(),
            false => (0..d).map(|c| vec![c]).collect(),
        };
        let mut of_class = vec![Vec::new(); classes.len()];
        for (channel, columns) in columns.iter().enumerate() {
            if let Some(&c) = classes.get(self.classes.get(*columns.first()?)?) {
                of_class[c].push(channel as u32);
            }
        }
        if of_class.iter().all(Vec::is_empty) {
            return None;
        }
        let variance = |i: usize| self.moments.row(i)[i];
        let usual = (0..d).map(variance).sum::<f64>() / d as f64;
        let (ridge, factor) = SEEN_RIDGES.iter().find_map(|&ridge| {
            let held = |i: usize, j: usize| self.moments.row(i)[j] + if i == j { usual * ridge } else { 0.0 };
            Some((ridge, DMatrix::from_fn(d, d, held).cholesky()?.unpack()))
        })?;
        let taps = columns[0].len();
        let mut data = Vec::with_capacity(d * d);
        for &column in columns.iter().flatten() {
            // The ridge alone is nothing to see.
            let flat = variance(column) <= usual * ridge;
            data.extend((0..d).map(|j| if flat { 0.0 } else { factor[(column, j)] as f32 }));
        }
        let filters = Filters { data: data.into(), filters: columns.len(), in_channels: taps, taps: d };
        Some(Member { filters, classes: of_class })
    }

    /// The removable classes that it reads.
    fn own_classes(&self) -> BTreeMap<Atom, usize> {
        let distinct: BTreeSet<Atom> = self.classes.iter().copied().filter(|&c| c != PINNED).collect();
        distinct.into_iter().enumerate().map(|(i, c)| (c, i)).collect()
    }

    /// By how much constants have to grow with these weights so that the means of `outs` outputs stay.
    fn shift(&self, new: &[f64], outs: usize) -> Vec<f64> {
        let lost: Vec<f64> = self.weights.iter().zip(new).map(|(a, b)| a - b).collect();
        let one = |row: &[f64]| row.iter().zip(&self.mean).map(|(w, m)| w * m).sum::<f64>();
        let rows: Vec<f64> = lost.chunks_exact(self.mean.len().max(1)).map(one).collect();
        rows.chunks_exact((rows.len() / outs.max(1)).max(1)).map(|taps| taps.iter().sum()).collect()
    }

    /// By how much more than on the observations themselves a regression on its columns misses elsewhere (Akaike's final
    /// prediction error).
    pub fn optimism(&self) -> f64 {
        let (n, d) = (self.observations as f64, self.moments.size() as f64);
        (n + d) / (n - d).max(n / 4.0).max(1.0)
    }

    /// The variance of its outputs.
    pub fn variance(&self) -> f64 {
        let d = self.moments.size();
        let one = |w: &[f64]| -> f64 {
            (0..d).map(|i| w[i] * self.moments.row(i).iter().zip(w).map(|(m, w)| m * w).sum::<f64>()).sum()
        };
        self.weights.chunks_exact(d.max(1)).map(one).sum()
    }
}

/// All readers of a model.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub readers: Vec<Reader>,
    /// Rows of data that it was taken on.
    pub samples: usize,
}

impl Response {
    /// What all readers see of some classes, in the form in which filters are ranked.
    pub fn seen(&self, classes: &BTreeMap<Atom, usize>) -> Vec<Member<'static>> {
        self.readers.iter().flat_map(|r| &r.parts).filter_map(|p| p.seen(classes)).collect()
    }

    /// Runs a model on data.
    pub fn of(model: &Model, coupling: &Coupling, batches: &Batches, seed: u64) -> Result<Self, CannotRun> {
        let batches = batches.first(ROWS);
        let shapes = infer(model, batches.sizes(model));
        admit_size(model, &shapes)?;
        let probing = Probing::new(model, &shapes, &batches)?;
        let (mut all, mut few) = (Stepwise::new(model, &batches.batches), probing.start(model));
        let mut readers = Vec::new();
        let constant = |v: ValueId| coupling.constant[v.index()];
        for &n in model.graph(model.main()).nodes() {
            let Ok(linear) = Linear::of(model, &shapes, &constant, n) else { continue };
            let Some(classes) = column_classes(model, coupling, &linear) else { continue };
            if classes.iter().all(|&c| c == PINNED) {
                continue;
            }
            all.run_to(model, Some(n), &BTreeSet::new())?;
            few.run_to(model, Some(n), &BTreeSet::new())?;
            let Some(weights) = linear.weights(model, &shapes) else { continue };
            let name = model.label(n);
            let Some(parts) = all.value(linear.data).and_then(|x| parts(&linear, &x, &weights, &classes, &name, seed))
            else {
                continue;
            };
            let worth = probing.worth(model, &shapes, &few, &linear, &parts)?;
            readers.push((Reader { node: n, parts, worth: 0.0 }, worth));
        }
        Ok(Self { readers: weighed(readers), samples: batches.samples })
    }
}

/// Readers without a probe are given the usual worth of a relative error.
fn weighed(readers: Vec<(Reader, Option<f64>)>) -> Vec<Reader> {
    let variance = |r: &Reader| r.parts.iter().map(Part::variance).sum::<f64>();
    let mut shares: Vec<f64> = readers.iter().filter_map(|(r, w)| Some((*w)? * variance(r))).collect();
    shares.sort_by(f64::total_cmp);
    let usual = shares.get(shares.len() / 2).copied().unwrap_or(1.0);
    let one = |(mut reader, worth): (Reader, Option<f64>)| {
        let v = variance(&reader);
        reader.worth = worth.unwrap_or(if v > 0.0 { usual / v } else { 0.0 });
        reader
    };
    readers.into_iter().map(one).collect()
}

/// The class of each channel of each group, in the order of [`Linear`]'s channels; `None` where labels are not known.
/// Channels that pass (those of depthwise convolutions) are not summed, so nothing is lost with them.
pub fn column_classes(model: &Model, coupling: &Coupling, linear: &Linear) -> Option<Vec<Atom>> {
    let world = coupling.worlds.first()?;
    let effect = world.shapes.effect(linear.node)?.as_ref().ok()?;
    let c = contraction(effect)?;
    let node = model.node(linear.node);
    let x = c.operands.iter().find(|o| node.input(o.input) == Some(linear.data))?;
    let w = c.operands.iter().find(|o| o.input == linear.weight_input)?;
    let axis = |l: char| x.letters.iter().position(|&x| x == l);
    let part = |in_y: bool| -> Vec<usize> {
        let shared = w.letters.iter().filter(|&l| x.letters.contains(l) && c.output.letters.contains(l) == in_y);
        shared.filter_map(|&l| axis(l)).collect()
    };
    let (groups, channels) = (part(true), part(false));
    let axes = [&groups[..], &channels].concat();
    let count: usize = axes.iter().map(|&a| x.shape[a]).product();
    let mut out = vec![PINNED; count];
    let own = world.shapes.shape(linear.data)?;
    let step = Step::Reshape(x.shape.clone());
    for field in &world.fields[linear.data.index()] {
        if field.size_after(&step, own) > 1 << 20 {
            continue;
        }
        let seen = field.clone().step(&step, own, &mut |_, _, _| Vec::new());
        if !seen.axes.iter().any(|a| channels.contains(a)) || !seen.axes.iter().all(|a| axes.contains(a)) {
            continue;
        }
        let atoms = seen.spread(&axes, &x.shape);
        out.iter_mut().zip(&atoms).for_each(|(class, &a)| *class = coupling.atoms.find(a));
    }
    (count == linear.groups * linear.channels).then_some(out)
}

/// For each channel of one group its columns, equally many of each: the taps of a channel of a convolution, or the places
/// of a channel that a flattened map was made of. `classes` are those of the group's summed positions.
pub fn channel_columns(linear: &Linear, classes: &[Atom]) -> Vec<Vec<usize>> {
    let taps = linear.taps;
    let each: Vec<Vec<usize>> = (0..linear.channels).map(|c| (c * taps..(c + 1) * taps).collect()).collect();
    if taps > 1 || classes.contains(&PINNED) {
        return each;
    }
    let mut by_class: Vec<Vec<usize>> = Vec::new();
    let mut place: BTreeMap<Atom, usize> = BTreeMap::new();
    for (column, class) in classes.iter().enumerate() {
        let at = *place.entry(*class).or_insert_with(|| {
            by_class.push(Vec::new());
            by_class.len() - 1
        });
        by_class[at].push(column);
    }
    match by_class.iter().all(|c| c.len() == by_class[0].len()) {
        true => by_class,
        false => each,
    }
}

/// Observations of channels in place of columns: every tap of a place is one.
pub fn by_channel(observed: &[f32], samples: usize, channels: &[Vec<usize>]) -> Observations {
    let taps = channels.first().map_or(0, Vec::len);
    let mut data = Vec::with_capacity(observed.len());
    for columns in channels {
        columns.iter().for_each(|&c| data.extend_from_slice(&observed[c * samples..(c + 1) * samples]));
    }
    Observations { data, samples: samples * taps }
}

/// The moments of what each group reads.
fn parts(
    linear: &Linear,
    data: &[&Tensor],
    weights: &[f64],
    classes: &[Atom],
    name: &str,
    seed: u64,
) -> Option<Vec<Part>> {
    let (columns, outs) = (linear.columns(), linear.outs);
    let wanted = |width: usize| super::solve::observations(width, width, PER_COLUMN);
    let places = |wanted: usize| wanted.div_ceil(data.len()).min(linear.rows);
    // With few observations every column seems to be explained by the others.
    let by_tap = columns <= MOST_COLUMNS && places(wanted(columns)) * data.len() >= LEAST_A_COLUMN * columns;
    let places = match by_tap {
        true => places(wanted(columns)),
        // Every tap of a place is an observation of its channel.
        false => {
            let channels = channel_columns(linear, &classes[..linear.channels]).len().max(1);
            places((wanted(channels) * channels).div_ceil(columns.max(1)))
        }
    };
    let samples = places * data.len();
    let mut out = Vec::with_capacity(linear.groups);
    for g in 0..linear.groups {
        let of = &classes[g * linear.channels..(g + 1) * linear.channels];
        let channels = channel_columns(linear, of);
        let width = if by_tap { columns } else { channels.len() };
        let mut observed = Observations { data: vec![0.0; columns * samples], samples };
        for (b, x) in data.iter().enumerate() {
            let rows = draw(linear.rows, places, name, seed ^ b as u64);
            linear.gather(&x.to_f32()?, g, &rows, &mut observed.data, samples, b * places);
        }
        if !by_tap {
            observed = by_channel(&observed.data, samples, &channels);
        }
        let Moments { product: moments, mean, samples: observations, .. } = Moments::of(&observed, width, true);
        let own = &weights[g * outs * columns..(g + 1) * outs * columns];
        let class = |column: usize| of[column / linear.taps];
        let (weights, classes) = match by_tap {
            true => (own.to_vec(), (0..columns).map(class).collect()),
            false => (transposed(own, columns, &channels), channels.iter().map(|c| class(c[0])).collect()),
        };
        out.push(Part { moments, observations, mean, weights, classes, channels });
    }
    Some(out)
}

/// `[outs][columns]` as `[outs][taps][channels]`.
pub fn transposed(weights: &[f64], columns: usize, channels: &[Vec<usize>]) -> Vec<f64> {
    let taps = channels.first().map_or(0, Vec::len);
    let mut out = Vec::with_capacity(weights.len());
    for filter in weights.chunks_exact(columns) {
        out.extend((0..taps).flat_map(|t| channels.iter().map(move |c| filter[c[t]])));
    }
    out
}

/// The inverse of [`transposed`].
pub fn straightened(weights: &[f64], columns: usize, channels: &[Vec<usize>]) -> Vec<f64> {
    let mut out = vec![0.0; weights.len()];
    for (new, old) in out.chunks_exact_mut(columns).zip(weights.chunks_exact(columns)) {
        for (i, c) in channels.iter().enumerate() {
            c.iter().enumerate().for_each(|(t, &column)| new[column] = old[t * channels.len() + i]);
        }
    }
    out
}

/// Runs with one layer disturbed.
struct Probing {
    batches: Vec<Vec<Tensor>>,
    /// The outputs without a disturbance.
    outputs: Vec<Vec<f64>>,
}

impl Probing {
    fn new(model: &Model, shapes: &Shapes, batches: &Batches) -> Result<Self, CannotRun> {
        let costs = crate::analysis::node_costs(model, shapes);
        let layers = costs.iter().filter(|c| c.1.macs > 0).count() as f64;
        // On average half of the model runs after a layer.
        let each = costs.iter().map(|c| c.1.macs as f64).sum::<f64>() * layers / 2.0;
        let rows = ((PROBE_MACS / each.max(1.0)) as usize).clamp(4, PROBE_ROWS);
        let few = batches.first(rows).batches;
        let mut run = Stepwise::new(model, &few);
        run.run_to(model, None, &compared(model).into_iter().collect())?;
        let outputs = of_run(model, &run, 0..few.len());
        Ok(Self { batches: few, outputs })
    }

    fn start(&self, model: &Model) -> Stepwise {
        Stepwise::new(model, &self.batches)
    }

    /// How far the outputs move for a unit of squared error at this layer. `None` where that cannot be told.
    fn worth(
        &self,
        model: &Model,
        shapes: &Shapes,
        here: &Stepwise,
        linear: &Linear,
        parts: &[Part],
    ) -> Result<Option<f64>, CannotRun> {
        let (mut error, mut weights, mut shift) = (0.0, Vec::new(), Vec::new());
        if parts.iter().any(|p| p.weights.len() as f64 * p.moments.size() as f64 > MOST_REFITTED) {
            return Ok(None);
        }
        for part in parts {
            let classes = part.own_classes();
            let Some(readout) = part.readout(&classes, 1.0, RIDGE) else {
                weights.extend_from_slice(&part.weights);
                shift.extend(std::iter::repeat_n(0.0, linear.outs));
                continue;
            };
            let count = ((classes.len() as f64 * PROBE_SHARE).ceil() as usize).clamp(1, classes.len());
            let mut readouts = [readout];
            error += path(&mut readouts, classes.len(), count, false).costs.iter().take(count).sum::<f64>();
            let Some(new) = readouts[0].refitted(&part.moments, &part.weights, RIDGE) else { return Ok(None) };
            shift.extend(part.shift(&new, linear.outs));
            weights.extend(match part.moments.size() == linear.columns() {
                true => new,
                false => straightened(&new, linear.columns(), &part.channels),
            });
        }
        let mut disturbed = model.clone();
        if error.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater)
            || super::store::store_weights(&mut disturbed, shapes, linear, &weights).is_none()
        {
            return Ok(None);
        }
        if let Some(home) = super::store::home(model, shapes, &model.uses(), linear) {
            shift.iter_mut().for_each(|s| *s *= linear.addend.of_sum);
            super::store::shift_constants(&mut disturbed, shapes, home, &shift);
        }
        let mut run = here.clone();
        run.run_to(&disturbed, None, &compared(&disturbed).into_iter().collect())?;
        let moved = drift(&self.outputs, &of_run(&disturbed, &run, 0..self.batches.len()));
        Ok((moved.is_finite() && moved > 0.0).then_some(moved * moved / error))
    }
}
