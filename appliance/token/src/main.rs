//! `stile-token`: makes the keys behind entry codes, issues passes, shows and explains codes, and signs the lists
//! that gates take.
//!
//! It is the operator's and the tester's tool, and deliberately no part of a box: a gate holds public keys only.

mod files;
mod issue;
mod keys;
mod lists;
mod picture;
mod show;
mod verify;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keys, passes, codes and lists of Stile's entry codes.
///
/// An entry code is made of two signatures: an issuer vouches for a phone's key (a certificate, good for days), and
/// the phone signs the moment (good for seconds, once). Gates hold public keys only. A root key that stays offline
/// signs the set of issuer keys; issuers sign the lists of denied passes and of cards.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and look at keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Issue a pass to a member: the certificate, and the key that shows it.
    Issue(issue::Arguments),
    /// Show a pass's code of now, as digits, as a QR code in the terminal or as a picture.
    Show(show::Arguments),
    /// Explain a code field by field, and say whether and why a gate would refuse it.
    Verify(verify::Arguments),
    /// Sign and check key sets: which issuer keys count, and when.
    #[command(subcommand)]
    Keyset(lists::Keyset),
    /// Sign and check deny lists: which passes gates refuse.
    #[command(subcommand)]
    Deny(lists::Deny),
    /// Sign and check card lists: which cards the fall-back readers admit.
    #[command(subcommand)]
    Card(lists::Cards),
}

const EXAMPLES: &str = "\
TIMES are RFC 3339 in UTC (2026-11-22T10:00:00Z, 2026-11-22), unix seconds (@1795305600), now, or now with a span
(now+7d, now-30m). SPANS are written 90s, 30m, 12h, 7d.

EXAMPLES
  A store group, from nothing to an open gate:
    stile-token keys new root --store-group 7 --out root.key
    stile-token keys new issuer --id 1 --store-group 7 --out issuer.key
    stile-token keys show issuer.key             prints what belongs into the gate's admission.toml
    stile-token issue --issuer issuer.key --valid 7d --out kim.pass
    stile-token show kim.pass --watch            hold the terminal to the gate's reader
    stile-token show kim.pass --digits | stile-token verify --admission admission.toml -

  A guest's wallet pass for two, for today; a staff pass:
    stile-token keys new group --out group.key
    stile-token issue --issuer issuer.key --wallet --group-key group.key --guest --party 2 --valid 12h --out guest.pass
    stile-token issue --issuer issuer.key --staff --valid 1d --out staff.pass

  Rolling issuer keys over, and refusing a lost phone:
    stile-token keyset sign --root root.key keyset.toml --out keys.bin
    stile-token deny sign --issuer issuer.key --version-number 12 denied.txt --out deny.bin
    stile-token deny sign --issuer issuer.key --version-number 12 denied.txt --json |
      mosquitto_pub -r -t stile/admission/deny -s

EXIT STATUS
  0 done; 1 failed, with the file and the cause on standard error; 2 wrong usage; 3 the code or list was refused.

FILES
  Key and pass files are TOML, readable by their owner only (mode 0600), and are never overwritten.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    let done = match arguments.command {
        Command::Keys(command) => keys::run(command, &mut out),
        Command::Issue(arguments) => issue::run(&arguments, &mut out),
        Command::Show(arguments) => show::run(&arguments, &mut out),
        Command::Verify(arguments) => return finish(verify::run(&arguments, &mut out)),
        Command::Keyset(command) => return finish(lists::keyset(&command, &mut out)),
        Command::Deny(command) => return finish(lists::deny(&command, &mut out)),
        Command::Card(command) => return finish(lists::cards(&command, &mut out)),
    };
    finish(done.map(|()| true))
}

/// `Ok(false)`: what was looked at was refused.
fn finish(done: anyhow::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        // Whoever reads our output has seen enough.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "stile-token: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe) && !std::io::stdout().is_terminal()
}
