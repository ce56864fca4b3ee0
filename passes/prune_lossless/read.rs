//! Who reads each channel, what it reads there, and what stands in the way of doing without.
//!
//! Guarantees: a class of channels that is not pinned is read by the sums of products that are listed, and by nothing
//! else; numbers are equal, and constants are constant, under every assignment of sizes.

use super::flow::Numbering;
use super::number::Number;
use super::sum::{Taps, axes_of, summed};
use crate::analysis::{Atom, Coupling, Field, Origin, PINNED, stored};
use crate::ir::{Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::DataType;
use crate::ops::step::Step;
use crate::ops::{Action, Addend, Contraction, View, array};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of one field beyond which it is not followed.
const MOST_LABELS: usize = 1 << 22;

/// How far the constants of two assignments of sizes may lie apart, relative to their size.
const SAME: f64 = 1e-5;

/// What stands in the way at a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub node: NodeId,
    pub rule: &'static str,
    pub text: String,
}

/// One sum of products, seen from the channels that it sums over. A *column* is a position of the summed axes.
pub(super) struct Reading {
    pub node: NodeId,
    /// The classes of each column; [`PINNED`] for what stays.
    pub classes: Vec<BTreeSet<Atom>>,
    /// Columns with one number hold the same.
    pub numbers: Vec<usize>,
    /// By group of filters and column: the constant that is read.
    pub constants: Vec<Option<f64>>,
    /// The group of each filter.
    pub group: Vec<usize>,
    /// Columns whose other factor is zero.
    pub idle: Vec<bool>,
    /// Whether the data are real numbers, whose zero adds nothing.
    pub real: bool,
    pub taps: Option<Taps>,
    /// The class of each filter.
    pub filters: Vec<Atom>,
    pub addend: Option<Addend>,
    /// Where a constant may go that the sum does without.
    pub home: Result<Home, Refusal>,
    /// Where the weights of the columns are stored.
    pub weight: Result<Stored, Refusal>,
}

/// The place of an addend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// An input of a node (the sum's own, or of an `Add` behind it): one number for every filter. Perhaps still free.
    Input { node: NodeId, input: usize },
    /// There is none: an `Add` has to be put behind the node.
    Behind,
}

/// Where each column of a weight lies in a stored constant.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub value: ValueId,
    pub axis: usize,
    pub positions: Vec<usize>,
}

impl Reading {
    pub fn columns(&self) -> usize {
        self.classes.len()
    }

    /// The constants of a column, one for each group of filters.
    pub fn constants_of(&self, column: usize) -> Option<Vec<f64>> {
        self.constants.chunks(self.columns()).map(|group| group[column]).collect()
    }
}

/// All readings of a model, and the classes that are read in ways that are not followed.
pub(super) struct Readings {
    pub all: Vec<Reading>,
    pub unknown: BTreeSet<Atom>,
}

pub(super) fn readings(model: &Model, coupling: &Coupling, worlds: &mut [Numbering], uses: &Uses) -> Readings {
    let mut out = Readings { all: Vec::new(), unknown: BTreeSet::new() };
    for n in model.walk() {
        let Some(Ok(effect)) = coupling.worlds[0].shapes.effect(n) else { continue };
        let Action::Contract(c) = &effect.action else { continue };
        let reader = Reader { model, coupling, uses, n, c };
        match reader.reading(worlds) {
            Some(reading) => out.all.extend(reading),
            None => out.unknown.extend(reader.touched()),
        }
    }
    out
}

struct Reader<'a> {
    model: &'a Model,
    coupling: &'a Coupling,
    uses: &'a Uses,
    n: NodeId,
    c: &'a Contraction,
}

impl Reader<'_> {
    /// `None` where it is not followed; nothing where everything is constant.
    fn reading(&self, worlds: &mut [Numbering]) -> Option<Option<Reading>> {
        let (model, c) = (self.model, self.c);
        let node = model.node(self.n);
        let constant = |v: &View| node.input(v.input).is_some_and(|v| self.coupling.constant[v.index()]);
        if c.operands.iter().all(constant) {
            return Some(None);
        }
        let (x, w, known) = worlds[0].data_and_weight(self.n, c)?;
        let (x, w) = if constant(x) { (w, x) } else { (x, w) };
        let (data, weight) = (node.input(x.input)?, node.input(w.input)?);
        if [x, w, &c.output].iter().any(|view| view.shape.contains(&0)) {
            return None;
        }
        let taps = if known { worlds[0].taps(c, x, w, weight) } else { None };
        let outs: Vec<char> = match &taps {
            Some(t) => t.out_axes.iter().map(|&a| c.output.letters[a]).collect(),
            None => Vec::new(),
        };
        let shared: Vec<char> = outs.iter().copied().filter(|l| x.letters.contains(l)).collect();
        let over = summed(c, x, w);
        let columns: usize = axes_of(x, &over).iter().map(|&a| x.shape[a]).product();
        let (row, _) = crate::ops::lookup(model, node).ok()?;
        let addend = worlds[0].addend(self.n, row);
        let real = worlds[0].world.shapes.fact(data).and_then(|f| f.dtype).is_some_and(is_real);

        let mut rows: Vec<Vec<Number>> = Vec::new();
        let mut constants: Vec<Option<f64>> = Vec::new();
        // A stored weight speaks for itself, tap by tap.
        let mut idle = (taps.is_none() && real).then(|| vec![true; columns]);
        for (i, world) in worlds.iter_mut().enumerate() {
            let (a, b) = (world.view(self.n, x.input)?, world.view(self.n, w.input)?);
            let ids = world.columns(data, &a, &shared, &over)?;
            let values: Vec<Option<f64>> = ids.iter().map(|&id| world.table.as_constant(id)).collect();
            if ids.len() % columns != 0 || (i > 0 && values.len() != constants.len()) {
                return None;
            }
            constants = match i {
                0 => values,
                _ => constants.into_iter().zip(values).map(|(a, b)| same(a?, b?)).collect(),
            };
            rows.extend(ids.chunks(columns).map(<[Number]>::to_vec));
            if let Some(idle) = idle.as_mut() {
                let factors = world.columns(weight, &b, &[], &over)?;
                for (flag, &id) in idle.iter_mut().zip(&factors) {
                    *flag &= world.table.as_constant(id) == Some(0.0);
                }
            }
        }
        let sizes: Vec<usize> = outs.iter().map(|l| w.shape[axes_of(w, &[*l])[0]]).collect();
        let strides = array::strides(&shared.iter().map(|l| w.shape[axes_of(w, &[*l])[0]]).collect::<Vec<_>>());
        let stride: Vec<usize> =
            outs.iter().map(|l| shared.iter().position(|s| s == l).map_or(0, |i| strides[i])).collect();
        let groups: Vec<usize> = (0..constants.len() / columns.max(1)).collect();
        let group = if taps.is_some() { array::strided(&groups, &sizes, &stride) } else { Vec::new() };
        let filters = taps.as_ref().map_or_else(Vec::new, |t| self.filters(t));
        Some(Some(Reading {
            node: self.n,
            classes: self.classes(x, data, &over)?,
            numbers: numbered(&rows, columns),
            constants,
            group,
            idle: idle.unwrap_or_else(|| vec![false; columns]),
            real,
            home: self.home(taps.as_ref(), addend),
            weight: self.stored(weight, w, &over, taps.is_some()),
            taps,
            filters,
            addend,
        }))
    }

    fn refuse<T>(&self, rule: &'static str, text: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal { node: self.n, rule, text: text.into() })
    }

    fn name(&self, v: ValueId) -> &str {
        self.model.value(v).name()
    }

    /// The classes of all that an operand is labelled with and that do not simply pass.
    fn touched(&self) -> BTreeSet<Atom> {
        let inputs = self.model.node(self.n).inputs().iter().flatten();
        inputs.flat_map(|&v| self.coupling.classes_of(v)).collect()
    }

    /// The fields of an operand under the shape of its view: as they are, and seen through the classes.
    fn seen(&self, v: ValueId, view: &[usize]) -> Option<Vec<(Field, Field)>> {
        let world = &self.coupling.worlds[0];
        let own = world.shapes.shape(v)?;
        let step = Step::Reshape(view.to_vec());
        let mut out = Vec::new();
        for field in &world.fields[v.index()] {
            if field.size_after(&step, own) > MOST_LABELS {
                return None;
            }
            let field = field.clone().step(&step, own, &mut |_, _, _| Vec::new());
            let atoms = field.atoms.iter().map(|&a| self.coupling.atoms.find(a)).collect();
            let seen = Field { atoms, axes: field.axes.clone() }.squeezed(view);
            out.push((field, seen));
        }
        Some(out)
    }

    fn classes(&self, x: &View, data: ValueId, over: &[char]) -> Option<Vec<BTreeSet<Atom>>> {
        let axes = axes_of(x, over);
        let columns = axes.iter().map(|&a| x.shape[a]).product();
        let mut out = vec![BTreeSet::new(); columns];
        for (labels, field) in self.seen(data, &x.shape)? {
            // Seen through the classes, what varies along other axes only passes: whole groups of a convolution. What
            // does not vary at all is one class for all columns.
            let sums = |f: &Field| f.axes.iter().any(|a| axes.contains(a));
            if !sums(&labels) || (!sums(&field) && !field.axes.is_empty()) {
                continue;
            }
            let others: Vec<usize> = field.axes.iter().copied().filter(|a| !axes.contains(a)).collect();
            let spread = field.spread(&[&axes[..], &others[..]].concat(), &x.shape);
            let each = spread.len() / columns;
            out.iter_mut().zip(spread.chunks(each)).for_each(|(classes, atoms)| classes.extend(atoms));
        }
        out.iter_mut().filter(|c| c.is_empty()).for_each(|c| {
            c.insert(PINNED);
        });
        Some(out)
    }

    /// The class of each filter, by the labels of the output.
    fn filters(&self, taps: &Taps) -> Vec<Atom> {
        let stay = vec![PINNED; taps.outs];
        let c = self.c;
        let Some(out) = self.model.node(self.n).output(0) else { return stay };
        let fields = self.seen(out, &c.output.shape).unwrap_or_default();
        let one = fields
            .iter()
            .map(|f| &f.1)
            .find(|f| !f.axes.is_empty() && f.axes.iter().all(|a| taps.out_axes.contains(a)));
        one.map_or(stay, |f| f.spread(&taps.out_axes, &c.output.shape))
    }

    fn home(&self, taps: Option<&Taps>, addend: Option<Addend>) -> Result<Home, Refusal> {
        let node = self.model.node(self.n);
        let (Some(taps), Some(addend), Some(out)) = (taps, addend, node.output(0)) else {
            return self.refuse("operator", "the sum is not one of plain numbers with a stored weight");
        };
        if !addend.steady {
            let op = node.op_type();
            let text = format!("{op} does not sum over all taps at every place, so the constant would not be one");
            return self.refuse("padding", text);
        }
        let shape = self.coupling.worlds[0].shapes.shape(out).unwrap_or(&[]);
        let Some(input) = addend.input else {
            // Older versions of Add broadcast by attributes.
            if shape != self.c.output.shape || self.model.opset("").is_none_or(|v| v < 7) {
                return self.refuse("bias", "there is no bias, and no Add that broadcasts can be put behind");
            }
            return Ok(self.behind(out, taps).unwrap_or(Home::Behind));
        };
        if addend.of_addend == 0.0 || shape.get(1) != Some(&taps.outs) {
            return self.refuse("bias", "the node takes no bias for each of its filters");
        }
        match node.input(input) {
            Some(b) if !self.is_list(b, taps.outs, node.op_type() == "Gemm") => {
                self.refuse("bias", format!("the bias '{}' is not a stored list of one number a filter", self.name(b)))
            }
            _ => Ok(Home::Input { node: self.n, input }),
        }
    }

    /// Whether a value is a stored constant of one real number for each filter, or (in a Gemm) of one for all.
    fn is_list(&self, v: ValueId, filters: usize, spreads: bool) -> bool {
        let Some(t) = stored(self.model, v).filter(|_| !self.model.is_overridable(v)) else { return false };
        is_real(t.dtype())
            && match t.shape() {
                [n] if *n == filters => true,
                [1, n] => spreads && (*n == filters || *n == 1),
                [] | [1] => spreads,
                _ => false,
            }
    }

    /// The constant of an `Add` that alone reads a product.
    fn behind(&self, out: ValueId, taps: &Taps) -> Option<Home> {
        let [(add, i)] = self.uses.readers(out)[..] else { return None };
        let node = self.model.node(add);
        let plain = node.op_type() == "Add" && node.is_standard() && self.model.opset("")? >= 7;
        let last = taps.out_axes.len() == 1 && taps.out_axes[0] + 1 == self.c.output.shape.len();
        let input = 1 - i;
        let fits = plain && last && !self.uses.is_output(out) && self.is_list(node.input(input)?, taps.outs, false);
        fits.then_some(Home::Input { node: add, input })
    }

    /// Follows a weight through rearrangements to the constant that it is.
    fn stored(&self, weight: ValueId, w: &View, over: &[char], known: bool) -> Result<Stored, Refusal> {
        let model = self.model;
        if !known {
            return self.refuse("weight-computed", "the weights of the sum are no constants");
        }
        let shared = |v: ValueId| {
            let text = format!("the weight '{}' is read elsewhere too", self.name(v));
            self.refuse("weight-shared", text)
        };
        let mut v = weight;
        while model.constant(v).is_none() {
            let maker = match model.value(v).def() {
                crate::ir::Def::Node(by, _) => by,
                _ => return self.refuse("weight-computed", format!("'{}' is not stored", self.name(v))),
            };
            let node = model.node(maker);
            let moves = match self.coupling.worlds[0].shapes.effect(maker) {
                Some(Ok(effect)) => matches!(effect.action, Action::Layout { .. }),
                _ => false,
            };
            let data = node.input(0).filter(|_| moves || node.op_type() == "Cast");
            let Some(data) = data else {
                let text = format!("'{}' is computed by '{}' ({})", self.name(v), model.label(maker), node.op_type());
                return self.refuse("weight-computed", text);
            };
            if self.uses.readers(v).len() != 1 || self.uses.is_output(v) {
                return shared(v);
            }
            v = data;
        }
        if self.uses.readers(v).len() != 1 || self.uses.is_output(v) {
            return shared(v);
        }
        let dtype = model.constant(v).and_then(|t| DataType::try_from(t.data_type.unwrap_or(0)).ok());
        if !dtype.is_some_and(is_real) {
            return self
                .refuse("weight-type", format!("the weight '{}' is of {dtype:?}, sums would not fit", self.name(v)));
        }
        let found = self.positions(v, weight, w, over);
        found.map_or_else(|| self.refuse("weight-shape", "the channels are no slices of the stored weight"), Ok)
    }

    fn positions(&self, v: ValueId, weight: ValueId, w: &View, over: &[char]) -> Option<Stored> {
        let world = &self.coupling.worlds[0];
        let axes: Vec<usize> = axes_of(w, over).into_iter().filter(|&a| w.shape[a] > 1).collect();
        let own = world.shapes.shape(weight)?;
        let step = Step::Reshape(w.shape.clone());
        let mut seen = world.fields[weight.index()].iter().filter(|f| f.size_after(&step, own) <= MOST_LABELS);
        seen.find_map(|field| {
            let field = field.clone().step(&step, own, &mut |_, _, _| Vec::new());
            if field.axes != axes {
                return None;
            }
            let origins: Vec<(Origin, usize)> =
                field.atoms.iter().map(|&a| self.coupling.atoms.origin(a)).collect::<Option<_>>()?;
            let Origin::Constant { value, axis, .. } = origins.first()?.0 else { return None };
            let positions: Vec<usize> = origins.iter().map(|o| o.1).collect();
            let distinct: BTreeSet<usize> = positions.iter().copied().collect();
            let one = value == v && origins.iter().all(|o| o.0 == origins[0].0) && distinct.len() == positions.len();
            one.then_some(Stored { value, axis, positions })
        })
    }
}

impl Numbering<'_> {
    /// An operand's view under this assignment of sizes.
    fn view(&self, n: NodeId, input: usize) -> Option<View> {
        let Some(Ok(effect)) = self.world.shapes.effect(n) else { return None };
        let Action::Contract(c) = &effect.action else { return None };
        c.operands.iter().find(|o| o.input == input).cloned()
    }
}

pub(super) fn is_real(dtype: DataType) -> bool {
    matches!(dtype, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}

/// The same constant under two assignments, rounding apart.
fn same(a: f64, b: f64) -> Option<f64> {
    ((a - b).abs() <= SAME * a.abs().max(b.abs())).then_some(a)
}

/// One number for all columns that agree in every row.
fn numbered(rows: &[Vec<Number>], columns: usize) -> Vec<usize> {
    let mut known: BTreeMap<Vec<Number>, usize> = BTreeMap::new();
    let of = |q: usize| rows.iter().map(|r| r[q]).collect::<Vec<_>>();
    (0..columns)
        .map(|q| {
            let next = known.len();
            *known.entry(of(q)).or_insert(next)
        })
        .collect()
}
