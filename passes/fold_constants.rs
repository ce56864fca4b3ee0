//! # What it does
//!
//! Computes nodes that depend on constants only, and stores the result under the name that it had. Extents that the
//! model's inputs fix are constants too, so that `Shape` and the arithmetic behind it go away where it is the same for
//! every input; an extent that a symbol stands for is not one, whatever sizes were given for the analysis.
//!
//! A whole tree of constant nodes is folded into its last value. Where that would store much more than is dropped,
//! the trees below are tried instead: of `Add (Expand (a), Mul (b, c))` the product is folded even if the sum is not.
//! Constants that only folded nodes read are dropped, and count: a transposed weight costs nothing.
//!
//! An `If` whose condition is constant becomes the branch that it takes.
//!
//! Operators are evaluated by the same code that moves shapes and channels; the rest, from a list of operators and
//! element types, by tract.
//!
//! # When it refuses
//!
//! - `growth`: the result takes more bytes than those it replaces, by more than `max-growth`, or all of them together
//!   by more than `max-total-growth`. Counted in stored constants, the dropped ones deducted.
//! - `size`: computing it takes far more memory than its constants do.
//! - `quantised`: the node is a `DequantizeLinear` or `QuantizeLinear`. Folding these would turn integers back into
//!   floats, four times as large, and take the scales away from the runtime.
//! - `graph-output`: the value is an output of a graph; runtimes want a node there. What it depends on is folded.
//! - `operator`: the operator is not evaluated: unknown, of another domain, random, a function of the model, with a
//!   body, or of element types that are not covered.
//! - `evaluation`: evaluating it failed, or gave another type or shape than the operator's rule says.
//!
//! # Options
//!
//! - `max-growth=BYTES`: by how much one fold may grow the file (default 65536: tables of positions and masks of
//!   windows pass, broadcasts of whole feature maps do not).
//! - `max-total-growth=BYTES`: by how much all folds together may (default a hundredth of the stored constants, but
//!   4096 at least: a model without weights of its own stays one). Spent in the order of execution, anew in each run.
//! - `dequantize`: fold `DequantizeLinear` of constants as well.
//!
//! # Example
//!
//! ```text
//! s = Shape (x)                                with x of type float[N, 64, 8, 8]
//! c = Gather <axis = 0> (s, one)        ->     <int64 h = {32}>
//! h = Div (c, two)
//! ```

mod branches;

use super::{ArgumentError, Arguments, Context, Outcome, Pass, PassError, Remark, counted};
use crate::analysis::{Fixed, stored};
use crate::ir::{Def, Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::{DataType, Tensor, bits_per_element};
use crate::ops::{self, Call, Fact};
use crate::run::Runner;
use branches::take_branches;
use std::collections::{BTreeMap, BTreeSet};

/// Folds what is constant.
#[derive(Debug, Clone)]
pub struct FoldConstants {
    /// Bytes by which one fold may grow the model.
    pub max_growth: u64,
    /// Bytes by which all folds of a run may; `None` for a share of the stored constants.
    pub max_total_growth: Option<u64>,
    /// Whether quantised constants are turned into floats, and floats into quantised constants.
    pub dequantize: bool,
}

impl Default for FoldConstants {
    fn default() -> Self {
        Self { max_growth: 64 << 10, max_total_growth: None, dequantize: false }
    }
}

pub(super) fn make(a: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    let d = FoldConstants::default();
    Ok(Box::new(FoldConstants {
        max_growth: a.value("max-growth", "a number of bytes", d.max_growth)?,
        max_total_growth: a.optional("max-total-growth", "a number of bytes")?,
        dequantize: a.flag("dequantize")?,
    }))
}

/// Evaluation may take this many bytes beyond a few times those of its operands.
const WORKSPACE: u64 = 16 << 20;

/// Operators whose rule is in the operator table but whose arithmetic is tract's. Their results are held against the
/// rule. Random operators must never stand here, nor those whose attributes tract reads in its own way.
const REALS: [&str; 24] = [
    "ArgMax",
    "ArgMin",
    "Clip",
    "Cos",
    "Elu",
    "Erf",
    "Gemm",
    "HardSigmoid",
    "LeakyRelu",
    "MatMul",
    "Max",
    "Mean",
    "Min",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "ReduceSumSquare",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Sum",
];
/// Those of them, and others, for integers and booleans.
const INTEGERS: [&str; 6] = ["ReduceMax", "ReduceMin", "ReduceSum", "ArgMax", "ArgMin", "Max"];
const BOOLEANS: [&str; 3] = ["And", "Or", "Xor"];

impl Pass for FoldConstants {
    fn name(&self) -> &'static str {
        "fold-constants"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        let (fixed, taken) = take_branches(model, &context.sizes);
        let mut folder = Folder::new(self, model, fixed);
        folder.all();
        let Folder { folded, dead, dying, growth, remarks, .. } = folder;
        let changes = folded.len() + taken;
        for (v, tensor) in &folded {
            model.make_initializer(*v, tensor);
        }
        model.remove_nodes(&dead);
        model.remove_initializers(&dying);
        let mut summary = match folded.len() {
            0 => "nothing to fold".to_owned(),
            _ => format!(
                "folded {} into {}, {} bytes {}",
                counted(dead.len(), "node"),
                counted(folded.len(), "constant"),
                growth.abs(),
                if growth > 0 { "more" } else { "less" }
            ),
        };
        if taken > 0 {
            summary = format!("{summary}; {} of a constant condition", counted(taken, "If"));
        }
        Ok(Outcome { changes, summary, remarks, ..Outcome::default() })
    }
}

/// A guard that spoke.
struct Refused {
    rule: &'static str,
    text: String,
}

struct Folder<'a> {
    options: &'a FoldConstants,
    model: &'a Model,
    fixed: Fixed,
    uses: Uses,
    /// Place in [`Model::walk`], by node.
    position: Vec<usize>,
    /// By node: every output follows from constants.
    constant: Vec<bool>,
    /// Values that will be initializers.
    folded: BTreeMap<ValueId, Tensor>,
    /// Nodes and initializers that go.
    dead: BTreeSet<NodeId>,
    dying: BTreeSet<ValueId>,
    growth: i64,
    /// What `growth` may come to.
    most: i64,
    remarks: Vec<Remark>,
}

impl<'a> Folder<'a> {
    fn new(options: &'a FoldConstants, model: &'a Model, fixed: Fixed) -> Self {
        let uses = model.uses();
        let mut folder = Self {
            options,
            model,
            fixed,
            uses,
            position: vec![0; model.node_count()],
            constant: vec![false; model.node_count()],
            folded: BTreeMap::new(),
            dead: BTreeSet::new(),
            dying: BTreeSet::new(),
            growth: 0,
            most: options.max_total_growth.unwrap_or_else(|| (stored_bytes(model) / 100).max(4 << 10)) as i64,
            remarks: Vec::new(),
        };
        let mut quantised = vec![false; model.value_count()];
        for (at, n) in model.walk().into_iter().enumerate() {
            folder.position[n.index()] = at;
            let node = model.node(n);
            let asks_shape = node.is_standard() && matches!(node.op_type(), "Shape" | "Size");
            let tainted = !asks_shape && node.inputs().iter().flatten().any(|v| quantised[v.index()]);
            let complete = !node.inputs().is_empty() && node.inputs().iter().flatten().all(|&v| folder.is_constant(v));
            let known = node.bodies().is_empty()
                && !node.outputs().is_empty()
                && node.outputs().iter().flatten().all(|&v| folder.fixed.value(v).is_some());
            if tainted || is_literal(model, n) || !(known || complete) {
                node.outputs().iter().flatten().for_each(|v| quantised[v.index()] = tainted);
                continue;
            }
            match folder.admit(n, known) {
                Ok(()) => folder.constant[n.index()] = true,
                Err(refused) => {
                    let lost = refused.rule == "quantised";
                    node.outputs().iter().flatten().for_each(|v| quantised[v.index()] = lost);
                    folder.remark(n, refused);
                }
            }
        }
        folder
    }

    fn remark(&mut self, n: NodeId, refused: Refused) {
        self.remarks.push(Remark::at(self.model, n, refused.rule, refused.text));
    }

    /// Whether a value is a stored constant, or follows from such.
    fn is_constant(&self, v: ValueId) -> bool {
        match self.model.value(v).def() {
            Def::Initializer => !self.model.is_overridable(v),
            Def::Node(n, _) => self.constant[n.index()] || is_literal(self.model, n),
            _ => false,
        }
    }

    /// Whether a node whose operands are constant may be evaluated at all.
    fn admit(&self, n: NodeId, known: bool) -> Result<(), Refused> {
        let node = self.model.node(n);
        let op = node.op_type();
        if op == "QuantizeLinear" || (op == "DequantizeLinear" && !self.options.dequantize) {
            return Err(Refused { rule: "quantised", text: format!("{op} of constants is kept") });
        }
        let no = |text: String| Err(Refused { rule: "operator", text });
        if !node.bodies().is_empty() {
            return no(format!("{op} has a body"));
        }
        let row = match ops::lookup(self.model, node) {
            Ok((row, _)) => row,
            Err(why) => return no(why.to_string()),
        };
        // Layout operators need no arithmetic; whether theirs covers the case is seen when it is tried.
        let covered = !matches!(row.eval, ops::Eval::None) || listed(op) || MOVES.contains(&op);
        if known || covered { Ok(()) } else { no(format!("{op} is not evaluated")) }
    }

    /// Folds every tree of constant nodes, from its last value down.
    fn all(&mut self) {
        let needed = |f: &Self, n: NodeId| {
            f.model
                .node(n)
                .outputs()
                .iter()
                .flatten()
                .any(|&v| f.uses.is_output(v) || f.uses.readers(v).iter().any(|(r, _)| !f.constant[r.index()]))
        };
        let roots = self.model.walk().into_iter().filter(|&n| self.constant[n.index()] && needed(self, n));
        let mut queue: Vec<NodeId> = roots.collect();
        let mut tried: BTreeSet<NodeId> = queue.iter().copied().collect();
        while !queue.is_empty() {
            let mut next = Vec::new();
            for n in queue {
                if let Err(refused) = self.root(n) {
                    self.remark(n, refused);
                    next.extend(self.operands(n).filter(|&p| tried.insert(p)));
                }
            }
            next.sort_by_key(|n| self.position[n.index()]);
            queue = next;
        }
    }

    /// Constant nodes that compute operands of a node and are not folded yet.
    fn operands(&self, n: NodeId) -> impl Iterator<Item = NodeId> {
        self.model.node(n).inputs().iter().flatten().filter_map(|&v| match self.model.value(v).def() {
            Def::Node(p, _) if self.constant[p.index()] && !self.folded.contains_key(&v) => Some(p),
            _ => None,
        })
    }

    /// Folds what one node computes, and with it all that only it needed.
    fn root(&mut self, n: NodeId) -> Result<(), Refused> {
        let node = self.model.node(n);
        let wanted: Vec<(usize, ValueId)> = (0..node.outputs().len())
            .filter_map(|i| Some((i, node.output(i)?)))
            .filter(|(_, v)| !self.uses.is_unused(*v))
            .collect();
        if let Some((_, v)) = wanted.iter().find(|(_, v)| self.uses.is_output(*v)) {
            let text = format!("'{}' is an output of its graph", self.model.value(*v).name());
            return Err(Refused { rule: "graph-output", text });
        }
        let tree = self.tree(n);
        let outputs = self.evaluate_tree(n, &tree)?;
        let new: u64 = wanted.iter().map(|(i, _)| outputs[*i].data().len() as u64).sum();
        let (dead, dying) = self.dies_with(n, &tree);
        let freed: u64 = dying.iter().filter_map(|&v| stored(self.model, v)).map(|t| t.data().len() as u64).sum();
        let growth = new as i64 - freed as i64;
        let (most, total) = (self.options.max_growth as i64, self.most);
        if growth > most || (growth > 0 && self.growth + growth > total) {
            let (limit, of) = if growth > most { (most, "one fold") } else { (total, "all folds") };
            let text = format!("stores {new} bytes in place of {freed}; {of} may add {limit}");
            return Err(Refused { rule: "growth", text });
        }
        self.growth += growth;
        for (i, v) in wanted {
            self.folded.insert(v, outputs[i].clone());
        }
        for v in dying {
            match self.model.value(v).def() {
                Def::Node(literal, _) => drop(self.dead.insert(literal)),
                _ => drop(self.dying.insert(v)),
            }
        }
        self.dead.extend(dead);
        Ok(())
    }

    /// A constant node and all constant nodes below it that are not folded yet, in order of execution.
    fn tree(&self, root: NodeId) -> Vec<NodeId> {
        let mut seen = BTreeSet::from([root]);
        let mut queue = vec![root];
        while let Some(n) = queue.pop() {
            queue.extend(self.operands(n).filter(|&p| seen.insert(p)));
        }
        let mut tree: Vec<NodeId> = seen.into_iter().collect();
        tree.sort_by_key(|n| self.position[n.index()]);
        tree
    }

    /// Nodes and stored constants that nothing reads any more once `root` is folded.
    fn dies_with(&self, root: NodeId, tree: &[NodeId]) -> (BTreeSet<NodeId>, BTreeSet<ValueId>) {
        let mut dead = BTreeSet::from([root]);
        let unread = |dead: &BTreeSet<NodeId>, v: ValueId| {
            let gone = |n: &NodeId| dead.contains(n) || self.dead.contains(n);
            !self.uses.is_output(v) && self.uses.readers(v).iter().all(|(r, _)| gone(r))
        };
        for &n in tree.iter().rev() {
            // A value that was folded before needs its node no more, whoever reads it.
            if self.model.node(n).outputs().iter().flatten().all(|&v| self.folded.contains_key(&v) || unread(&dead, v))
            {
                dead.insert(n);
            }
        }
        let read = dead.iter().flat_map(|&n| self.model.node(n).inputs().iter().flatten().copied());
        let stored = read.filter(|&v| {
            let is_stored = match self.model.value(v).def() {
                Def::Initializer => !self.model.is_overridable(v),
                Def::Node(n, _) => is_literal(self.model, n),
                _ => false,
            };
            is_stored && unread(&dead, v)
        });
        let dying = stored.collect();
        (dead, dying)
    }

    fn evaluate_tree(&self, root: NodeId, tree: &[NodeId]) -> Result<Vec<Tensor>, Refused> {
        let mut found: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        for &n in tree {
            let node = self.model.node(n);
            let known: Option<Vec<Tensor>> =
                node.outputs().iter().map(|v| (*v).and_then(|v| self.fixed.value(v)).cloned()).collect();
            let outputs = match known {
                Some(outputs) => outputs,
                None => {
                    let read = |v: ValueId| {
                        let tensor = self.folded.get(&v).or_else(|| found.get(&v)).cloned();
                        tensor.or_else(|| stored(self.model, v)).ok_or_else(|| Refused {
                            rule: "evaluation",
                            text: format!("'{}' cannot be read", self.model.value(v).name()),
                        })
                    };
                    let inputs =
                        node.inputs().iter().map(|i| i.map(read).transpose()).collect::<Result<Vec<_>, _>>()?;
                    self.evaluate(n, &inputs).map_err(|r| match n == root {
                        true => r,
                        false => Refused { text: format!("'{}' below it: {}", self.model.label(n), r.text), ..r },
                    })?
                }
            };
            if n == root {
                return Ok(outputs);
            }
            found.extend(node.outputs().iter().zip(outputs).filter_map(|(v, t)| Some(((*v)?, t))));
        }
        unreachable!("the root is the last node of its tree")
    }

    fn evaluate(&self, n: NodeId, inputs: &[Option<Tensor>]) -> Result<Vec<Tensor>, Refused> {
        let node = self.model.node(n);
        let failed = |text: String| Refused { rule: "evaluation", text };
        let (row, version) = ops::lookup(self.model, node).map_err(|e| failed(e.to_string()))?;
        let fact = |t: &Tensor| Fact { value: Some(t.clone()), ..Fact::new(Some(t.dtype()), t.shape().to_vec()) };
        let facts: Vec<Option<Fact>> = inputs.iter().map(|t| t.as_ref().map(fact)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let call = Call { node, version, inputs: &facts };
        let effect = (row.rule)(&call).map_err(|e| failed(e.to_string()))?;
        let expected: Vec<(Option<DataType>, Vec<usize>)> = effect
            .outputs
            .iter()
            .map(|f| Some((f.dtype, f.shape.clone()?)))
            .collect::<Option<_>>()
            .ok_or_else(|| failed("its shape is not known".into()))?;
        let operands: u64 = inputs.iter().flatten().map(|t| t.data().len() as u64).sum();
        let limit = operands.saturating_mul(4).saturating_add(WORKSPACE);
        if expected.iter().map(|(t, s)| bytes(*t, s)).fold(0, u64::saturating_add) > limit {
            return Err(Refused { rule: "size", text: format!("its {:?} elements are not computed", expected[0].1) });
        }
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let outputs = match ops::evaluate(row, &call, &effect, &tensors) {
            Some(outputs) => outputs,
            None if delegated(node.op_type(), &tensors) => {
                let proto = self.model.export_alone(n, inputs, &expected);
                Runner::load(&proto, &[]).and_then(|r| r.run(&[])).map_err(|e| failed(e.reason))?
            }
            None => {
                let types: Vec<_> = tensors.iter().flatten().map(|t| t.dtype()).collect();
                let text = format!("{} is not evaluated for {types:?}", node.op_type());
                return Err(Refused { rule: "operator", text });
            }
        };
        let fits = |(t, (dtype, shape)): (&Tensor, &(Option<DataType>, Vec<usize>))| {
            dtype.is_none_or(|d| d == t.dtype()) && t.shape() == *shape
        };
        if outputs.len() < node.outputs().len() || !outputs.iter().zip(&expected).all(fits) {
            return Err(failed(format!("gave another type or shape than {expected:?}")));
        }
        Ok(outputs)
    }
}

/// Layout operators, which the table evaluates by their steps.
const MOVES: [&str; 14] = [
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

fn listed(op: &str) -> bool {
    REALS.contains(&op) || INTEGERS.contains(&op) || BOOLEANS.contains(&op)
}

/// Whether tract may evaluate the operator on operands of these types.
fn delegated(op: &str, inputs: &[Option<&Tensor>]) -> bool {
    match inputs.first().copied().flatten().map(Tensor::dtype) {
        Some(DataType::Float | DataType::Double) => REALS.contains(&op),
        Some(DataType::Int64 | DataType::Int32) => INTEGERS.contains(&op),
        Some(DataType::Bool) => BOOLEANS.contains(&op),
        _ => false,
    }
}

/// Bytes of all stored constants.
fn stored_bytes(model: &Model) -> u64 {
    let initializers = model.live_graphs().into_iter().flat_map(|g| model.graph(g).initializers().to_vec());
    let literals = model.walk().into_iter().filter(|&n| is_literal(model, n)).filter_map(|n| model.node(n).output(0));
    let tensors = initializers.chain(literals).filter_map(|v| stored(model, v));
    tensors.map(|t| t.data().len() as u64).sum()
}

/// `Constant` nodes hold their content; there is nothing to compute.
fn is_literal(model: &Model, n: NodeId) -> bool {
    let node = model.node(n);
    node.is_standard() && node.op_type() == "Constant" && !model.is_local_function(node)
}

fn bytes(dtype: Option<DataType>, shape: &[usize]) -> u64 {
    let bits = dtype.and_then(bits_per_element).unwrap_or(64) as u64;
    shape.iter().fold(bits, |n, &d| n.saturating_mul(d as u64)).div_ceil(8)
}
