//! How far each of several cuts of one model moves its outputs once the layers behind it are fitted.
//!
//! Guarantees: each cut is repaired as [`super::repair`] does without steps for pairs, on three of four batches; the same
//! numbers for any number of threads. Refuses: what `repair` refuses.
//! How: all repairs go through the model side by side, so that the original runs once; each starts where its cut does,
//! for before that the models are the same.

use super::outputs::drift;
use super::work::{Original, Work};
use super::{Options, Removal};
use crate::ir::{Model, NodeId};
use crate::run::{Batches, CannotRun};
use rayon::prelude::*;
use std::ops::Range;

/// One of so many batches is not fitted on.
const HELD: usize = 4;

/// A cut that is tried out.
pub struct Trial {
    pub removal: Removal,
    pub cut: Model,
}

/// The drift of each cut of `model`: the mean, of ratios, of that on batches that layers were fitted on and that on
/// others. With few rows the one is too low and the other too high, by about the same factor.
pub fn drifts(model: &Model, trials: Vec<Trial>, batches: &Batches, seed: u64) -> Result<Vec<f64>, CannotRun> {
    let mean = |parts: Vec<f64>| parts.iter().product::<f64>().powf(1.0 / parts.len().max(1) as f64);
    Ok(by_part(model, trials, batches, seed)?.into_iter().map(mean).collect())
}

/// The drift of each cut on batches that layers were fitted on, and on others where there are some.
fn by_part(model: &Model, trials: Vec<Trial>, batches: &Batches, seed: u64) -> Result<Vec<Vec<f64>>, CannotRun> {
    let options = Options { steps: 0, seed, ..Options::default() };
    let mut original = Original::new(model, batches);
    let count = batches.batches.len();
    let fitted = (count - count / HELD).max(1);
    let (removals, mut cuts): (Vec<Removal>, Vec<Model>) = trials.into_iter().map(|t| (t.removal, t.cut)).unzip();
    let mut works: Vec<Option<Work>> = removals.iter().map(|_| None).collect();
    for n in original.run.order().to_vec() {
        for ((removal, cut), work) in removals.iter().zip(&cuts).zip(&mut works) {
            if work.is_none() && touches(removal, n) {
                original.run_before(n)?;
                let started = Work::new(removal, original.start(cut, batches), batches, &options);
                *work = Some(Work { fitted, ..started });
            }
        }
        let going = cuts.iter_mut().zip(&mut works).filter_map(|(cut, work)| Some((cut, work.as_mut()?)));
        let mut asking: Vec<(&mut Model, &mut Work)> =
            going.filter_map(|(cut, work)| work.asks(&original, cut, n).then_some((cut, work))).collect();
        if asking.is_empty() {
            continue;
        }
        original.run_through(n)?;
        // No more at once than there are threads: each has its observations in memory.
        for some in asking.chunks_mut(rayon::current_num_threads()) {
            some.par_iter_mut().try_for_each(|(cut, work)| work.fit(&original, cut, n))?;
        }
    }
    let parts: Vec<Range<usize>> = [0..fitted, fitted..count].into_iter().filter(|part| !part.is_empty()).collect();
    let expected: Vec<_> = parts.iter().map(|p| original.outputs(p.clone())).collect::<Result<_, _>>()?;
    let one = |(work, cut): (Option<Work>, &Model)| {
        let Some(mut work) = work else { return Ok(vec![0.0; parts.len()]) };
        parts.iter().zip(&expected).map(|(p, e)| Ok(drift(e, &work.outputs(cut, p.clone())?))).collect()
    };
    works.into_iter().zip(&cuts).map(one).collect()
}

/// Whether a node reads or writes something that loses channels.
fn touches(removal: &Removal, node: NodeId) -> bool {
    let node = removal.original.node(node);
    node.inputs().iter().chain(node.outputs()).flatten().any(|&v| removal.kept(v).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Coupling, groups, infer_all};
    use crate::cut::cut;
    use crate::onnx::tensor::Tensor;
    use crate::onnx::text::parse_fixture;
    use crate::repair::repair;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    const NETWORK: &str = "# secateur: seed=5
        <ir_version: 8, opset_import: [\"\" : 17]>
        g (float[N, 3, 8, 8] x) => (float[N, 4] y)
        <float[8, 3, 3, 3] u, float[8, 8, 3, 3] v, float[8, 8, 3, 3] w, float[8, 4] d> {
            a = Conv <pads = [1, 1, 1, 1]> (x, u)  b = Relu (a)
            c = Conv <pads = [1, 1, 1, 1]> (b, v)  e = Relu (c)
            f = Conv <pads = [1, 1, 1, 1]> (e, w)  h = Relu (f)
            m = GlobalAveragePool (h)  r = Flatten (m)  y = MatMul (r, d)
        }";

    /// The network without the first two channels of each of its groups, one cut each.
    fn trials() -> (Arc<Model>, Vec<Trial>) {
        let model = Model::import(parse_fixture(NETWORK).unwrap()).unwrap();
        let coupling = Coupling::new(&model, infer_all(&model, &BTreeMap::new()), &Vec::new());
        let (model, coupling) = (Arc::new(model), Arc::new(coupling));
        let trial = |removed: BTreeSet<_>| {
            let cut = cut(&model, &coupling, &removed, &Default::default()).unwrap().model;
            let (original, coupling) = (Arc::clone(&model), Arc::clone(&coupling));
            Trial { removal: Removal { original, coupling, removed }, cut }
        };
        let all = groups(&model, &coupling);
        let cuts = all
            .iter()
            .map(|g| g.classes.iter().take(2).map(|c| c.root).collect())
            .filter(|r: &BTreeSet<_>| !r.is_empty());
        let trials = cuts.map(trial).collect();
        (model, trials)
    }

    fn data(model: &Model, rows: usize) -> Batches {
        let numbers: Vec<f32> = (0..rows * 192).map(|i| ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0).collect();
        Batches::of(model, &[("x".to_owned(), Tensor::from_f32(&[rows, 3, 8, 8], &numbers))], rows, "made up").unwrap()
    }

    #[test]
    fn a_trial_is_a_repair_without_pairs() {
        let (model, trials) = trials();
        let batches = data(&model, 40);
        assert!(batches.batches.len() < HELD, "all rows are fitted on");
        let options = Options { steps: 0, ..Options::default() };
        let alone: Vec<f64> = trials
            .iter()
            .map(|t| repair(&t.removal, &mut t.cut.clone(), &batches, &options).unwrap().drift[1])
            .collect();
        let together = drifts(&model, trials, &batches, 0).unwrap();
        assert_eq!(together.len(), 3);
        assert!(together.iter().all(|&d| d > 1e-3), "{together:?}");
        for (a, b) in alone.iter().zip(&together) {
            assert!((a - b).abs() < 1e-5 * a, "{alone:?} {together:?}");
        }
    }

    #[test]
    fn the_last_batch_is_compared_but_not_fitted_on() {
        let (model, _) = trials();
        let mut all = data(&model, 128);
        assert_eq!(all.batches.len(), HELD);
        let drifts = |batches: &Batches| drifts(&model, trials().1, batches, 0).unwrap();
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * a);
        // What was fitted does not hang on it.
        let fitted = drifts(&all.first(96));
        let parts = by_part(&model, trials().1, &all, 0).unwrap();
        assert!(near(&fitted, &parts.iter().map(|p| p[0]).collect::<Vec<_>>()), "{fitted:?} {parts:?}");
        // What is told does.
        all.batches[3] = all.batches[0].clone();
        let again = drifts(&all);
        all.batches[3] = data(&model, 96).batches[1].clone();
        let other = drifts(&all);
        assert!(!near(&again, &other), "{again:?} {other:?}");
        // Where all batches are the same, so is the drift of each.
        (1..4).for_each(|b| all.batches[b] = all.batches[0].clone());
        let same = drifts(&all.first(96));
        assert!(near(&drifts(&all), &same), "{same:?}");
    }
}
