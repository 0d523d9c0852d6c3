//! Issuing passes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use engine::admission::GroupKey;
use engine::admission::issue::{
    Certificate, Device, Terms, WalletCertificate, WalletPass, device_public_key,
};
use engine::admission::pass::PassKey;
use engine::admission::provision::{KeyKind, from_hex, to_hex};
use engine::time::Instant;
use engine::units::MemberHandle;
use serde::{Deserialize, Serialize};

use crate::files;

/// A certificate counts its time in these.
const UNIT_S: u64 = 600;

#[derive(Args)]
pub struct Arguments {
    /// The issuer's key file.
    #[arg(long, value_name = "FILE")]
    issuer: PathBuf,
    /// The pass file to make.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The member's handle, 16 hexadecimal digits; without it a new one is drawn, as for every new certificate.
    #[arg(long, value_name = "HANDLE", value_parser = files::handle)]
    member: Option<MemberHandle>,
    /// When the pass begins.
    #[arg(long, value_name = "TIME", value_parser = files::time, default_value = "now")]
    from: Instant,
    /// How long it lasts, rounded up to ten minutes, at most 455 days.
    #[arg(long, value_name = "SPAN", value_parser = files::span, default_value = "1d")]
    valid: Duration,
    /// Largest party that may come in on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=15), default_value_t = 1)]
    party: u8,
    /// Ask for the wide lane (wheelchair, pram).
    #[arg(long)]
    wide: bool,
    /// The member has proved their age. Gates do not honour it in wallet passes.
    #[arg(long, conflicts_with = "wallet")]
    age_proof: bool,
    /// Staff: no receipt, no anti-passback.
    #[arg(long, conflicts_with_all = ["wallet", "guest"])]
    staff: bool,
    /// A guest of a member: opens for as many visits as the gate's policy says, once if it says nothing.
    #[arg(long)]
    guest: bool,
    /// The phone's key file; without it a key is made and kept in the pass file.
    #[arg(long, value_name = "FILE", conflicts_with = "wallet")]
    device: Option<PathBuf>,
    /// Make a wallet pass (profile W): lower trust, for wallets, printed codes and old phones.
    #[arg(long, requires = "group_key")]
    wallet: bool,
    /// The group key's file, for a wallet pass.
    #[arg(long, value_name = "FILE", requires = "wallet")]
    group_key: Option<PathBuf>,
    /// Which of the member's wallet passes.
    #[arg(long, value_name = "N", requires = "wallet", default_value_t = 1)]
    serial: u16,
}

/// A pass with the secret that shows it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "profile", deny_unknown_fields)]
enum File {
    D { certificate: String, seed: String },
    W { certificate: String, pass_key: String },
}

/// A pass that can show codes.
pub enum Pass {
    Device(Box<Device>),
    Wallet(Box<WalletPass>),
}

pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let invalid = |path: &Path| format!("{} is not valid", path.display());
    let issuer = files::read_key(&arguments.issuer)?.issuer().with_context(|| invalid(&arguments.issuer))?;
    let units = arguments.valid.as_secs().div_ceil(UNIT_S);
    let Some(validity) = u16::try_from(units).ok().filter(|units| *units > 0) else {
        bail!("--valid must be above 0 and at most 455 days");
    };
    let member = match arguments.member {
        Some(member) => member,
        None => {
            let bytes = files::random()?;
            MemberHandle(bytes.iter().take(8).fold(0, |handle, byte| handle << 8 | u64::from(*byte)))
        }
    };
    let terms = Terms {
        member,
        issued_at: arguments.from,
        validity,
        party: arguments.party,
        wide: arguments.wide,
        age_proof: arguments.age_proof,
        staff: arguments.staff,
        guest: arguments.guest,
    };
    let file = if let (true, Some(path)) = (arguments.wallet, &arguments.group_key) {
        let group_key = files::read_key(path)?.seed(KeyKind::Group).with_context(|| invalid(path))?;
        let certificate = issuer.certify_wallet(&terms, arguments.serial);
        let key = GroupKey(group_key).pass_key(member, arguments.serial);
        File::W { certificate: to_hex(&certificate.0), pass_key: to_hex(&key.0) }
    } else {
        let seed = match &arguments.device {
            Some(path) => files::read_key(path)?.seed(KeyKind::Device).with_context(|| invalid(path))?,
            None => files::random()?,
        };
        let certificate = issuer.certify(&terms, &device_public_key(&seed));
        File::D { certificate: to_hex(&certificate.0), seed: to_hex(&seed) }
    };
    files::write_secret(&arguments.out, "A pass for Stile gates.", &file)?;
    let (from, end) = (terms.issued_at.unix_seconds(), u64::from(validity) * UNIT_S);
    writeln!(out, "{} is made", arguments.out.display())?;
    writeln!(out, "member {:016x}, {} to {}", member.0, files::said(from), files::said(from + end))?;
    Ok(())
}

/// Reads a pass file.
pub fn read(path: &Path) -> anyhow::Result<Pass> {
    let bad = |key: &str| format!("{}: {key} is not hexadecimal of its length", path.display());
    Ok(match files::read_toml(path)? {
        File::D { certificate, seed } => {
            let certificate = Certificate(from_hex(&certificate).with_context(|| bad("certificate"))?);
            Pass::Device(Box::new(Device::new(&from_hex(&seed).with_context(|| bad("seed"))?, certificate)))
        }
        File::W { certificate, pass_key } => {
            let certificate = WalletCertificate(from_hex(&certificate).with_context(|| bad("certificate"))?);
            let key = PassKey(from_hex(&pass_key).with_context(|| bad("pass_key"))?);
            Pass::Wallet(Box::new(WalletPass::new(certificate, key)))
        }
    })
}
