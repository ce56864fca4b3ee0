//! A repair for people.

use super::number::count;
use super::table::Table;
use crate::plan::{FittedPlan, RepairPlan};

impl RepairPlan {
    /// The layers that are worst off now, `most` at the utmost, the worst first.
    pub fn table(&self, most: usize) -> Table {
        let mut table = Table::new(&["fitted layer", ">reads", ">now", ">error before", ">after"]);
        // What is no number is worse than any.
        let error = |f: &FittedPlan| f.error[1].unwrap_or(f64::INFINITY);
        let mut worst: Vec<&FittedPlan> = self.fitted.iter().collect();
        // Stable: layers of the same error stay in the order of the graph.
        worst.sort_by(|a, b| error(b).total_cmp(&error(a)));
        for f in worst.into_iter().take(most) {
            let [before, after] = f.channels.map(|c| count(c as u64));
            let [cut, fitted] = f.error.map(share);
            table.row([f.node.clone(), before, after, cut, fitted]);
        }
        table
    }

    /// What the table leaves out, the outputs, and what was not fitted: `most` of it at the utmost.
    pub fn lines(&self, shown: usize, most: usize) -> Vec<String> {
        let mut out = Vec::new();
        if self.fitted.len() > shown {
            out.push(format!(
                "and {} more, with smaller errors; --plan and --json list all",
                self.fitted.len() - shown
            ));
        }
        let pairs = self.fitted.iter().filter(|f| f.writer.is_some()).count();
        if pairs > 0 {
            out.push(format!("{pairs} of them together with the layer before, whose filters changed too"));
        }
        let [cut, fitted] = self.drift.map(share);
        out.push(format!(
            "error: of what the layer computes, squared, relative to its variance; on {} inputs ({}) the outputs differ from the original's by {fitted}, by {cut} before the repair",
            count(self.samples as u64),
            self.data
        ));
        out.extend(self.unrepaired.iter().take(most).map(|u| format!("'{}' was not fitted: {}", u.node, u.reason)));
        if self.unrepaired.len() > most {
            out.push(format!("and {} more were not fitted; --plan and --json list all", self.unrepaired.len() - most));
        }
        out
    }
}

/// A part of what there is: `2.13%`.
fn share(x: Option<f64>) -> String {
    x.map_or_else(|| "not finite".to_owned(), |x| format!("{:.2}%", x * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::UnrepairedPlan;

    #[test]
    fn the_worst_come_first_and_the_rest_is_counted() {
        let layer = |node: &str, error: Option<f64>| FittedPlan {
            node: node.to_owned(),
            channels: [4, 2],
            error: [Some(0.5), error],
            places: 9,
            constant: true,
            residual: false,
            writer: (node == "a").then(|| "w".to_owned()),
        };
        let left = |node: &str| UnrepairedPlan { node: node.to_owned(), reason: "a recurrent cell".to_owned() };
        let repair = RepairPlan {
            data: "x.npz".to_owned(),
            samples: 2000,
            ridge: 1e-3,
            drift: [Some(0.75), None],
            fitted: vec![layer("a", Some(0.01)), layer("b", Some(0.2)), layer("c", None), layer("d", Some(0.2))],
            unrepaired: vec![left("l"), left("m"), left("n")],
        };
        let rows = repair.table(3).rows;
        assert_eq!(rows.iter().map(|r| &r[0][..]).collect::<Vec<_>>(), ["c", "b", "d"]);
        assert_eq!(rows[1], ["b", "4", "2", "50.00%", "20.00%"]);
        assert_eq!(
            repair.lines(3, 1),
            [
                "and 1 more, with smaller errors; --plan and --json list all",
                "1 of them together with the layer before, whose filters changed too",
                "error: of what the layer computes, squared, relative to its variance; on 2,000 inputs (x.npz) the outputs differ from the original's by not finite, by 75.00% before the \
                 repair",
                "'l' was not fitted: a recurrent cell",
                "and 2 more were not fitted; --plan and --json list all",
            ]
        );
    }
}
