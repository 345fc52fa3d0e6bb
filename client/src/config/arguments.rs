//! The engine's own flags, picked out of a program's arguments.

use millstream_model::{Error, Result};
use std::path::PathBuf;

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainFormat {
    /// For people.
    Text,
    /// For Graphviz.
    Dot,
    /// For tools.
    Json,
}

/// The flags found, and what is left.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) explain: Option<ExplainFormat>,
    pub(crate) rest: Vec<String>,
}

impl Arguments {
    /// Takes the documented flags out of `args` (without the program's name).
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut found = Arguments::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            let (flag, inline) = match arg.split_once('=') {
                Some((flag, value)) if flag.starts_with("--") => {
                    (flag.to_string(), Some(value.to_string()))
                }
                _ => (arg.clone(), None),
            };
            let mut value = |what: &str| {
                inline
                    .clone()
                    .or_else(|| args.next())
                    .ok_or_else(|| Error::user(format!("`{flag}` needs {what}")))
            };
            match flag.as_str() {
                "--" => {
                    found.rest.push(arg);
                    found.rest.extend(args.by_ref());
                }
                "--parallelism" | "-p" => {
                    let n = value("a number of subtasks")?;
                    found.settings.push(("parallelism".into(), n));
                }
                "--backend" => {
                    let name = value("memory or rocksdb")?;
                    found.settings.push(("state-backend".into(), name));
                }
                "--checkpoint-dir" | "--checkpoint-interval" | "--restore" | "--cluster" => {
                    let setting = value("a value")?;
                    found.settings.push((flag.trim_start_matches('-').into(), setting));
                }
                "-D" => {
                    let setting = value("key=value")?;
                    let (key, value) = setting.split_once('=').ok_or_else(|| {
                        Error::user(format!("`-D {setting}` is not of the form key=value"))
                    })?;
                    found.settings.push((key.trim().to_string(), value.trim().to_string()));
                }
                "--config" => found.config = Some(value("a file")?.into()),
                "--explain" => {
                    found.explain = Some(match inline.as_deref() {
                        None | Some("text") => ExplainFormat::Text,
                        Some("dot") => ExplainFormat::Dot,
                        Some("json") => ExplainFormat::Json,
                        Some(other) => {
                            return Err(Error::user(format!(
                                "`--explain={other}`: use text, dot or json"
                            )));
                        }
                    });
                }
                _ => found.rest.push(arg),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn takes_its_own_and_leaves_the_rest() {
        let a = parse("O1 --data d -p 3 -D batch-size=1 --explain=dot --out=o -- -p 9").unwrap();
        assert_eq!(a.rest, ["O1", "--data", "d", "--out=o", "--", "-p", "9"]);
        assert_eq!(
            a.settings,
            [("parallelism".into(), "3".into()), ("batch-size".into(), "1".into())]
        );
        assert_eq!(a.explain, Some(ExplainFormat::Dot));
    }

    #[test]
    fn says_what_is_missing() {
        assert_eq!(parse("-p").unwrap_err().to_string(), "`-p` needs a number of subtasks");
        assert!(parse("-D x").unwrap_err().to_string().contains("key=value"));
        assert!(parse("--explain=png").unwrap_err().to_string().contains("text, dot or json"));
    }
}
