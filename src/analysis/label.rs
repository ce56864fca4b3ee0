//! Atoms, and the relation of going together.
//!
//! Every position along every axis of every constant that takes part in the computation is an **atom** (so is every
//! channel that padding adds). Atoms that must be removed together are joined; each successful join remembers why, so
//! that the joins form a spanning forest in which the path between two atoms is the proof that they belong together.

use crate::ir::{NodeId, ValueId};
use std::collections::{BTreeMap, VecDeque};

/// A removable position, or [`PINNED`].
pub type Atom = u32;

/// Joined with everything that must stay.
pub const PINNED: Atom = 0;

/// What an atom stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Positions along an axis of a constant; with `blocks` > 1 those of each of so many equal blocks along axis 0
    /// apart, the first block's first: the weight of a grouped convolution, whose groups keep channels of their own.
    Constant { value: ValueId, axis: usize, blocks: usize },
    /// Channels that a padding node adds along an axis, those before the data first.
    Padding { node: NodeId, axis: usize, before: usize, after: usize },
}

/// Why atoms were joined: the node whose meaning requires it, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub node: Option<NodeId>,
    /// The rule's name, stable, for machines.
    pub rule: &'static str,
    /// The rule in words, for people.
    pub text: String,
}

/// One join: `a` and `b` go together because of a reason.
#[derive(Debug, Clone, Copy)]
pub struct Join {
    pub a: Atom,
    pub b: Atom,
    pub reason: u32,
}

/// Union-find over atoms with the reason of every join.
#[derive(Debug, Clone)]
pub struct Atoms {
    parent: Vec<Atom>,
    /// Size of the class of each root.
    size: Vec<u32>,
    ranges: Vec<(Atom, Origin)>,
    by_origin: BTreeMap<Origin, (Atom, usize)>,
    joins: Vec<Join>,
    reasons: Vec<Reason>,
}

impl Default for Atoms {
    fn default() -> Self {
        Self {
            parent: vec![PINNED],
            size: vec![1],
            ranges: Vec::new(),
            by_origin: BTreeMap::new(),
            joins: Vec::new(),
            reasons: Vec::new(),
        }
    }
}

impl Atoms {
    /// The atoms of an origin, made at the first call.
    pub fn of(&mut self, origin: Origin, count: usize) -> std::ops::Range<Atom> {
        if let Some(&(start, n)) = self.by_origin.get(&origin) {
            debug_assert_eq!(n, count, "an origin has one extent");
            return start..start + n as Atom;
        }
        let start = Atom::try_from(self.parent.len()).expect("fewer than 2^32 channels");
        self.parent.extend(start..start + count as Atom);
        self.size.extend(std::iter::repeat_n(1, count));
        self.ranges.push((start, origin));
        self.by_origin.insert(origin, (start, count));
        start..start + count as Atom
    }

    /// The atoms of an origin, if it has any.
    pub fn get(&self, origin: Origin) -> Option<std::ops::Range<Atom>> {
        self.by_origin.get(&origin).map(|&(start, n)| start..start + n as Atom)
    }

    /// Every origin with its atoms, in order of creation.
    pub fn origins(&self) -> impl Iterator<Item = (Origin, std::ops::Range<Atom>)> + '_ {
        self.ranges.iter().map(|&(start, origin)| {
            let (_, n) = self.by_origin[&origin];
            (origin, start..start + n as Atom)
        })
    }

    /// Where an atom comes from, and its position there. `None` for [`PINNED`].
    pub fn origin(&self, atom: Atom) -> Option<(Origin, usize)> {
        let at = self.ranges.partition_point(|&(start, _)| start <= atom).checked_sub(1)?;
        let (start, origin) = self.ranges[at];
        Some((origin, (atom - start) as usize))
    }

    /// The representative of an atom's class; [`PINNED`] for everything that stays.
    pub fn find(&self, mut atom: Atom) -> Atom {
        while self.parent[atom as usize] != atom {
            atom = self.parent[atom as usize];
        }
        atom
    }

    pub fn is_pinned(&self, atom: Atom) -> bool {
        self.find(atom) == PINNED
    }

    /// Number of atoms, [`PINNED`] included.
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// Whether there is no atom but [`PINNED`].
    pub fn is_empty(&self) -> bool {
        self.len() == 1
    }

    /// Records a reason for the joins to come.
    pub fn reason(&mut self, node: Option<NodeId>, rule: &'static str, text: impl Into<String>) -> u32 {
        let reason = Reason { node, rule, text: text.into() };
        match self.reasons.last() {
            Some(last) if *last == reason => {}
            _ => self.reasons.push(reason),
        }
        (self.reasons.len() - 1) as u32
    }

    /// Joins two classes; remembers the reason if they were not one already.
    pub fn join(&mut self, a: Atom, b: Atom, reason: u32) {
        let (x, y) = (self.find(a), self.find(b));
        if x == y {
            return;
        }
        // The smaller class hangs under the larger, so that finding is logarithmic; PINNED is always the root.
        let (root, child) = match (x, y) {
            (PINNED, _) => (x, y),
            (_, PINNED) => (y, x),
            _ if self.size[x as usize] >= self.size[y as usize] => (x, y),
            _ => (y, x),
        };
        self.parent[child as usize] = root;
        self.size[root as usize] += self.size[child as usize];
        self.joins.push(Join { a, b, reason });
    }

    pub fn pin(&mut self, atom: Atom, reason: u32) {
        self.join(atom, PINNED, reason);
    }

    /// Every join with its reason, in order.
    pub fn joins(&self) -> impl Iterator<Item = (Atom, Atom, &Reason)> + '_ {
        self.joins.iter().map(|j| (j.a, j.b, self.why(j)))
    }

    pub fn why(&self, join: &Join) -> &Reason {
        &self.reasons[join.reason as usize]
    }

    /// The joins that connect `from` with `to`, in order; empty if they are not in one class (or are the same).
    pub fn path(&self, from: Atom, to: Atom) -> Vec<Join> {
        if self.find(from) != self.find(to) {
            return Vec::new();
        }
        self.search(from, |a| a == to)
    }

    fn search(&self, from: Atom, found: impl Fn(Atom) -> bool) -> Vec<Join> {
        let root = self.find(from);
        let mut edges: BTreeMap<Atom, Vec<usize>> = BTreeMap::new();
        for (i, j) in self.joins.iter().enumerate().filter(|(_, j)| self.find(j.a) == root) {
            edges.entry(j.a).or_default().push(i);
            edges.entry(j.b).or_default().push(i);
        }
        let mut came: BTreeMap<Atom, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if at != from && found(at) {
                let mut path = Vec::new();
                let mut at = at;
                while at != from {
                    let join = self.joins[came[&at]];
                    path.push(join);
                    at = if join.a == at { join.b } else { join.a };
                }
                path.reverse();
                return path;
            }
            for &i in edges.get(&at).map_or(&[][..], Vec::as_slice) {
                let next = if self.joins[i].a == at { self.joins[i].b } else { self.joins[i].a };
                if next != from && !came.contains_key(&next) {
                    came.insert(next, i);
                    // Beyond PINNED lie the proofs of other channels.
                    if next != PINNED || found(PINNED) {
                        queue.push_back(next);
                    }
                }
            }
        }
        Vec::new()
    }

    /// For every pinned atom the reason of the last join on its path to [`PINNED`]: what pins it.
    pub fn pin_reasons(&self) -> Vec<Option<u32>> {
        // The joins of each atom, one after the other in a single list: a list for each would be most of the time.
        let mut first = vec![0u32; self.parent.len() + 1];
        for j in &self.joins {
            first[j.a as usize + 1] += 1;
            first[j.b as usize + 1] += 1;
        }
        for atom in 0..self.parent.len() {
            first[atom + 1] += first[atom];
        }
        let mut next = first.clone();
        let mut edges = vec![(PINNED, 0u32); 2 * self.joins.len()];
        for j in &self.joins {
            for (from, to) in [(j.a, j.b), (j.b, j.a)] {
                edges[next[from as usize] as usize] = (to, j.reason);
                next[from as usize] += 1;
            }
        }
        let of = |atom: Atom| &edges[first[atom as usize] as usize..first[atom as usize + 1] as usize];
        let mut out: Vec<Option<u32>> = vec![None; self.parent.len()];
        let mut queue = VecDeque::new();
        for &(to, reason) in of(PINNED).iter().filter(|e| e.0 != PINNED) {
            if out[to as usize].is_none() {
                out[to as usize] = Some(reason);
                queue.push_back(to);
            }
        }
        while let Some(at) = queue.pop_front() {
            for &(to, _) in of(at).iter().filter(|e| e.0 != PINNED) {
                if out[to as usize].is_none() {
                    out[to as usize] = out[at as usize];
                    queue.push_back(to);
                }
            }
        }
        out
    }

    pub fn reason_at(&self, index: u32) -> &Reason {
        &self.reasons[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_chain_of_joins() {
        let mut atoms = Atoms::default();
        let node = |i| Origin::Padding { node: test_node(i), axis: 0, before: 0, after: 0 };
        let a = atoms.of(node(0), 3).start;
        let b = atoms.of(node(1), 3).start;
        let first = atoms.reason(None, "first", "");
        let second = atoms.reason(None, "second", "");
        atoms.join(a, b, first);
        atoms.join(b, b + 1, second);
        let rules: Vec<_> = atoms.path(a, b + 1).iter().map(|j| atoms.why(j).rule).collect();
        assert_eq!(rules, ["first", "second"]);
        assert!(atoms.path(a, a + 1).is_empty());
    }

    #[test]
    fn pinned_stays_the_root_and_says_why() {
        let mut atoms = Atoms::default();
        let a = atoms.of(Origin::Padding { node: test_node(0), axis: 0, before: 4, after: 0 }, 4).start;
        let join = atoms.reason(None, "join", "");
        let pin = atoms.reason(None, "pin", "");
        atoms.join(a, a + 1, join);
        atoms.pin(a + 1, pin);
        assert!(atoms.is_pinned(a) && !atoms.is_pinned(a + 2));
        assert_eq!(atoms.pin_reasons()[a as usize], Some(pin));
    }

    fn test_node(i: usize) -> NodeId {
        use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
        let node = |_| NodeProto { op_type: Some("Nothing".into()), ..Default::default() };
        let graph = GraphProto { node: (0..=i).map(node).collect(), ..Default::default() };
        let model = crate::ir::Model::import(ModelProto { graph: Some(graph), ..Default::default() }).expect("valid");
        model.walk()[i]
    }
}
