//! The environment: where a program begins and is executed.

use crate::compile::{self, Compiled};
use crate::config::{Arguments, Config, ExplainFormat};
use crate::graph::Graph;
use crate::interrupt;
use crate::local::{JobHandle, JobResult, JobState, Program, launch};
use millstream_model::{Error, Result};
use std::cell::{RefCell, RefMut};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Builds streams and runs them. Cheap to clone: clones are one environment.
#[derive(Clone)]
pub struct Environment {
    inner: Rc<Inner>,
}

struct Inner {
    graph: RefCell<Graph>,
    config: Config,
    arguments: Vec<String>,
    explain: Option<ExplainFormat>,
}

impl Environment {
    /// The environment of a program run from the command line: reads `millstream.toml`, `MILLSTREAM_…`
    /// variables and the engine's own flags (`--parallelism`, `-D key=value`, `--config`, `--explain`); all
    /// other arguments are left to the program.
    ///
    /// # Errors
    /// If an option is unknown or its value is not allowed.
    pub fn from_args() -> Result<Self> {
        let arguments = Arguments::parse(std::env::args().skip(1))?;
        let mut builder = Environment::builder();
        builder.read_outside(arguments.config.clone())?;
        for (key, value) in &arguments.settings {
            builder.config.set(key, value, "command line")?;
        }
        builder.arguments = arguments.rest;
        builder.explain = arguments.explain;
        builder.build()
    }

    /// As `from_args`, but leaves the command line alone: for programs with their own argument parser.
    ///
    /// # Errors
    /// If an option is unknown or its value is not allowed.
    pub fn from_env() -> Result<Self> {
        let mut builder = Environment::builder();
        builder.read_outside(None)?;
        builder.build()
    }

    /// An environment with default settings.
    pub fn local() -> Self {
        Environment::from_parts(Config::default(), Vec::new(), None)
    }

    /// An environment with settings made in code; reads nothing from outside.
    pub fn builder() -> EnvironmentBuilder {
        EnvironmentBuilder {
            config: Config::default(),
            arguments: Vec::new(),
            explain: None,
            mistake: None,
        }
    }

    fn from_parts(config: Config, arguments: Vec<String>, explain: Option<ExplainFormat>) -> Self {
        Environment {
            inner: Rc::new(Inner { graph: RefCell::default(), config, arguments, explain }),
        }
    }

    pub(crate) fn graph_mut(&self) -> RefMut<'_, Graph> {
        self.inner.graph.borrow_mut()
    }

    /// The arguments that are not the engine's.
    pub fn args(&self) -> &[String] {
        &self.inner.arguments
    }

    /// The value of the program's argument `--name VALUE` or `--name=VALUE`.
    ///
    /// # Errors
    /// If it was not given.
    pub fn arg(&self, name: &str) -> Result<String> {
        self.arg_opt(name)
            .ok_or_else(|| Error::user(format!("the argument `--{name} VALUE` is missing")))
    }

    /// The value of the program's argument `--name VALUE` or `--name=VALUE`, if it was given.
    pub fn arg_opt(&self, name: &str) -> Option<String> {
        let flag = format!("--{name}");
        let mut args = self.inner.arguments.iter();
        while let Some(arg) = args.next() {
            if *arg == flag {
                return args.next().cloned();
            }
            if let Some(value) = arg.strip_prefix(&flag).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_string());
            }
        }
        None
    }

    /// The default number of subtasks.
    pub fn parallelism(&self) -> usize {
        self.inner.config.parallelism
    }

    fn compile(&self, name: &str) -> Result<Compiled> {
        let graph = self.inner.graph.borrow();
        if let Some(mistake) = graph.mistakes.first() {
            return Err(Error::user(mistake.clone()));
        }
        compile::compile(&graph, &self.inner.config, name)
    }

    /// What was built, for whoever runs it.
    pub(crate) fn take_program(&self) -> Result<(Graph, Config)> {
        let graph = self.inner.graph.take();
        match graph.mistakes.first() {
            Some(mistake) => Err(Error::user(mistake.clone())),
            None => Ok((graph, self.inner.config.clone())),
        }
    }

    /// The plan of the job as it stands: what is fused and why not, partitioning, state, guarantee.
    ///
    /// # Errors
    /// If the job cannot run as it is.
    pub fn explain(&self, name: &str, format: ExplainFormat) -> Result<String> {
        let compiled = self.compile(name)?;
        Ok(compile::explain::render(&self.inner.graph.borrow(), &compiled, format))
    }

    /// Runs everything that was built, and waits for its end. Ctrl-C cancels the job.
    ///
    /// With `--explain` on the command line it prints the plan and exits the process instead.
    ///
    /// # Errors
    /// If the job cannot run as it is, fails, or is cancelled.
    pub fn execute(&self, name: &str) -> Result<JobResult> {
        if let Some(format) = self.inner.explain {
            println!("{}", self.explain(name, format)?.trim_end());
            std::process::exit(0);
        }
        let job = self.execute_async(name)?;
        let _guard = interrupt::cancel_on_interrupt(job.canceller());
        let result = job.wait()?;
        match result.state() {
            JobState::Cancelled => Err(Error::user("the job was cancelled")),
            _ => Ok(result),
        }
    }

    /// Starts everything that was built and gives a handle. The environment is empty afterwards.
    ///
    /// # Errors
    /// If the job cannot run as it is.
    pub fn execute_async(&self, name: &str) -> Result<JobHandle> {
        let compiled = self.compile(name)?;
        for warning in &compiled.warnings {
            tracing::warn!("{warning}");
        }
        let graph = self.inner.graph.take();
        launch(Program { graph, compiled, config: self.inner.config.clone() })
    }
}

/// Settings made in code.
#[must_use = "call `build` to get the environment"]
pub struct EnvironmentBuilder {
    config: Config,
    arguments: Vec<String>,
    explain: Option<ExplainFormat>,
    mistake: Option<Error>,
}

impl EnvironmentBuilder {
    fn read_outside(&mut self, file: Option<PathBuf>) -> Result<()> {
        match file.or_else(|| std::env::var_os("MILLSTREAM_CONFIG").map(PathBuf::from)) {
            Some(file) => self.config.read_file(&file)?,
            None if Path::new("millstream.toml").is_file() => {
                self.config.read_file(Path::new("millstream.toml"))?
            }
            None => {}
        }
        self.config.read_variables(std::env::vars())
    }

    /// Sets an option by its key, as in `millstream.toml`; a mistake is reported by `build`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        if let Err(e) = self.config.set(key, value, "builder") {
            self.mistake.get_or_insert(e);
        }
        self
    }

    /// The default number of subtasks.
    pub fn parallelism(self, parallelism: usize) -> Self {
        self.set("parallelism", &parallelism.to_string())
    }

    /// Records in a full batch.
    pub fn batch_size(self, records: usize) -> Self {
        self.set("batch-size", &records.to_string())
    }

    /// A parameter of the program, read by functions through their context.
    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.set(&format!("parameters.{name}"), value)
    }

    /// The environment.
    ///
    /// # Errors
    /// If a setting was wrong.
    pub fn build(self) -> Result<Environment> {
        match self.mistake {
            Some(mistake) => Err(mistake),
            None => Ok(Environment::from_parts(self.config, self.arguments, self.explain)),
        }
    }
}
