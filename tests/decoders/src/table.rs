//! What came out: one column a decoder, one row a folder.

use std::collections::BTreeMap;
use std::fmt;

/// Results of all decoders on one set.
pub struct Table {
    names: Vec<String>,
    columns: Vec<Column>,
    /// Folders with codes, in the order they came, and their pictures.
    rows: Vec<(String, usize)>,
    empty: usize,
}

#[derive(Default)]
struct Column {
    right: BTreeMap<String, usize>,
    /// Pictures with a code whose text was none of those read.
    wrong: usize,
    /// Pictures without a code in which something was read.
    phantom: usize,
    failed: usize,
    ms: Vec<f64>,
}

impl Table {
    pub fn new(names: Vec<String>) -> Self {
        let columns = names.iter().map(|_| Column::default()).collect();
        Self { names, columns, rows: Vec::new(), empty: 0 }
    }

    /// One picture read by the decoder `index`.
    pub fn add(&mut self, index: usize, row: &str, truth: Option<&str>, texts: &[String], ms: f64) {
        let column = &mut self.columns[index];
        column.ms.push(ms);
        let Some(truth) = truth else {
            self.empty += usize::from(index == 0);
            column.phantom += usize::from(!texts.is_empty());
            return;
        };
        if texts.iter().any(|text| text == truth) {
            *column.right.entry(row.to_owned()).or_default() += 1;
        } else {
            column.wrong += usize::from(!texts.is_empty());
        }
        if index == 0 {
            match self.rows.iter_mut().find(|(known, _)| known == row) {
                Some((_, count)) => *count += 1,
                None => self.rows.push((row.to_owned(), 1)),
            }
        }
    }

    /// The decoder `index` panicked or gave up.
    pub fn failed(&mut self, index: usize) {
        self.columns[index].failed += 1;
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, head: &str, cells: &dyn Fn(&Column) -> String| {
            write!(f, "{head:<22}")?;
            for column in &self.columns {
                write!(f, " {:>15}", cells(column))?;
            }
            writeln!(f)
        };
        write!(f, "{:<22}", "")?;
        for name in &self.names {
            write!(f, " {name:>15}")?;
        }
        writeln!(f)?;
        for (row, count) in &self.rows {
            let right = |column: &Column| column.right.get(row).copied().unwrap_or(0);
            line(f, &format!("{row} ({count})"), &|column| {
                format!("{:.0} %", 100.0 * right(column) as f64 / *count as f64)
            })?;
        }
        let all: usize = self.rows.iter().map(|(_, count)| count).sum();
        line(f, "read exactly", &|column| format!("{} of {all}", column.right.values().sum::<usize>()))?;
        line(f, "rate", &|column| {
            format!("{:.1} %", 100.0 * column.right.values().sum::<usize>() as f64 / all.max(1) as f64)
        })?;
        line(f, &format!("false reads ({})", self.empty), &|column| column.phantom.to_string())?;
        line(f, "wrong texts", &|column| column.wrong.to_string())?;
        line(f, "panics, failures", &|column| column.failed.to_string())?;
        for (head, share) in [("CPU ms median", 0.5), ("CPU ms p99", 0.99), ("CPU ms slowest", 1.0)] {
            line(f, head, &|column| format!("{:.1}", quantile(&column.ms, share)))?;
        }
        Ok(())
    }
}

/// The value below which `share` of the values lie (nearest rank).
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
