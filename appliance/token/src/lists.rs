//! Signing and checking the lists that gates take.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use engine::admission::cards::{CARD_BITS_MAX, CARDS_MAX, Card, CardList, CardNumber};
use engine::admission::deny::{DENIED_MAX, DenyList};
use engine::admission::issue::Issuer;
use engine::admission::keys::KeySet;
use engine::admission::pass::Entitlements;
use engine::admission::provision::{KeyKind, from_hex, to_hex};
use engine::admission::{GroupKey, IssuerKey, Version};
use engine::message::SignedList;
use engine::time::Instant;
use engine::units::MemberHandle;
use serde::Deserialize;

use crate::{files, verify};

#[derive(Subcommand)]
pub enum Keyset {
    /// Sign a key set. The description is a TOML file that people can read before they sign:
    ///
    ///     version = 3
    ///     [[issuers]]
    ///     id = 1
    ///     key = "64 hexadecimal digits"
    ///     not_before = "2026-11-01"
    ///     not_after = "2027-02-15"
    ///
    /// At most four keys, of which at most two are live at a time. The version must be above the last one.
    #[command(verbatim_doc_comment)]
    Sign(KeysetSign),
    /// Check a key set as a gate would, and print it.
    Verify(Check),
}

#[derive(Args)]
pub struct KeysetSign {
    /// The root's key file.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The description.
    description: PathBuf,
    /// The group key that gates should hold; the set tells its check value only, so that a gate with another one
    /// says so.
    #[arg(long, value_name = "FILE")]
    group_key: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
pub enum Deny {
    /// Sign a deny list. The list is text: a handle a line (16 hexadecimal digits), then, if the certificate's end
    /// is known, that time; # begins a comment.
    ///
    ///     0123456789abcdef 2026-12-01T00:00:00Z   # phone lost
    ///
    /// At most 65536 handles.
    #[command(verbatim_doc_comment)]
    Sign(DenySign),
    /// Check a deny list as a gate would, and print it.
    Verify(Check),
}

#[derive(Args)]
pub struct DenySign {
    #[command(flatten)]
    signer: Signer,
    /// The list; `-` reads standard input.
    list: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
pub enum Cards {
    /// Sign a card list. The list is text, a card a line: its number, the member's handle, until when it counts, and
    /// what it entitles to (party=N, wide, staff); # begins a comment. A number is BITS:HEX as the reader reports it,
    /// or w26:FACILITY/NUMBER for a 26-bit Wiegand card (H10301).
    ///
    ///     w26:123/45678       0123456789abcdef 2027-01-01
    ///     32:c0ffee01         00000000000000a1 2027-01-01 staff
    ///
    /// At most 20000 cards. The signed list holds no numbers, only their keyed hashes.
    #[command(verbatim_doc_comment)]
    Sign(CardsSign),
    /// Check a card list as a gate would, and print it.
    Verify(Check),
}

#[derive(Args)]
pub struct CardsSign {
    #[command(flatten)]
    signer: Signer,
    /// The card salt's file; gates hold the same salt in admission.toml.
    #[arg(long, value_name = "FILE")]
    salt: PathBuf,
    /// The list; `-` reads standard input.
    list: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Signer {
    /// The issuer's key file; the root's key is good as well.
    #[arg(long, value_name = "FILE")]
    issuer: PathBuf,
    /// The list's version, above the last one.
    #[arg(long, value_name = "N")]
    version_number: u32,
}

#[derive(Args)]
struct Output {
    /// When the list was made.
    #[arg(long, value_name = "TIME", value_parser = files::time, default_value = "now")]
    at: Instant,
    /// The file to write.
    #[arg(long, value_name = "FILE", required_unless_present = "json")]
    out: Option<PathBuf>,
    /// Print the list as the message that the bus carries, to be published retained.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Check {
    /// The signed list.
    list: PathBuf,
    /// The gate's admission.toml.
    #[arg(long, value_name = "FILE")]
    admission: PathBuf,
    /// The key set that the gate has taken, for lists that issuers sign.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    version: u32,
    issuers: Vec<Described>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    id: u8,
    key: String,
    not_before: String,
    not_after: String,
}

pub fn keyset(command: &Keyset, out: &mut impl Write) -> anyhow::Result<bool> {
    match command {
        Keyset::Sign(sign) => {
            let invalid = |path: &Path| format!("{} is not valid", path.display());
            let root = files::read_key(&sign.root)?.root().with_context(|| invalid(&sign.root))?;
            let Description { version, issuers } = files::read_toml(&sign.description)?;
            let keys: Vec<IssuerKey> = issuers
                .iter()
                .map(described)
                .collect::<Result<_, _>>()
                .with_context(|| invalid(&sign.description))?;
            let group_key = match &sign.group_key {
                Some(path) => {
                    let seed = files::read_key(path)?.seed(KeyKind::Group).with_context(|| invalid(path))?;
                    Some(GroupKey(seed))
                }
                None => None,
            };
            let bytes = root.key_set(Version(version), sign.output.at, group_key.as_ref(), &keys);
            let bytes = bytes.map_err(anyhow::Error::msg).with_context(|| invalid(&sign.description))?;
            write(&sign.output, bytes, out)
        }
        Keyset::Verify(check) => {
            let known = verify::known(&check.admission, None, None)?;
            let root = known.settings.root;
            let root = root.with_context(|| format!("{} has no root_key", check.admission.display()))?;
            match KeySet::parse(&files::read(&check.list)?, known.settings.store_group, &root) {
                Ok(set) => {
                    head(out, "key set", set.version, set.made_at)?;
                    for key in set.issuers.keys() {
                        let (from, to) = (files::said(key.not_before), files::said(key.not_after));
                        writeln!(out, "key {:>3}  {from} to {to}  {}", key.id, to_hex(&key.key))?;
                    }
                    if set.group_key_check != [0; 8] {
                        writeln!(out, "group key with check value {}", to_hex(&set.group_key_check))?;
                    }
                    Ok(true)
                }
                Err(refusal) => refused(out, &refusal),
            }
        }
    }
}

pub fn deny(command: &Deny, out: &mut impl Write) -> anyhow::Result<bool> {
    match command {
        Deny::Sign(sign) => {
            let issuer = issuer(&sign.signer.issuer)?;
            let members = lines(&sign.list, DENIED_MAX, denied)?;
            let bytes = issuer.deny_list(Version(sign.signer.version_number), sign.output.at, &members);
            write(&sign.output, bytes, out)
        }
        Deny::Verify(check) => {
            let known = verify::known(&check.admission, check.keys.as_deref(), None)?.settings;
            let bytes = files::read(&check.list)?;
            match DenyList::parse(&bytes, known.store_group, &known.issuers, known.root.as_ref()) {
                Ok(list) => {
                    head(out, "deny list", list.version, list.made_at)?;
                    for (member, until) in list.entries() {
                        let until = until.map_or_else(|| "for ever".to_owned(), files::said);
                        writeln!(out, "{:016x} {until}", member.0)?;
                    }
                    Ok(true)
                }
                Err(refusal) => refused(out, &refusal),
            }
        }
    }
}

pub fn cards(command: &Cards, out: &mut impl Write) -> anyhow::Result<bool> {
    match command {
        Cards::Sign(sign) => {
            let issuer = issuer(&sign.signer.issuer)?;
            let salt = files::read_key(&sign.salt)?.seed(KeyKind::CardSalt);
            let salt = salt.with_context(|| format!("{} is not valid", sign.salt.display()))?;
            let cards = lines(&sign.list, CARDS_MAX, |words| card(&salt, words))?;
            let bytes = issuer.card_list(Version(sign.signer.version_number), sign.output.at, &cards);
            write(&sign.output, bytes, out)
        }
        Cards::Verify(check) => {
            let known = verify::known(&check.admission, check.keys.as_deref(), None)?.settings;
            let bytes = files::read(&check.list)?;
            match CardList::parse(&bytes, known.store_group, &known.issuers, known.root.as_ref()) {
                Ok(list) => {
                    head(out, "card list", list.version, list.made_at)?;
                    for card in list.cards() {
                        let Entitlements { party, wide, staff, .. } = card.entitlements;
                        let (wide, staff) =
                            (if wide { " wide" } else { "" }, if staff { " staff" } else { "" });
                        let until = files::said(card.until);
                        writeln!(out, "{:016x} {until} party={party}{wide}{staff}", card.member.0)?;
                    }
                    Ok(true)
                }
                Err(refusal) => refused(out, &refusal),
            }
        }
    }
}

/// The signer of deny and card lists: an issuer, or the root under its id 0.
fn issuer(path: &Path) -> anyhow::Result<Issuer> {
    let key = files::read_key(path)?;
    let invalid = || format!("{} is not valid", path.display());
    if key.kind == KeyKind::Root {
        let seed = key.seed(KeyKind::Root).with_context(invalid)?;
        let group = key.store_group.with_context(|| format!("{} has no store_group", path.display()))?;
        return Ok(Issuer::new(0, group, &seed));
    }
    key.issuer().with_context(invalid)
}

fn described(described: &Described) -> anyhow::Result<IssuerKey> {
    let Described { id, key, not_before, not_after } = described;
    let time = |name: &str, text: &str| {
        files::time(text).map_err(anyhow::Error::msg).with_context(|| format!("key {id}: {name} {text:?}"))
    };
    let Some(key) = from_hex(key) else { bail!("key {id}: key must be 64 hexadecimal digits") };
    Ok(IssuerKey {
        id: *id,
        key,
        not_before: time("not_before", not_before)?.unix_seconds(),
        not_after: time("not_after", not_after)?.unix_seconds(),
    })
}

/// Reads a list of lines; an error names file and line.
fn lines<T>(path: &Path, max: usize, read: impl Fn(&[&str]) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    let text = files::read_text(path)?;
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let entry = read(&words).with_context(|| format!("{}: line {}", path.display(), number + 1))?;
        entries.push(entry);
        if entries.len() > max {
            bail!("{} has more than {max} entries", path.display());
        }
    }
    Ok(entries)
}

fn denied(words: &[&str]) -> anyhow::Result<(MemberHandle, Option<Instant>)> {
    match words {
        [handle] => Ok((member(handle)?, None)),
        [handle, until] => Ok((member(handle)?, Some(time(until)?))),
        _ => bail!("want a handle and perhaps a time"),
    }
}

fn card(salt: &[u8; 32], words: &[&str]) -> anyhow::Result<Card> {
    let [number, handle, until, flags @ ..] = words else { bail!("want a number, a handle and a time") };
    let mut entitlements = Entitlements::SINGLE;
    for flag in flags {
        match flag.split_once('=') {
            None if *flag == "staff" => entitlements.staff = true,
            None if *flag == "wide" => entitlements.wide = true,
            Some(("party", size)) => {
                let size = size.parse().ok().filter(|size| (1..=15).contains(size));
                entitlements.party = size.context("party is 1 to 15")?;
            }
            _ => bail!("{flag:?} is none of party=N, wide, staff"),
        }
    }
    Ok(Card::new(salt, &card_number(number)?, member(handle)?, time(until)?.unix_seconds(), entitlements))
}

fn card_number(text: &str) -> anyhow::Result<CardNumber> {
    let (bits, digits) = text.split_once(':').context("a card number is BITS:HEX or w26:FACILITY/NUMBER")?;
    if bits == "w26" {
        let (facility, number) = digits.split_once('/').context("after w26: comes FACILITY/NUMBER")?;
        let facility: u8 = facility.parse().context("the facility is 0 to 255")?;
        let number: u16 = number.parse().context("the number is 0 to 65535")?;
        return CardNumber::new(26, &wiegand_26(facility, number)).context("26 bits are a card number");
    }
    let bits: u16 = bits.parse().with_context(|| format!("{bits:?} is no number of bits"))?;
    let mut bytes = vec![0_u8; digits.len().div_ceil(2)];
    for (index, digit) in digits.chars().enumerate() {
        let digit = digit.to_digit(16).with_context(|| format!("{digit:?} is no hexadecimal digit"))?;
        bytes[index / 2] |= (digit as u8) << (4 * (1 - index % 2));
    }
    CardNumber::new(bits, &bytes)
        .with_context(|| format!("{bits} bits do not fit these digits, or are not 1 to {CARD_BITS_MAX}"))
}

/// H10301: even parity over the first twelve bits, facility (8), number (16), odd parity over the last twelve.
fn wiegand_26(facility: u8, number: u16) -> [u8; 4] {
    let middle = u32::from(facility) << 16 | u32::from(number);
    let even = (middle >> 12).count_ones() & 1;
    let odd = (middle & 0xfff).count_ones() & 1 ^ 1;
    ((even << 25 | middle << 1 | odd) << 6).to_be_bytes()
}

fn member(text: &str) -> anyhow::Result<MemberHandle> {
    files::handle(text).map_err(anyhow::Error::msg).with_context(|| format!("{text:?}"))
}

fn time(text: &str) -> anyhow::Result<Instant> {
    files::time(text).map_err(anyhow::Error::msg).with_context(|| format!("time {text:?}"))
}

fn write(output: &Output, bytes: Vec<u8>, out: &mut impl Write) -> anyhow::Result<bool> {
    if let Some(path) = &output.out {
        files::write(path, &bytes)?;
        if !output.json {
            writeln!(out, "{} is written, {} bytes", path.display(), bytes.len())?;
        }
    }
    if output.json {
        writeln!(out, "{}", serde_json::to_string(&SignedList { bytes })?)?;
    }
    Ok(true)
}

fn head(out: &mut impl Write, name: &str, version: Version, made_at: u64) -> anyhow::Result<()> {
    Ok(writeln!(out, "{name} {version}, made {}", files::said(made_at))?)
}

fn refused(out: &mut impl Write, refusal: &engine::admission::Refusal) -> anyhow::Result<bool> {
    writeln!(out, "refused: {refusal}")?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiegand_numbers_have_their_parity() {
        // 26 bits: even parity, facility, number, odd parity.
        for (facility, number, want) in
            [(0, 0, 0x0000_0001), (255, 65535, 0x01ff_ffff), (1, 1, 0x0202_0002), (123, 45678, 0x02f7_64dd)]
        {
            let bits = u32::from_be_bytes(wiegand_26(facility, number)) >> 6;
            let even = (bits >> 13).count_ones() % 2;
            let odd = (bits & 0x1fff).count_ones() % 2;
            assert_eq!((even, odd), (0, 1), "{facility}/{number}");
            assert_eq!(bits, want, "{facility}/{number}: {bits:#x}");
        }
    }

    #[test]
    fn card_numbers() {
        for (text, good) in [
            ("w26:123/45678", true),
            ("w26:256/1", false),
            ("w26:1", false),
            ("32:c0ffee01", true),
            ("33:c0ffee01", false),
            ("0:00", false),
            ("8:zz", false),
            ("c0ffee", false),
            ("8:é", false),
        ] {
            assert_eq!(card_number(text).is_ok(), good, "{text}");
        }
    }
}
