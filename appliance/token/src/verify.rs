//! Explaining a code: every field with what it means, every check with its outcome, and the gate's verdict.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use engine::admission::deny::DenyList;
use engine::admission::keys::KeySet;
use engine::admission::pass::{Moment, NONCE_BITS, Pass};
use engine::admission::provision::Provision;
use engine::admission::{Admission, Settings};
use engine::message::DenyReason;
use engine::time::Instant;

use crate::files;

#[derive(Args)]
pub struct Arguments {
    /// The code's digits; `-` reads them from standard input.
    code: String,
    /// The gate's admission.toml; without it fields are explained, and no signature is checked.
    #[arg(long, value_name = "FILE")]
    admission: Option<PathBuf>,
    /// The key set that the gate has taken.
    #[arg(long, value_name = "FILE", requires = "admission")]
    keys: Option<PathBuf>,
    /// The deny list that the gate has taken.
    #[arg(long, value_name = "FILE", requires = "admission")]
    deny: Option<PathBuf>,
    /// The gate's time.
    #[arg(long, value_name = "TIME", value_parser = files::time, default_value = "now")]
    at: Instant,
}

/// What a gate knows.
pub struct Known {
    pub settings: Settings,
    deny: Option<(DenyList, Vec<u8>)>,
}

pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<bool> {
    let text = if arguments.code == "-" {
        files::read(Path::new("-"))?
    } else {
        arguments.code.clone().into_bytes()
    };
    let text = text.trim_ascii();
    let pass = match Pass::parse(text) {
        Ok(pass) => pass,
        Err(reason) => {
            writeln!(out, "form              {}", meaning(reason))?;
            return verdict(out, Err(reason));
        }
    };
    fields(&pass, out)?;
    let Some(path) = &arguments.admission else {
        writeln!(out, "\nsignatures are not checked: no --admission")?;
        return Ok(true);
    };
    let known = known(path, arguments.keys.as_deref(), arguments.deny.as_deref())?;
    writeln!(out)?;
    checks(&pass, &known, arguments.at, out)?;
    let mut admission = Admission::new(known.settings);
    if let (Some((_, bytes)), Some(path)) = (&known.deny, &arguments.deny) {
        admission.deny(arguments.at, bytes).with_context(|| format!("{} is refused", path.display()))?;
    }
    verdict(out, admission.check(arguments.at, true, text).map(|_| ()))
}

/// Reads what a gate knows: its provisioning, and the lists on top of it.
pub fn known(admission: &Path, keys: Option<&Path>, deny: Option<&Path>) -> anyhow::Result<Known> {
    let provision: Provision = files::read_toml(admission)?;
    let mut settings =
        provision.settings().with_context(|| format!("{} is not valid", admission.display()))?;
    if let Some(path) = keys {
        let root = settings.root.with_context(|| format!("{} has no root_key", admission.display()))?;
        let set = KeySet::parse(&files::read(path)?, settings.store_group, &root);
        settings.issuers = set.with_context(|| format!("{} is refused", path.display()))?.issuers;
    }
    let deny = match deny {
        Some(path) => {
            let bytes = files::read(path)?;
            let list =
                DenyList::parse(&bytes, settings.store_group, &settings.issuers, settings.root.as_ref());
            Some((list.with_context(|| format!("{} is refused", path.display()))?, bytes))
        }
        None => None,
    };
    Ok(Known { settings, deny })
}

fn fields(pass: &Pass, out: &mut impl Write) -> anyhow::Result<()> {
    let header = pass.header;
    let profile = match pass.moment {
        Moment::Device { .. } => "D: signed by a key in the phone",
        Moment::Wallet { .. } => "W: wallet pass, lower trust",
    };
    writeln!(out, "profile           {profile}")?;
    writeln!(out, "issuer key        {}", header.key_id)?;
    writeln!(out, "store group       {}", header.store_group)?;
    writeln!(out, "member            {:016x}", header.member.0)?;
    writeln!(out, "valid from        {}", files::said(header.issued_at))?;
    writeln!(out, "valid until       {}", files::said(header.issued_at + header.validity))?;
    writeln!(out, "largest party     {}", header.entitlements.party)?;
    let flags = [
        (header.entitlements.wide, "wide lane"),
        (header.entitlements.age_proof, "age proof"),
        (header.entitlements.staff, "staff"),
        (header.entitlements.guest, "guest"),
    ];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    writeln!(
        out,
        "flags             {}",
        if flags.is_empty() { "none".to_owned() } else { flags.join(", ") }
    )?;
    match pass.moment {
        Moment::Device { shown_at, nonce } => {
            writeln!(out, "shown at          {}", files::said(shown_at))?;
            writeln!(out, "party member      {}", nonce >> NONCE_BITS)?;
            writeln!(out, "nonce             {}", nonce & ((1 << NONCE_BITS) - 1))?;
        }
        Moment::Wallet { serial, shown_at } => {
            writeln!(out, "shown at          {}", files::said(shown_at))?;
            writeln!(out, "pass serial       {serial}")?;
        }
    }
    Ok(())
}

fn checks(pass: &Pass, known: &Known, at: Instant, out: &mut impl Write) -> anyhow::Result<()> {
    let settings = &known.settings;
    let mut say = |name: &str, outcome: Result<String, DenyReason>| match outcome {
        Ok(detail) => writeln!(out, "{name:<17} ok{}{detail}", if detail.is_empty() { "" } else { ": " }),
        Err(reason) => writeln!(out, "{name:<17} REFUSED: {}", meaning(reason)),
    };
    let header = pass.header;
    let same_group = header.store_group == settings.store_group;
    say("store group", if same_group { Ok(String::new()) } else { Err(DenyReason::OtherStore) })?;
    let issuer = settings.issuers.keys().iter().find(|key| key.id == header.key_id);
    match issuer {
        Some(key) => {
            let live = key.live(at.unix_seconds());
            say("issuer key", if live { Ok(String::new()) } else { Err(DenyReason::IssuerRetired) })?;
            say("certificate", pass.verify_certificate(key).map(|()| String::new()))?;
        }
        None => say("issuer key", Err(DenyReason::UnknownIssuer))?,
    }
    let now = at.unix_seconds();
    let validity = if now < header.issued_at {
        Err(DenyReason::NotYetValid)
    } else if now >= header.issued_at + header.validity {
        Err(DenyReason::Expired)
    } else {
        Ok(format!("{} minutes are left", (header.issued_at + header.validity - now) / 60))
    };
    say("validity", validity)?;
    let (Moment::Device { shown_at, .. } | Moment::Wallet { shown_at, .. }) = pass.moment;
    let age = i128::from(now) - i128::from(shown_at);
    say("age of the code", Ok(format!("{age} s")))?;
    let name = match pass.moment {
        Moment::Device { .. } => "phone's signature",
        Moment::Wallet { .. } => "pass's code",
    };
    say(name, pass.verify_moment(settings.group_key.as_ref()).map(|()| String::new()))?;
    if let Some((list, _)) = &known.deny {
        let denied = list.denies(at, header.member);
        say("deny list", if denied { Err(DenyReason::Revoked) } else { Ok(String::new()) })?;
    }
    Ok(())
}

fn verdict(out: &mut impl Write, judged: Result<(), DenyReason>) -> anyhow::Result<bool> {
    match judged {
        Ok(()) => {
            writeln!(out, "\nverdict           admitted, if it is not used yet and the member not inside")?
        }
        Err(reason) => writeln!(out, "\nverdict           refused, {}: {}", reason.code(), meaning(reason))?,
    }
    Ok(judged.is_ok())
}

/// A reason for people who know what a pass is.
const fn meaning(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::NotAnEntryCode => "not an entry code",
        DenyReason::Malformed => "an entry code that is cut off or garbled",
        DenyReason::UnknownIssuer => "made with a key that the gate does not hold",
        DenyReason::BadSignature => "the signature does not fit",
        DenyReason::OtherStore => "for another group of stores",
        DenyReason::Expired => "the certificate is over",
        DenyReason::NotYetValid => "the certificate has not begun",
        DenyReason::Stale => "shown too long ago: a screenshot, or a phone whose clock is behind",
        DenyReason::FromTheFuture => "shown in the future: the phone's clock is ahead",
        DenyReason::Replayed => "this very code was used",
        DenyReason::Revoked => "the member is on the deny list",
        DenyReason::AlreadyInside => "the member is inside",
        DenyReason::PartyFull => "more people than the pass allows",
        DenyReason::ClockUntrusted => "the gate does not know the time",
        DenyReason::RateLimited => "too many tries",
        DenyReason::IssuerRetired => "the issuer key's time is over or has not begun",
        DenyReason::ListsStale => "the gate's lists are too old",
        DenyReason::UsedUp => "the guest pass has opened as often as it may",
        DenyReason::UnknownCard => "not on the card list",
        DenyReason::StoreClosed => "the store is closed",
        DenyReason::StoreFull => "the store is full",
        DenyReason::StaffOnly => "the lane serves staff only",
        DenyReason::AskStaff => "staff let people in one by one",
        DenyReason::UnderMaintenance => "the lane is under maintenance",
        DenyReason::LaneClosed => "the lane takes no entries",
        DenyReason::LaneFaulty => "the lane is broken",
        DenyReason::LaneBusy => "the lane is busy",
    }
}
