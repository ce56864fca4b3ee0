//! Which classes go, and what takes over from each.
//!
//! Guarantees: of a class that goes, every column is made up for: it contributes nothing, or a constant that moves
//! into a bias, or what a column that stays holds too. Every layer keeps a channel.

use super::read::{Readings, Refusal};
use crate::analysis::{Atom, Class, Coupling, Group, Origin, PINNED};
use crate::ir::{NodeId, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// Largest factor between two constants of which one takes the place of the other.
const MOST_FACTOR: f64 = 1e6;

/// What is known of the channels of one model.
pub(super) struct Study<'a> {
    pub coupling: &'a Coupling,
    pub groups: &'a [Group],
    pub readings: Readings,
    /// Where each class is read: reading and column.
    columns: BTreeMap<Atom, Vec<(usize, usize)>>,
    /// How many positions each class takes of each axis of a constant.
    shares: BTreeMap<Atom, BTreeMap<(ValueId, usize), usize>>,
    extents: BTreeMap<(ValueId, usize), usize>,
    /// By reading: the columns of each number, and those that are constant.
    alike: Vec<Vec<Vec<usize>>>,
    constants: Vec<Vec<usize>>,
}

/// What goes, and what takes over.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    pub removed: BTreeSet<Atom>,
    /// Classes that could go if they were not the last of a layer.
    pub spared: BTreeSet<Atom>,
    /// Reading and column: the constant moves into the bias.
    pub folds: Vec<(usize, usize)>,
    pub merges: Vec<Merge>,
}

/// The weights of one column are added to those of another.
#[derive(Debug, Clone)]
pub(super) struct Merge {
    pub reading: usize,
    pub from: usize,
    pub to: usize,
    pub factor: f64,
}

/// What a sum needs if a column goes.
enum Need {
    Nothing,
    Fold,
    /// Any of these columns stays, with the factor between them.
    Partner(Vec<(usize, f64)>),
    Refused(Refusal),
    /// The column is needed.
    Live,
}

/// Why a class stays that could go otherwise. The node, if it is not one that reads.
pub(super) type Forbidden = BTreeMap<Atom, (Option<NodeId>, &'static str, String)>;

impl<'a> Study<'a> {
    pub fn new(coupling: &'a Coupling, groups: &'a [Group], readings: Readings) -> Self {
        let mut columns: BTreeMap<Atom, Vec<(usize, usize)>> = BTreeMap::new();
        for (r, reading) in readings.all.iter().enumerate() {
            for (q, classes) in reading.classes.iter().enumerate() {
                for &class in classes.iter().filter(|c| **c != PINNED) {
                    columns.entry(class).or_default().push((r, q));
                }
            }
        }
        let mut shares: BTreeMap<Atom, BTreeMap<(ValueId, usize), usize>> = BTreeMap::new();
        let mut extents = BTreeMap::new();
        for (origin, atoms) in coupling.atoms.origins() {
            let Origin::Constant { value, axis, .. } = origin else { continue };
            extents.insert((value, axis), atoms.len());
            for root in atoms.map(|a| coupling.atoms.find(a)).filter(|&r| r != PINNED) {
                *shares.entry(root).or_default().entry((value, axis)).or_default() += 1;
            }
        }
        let alike = readings.all.iter().map(|reading| {
            let mut alike = vec![Vec::new(); reading.numbers.iter().max().map_or(0, |m| m + 1)];
            reading.numbers.iter().enumerate().for_each(|(q, &number)| alike[number].push(q));
            alike
        });
        let alike = alike.collect();
        let constants =
            readings.all.iter().map(|r| (0..r.columns()).filter(|&q| r.constants_of(q).is_some()).collect());
        let constants = constants.collect();
        Self { coupling, groups, readings, columns, shares, extents, alike, constants }
    }

    /// All classes that hold filters, in the order of their groups.
    pub fn classes(&self) -> impl DoubleEndedIterator<Item = &'a Class> + use<'a> {
        self.groups.iter().flat_map(|g| &g.classes)
    }

    pub fn choose(&self, forbidden: &Forbidden) -> Choice {
        let mut work =
            Work { study: self, choice: Choice::default(), locked: BTreeSet::new(), left: self.extents.clone() };
        let open: Vec<Atom> = self
            .classes()
            .map(|c| c.root)
            .filter(|c| !forbidden.contains_key(c) && !self.readings.unknown.contains(c))
            .rev()
            .collect();
        // Later channels go first, so that of several alike the first stays. What a removed filter read is unread.
        loop {
            let before = work.choice.removed.len();
            open.iter().for_each(|&class| work.remove(class, false));
            if work.choice.removed.len() == before {
                break;
            }
        }
        open.iter().for_each(|&class| work.remove(class, true));
        work.choice
    }

    /// What stands in the way of a class that would go otherwise.
    pub fn obstacle(&self, class: Atom, forbidden: &Forbidden) -> Option<(Option<NodeId>, &'static str, String)> {
        if self.readings.unknown.contains(&class) {
            return None;
        }
        let nothing = BTreeSet::new();
        let mut first = None;
        for &(r, q) in self.columns.get(&class).into_iter().flatten() {
            match self.need(class, r, q, &nothing) {
                Need::Live => return None,
                Need::Refused(refusal) => {
                    first.get_or_insert(refusal);
                }
                _ => {}
            }
        }
        match (first, forbidden.get(&class)) {
            (Some(r), _) => Some((Some(r.node), r.rule, r.text)),
            (None, Some(reason)) => Some(reason.clone()),
            // The last channel of a layer, which its round has told of.
            (None, None) => None,
        }
    }

    /// Whether nothing would be left of a constant without a class.
    fn last(&self, class: Atom, left: &BTreeMap<(ValueId, usize), usize>) -> bool {
        self.shares.get(&class).is_some_and(|shares| shares.iter().any(|(at, share)| left[at] <= *share))
    }

    fn need(&self, class: Atom, r: usize, q: usize, removed: &BTreeSet<Atom>) -> Need {
        let reading = &self.readings.all[r];
        let unread = reading.taps.as_ref().is_some_and(|t| {
            let goes = |f: Atom| f == class || removed.contains(&f);
            (0..t.outs).all(|o| !t.live[o * t.columns + q] || goes(reading.filters[o]))
        });
        let constants = reading.constants_of(q).filter(|_| reading.real);
        if unread || reading.idle[q] || constants.as_ref().is_some_and(|c| c.iter().all(|x| *x == 0.0)) {
            return Need::Nothing;
        }
        let refused = |rule, text: &str| Need::Refused(Refusal { node: reading.node, rule, text: text.to_owned() });
        let alike = self.alike[r][reading.numbers[q]].iter();
        let multiples = self.constants[r].iter().filter(|_| constants.is_some());
        let partners: BTreeSet<usize> = alike.chain(multiples).copied().collect();
        let partners: Vec<(usize, f64)> = partners
            .into_iter()
            .filter(|&p| {
                let stays = |c: &Atom| *c == PINNED || (*c != class && !removed.contains(c));
                p != q && reading.classes[p].iter().all(stays)
            })
            .filter_map(|p| Some((p, self.factor(r, q, p, constants.as_deref())?)))
            .collect();
        if reading.classes[q].len() > 1 && (constants.is_some() || !partners.is_empty()) {
            return refused("groups", "the channels of several groups are read as one");
        }
        let home = match (&constants, &reading.home) {
            (Some(_), Ok(_)) => return Need::Fold,
            (Some(_), Err(refusal)) => Some(refusal.clone()),
            (None, _) => None,
        };
        match (partners.is_empty(), &reading.weight, home) {
            (true, _, None) => Need::Live,
            (true, _, Some(refusal)) | (false, Err(_), Some(refusal)) => Need::Refused(refusal),
            (false, Err(refusal), None) => Need::Refused(refusal.clone()),
            (false, Ok(_), _) => Need::Partner(partners),
        }
    }

    /// By what the content of column `p` has to be multiplied to be that of `q`.
    fn factor(&self, r: usize, q: usize, p: usize, constants: Option<&[f64]>) -> Option<f64> {
        let reading = &self.readings.all[r];
        if reading.numbers[p] == reading.numbers[q] {
            return Some(1.0);
        }
        // Under padding too, one constant is a multiple of another.
        let (a, b) = (constants?, reading.constants_of(p)?);
        let factor = a[0] / b[0];
        let all = a.iter().zip(&b).all(|(x, y)| *y != 0.0 && x / y == factor);
        (all && factor.abs() <= MOST_FACTOR && factor.abs() >= 1.0 / MOST_FACTOR).then_some(factor)
    }
}

struct Work<'a> {
    study: &'a Study<'a>,
    choice: Choice,
    /// Classes that have taken over.
    locked: BTreeSet<Atom>,
    /// Positions left of each axis of each constant.
    left: BTreeMap<(ValueId, usize), usize>,
}

impl Work<'_> {
    /// Removes a class if all that read it can do without; `merging`, also where another takes over.
    fn remove(&mut self, class: Atom, merging: bool) {
        let study = self.study;
        if self.choice.removed.contains(&class) || self.locked.contains(&class) {
            return;
        }
        let (mut folds, mut merges) = (Vec::new(), Vec::new());
        for &(r, q) in study.columns.get(&class).into_iter().flatten() {
            match study.need(class, r, q, &self.choice.removed) {
                Need::Nothing => {}
                Need::Fold => folds.push((r, q)),
                Need::Partner(partners) if merging => {
                    let (to, factor) = partners[0];
                    merges.push(Merge { reading: r, from: q, to, factor });
                }
                _ => return,
            }
        }
        if study.last(class, &self.left) {
            self.choice.spared.insert(class);
            return;
        }
        for merge in &merges {
            let classes = &study.readings.all[merge.reading].classes[merge.to];
            self.locked.extend(classes.iter().filter(|c| **c != PINNED));
        }
        for (at, share) in study.shares.get(&class).into_iter().flatten() {
            if let Some(left) = self.left.get_mut(at) {
                *left -= share;
            }
        }
        self.choice.removed.insert(class);
        self.choice.folds.extend(folds);
        self.choice.merges.extend(merges);
    }
}
