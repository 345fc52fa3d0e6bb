//! Settings made in code, and where else settings come from.
//!
//! A builder never fails before `build`: a chain of calls reads as a sentence, and the first mistake in it
//! is the one that is told.

use crate::config::{self, Arguments, Config, ExplainFormat};
use crate::environment::Environment;
use millstream_model::{Error, Result};
use std::path::{Path, PathBuf};

/// Settings made in code.
#[derive(Default)]
#[must_use = "call `build` to get the environment"]
pub struct EnvironmentBuilder {
    config: Config,
    arguments: Vec<String>,
    explain: Option<ExplainFormat>,
    /// The first mistake.
    mistake: Option<Error>,
}

impl EnvironmentBuilder {
    pub(crate) fn read_outside(&mut self, file: Option<PathBuf>) -> Result<()> {
        let file = file.or_else(|| std::env::var_os("MILLSTREAM_CONFIG").map(PathBuf::from));
        match (file, std::env::var(config::CARRIED)) {
            // They are what files said, too.
            (_, Ok(carried)) => self.config.take_carried(&carried)?,
            (Some(file), _) => self.config.read_file(&file)?,
            (None, _) if Path::new("millstream.toml").is_file() => {
                self.config.read_file(Path::new("millstream.toml"))?
            }
            (None, _) => {}
        }
        self.config.read_variables(std::env::vars())
    }

    pub(crate) fn adopt(&mut self, arguments: Arguments) -> Result<()> {
        for (key, value) in &arguments.settings {
            self.config.set(key, value, "command line")?;
        }
        self.arguments = arguments.rest;
        self.explain = arguments.explain.or(self.explain);
        Ok(())
    }

    fn note(mut self, result: Result<()>) -> Self {
        if let Err(mistake) = result {
            self.mistake.get_or_insert(mistake);
        }
        self
    }

    /// Takes these arguments as [`from_args`](Environment::from_args) takes those of the command line, but
    /// reads no other file than one that `--config` names: for tests of programs.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().args(["--parallelism", "2", "--top", "5"]).build()?;
    /// assert_eq!((env.parallelism(), env.arg("top")?), (2, "5".to_string()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let taken = Arguments::parse(args.into_iter().map(Into::into)).and_then(|arguments| {
            if let Some(file) = &arguments.config {
                self.config.read_file(file)?;
            }
            self.adopt(arguments)
        });
        self.note(taken)
    }

    /// Sets an option by its key, as in `millstream.toml`; a mistake is reported by `build`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// let mistake = Environment::builder().set("paralelism", "2").build().map(|_| ()).unwrap_err();
    /// assert_eq!(mistake.to_string(), "unknown option `paralelism` (builder): did you mean `parallelism`?");
    /// ```
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let set = self.config.set(key, value, "builder");
        self.note(set)
    }

    /// The default number of subtasks.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().parallelism(2).build()?;
    /// assert_eq!(env.parallelism(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parallelism(self, parallelism: usize) -> Self {
        self.set("parallelism", &parallelism.to_string())
    }

    /// Records in a full batch.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().batch_size(1).build()?;
    /// assert_eq!(env.from_collection(vec![1, 2, 3]).execute_and_collect("one by one")?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch_size(self, records: usize) -> Self {
        self.set("batch-size", &records.to_string())
    }

    /// A parameter of the program, read by functions through their context.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// #[derive(Clone, Default)]
    /// struct Limit(i64);
    ///
    /// impl MapFunction<i64> for Limit {
    ///     type Out = i64;
    ///     fn open(&mut self, context: &OperatorContext) -> Result<()> {
    ///         let limit = context.parameter("limit").ok_or("no limit was given")?;
    ///         self.0 = limit.parse().map_err(|e| Error::user(format!("limit `{limit}`: {e}")))?;
    ///         Ok(())
    ///     }
    ///     fn map(&mut self, n: i64) -> Result<i64> {
    ///         Ok(n.min(self.0))
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().parameter("limit", "5").build()?;
    /// let limited = env.from_collection(vec![9]).map_with(Limit::default());
    /// assert_eq!(limited.execute_and_collect("limited")?, [5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.set(&format!("parameters.{name}"), value)
    }

    /// The environment.
    ///
    /// # Errors
    /// If a setting was wrong.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// let mistake = Environment::builder().parallelism(0).build().map(|_| ()).unwrap_err();
    /// assert!(mistake.to_string().starts_with("option `parallelism` (builder) cannot be `0`"));
    /// ```
    pub fn build(self) -> Result<Environment> {
        match self.mistake {
            Some(mistake) => Err(mistake),
            None => Ok(Environment::from_parts(self.config, self.arguments, self.explain)),
        }
    }
}
