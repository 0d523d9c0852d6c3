//! What the program says of itself: completions and man pages.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

pub fn completions(shell: Shell) -> Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "osimage", &mut script);
    String::from_utf8(script).context("make completions")
}

pub fn man_page() -> Result<String> {
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page).context("make man page")?;
    String::from_utf8(page).context("make man page")
}

pub fn write_man_pages(folder: &Path) -> Result<()> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder)
    };
    write().with_context(|| format!("write man pages to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn readme() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        std::fs::read_to_string(path).unwrap()
    }

    /// Words of a line as a shell has them, as far as the README needs: quotes around a word.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('"').enumerate();
        let words = parts.flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        words.collect()
    }

    #[test]
    fn every_command_line_of_the_readme_is_one() {
        let readme = readme();
        let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("osimage ")).collect();
        assert!(lines.len() > 8, "the README shows the tool");
        for line in lines {
            if let Err(error) = Cli::try_parse_from(words(line)) {
                panic!("image/README.md: {line}\n{error}");
            }
        }
    }

    fn guide() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/technician.md");
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_technicians_guide_has_commands_and_settings_that_are_taken() {
        let guide = guide();
        let mut commands = 0;
        let mut settings = String::from("issued = 1\n");
        for line in guide.lines().filter_map(|line| line.strip_prefix("    ")) {
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            if line.starts_with("osimage ") {
                commands += 1;
                if let Err(error) = Cli::try_parse_from(words(line)) {
                    panic!("docs/technician.md: {line}\n{error}");
                }
            } else if !line.starts_with('/') {
                settings.push_str(line);
                settings.push('\n');
            }
        }
        assert_eq!(commands, 2);
        settings.push_str("[box]\nname = \"gate-1\"\n");
        let provision =
            osimage::provision::Provision::parse(&settings).expect("docs/technician.md: store.toml");
        assert!(provision.manifest["lanes"].is_array() && provision.manifest["screen"].is_table());
    }

    #[test]
    fn the_readme_names_every_command_and_option() {
        let readme = readme();
        let mut command = Cli::command();
        command.build();
        for part in command.get_subcommands().filter(|part| part.get_name() != "help") {
            let name = part.get_name();
            let shown = readme.contains(&format!("osimage {name} ")) || readme.contains(&format!("`{name}`"));
            assert!(shown, "image/README.md does not name the command {name}");
            assert!(part.get_about().is_some(), "{name} says what it does");
            for option in part.get_arguments().filter_map(clap::Arg::get_long).filter(|long| *long != "help")
            {
                let short = part
                    .get_arguments()
                    .find(|a| a.get_long() == Some(option))
                    .and_then(clap::Arg::get_short);
                let by_short = short.is_some_and(|short| readme.contains(&format!(" -{short} ")));
                let shown = readme.contains(&format!("--{option}")) || by_short;
                assert!(shown, "image/README.md does not name --{option} of {name}");
            }
        }
        for line in super::super::EXIT_STATUS.lines().skip(1) {
            let status = line.trim().chars().next().unwrap();
            assert!(readme.contains(&format!("{status} ")), "{line}");
        }
    }
}
