//! The day's table: receipts against the simulated store's truth.

use std::collections::BTreeMap;
use std::fmt;

use engine::message::Receipt;
use engine::units::{MemberHandle, ProductId};
use serde::Serialize;

/// What each member really carried out: product and count.
pub type Baskets = BTreeMap<MemberHandle, BTreeMap<ProductId, u32>>;

/// Latency percentiles, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Samples behind it.
    pub samples: usize,
}

/// The table at the end of a day. Items are units of a product, not lines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The seed that replays it.
    pub seed: u64,
    /// Members who entered.
    pub shoppers: usize,
    /// Sessions that settled.
    pub sessions_settled: usize,
    /// Sessions that settled more than once: must be 0.
    pub settled_twice: usize,
    /// Members whose receipt is exactly what they carried out.
    pub receipts_exact: usize,
    /// Share of charged items that the payer really carried out.
    pub item_precision: f64,
    /// Share of items carried out that were charged to the right member.
    pub item_recall: f64,
    /// Harmonic mean of both.
    pub item_f1: f64,
    /// Shelf events that waited for a person.
    pub reviews: usize,
    /// Incidents that the lanes reported to staff: tailgating, forced passages and the like.
    pub incidents: usize,
    /// Reader report to unlock line, in real time.
    pub gate_ms: Percentiles,
    /// Camera frames that the detector looked at.
    pub camera_frames: u64,
    /// Simulated seconds.
    pub simulated_seconds: f64,
    /// Real seconds.
    pub seconds: f64,
    /// What the oracles found wrong; empty on a good day.
    pub violations: Vec<String>,
    /// Wrong receipts, for people.
    pub wrong: Vec<String>,
}

/// How many items and receipts are right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Items charged and really taken.
    pub hits: u64,
    /// Items charged.
    pub charged: u64,
    /// Items really taken.
    pub taken: u64,
    /// Members whose receipt is exact.
    pub exact: usize,
    /// Lines for people about the others.
    pub wrong: Vec<String>,
}

impl Score {
    /// Compares what members were charged with what they took. A receipt without member charges nobody.
    #[must_use]
    pub fn of(receipts: &[Receipt], truth: &Baskets) -> Self {
        let mut charged = Baskets::new();
        for receipt in receipts {
            let Some(member) = receipt.member else { continue };
            let basket = charged.entry(member).or_default();
            for line in &receipt.lines {
                *basket.entry(line.product.clone()).or_default() += line.quantity;
            }
        }
        let mut score = Self::default();
        let nothing = BTreeMap::new();
        for (member, taken) in truth {
            let billed = charged.remove(member);
            score.add(*member, taken, billed.as_ref());
        }
        for (member, billed) in &charged {
            score.add(*member, &nothing, Some(billed));
        }
        score
    }

    fn add(
        &mut self,
        member: MemberHandle,
        taken: &BTreeMap<ProductId, u32>,
        billed: Option<&BTreeMap<ProductId, u32>>,
    ) {
        self.taken += taken.values().map(|count| u64::from(*count)).sum::<u64>();
        let Some(billed) = billed else {
            self.wrong.push(format!("{member}: no receipt; took {}", list(taken)));
            return;
        };
        self.charged += billed.values().map(|count| u64::from(*count)).sum::<u64>();
        for (product, count) in taken {
            self.hits += u64::from((*count).min(billed.get(product).copied().unwrap_or(0)));
        }
        if billed == taken {
            self.exact += 1;
        } else {
            self.wrong.push(format!("{member}: charged {}; took {}", list(billed), list(taken)));
        }
    }

    /// Share of charged items that were taken; 1 when nothing was charged.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.hits, self.charged)
    }

    /// Share of taken items that were charged; 1 when nothing was taken.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.hits, self.taken)
    }

    /// Harmonic mean of precision and recall.
    #[must_use]
    pub fn f1(&self) -> f64 {
        share(2 * self.hits, self.charged + self.taken)
    }
}

impl Percentiles {
    /// Of samples in microseconds, by nearest rank.
    #[must_use]
    pub fn of_microseconds(mut samples: Vec<u32>) -> Self {
        samples.sort_unstable();
        let at = |share: f64| {
            let rank = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
            samples.get(rank).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        Self { p50: at(0.5), p99: at(0.99), samples: samples.len() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.wrong {
            writeln!(f, "wrong receipt  {line}")?;
        }
        for line in &self.violations {
            writeln!(f, "VIOLATION      {line}")?;
        }
        writeln!(f, "seed             {:>10}", self.seed)?;
        writeln!(f, "shoppers         {:>10}", self.shoppers)?;
        writeln!(f, "sessions settled {:>10}", self.sessions_settled)?;
        writeln!(f, "receipts exact   {:>10}  of {}", self.receipts_exact, self.shoppers)?;
        writeln!(f, "item precision   {:>10.4}", self.item_precision)?;
        writeln!(f, "item recall      {:>10.4}", self.item_recall)?;
        writeln!(f, "item F1          {:>10.4}", self.item_f1)?;
        writeln!(f, "reviews          {:>10}", self.reviews)?;
        writeln!(f, "gate incidents   {:>10}", self.incidents)?;
        writeln!(f, "gate p50         {:>10.3}  ms, reader report to unlock line", self.gate_ms.p50)?;
        writeln!(f, "gate p99         {:>10.3}  ms, {} unlocks", self.gate_ms.p99, self.gate_ms.samples)?;
        writeln!(f, "camera frames    {:>10}", self.camera_frames)?;
        write!(f, "seconds          {:>10.1}  for {:.0} simulated", self.seconds, self.simulated_seconds)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn list(basket: &BTreeMap<ProductId, u32>) -> String {
    if basket.is_empty() {
        return "nothing".to_owned();
    }
    basket.iter().map(|(product, count)| format!("{count} x {product}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use engine::message::ReceiptLine;
    use engine::time::Instant;
    use engine::units::{Currency, Money};

    use super::*;

    fn receipt(member: u64, lines: &[(&str, u32)]) -> Receipt {
        let nothing = Money { minor: 0, currency: Currency::KRW };
        let lines = lines.iter().map(|(product, quantity)| ReceiptLine {
            product: ProductId::from(*product),
            quantity: *quantity,
            price: nothing,
            confidence: 1.0,
            evidence: vec![],
        });
        Receipt {
            id: "r/1".into(),
            session: "s".into(),
            member: Some(MemberHandle(member)),
            entered: Instant(0),
            left: Instant(0),
            settled: Instant(0),
            lines: lines.collect(),
            total: nothing,
        }
    }

    fn basket(lines: &[(&str, u32)]) -> BTreeMap<ProductId, u32> {
        lines.iter().map(|(product, count)| (ProductId::from(*product), *count)).collect()
    }

    #[test]
    fn items_count_only_on_the_right_members_receipt() {
        let truth = Baskets::from([
            (MemberHandle(1), basket(&[("a", 2)])),
            (MemberHandle(2), basket(&[])),
            (MemberHandle(3), basket(&[("b", 1)])),
        ]);
        let receipts = [receipt(1, &[("a", 1)]), receipt(2, &[("b", 1)])];
        let score = Score::of(&receipts, &truth);
        assert_eq!((score.hits, score.charged, score.taken, score.exact), (1, 2, 3, 0));
        assert_eq!(score.wrong.len(), 3);
        assert!((score.f1() - 0.4).abs() < 1e-12);
    }

    #[test]
    fn a_receipt_for_nobody_known_counts_against_precision() {
        let score = Score::of(&[receipt(9, &[("a", 3)])], &Baskets::new());
        assert_eq!((score.charged, score.hits), (3, 0));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let percentiles = Percentiles::of_microseconds((1..=200).rev().map(|n| n * 1000).collect());
        assert_eq!((percentiles.p50, percentiles.p99), (100.0, 198.0));
        assert_eq!(Percentiles::of_microseconds(vec![]).p99, 0.0);
    }
}
