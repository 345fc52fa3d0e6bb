//! The page of the manual: `docs/cli.md`, from the same words as `--help`. A test holds it current.

use crate::args::CommandLine;
use clap::{Command, CommandFactory};
use std::fmt::Write;

const OPENING: &str = "\
# The `millstream` command

Runs and watches streaming jobs on a cluster. Flags that name the cluster are the same for all commands, and can be set
for good by variables or in `millstream.toml` (in the working directory, or named by `--config FILE` or
`MILLSTREAM_CONFIG`):

```toml
cluster = \"jobs.example.org:7455\"
tls-ca = \"certs/ca.pem\"
tls-cert = \"certs/client.pem\"
tls-key = \"certs/client.key\"
```

This page is generated from the code; `millstream help COMMAND` shows the same.
";

/// The page, in Markdown.
pub(crate) fn page() -> String {
    let mut page = OPENING.to_string();
    let mut command = CommandLine::command().term_width(100);
    command.build();
    section(&mut page, command, &[]);
    page
}

fn section(page: &mut String, command: Command, parents: &[String]) {
    let mut path = parents.to_vec();
    path.push(command.get_name().to_string());
    let title = path.join(" ");
    // What is the same for all commands is said once.
    let is_first = parents.is_empty();
    let shown = command.clone().mut_args(|arg| match arg.is_global_set() && !is_first {
        true => arg.hide(true),
        false => arg,
    });
    let help = shown.term_width(100).render_long_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    write!(page, "\n## {title}\n\n```text\n{}\n```\n", lines.join("\n"))
        .expect("a string can be written to");
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        section(page, sub.clone(), &path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_page_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let page = page();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == page,
            "docs/cli.md is not what the code says: run with UPDATE_GOLDEN=1"
        );
    }
}
