//! Making and looking at keys.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use engine::admission::GroupKey;
use engine::admission::issue::device_public_key;
use engine::admission::provision::{KeyFile, KeyKind, to_hex};

use crate::files;

#[derive(Subcommand)]
pub enum Command {
    /// Make a key.
    ///
    /// The file is readable by its owner only and is never overwritten. What may be known is printed; the secret
    /// stays in the file.
    New(New),
    /// Print what may be known about a key, in the form in which it belongs into a gate's admission.toml or into
    /// a key set. The group key and the card salt are secrets of the gates themselves: they are printed with
    /// `--secret` only.
    Show(Show),
}

#[derive(Args)]
pub struct New {
    /// What the key is for.
    #[arg(value_enum)]
    kind: Kind,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Id of an issuer key, 1 to 255; two issuer keys may be live at a time, so the next one needs another id.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u8).range(1..))]
    id: Option<u8>,
    /// The group of stores that a root or an issuer serves, below 16777216.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..1 << 24))]
    store_group: Option<u32>,
}

#[derive(Args)]
pub struct Show {
    /// The key file.
    file: PathBuf,
    /// Print the secret, too.
    #[arg(long)]
    secret: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Signs key sets; keep it offline. Needs --store-group.
    Root,
    /// Signs certificates, deny lists and card lists. Needs --id and --store-group.
    Issuer,
    /// A phone's key.
    Device,
    /// The secret behind wallet passes, on gates and on the wallet issuer.
    Group,
    /// The secret behind the card list, on gates and on the card issuer.
    CardSalt,
}

pub fn run(command: Command, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        Command::New(new) => {
            let (kind, id, group) = match (new.kind, new.id, new.store_group) {
                (Kind::Root, None, Some(group)) => (KeyKind::Root, None, Some(group)),
                (Kind::Root, ..) => bail!("a root key needs --store-group, and no --id"),
                (Kind::Issuer, Some(id), Some(group)) => (KeyKind::Issuer, Some(id), Some(group)),
                (Kind::Issuer, ..) => bail!("an issuer key needs --id and --store-group"),
                (Kind::Device, None, None) => (KeyKind::Device, None, None),
                (Kind::Group, None, None) => (KeyKind::Group, None, None),
                (Kind::CardSalt, None, None) => (KeyKind::CardSalt, None, None),
                (Kind::Device | Kind::Group | Kind::CardSalt, ..) => {
                    bail!("only root and issuer keys have --id or --store-group")
                }
            };
            let key = KeyFile { kind, id, store_group: group, seed: to_hex(&files::random()?) };
            files::write_secret(&new.out, title(kind), &key)?;
            writeln!(out, "# {} is made", new.out.display())?;
            public(&key, out)
        }
        Command::Show(show) => {
            let key = files::read_key(&show.file)?;
            let failed = || format!("{} is not valid", show.file.display());
            key.seed(key.kind).with_context(failed)?;
            public(&key, out).with_context(failed)?;
            if show.secret {
                let name = match key.kind {
                    KeyKind::Group => "group_key",
                    KeyKind::CardSalt => "card_salt",
                    KeyKind::Root | KeyKind::Issuer | KeyKind::Device => "seed",
                };
                writeln!(out, "{name} = \"{}\"", key.seed)?;
            }
            Ok(())
        }
    }
}

fn public(key: &KeyFile, out: &mut impl Write) -> anyhow::Result<()> {
    match key.kind {
        KeyKind::Root => {
            let group = key.store_group.unwrap_or_default();
            writeln!(out, "store_group = {group}\nroot_key = \"{}\"", to_hex(&key.root()?.public_key()))?;
        }
        KeyKind::Issuer => {
            let issuer = key.issuer()?;
            let group = key.store_group.unwrap_or_default();
            writeln!(out, "store_group = {group}\n[[issuers]]")?;
            writeln!(out, "id = {}\nkey = \"{}\"", issuer.key_id(), to_hex(&issuer.public_key()))?;
        }
        KeyKind::Device => {
            let seed = key.seed(KeyKind::Device)?;
            writeln!(out, "# P-256 public key, compressed: {}", to_hex(&device_public_key(&seed)))?;
        }
        KeyKind::Group => {
            let group_key = GroupKey(key.seed(KeyKind::Group)?);
            writeln!(out, "# check value in key sets: {}", to_hex(&group_key.check_value()))?;
        }
        KeyKind::CardSalt => writeln!(out, "# a card salt; nothing of it may be known")?,
    }
    Ok(())
}

const fn title(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Root => "Root key of a Stile store group: signs key sets. Keep it offline.",
        KeyKind::Issuer => {
            "Issuer key of a Stile store group: signs certificates, deny lists and card lists."
        }
        KeyKind::Device => "A phone's key for Stile entry codes.",
        KeyKind::Group => "Group key of Stile wallet passes.",
        KeyKind::CardSalt => "Card salt of Stile card lists.",
    }
}
