//! The plan of a prune: what was decided and why, as stable JSON.
//!
//! Guarantees: fields in a fixed order, lists sorted, the same bytes for the same model and options. A plan says enough
//! to judge a prune from outside (`tensors`, `reads`) and to replay it on another checkpoint (`groups`).
//! Refuses: other versions of the format.

mod repair;

pub(crate) use repair::rounded;
pub use repair::{FittedPlan, RepairPlan, UnrepairedPlan};

use crate::analysis::Reach;
use serde::{Deserialize, Serialize};

/// Version of the format.
pub const VERSION: u32 = 1;

/// The rule of groups that a lossless removal leaves as they are because all of it is needed.
pub const NEEDED: &str = "needed";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub version: u32,
    pub tool: String,
    pub model: ModelRef,
    /// The options of the prune, by their command-line names.
    pub options: serde_json::Value,
    /// What the new model computes. A lossless removal changes weights, so that it cannot be replayed on others.
    #[serde(default, skip_serializing_if = "Reference::is_masked")]
    pub reference: Reference,
    pub groups: Vec<GroupPlan>,
    pub tensors: Vec<TensorCut>,
    pub reads: Vec<ReadCut>,
    /// Statistics that are of the remaining channels in the new model and in what it is compared with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inexact: Vec<InexactCut>,
    pub cost: Cost,
    /// How much of the model the cut could reach, and how much it reached.
    #[serde(default)]
    pub reach: ReachPlan,
    /// What was fitted after the cut; absent where nothing was. A replay on other weights fits anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairPlan>,
    /// Of the cut, before any repair.
    pub verified: Option<Verified>,
}

/// What a new model is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The original with the plan's reads set to zero.
    #[default]
    Masked,
    /// The masked original, with its statistics taken as the plan's inexact entries say.
    Rescaled,
    /// The original as it is; the plan has no reads.
    Original,
}

impl Reference {
    fn is_masked(&self) -> bool {
        *self == Self::Masked
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRef {
    /// Of the file's bytes, hexadecimal; `None` where the model did not come from a file.
    pub sha256: Option<String>,
    pub file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// Channels were removed.
    Pruned,
    /// Could be cut, was not: excluded, ratio 0, too few channels.
    Kept,
    /// The theorem does not allow it.
    Pinned,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupPlan {
    pub id: String,
    pub channels: usize,
    pub verdict: VerdictKind,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<ReasonPlan>,
    pub members: Vec<MemberPlan>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub scores: Vec<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub removed: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub representation: Option<String>,
    /// Why this representation, and other remarks on the scores.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReasonPlan {
    pub node: Option<String>,
    pub rule: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberPlan {
    pub node: String,
    pub tensor: Option<String>,
    pub axis: usize,
    /// Half-open ranges of the member's filters that belong to the group, in order.
    pub channels: Vec<[usize; 2]>,
}

/// A constant that lost positions along an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorCut {
    pub name: String,
    pub axis: usize,
    pub size: usize,
    /// What stays, ascending; empty where `kept_by_block` says it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub kept: Vec<usize>,
    /// What stays in each of equal blocks along axis 0, where each group of a convolution keeps channels of its own.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub kept_by_block: Vec<Vec<usize>>,
}

/// What the masked original zeroes so that a contraction stops reading what was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadCut {
    pub node: String,
    pub tensor: String,
    pub axis: usize,
    pub removed: Vec<usize>,
    /// Half-open range of axis 0 that this is about; all of it where absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<[usize; 2]>,
}

/// A statistic over channels that became one over those that stay. The new model is no longer what the original with
/// its reads set to zero is, but what that is when the statistic is taken so: what is removed of the input is zero to it,
/// and it counts `count[1]` of every `count[0]` elements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InexactCut {
    /// The first output of the node that takes the statistic, the model's functions being inlined.
    pub output: String,
    pub op: String,
    /// Which input of the node the statistic is of; of a sum of several inputs, the first.
    pub input: usize,
    /// The axes of that input along which removed elements are told apart: the last one has positions, each position
    /// along the others a row.
    pub axes: Vec<usize>,
    /// Into how many equal parts the last axis falls, the fewest of which each stays or goes as a whole: channels that are
    /// flattened with positions in space are parts, and so are neighbours that go together.
    pub parts: usize,
    /// The parts that are removed, ascending, in each row; one list where all rows lose the same.
    pub removed: Vec<Vec<usize>>,
    /// Parts in one statistic, before and after.
    pub count: [usize; 2],
}

/// Before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Learned numbers: weights, biases, scales and shifts; running statistics not, as the literature counts.
    pub params: [u64; 2],
    /// Multiply-accumulate operations of convolutions and matrix products, for one item of the batch.
    pub macs: [u64; 2],
    /// Stored constants, in bytes.
    pub bytes: [u64; 2],
}

/// What lies within reach of classes of channels, before the cut: see `analysis::reach` for what that means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachPlan {
    /// Of all classes that can be removed.
    pub allowed: Reach,
    /// Of those in groups that the options ask for: not excluded, and dense ones only where they are asked for.
    pub asked: Reach,
    /// Of those in groups that were cut.
    pub cut: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Equal,
    Different,
    Cannot,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Reference::is_masked")]
    pub reference: Reference,
    pub max_relative_error: Option<f64>,
    /// Why it could not be verified: node and reason.
    pub reason: Option<String>,
}

impl Plan {
    /// The plan as JSON, ending in a newline.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a plan is plain data");
        text.push('\n');
        text
    }

    /// Reads a plan; the message says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|e| format!("this is not a plan: {e}"))?;
        if plan.version != VERSION {
            return Err(format!("the plan has version {}, this build reads version {VERSION}", plan.version));
        }
        Ok(plan)
    }
}
