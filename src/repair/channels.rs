//! New weights where a layer has too many columns, or too few observations, for a regression of each: from channel to
//! channel.

use super::linear::Linear;
use super::solve::{self, Moments, Observations};
use super::work::{Original, PER_COLUMN, Work};
use super::{draw, response};
use crate::onnx::tensor::Tensor;
use nalgebra::DMatrix;

impl Work<'_> {
    /// New weights of one group where its columns are too many to fit: each channel of the original is made of those that
    /// are left, the same way at every tap.
    pub(super) fn by_channels(&self, original: &Original, linear: &Linear, group: usize) -> Option<Vec<f64>> {
        let model = &self.removal.original;
        let before = Linear::of(model, &original.shapes, &|v| self.removal.constant(v), linear.node).ok()?;
        let classes = response::column_classes(model, &self.removal.coupling, &before)?;
        let classes = &classes[group * before.channels..(group + 1) * before.channels];
        let all = response::channel_columns(&before, classes);
        let stays = |c: &Vec<usize>| !self.removal.removed.contains(&classes[c[0] / before.taps]);
        let kept: Vec<bool> = all.iter().map(stays).collect();
        // Columns are numbered anew without those that are gone.
        let mut left = vec![usize::MAX; before.columns()];
        let mut staying: Vec<usize> = all.iter().zip(&kept).filter(|k| *k.1).flat_map(|k| k.0.clone()).collect();
        staying.sort_unstable();
        staying.iter().enumerate().for_each(|(i, &c)| left[c] = i);
        let now: Vec<Vec<usize>> =
            all.iter().zip(&kept).filter(|k| *k.1).map(|k| k.0.iter().map(|&c| left[c]).collect()).collect();
        if staying.len() != linear.columns() || before.groups != linear.groups || now.is_empty() {
            return None;
        }
        let (was, is) = (original.run.value(before.data)?, self.run.value(linear.data)?);
        let (was, is) = (&was[..self.fitted], &is[..self.fitted]);
        // Every tap of a place is an observation.
        let wanted = solve::observations(all.len(), all.len() + now.len(), PER_COLUMN);
        let taps = before.columns() / all.len().max(1);
        let places = wanted.div_ceil(taps.max(1) * is.len()).min(before.rows).min(linear.rows);
        let samples = places * is.len();
        let gathered = |l: &Linear, data: &[&Tensor]| -> Option<Vec<f32>> {
            let mut out = vec![0.0; l.columns() * samples];
            for (b, x) in data.iter().enumerate() {
                let rows = draw(l.rows, places, "channels", self.options.seed ^ b as u64);
                l.gather(&x.to_f32()?, group, &rows, &mut out, samples, b * places);
            }
            Some(out)
        };
        let regressors = response::by_channel(&gathered(linear, is)?, samples, &now);
        let targets = response::by_channel(&gathered(&before, was)?, samples, &all);
        let together = Observations { samples: regressors.samples, data: [regressors.data, targets.data].concat() };
        let moments = Moments::of(&together, now.len(), true);
        let mut identity = vec![0.0; all.len() * now.len()];
        let numbers = kept.iter().enumerate().filter(|k| *k.1).map(|k| k.0);
        numbers.enumerate().for_each(|(i, c)| identity[c * now.len() + i] = 1.0);
        let made = moments.regress(&identity, self.options.ridge)?;
        // The outputs that are left, each with all channels of the original.
        let weights = self.outputs_left(original, &before, linear, group)?;
        let weights = response::transposed(&weights, before.columns(), &all);
        // One column of these an output and tap.
        let weights = DMatrix::from_vec(all.len(), weights.len() / all.len(), weights);
        let new = DMatrix::from_vec(now.len(), all.len(), made) * weights;
        Some(response::straightened(new.as_slice(), linear.columns(), &now))
    }

    /// The original's weights of one group, `[outs][columns]`, for the outputs that are left.
    fn outputs_left(&self, original: &Original, before: &Linear, now: &Linear, group: usize) -> Option<Vec<f64>> {
        let weights = before.weights(&self.removal.original, &original.shapes)?;
        let size = before.outs * before.columns();
        let own = &weights[group * size..(group + 1) * size];
        let shape = original.shapes.shape(before.output)?;
        let axis = before.output_axis(shape)?;
        let kept = self.removal.kept(before.output).unwrap_or_default();
        let kept = kept.iter().find(|(a, _)| *a == axis).map(|k| &k.1);
        let outs: Vec<usize> = match kept {
            Some(kept) => {
                let first = group * before.outs;
                kept.iter().filter(|&&k| (first..first + before.outs).contains(&k)).map(|k| k - first).collect()
            }
            None => (0..before.outs).collect(),
        };
        let scale = before.addend.of_sum;
        let rows = outs.iter().flat_map(|&o| &own[o * before.columns()..(o + 1) * before.columns()]);
        (outs.len() == now.outs).then(|| rows.map(|w| w * scale).collect())
    }
}
