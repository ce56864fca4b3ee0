//! Prune, repair, score: what every point of a curve and every step of a search is made by.

use super::score::Scorer;
use super::{Rows, Score, SweepError};
use crate::analysis::{Cost, cost, infer_all};
use crate::ir::Model;
use crate::passes::prune::{Prune, PruneOptions};
use crate::passes::{CANNOT_RUN, Context, Pipeline};

/// A model, and the rows that what becomes of it is scored on.
pub struct Bench<'a> {
    model: &'a Model,
    context: Context,
    /// Whether what is cut is repaired.
    pub repair: bool,
    scorer: Scorer,
    /// The model as it is.
    pub original: Measured,
    /// Rows that are scored.
    pub rows: usize,
}

/// What a model costs, and what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub cost: Cost,
    pub score: Score,
    /// Why a pass did not go by what the model computes, though it would have.
    pub remark: Option<String>,
}

impl<'a> Bench<'a> {
    /// Scores the original. `context` holds the data to choose and, with `repair`, to repair by, of which no row should be
    /// among `rows`; without any, inputs are made up.
    ///
    /// # Errors
    /// The rows do not fit the model, or it cannot be run in this process.
    pub fn new(model: &'a Model, context: Context, repair: bool, rows: &Rows) -> Result<Self, SweepError> {
        let scorer = Scorer::new(model, rows)?;
        let score = scorer.score(model)?;
        let original = Measured { cost: cost_of(model, &context)?, score, remark: None };
        Ok(Self { model, context, repair, rows: scorer.rows(), scorer, original })
    }

    /// The default pipeline with this prune, as the command `prune` runs it, and what comes out of it. Nothing is
    /// verified.
    ///
    /// # Errors
    /// A pass that cannot run: [`SweepError::Pass`], with the closest where a budget is not reachable.
    pub fn measure(&self, options: &PruneOptions) -> Result<Measured, SweepError> {
        let mut model = self.model.clone();
        let pipeline = Pipeline::standard(Box::new(Prune { options: options.clone() }), self.repair);
        let outcomes = pipeline.run(&mut model, &self.context, &mut |_| ())?;
        let mut remarks = outcomes.iter().flat_map(|(_, outcome)| &outcome.remarks);
        let remark = remarks.find(|r| r.rule == CANNOT_RUN).map(|r| r.to_string());
        Ok(Measured { cost: cost_of(&model, &self.context)?, score: self.scorer.score(&model)?, remark })
    }
}

fn cost_of(model: &Model, context: &Context) -> Result<Cost, SweepError> {
    let worlds = infer_all(model, &context.sizes);
    let shapes = worlds.first().ok_or_else(|| {
        SweepError::Data("no sizes could be assumed for the model's inputs; give them with --input-shape".to_owned())
    })?;
    Ok(cost(model, shapes))
}
