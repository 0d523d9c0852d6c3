//! Entries of systemd-boot (type 1 of the Boot Loader Specification): their names, their counters, and which one it
//! chooses, as systemd-boot 257 does it.

use std::cmp::Ordering;
use std::fmt;

use super::Slot;

/// Digits of a generation in a name; more are taken when it grows.
const DIGITS: usize = 6;
/// The newest generation: nine digits, so that it never overflows.
pub const GENERATION_MAX: u32 = 999_999_999;
/// systemd-boot takes counters up to this (INT_MAX).
const COUNTER_MAX: u64 = 0x7fff_ffff;
const ENDING: &str = ".conf";

/// How often an entry may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter {
    /// Tries left.
    pub left: u32,
    /// Tries done.
    pub done: u32,
}

/// The name of an entry of ours: `stile-000007-a+3.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Grows with each activation.
    pub generation: u32,
    /// Which slot it boots.
    pub slot: Slot,
    /// `None`: proven.
    pub counter: Option<Counter>,
}

impl Name {
    /// Reads a file name, without regard to case as on FAT; `None` when it is none of ours.
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let file = file.to_ascii_lowercase();
        let counter = counter(&file);
        let stem = file.strip_suffix(ENDING)?;
        let stem = match counter {
            Some(_) => stem.rsplit_once('+')?.0,
            None => stem,
        };
        let (digits, slot) = stem.strip_prefix("stile-")?.split_once('-')?;
        if !(DIGITS..=9).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { generation: digits.parse().ok()?, slot: Slot::named(slot)?, counter })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stile-{:0DIGITS$}-{}", self.generation, self.slot)?;
        match self.counter {
            None => {}
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
        }
        f.write_str(ENDING)
    }
}

/// The counter that systemd-boot reads from a file name: after the last `+`, up to `.conf`.
#[must_use]
pub fn counter(file: &str) -> Option<Counter> {
    let (_, text) = file.rsplit_once('+')?;
    let text = text.strip_suffix(ENDING)?;
    let (left, done) = match text.split_once('-') {
        Some((left, done)) => (number(left)?, number(done)?),
        None => (number(text)?, 0),
    };
    Some(Counter { left, done })
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = if plain { text.parse().ok()? } else { return None };
    u32::try_from(number).ok().filter(|number| u64::from(*number) <= COUNTER_MAX)
}

/// What a file in `loader/entries` is called after it was tried once more; `None` when it does not count.
#[must_use]
pub fn tried(file: &str) -> Option<String> {
    let Counter { left, done } = counter(file)?;
    let stem = &file[..=file.rfind('+')?];
    let done = (u64::from(done) + 1).min(COUNTER_MAX);
    Some(format!("{stem}{}-{done}{ENDING}", left.saturating_sub(1)))
}

/// Whether systemd-boot looks at a file of that name at all.
#[must_use]
pub fn looked_at(file: &str) -> bool {
    let folded = file.to_ascii_lowercase();
    !file.starts_with('.') && !folded.starts_with("auto-") && folded.ends_with(ENDING)
}

/// The value of a key in the text of an entry; the last one counts.
#[must_use]
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once([' ', '\t']))
        .filter(|(name, _)| *name == key)
        .map(|it| it.1.trim())
        .next_back()
}

/// The identifier of an entry: its file name without the counter, in lower case.
fn identifier(file: &str) -> String {
    let folded = file.to_ascii_lowercase();
    match (counter(&folded), folded.rsplit_once('+')) {
        (Some(_), Some((stem, _))) => format!("{stem}{ENDING}"),
        _ => folded,
    }
}

/// The order of the menu, of file names of entries without a sort key: those without tries left go last, then newer
/// identifiers first. A counted and an uncounted name of one entry are equal: either may be chosen.
#[must_use]
pub fn order(a: &str, b: &str) -> Ordering {
    let (count_a, count_b) = (counter(a), counter(b));
    let exhausted = |counter: Option<Counter>| counter.is_some_and(|counter| counter.left == 0);
    exhausted(count_a)
        .cmp(&exhausted(count_b))
        .then_with(|| uapi_version::strverscmp(&identifier(b), &identifier(a)))
        .then_with(|| match (count_a, count_b) {
            (Some(a), Some(b)) => b.left.cmp(&a.left).then(a.done.cmp(&b.done)),
            _ => Ordering::Equal,
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (file, generation, slot, counter) in [
            ("stile-000001-a.conf", 1, Slot::A, None),
            ("stile-000012-b+3.conf", 12, Slot::B, Some((3, 0))),
            ("stile-000012-b+2-1.conf", 12, Slot::B, Some((2, 1))),
            ("stile-000012-b+0-3.conf", 12, Slot::B, Some((0, 3))),
            ("stile-1000000-b.conf", 1_000_000, Slot::B, None),
        ] {
            let counter = counter.map(|(left, done)| Counter { left, done });
            let want = Name { generation, slot, counter };
            assert_eq!(Name::parse(file), Some(want), "{file}");
            assert_eq!(want.to_string(), file);
        }
        assert_eq!(Name::parse("STILE-000001-A.CONF"), Name::parse("stile-000001-a.conf"));
        for file in [
            "stile-1-a.conf",
            "stile-000001-c.conf",
            "stile-000001-a",
            "stile-000001-a.conf.new",
            "stile-000001-a+.conf",
            "stile-000001-a+x.conf",
            "stile-000001-a+3-.conf",
            "stile-000001-a+99999999999.conf",
            "stile-+00001-a.conf",
            "STILE-~1.CON",
            "other.conf",
            "",
        ] {
            assert_eq!(Name::parse(file), None, "{file}");
        }
    }

    #[test]
    fn counting_as_systemd_boot_does() {
        for (series, start) in [
            (["foobar+2-1.conf", "foobar+1-2.conf", "foobar+0-3.conf"], "foobar+3.conf"),
            (["foobar+3-1.conf", "foobar+2-2.conf", "foobar+1-3.conf"], "foobar+4-0.conf"),
        ] {
            let mut file = start.to_owned();
            for next in series {
                file = tried(&file).expect("counts");
                assert_eq!(file, next);
            }
        }
        assert_eq!(tried("foobar.conf"), None);
    }

    #[test]
    fn newest_first_exhausted_last() {
        let mut files = [
            "stile-000009-a.conf",
            "stile-000010-b+0-3.conf",
            "stile-000011-a+3.conf",
            "stile-000008-b.conf",
            "stile-000011-a.conf",
            "stile-000012-b+0-1.conf",
        ];
        files.sort_by(|a, b| order(a, b));
        let want = [
            // Both names of one entry after a cut inside its marking: equal, in the folder's order.
            "stile-000011-a+3.conf",
            "stile-000011-a.conf",
            "stile-000009-a.conf",
            "stile-000008-b.conf",
            "stile-000012-b+0-1.conf",
            "stile-000010-b+0-3.conf",
        ];
        assert_eq!(files, want);
        assert_eq!(order("stile-999999-a.conf", "stile-1000000-b.conf"), Ordering::Greater);
    }

    #[test]
    fn values() {
        let text = "title Stile b\n# efi /no\nefi\t/EFI/stile/a.efi\nefi   /EFI/stile/b.efi  \n";
        assert_eq!(value(text, "efi"), Some("/EFI/stile/b.efi"));
        assert_eq!(value(text, "options"), None);
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_refused(file in "\\PC{0,40}") {
            let _ = (Name::parse(&file), tried(&file), looked_at(&file), order(&file, "stile-000001-a.conf"));
        }

        #[test]
        fn any_near_name_is_its_own_text(file in "stile-[0-9]{5,10}-[abc](\\+[0-9]{1,11}(-[0-9]{1,11})?)?\\.conf") {
            if let Some(name) = Name::parse(&file) {
                prop_assert_eq!(Name::parse(&name.to_string()), Some(name));
            }
        }

        #[test]
        fn the_order_is_one(
            a in "stile-[0-9]{6}-[ab](\\+[0-3](-[0-3])?)?\\.conf",
            b in "stile-[0-9]{6}-[ab](\\+[0-3](-[0-3])?)?\\.conf",
        ) {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
        }
    }
}
