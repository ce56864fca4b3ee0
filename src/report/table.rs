//! Tables as data.

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub title: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
}

/// Rows under a heading; not yet laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows. A title that begins with `>` is that of a column of numbers.
    pub fn new(titles: &[&'static str]) -> Self {
        let column = |t: &&'static str| match t.strip_prefix('>') {
            Some(title) => Column { title, right: true },
            None => Column { title: t, right: false },
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }
}
