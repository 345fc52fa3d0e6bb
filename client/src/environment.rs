//! The environment: where a program begins and is executed.

use crate::builder::EnvironmentBuilder;
use crate::compile::{self, Compiled};
use crate::config::{Arguments, Config, ExplainFormat};
use crate::graph::Graph;
#[cfg(feature = "cluster")]
use crate::host;
use crate::interrupt;
use crate::job::{JobHandle, JobResult, JobState};
use crate::local::{Program, launch};
use millstream_model::{Error, Result};
use millstream_state::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{RefCell, RefMut};
use std::panic::Location;
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
    /// What was computed once, for the hosts of a cluster.
    once: RefCell<Vec<(String, Vec<u8>)>>,
}

impl Environment {
    /// The environment of a program run from the command line: reads `millstream.toml`, `MILLSTREAM_…`
    /// variables and the engine's own flags (`--parallelism`, `-D key=value`, `--config`, `--explain`); all
    /// other arguments are left to the program.
    ///
    /// # Errors
    /// If an option is unknown or its value is not allowed.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// // my-job --parallelism 4 --input flights.csv
    /// let env = Environment::from_args()?;
    /// let input = env.arg_opt("input").unwrap_or("flights.csv".to_string());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_args() -> Result<Self> {
        let arguments = Arguments::parse(std::env::args().skip(1))?;
        #[cfg(feature = "cluster")]
        if let Some(host) = host::host()? {
            return Ok(Environment::from_parts(host.config().clone(), arguments.rest, None));
        }
        let mut builder = Environment::builder();
        builder.read_outside(arguments.config.clone())?;
        builder.adopt(arguments)?;
        builder.build()
    }

    /// As `from_args`, but leaves the command line alone: for programs with their own argument parser.
    ///
    /// # Errors
    /// If an option is unknown or its value is not allowed.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// // MILLSTREAM_PARALLELISM=4 my-job
    /// let env = Environment::from_env()?;
    /// assert!(env.parallelism() >= 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> Result<Self> {
        #[cfg(feature = "cluster")]
        if let Some(host) = host::host()? {
            return Ok(Environment::from_parts(host.config().clone(), Vec::new(), None));
        }
        let mut builder = Environment::builder();
        builder.read_outside(None)?;
        builder.build()
    }

    /// An environment with default settings.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// assert_eq!(env.from_collection(vec![1, 2]).execute_and_collect("two")?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn local() -> Self {
        Environment::from_parts(Config::default(), Vec::new(), None)
    }

    /// An environment with settings made in code; reads nothing from outside.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().parallelism(3).set("driver", "threads").build()?;
    /// assert_eq!(env.parallelism(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> EnvironmentBuilder {
        EnvironmentBuilder::default()
    }

    pub(crate) fn from_parts(
        config: Config,
        arguments: Vec<String>,
        explain: Option<ExplainFormat>,
    ) -> Self {
        Environment {
            inner: Rc::new(Inner {
                graph: RefCell::default(),
                config,
                arguments,
                explain,
                once: RefCell::default(),
            }),
        }
    }

    /// Notes the mistake if `operator` is about to join streams of two environments: nodes are numbers, and
    /// those of another environment would be taken for this one's.
    pub(crate) fn expect_same(&self, other: &Environment, operator: &str, at: &Location<'_>) {
        if !Rc::ptr_eq(&self.inner, &other.inner) {
            self.graph_mut().mistakes.push(format!(
                "`{operator}` ({}:{}) joins streams of two environments: build both from one",
                at.file(),
                at.line()
            ));
        }
    }

    pub(crate) fn graph_mut(&self) -> RefMut<'_, Graph> {
        self.inner.graph.borrow_mut()
    }

    /// The arguments that are not the engine's.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().args(["-p", "2", "flights.csv", "--top=5"]).build()?;
    /// assert_eq!(env.args(), ["flights.csv", "--top=5"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn args(&self) -> &[String] {
        &self.inner.arguments
    }

    /// The value of the program's argument `--name VALUE` or `--name=VALUE`.
    ///
    /// # Errors
    /// If it was not given.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().args(["--input", "flights.csv"]).build()?;
    /// assert_eq!(env.arg("input")?, "flights.csv");
    /// assert_eq!(env.arg("output").unwrap_err().to_string(), "the argument `--output VALUE` is missing");
    /// # Ok(())
    /// # }
    /// ```
    pub fn arg(&self, name: &str) -> Result<String> {
        self.arg_opt(name)
            .ok_or_else(|| Error::user(format!("the argument `--{name} VALUE` is missing")))
    }

    /// The value of the program's argument `--name VALUE` or `--name=VALUE`, if it was given.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().args(["--top=5"]).build()?;
    /// assert_eq!(env.arg_opt("top").as_deref(), Some("5"));
    /// assert_eq!(env.arg_opt("bottom"), None);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().args(["-p", "2"]).build()?;
    /// assert_eq!(env.parallelism(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parallelism(&self) -> usize {
        self.inner.config.parallelism
    }

    /// Whether the job goes on from a checkpoint or savepoint (the option `restore`), or would if there were one:
    /// then output that is there already may be its own.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().args(["--restore", "savepoints/savepoint-1"]).build()?;
    /// assert!(env.is_restoring());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_restoring(&self) -> bool {
        self.inner.config.restore.is_some()
    }

    /// A value that is computed once, where the program was started. On a cluster, `main` runs again on every
    /// machine that runs tasks of the job; there the value is the one that was computed first. For everything that
    /// could be different elsewhere: files, the clock, random numbers, answers of services.
    ///
    /// # Errors
    /// That of `compute`; if the value cannot be written; or, on a cluster, if the program did not ask for it
    /// where it was started.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::from_env()?;
    /// let limit = env.once("limit", || Ok(std::env::vars().count()))?;
    /// env.generate(100, |i| i as usize).filter(move |i| *i < limit).discard();
    /// # Ok(())
    /// # }
    /// ```
    pub fn once<T>(&self, name: &str, compute: impl FnOnce() -> Result<T>) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        #[cfg(feature = "cluster")]
        if let (Some(_), Some(host)) = (&self.inner.config.cluster, host::host()?) {
            return codec::decode_all(host.once(name)?);
        }
        let value = compute()?;
        if self.inner.config.cluster.is_some() {
            let mut bytes = Vec::new();
            codec::encode(&value, &mut bytes)?;
            self.inner.once.borrow_mut().push((name.to_owned(), bytes));
        }
        Ok(value)
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().parallelism(2).build()?;
    /// env.generate(100, |i| i).map(|i| i / 2).discard();
    /// let plan = env.explain("halves", ExplainFormat::Text)?;
    /// assert!(plan.contains("[0] parallelism 2\n    generator (source)\n    map, fused\n    discard (sink), fused"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn explain(&self, name: &str, format: ExplainFormat) -> Result<String> {
        let compiled = self.compile(name)?;
        Ok(compile::explain::render(&self.inner.graph.borrow(), &compiled, format))
    }

    /// Runs everything that was built, and waits for its end. Ctrl-C cancels the job.
    ///
    /// With `--explain` on the command line it prints the plan and exits the process instead. With `--cluster` the job
    /// runs there; with the option `detached` too, the process prints the job's id and exits. In a process that the
    /// cluster has started to run the job's tasks, it does that and does not return.
    ///
    /// # Errors
    /// If the job cannot run as it is, fails, or is cancelled.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(100, |i| i).discard();
    /// let result = env.execute("hundred")?;
    /// assert_eq!((result.state(), result.records()), (JobState::Finished, 100));
    ///
    /// let error = env.execute("nothing").unwrap_err().to_string();
    /// assert!(error.starts_with("the job has no operators"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn execute(&self, name: &str) -> Result<JobResult> {
        if let Some(format) = self.inner.explain {
            println!("{}", self.explain(name, format)?.trim_end());
            std::process::exit(0);
        }
        let job = self.execute_async(name)?;
        if let (true, Some(id)) = (self.inner.config.detached, job.id()) {
            println!("{id}");
            std::process::exit(0);
        }
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
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.source(Generator::unbounded(|i| i), Watermarks::none()).discard();
    /// let job = env.execute_async("endless")?;
    /// job.cancel();
    /// assert_eq!(job.wait()?.state(), JobState::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn execute_async(&self, name: &str) -> Result<JobHandle> {
        let compiled = self.compile(name)?;
        for warning in &compiled.warnings {
            tracing::warn!("{warning}");
        }
        let graph = self.inner.graph.take();
        let program = Program { graph, compiled, config: self.inner.config.clone() };
        match program.config.cluster {
            Some(_) => self.execute_elsewhere(program),
            None => launch(program),
        }
    }

    #[cfg(not(feature = "cluster"))]
    fn execute_elsewhere(&self, _: Program) -> Result<JobHandle> {
        Err(Error::user(
            "this program was built without the means to run on a cluster: add the feature `cluster` of \
             `millstream`, or leave the option `cluster` away",
        ))
    }

    #[cfg(feature = "cluster")]
    fn execute_elsewhere(&self, mut program: Program) -> Result<JobHandle> {
        let Some(host) = host::host()? else {
            return crate::submit::submit(program, self.inner.once.borrow().clone());
        };
        if !host.is_called() {
            let graph = &program.compiled.graph;
            let (name, n_tasks) = (graph.name.clone(), graph.n_tasks());
            return Ok(JobHandle::new(host::PassedOver { name, n_tasks }));
        }
        // What was set on the client holds, whatever a builder has said here.
        program.config = host.config().clone();
        match compile::compile(&program.graph, &program.config, &program.compiled.graph.name) {
            Ok(compiled) => host::serve(host, Program { compiled, ..program }),
            Err(error) => host.give_up(error),
        }
    }
}
