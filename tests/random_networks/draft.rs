//! A network as text, written node by node.
//!
//! What is written is a fixture: weights are declared, and the fixture's seed fills them, so that the text of a network
//! that fails goes into `fixtures/coupling` as it is.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A tensor: batch, channels, extents in space. `None` where the extent is symbolic or follows from one that is.
#[derive(Debug, Clone)]
pub struct Value {
    pub name: String,
    pub dims: Vec<Option<usize>>,
}

impl Value {
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    pub fn channels(&self) -> usize {
        self.dims[1].expect("the number of channels is always known")
    }

    /// Positions of one channel, where all extents are numbers.
    pub fn positions(&self) -> Option<usize> {
        self.dims[2..].iter().copied().product()
    }

    pub fn with_channels(&self, name: String, channels: usize) -> Self {
        let mut dims = self.dims.clone();
        dims[1] = Some(channels);
        Self { name, dims }
    }

    /// Another tensor of the same extents.
    pub fn named(&self, name: String) -> Self {
        Self { name, dims: self.dims.clone() }
    }
}

/// Drawings that are the same on every machine.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A permutation of `0..n`.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut out: Vec<usize> = (0..n).collect();
        (1..n).for_each(|i| out.swap(i, self.below(i + 1)));
        out
    }
}

pub struct Draft {
    pub random: Random,
    pub opset: i64,
    /// Operators and blocks that were written.
    pub used: BTreeSet<String>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    constants: Vec<String>,
    nodes: Vec<String>,
    count: usize,
}

impl Draft {
    pub fn new(mut random: Random) -> Self {
        let opset = random.pick(&[13, 15, 17, 18, 20]);
        let (inputs, outputs, constants, nodes) = Default::default();
        Self { random, opset, used: BTreeSet::new(), inputs, outputs, constants, nodes, count: 0 }
    }

    /// The whole text, with the directives of a fixture.
    pub fn text(&self, prune: &str, seed: u64) -> String {
        format!(
            "# secateur: prune={prune}\n# secateur: seed={seed}\n<ir_version: 9, opset_import: [\"\" : {}]>\n\
             g ({}) => ({})\n<{}>\n{{\n{}}}\n",
            self.opset,
            self.inputs.join(", "),
            self.outputs.join(", "),
            self.constants.join(",\n "),
            self.nodes.concat()
        )
    }

    fn name(&mut self, kind: char) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    /// An input of the model; `symbols` names the extents that are not numbers.
    pub fn input(&mut self, dims: &[Option<usize>], symbols: &[&str]) -> Value {
        let name = self.name('x');
        let extents: Vec<String> =
            dims.iter().zip(symbols).map(|(d, s)| d.map_or_else(|| (*s).to_owned(), |d| d.to_string())).collect();
        self.inputs.push(format!("float[{}] {name}", extents.join(", ")));
        Value { name, dims: dims.to_vec() }
    }

    /// Makes a value an output of the model.
    pub fn output(&mut self, value: &Value) {
        let extents: Vec<String> =
            value.dims.iter().map(|d| d.map_or_else(|| "?".to_owned(), |d| d.to_string())).collect();
        let written = format!("float[{}] {}", extents.join(", "), value.name);
        if !self.outputs.contains(&written) {
            self.outputs.push(written);
        }
    }

    /// A constant that the seed fills.
    pub fn seeded(&mut self, dtype: &str, dims: &[usize]) -> String {
        let name = self.name('w');
        let extents: Vec<String> = dims.iter().map(usize::to_string).collect();
        let shape = if dims.is_empty() { String::new() } else { format!("[{}]", extents.join(", ")) };
        self.constants.push(format!("{dtype}{shape} {name}"));
        name
    }

    /// A stated vector of integers: an initializer, or a `Constant` node.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let list: Vec<String> = values.iter().map(i64::to_string).collect();
        self.stated(&format!("int64[{}]", values.len()), &list.join(", "))
    }

    /// A stated single integer.
    pub fn int(&mut self, value: i64) -> String {
        self.stated("int64", &value.to_string())
    }

    /// A stated single real number.
    pub fn real(&mut self, value: f64) -> String {
        self.stated("float", &format!("{value:?}"))
    }

    pub fn stated(&mut self, of: &str, content: &str) -> String {
        if self.random.chance(40) {
            return self.node("Constant", &format!("value = {of} {{{content}}}"), &[]);
        }
        let name = self.name('c');
        self.constants.push(format!("{of} {name} = {{{content}}}"));
        name
    }

    /// A node of one output.
    pub fn node(&mut self, op: &str, attributes: &str, inputs: &[&str]) -> String {
        self.node_of(op, attributes, inputs, 1).swap_remove(0)
    }

    /// A node of several outputs. Some nodes have no name, and some share one.
    pub fn node_of(&mut self, op: &str, attributes: &str, inputs: &[&str], outputs: usize) -> Vec<String> {
        let names: Vec<String> = (0..outputs).map(|_| self.name('v')).collect();
        self.node_into(op, attributes, inputs, &names);
        names
    }

    /// A node whose outputs are named by the caller; an empty name leaves one out.
    pub fn node_into(&mut self, op: &str, attributes: &str, inputs: &[&str], outputs: &[String]) {
        self.used.insert(op.to_owned());
        let label = match self.random.below(10) {
            0 => String::new(),
            1 => "[same] ".to_owned(),
            _ => format!("[n{}] ", self.count),
        };
        let attributes = if attributes.is_empty() { String::new() } else { format!(" <{attributes}>") };
        let mut line = String::new();
        writeln!(line, "    {label}{} = {op}{attributes} ({})", outputs.join(", "), inputs.join(", ")).expect("text");
        self.nodes.push(line);
    }

    /// A free name for [`Draft::node_into`].
    pub fn fresh(&mut self) -> String {
        self.name('v')
    }

    /// An operator of one operand that leaves all extents as they are.
    pub fn unary(&mut self, op: &str, attributes: &str, x: &Value) -> Value {
        let name = self.node(op, attributes, &[&x.name]);
        x.named(name)
    }

    pub fn transpose(&mut self, x: &Value, perm: &[usize]) -> Value {
        let name = self.node("Transpose", &format!("perm = {perm:?}"), &[&x.name]);
        Value { name, dims: perm.iter().map(|&p| x.dims[p]).collect() }
    }
}
