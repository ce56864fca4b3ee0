//! Channels of which several rows have to lose equally many.
//!
//! A grouped convolution needs as many channels in every group, a tensor `[batch, heads, positions, width]` as many in
//! every head; which of a row's channels go is each row's own choice. Such a demand is a [`Balance`]. Several of them
//! may speak of the same classes: what the classes have in common is their [`Cell`], and if as many classes go from
//! every cell of a family, every row of every balance loses equally many.
//!
//! Guarantees: [`resolve`] gives cells for which that holds, or names the balances that cannot be kept this way. Then
//! the same positions have to go in every row, which a join says.

use super::label::{Atom, Atoms, PINNED};
use crate::ir::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of which each has to lose as many positions as the others.
#[derive(Debug, Clone)]
pub(super) struct Balance {
    pub node: Option<NodeId>,
    pub text: String,
    /// Equally long.
    pub rows: Vec<Vec<Atom>>,
}

/// Where a class stands: as many classes have to go from each cell of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    pub family: u32,
    pub cell: u32,
}

/// The cell of each class that is in one, by representative.
pub type Cells = BTreeMap<Atom, Cell>;

/// What a class is to the balances: how often it stands in which row of which.
type Signature = Vec<(u32, u32, u32)>;

/// The cells, or the balances (by index) that cannot be kept by taking equally many from each.
pub(super) fn resolve(atoms: &Atoms, balances: &[Balance]) -> Result<Cells, BTreeSet<usize>> {
    let mut signatures: BTreeMap<Atom, Signature> = BTreeMap::new();
    for (k, balance) in balances.iter().enumerate() {
        let mut counts: BTreeMap<Atom, Vec<(u32, u32)>> = BTreeMap::new();
        for (r, row) in balance.rows.iter().enumerate() {
            for root in row.iter().map(|&a| atoms.find(a)).filter(|&root| root != PINNED) {
                let rows = counts.entry(root).or_default();
                match rows.last_mut() {
                    Some((last, count)) if *last == r as u32 => *count += 1,
                    _ => rows.push((r as u32, 1)),
                }
            }
        }
        for (root, rows) in counts {
            // A class that takes as much from every row needs no company.
            let even = rows.len() == balance.rows.len() && rows.iter().all(|r| r.1 == rows[0].1);
            if !even {
                signatures.entry(root).or_default().extend(rows.into_iter().map(|(r, count)| (k as u32, r, count)));
            }
        }
    }
    let mut cell_of: BTreeMap<&Signature, u32> = BTreeMap::new();
    for signature in signatures.values() {
        let next = cell_of.len() as u32;
        cell_of.entry(signature).or_insert(next);
    }
    let mut sizes = vec![0usize; cell_of.len()];
    signatures.values().for_each(|s| sizes[cell_of[s] as usize] += 1);

    let mut family: Vec<usize> = (0..sizes.len()).collect();
    let mut first: Vec<Option<usize>> = vec![None; balances.len()];
    let mut row_sums: Vec<Vec<u32>> = balances.iter().map(|b| vec![0; b.rows.len()]).collect();
    for (signature, &cell) in &cell_of {
        for &(k, row, count) in *signature {
            row_sums[k as usize][row as usize] += count;
            let with = *first[k as usize].get_or_insert(cell as usize);
            let (a, b) = (lowest(&mut family, cell as usize), lowest(&mut family, with));
            family[a.max(b)] = a.min(b);
        }
    }
    let family: Vec<usize> = (0..family.len()).map(|c| lowest(&mut family, c)).collect();
    // Where a cell has one class, none can go unless all of its row does.
    let stuck: BTreeSet<usize> = (0..sizes.len()).filter(|&c| sizes[c] < 2).map(|c| family[c]).collect();
    let uneven = |k: usize| row_sums[k].iter().any(|&s| s != row_sums[k][0]);
    let fails = |k: &usize| uneven(*k) || first[*k].is_some_and(|c| stuck.contains(&family[c]));
    let failing: BTreeSet<usize> = (0..balances.len()).filter(fails).collect();
    if !failing.is_empty() {
        return Err(failing);
    }
    let place = |(&root, signature): (&Atom, &Signature)| {
        let cell = cell_of[signature];
        (root, Cell { family: family[cell as usize] as u32, cell })
    };
    Ok(signatures.iter().map(place).collect())
}

/// The first of a union; shortens the way there.
pub(super) fn lowest(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::super::label::Origin;
    use super::*;

    fn balance(rows: Vec<Vec<Atom>>) -> Balance {
        Balance { node: None, text: String::new(), rows }
    }

    fn atoms(count: usize) -> (Atoms, Vec<Atom>) {
        use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
        let graph = GraphProto { node: vec![NodeProto::default()], ..Default::default() };
        let model = crate::ir::Model::import(ModelProto { graph: Some(graph), ..Default::default() }).unwrap();
        let mut atoms = Atoms::default();
        let node = model.walk()[0];
        let all = atoms.of(Origin::Padding { node, axis: 0, before: count, after: 0 }, count).collect();
        (atoms, all)
    }

    #[test]
    fn rows_are_cells() {
        let (atoms, a) = atoms(6);
        let cells = resolve(&atoms, &[balance(vec![a[..3].to_vec(), a[3..].to_vec()])]).unwrap();
        assert_eq!(cells[&a[0]], cells[&a[2]]);
        assert_ne!(cells[&a[0]], cells[&a[3]]);
        assert_eq!(cells[&a[0]].family, cells[&a[3]].family);
    }

    #[test]
    fn a_finer_balance_refines_the_cells() {
        let (atoms, a) = atoms(8);
        let halves = balance(vec![a[..4].to_vec(), a[4..].to_vec()]);
        let quarters = balance(a.chunks(2).map(<[Atom]>::to_vec).collect());
        let cells = resolve(&atoms, &[halves, quarters]).unwrap();
        assert_eq!(cells.values().collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(cells.values().map(|c| c.family).collect::<BTreeSet<_>>().len(), 1);
    }

    #[test]
    fn rows_that_cross_leave_no_choice_and_are_named() {
        let (atoms, a) = atoms(4);
        let rows = balance(vec![vec![a[0], a[1]], vec![a[2], a[3]]]);
        let columns = balance(vec![vec![a[0], a[2]], vec![a[1], a[3]]]);
        assert_eq!(resolve(&atoms, &[rows.clone(), columns]).unwrap_err(), BTreeSet::from([0, 1]));
        assert!(resolve(&atoms, &[rows]).is_ok());
    }

    #[test]
    fn a_class_in_every_row_is_balanced_by_itself() {
        let (mut atoms, a) = atoms(6);
        let reason = atoms.reason(None, "test", "");
        (0..3).for_each(|i| atoms.join(a[i], a[i + 3], reason));
        let cells = resolve(&atoms, &[balance(vec![a[..3].to_vec(), a[3..].to_vec()])]).unwrap();
        assert!(cells.is_empty());
    }

    #[test]
    fn a_row_that_is_pinned_holds_the_others() {
        let (mut atoms, a) = atoms(6);
        let reason = atoms.reason(None, "test", "");
        (0..3).for_each(|i| atoms.pin(a[i], reason));
        assert!(resolve(&atoms, &[balance(vec![a[..3].to_vec(), a[3..].to_vec()])]).is_err());
    }
}
