//! Graph drift: a host whose program has built another job than the client's.
//!
//! It happens when `main` depends on what is different elsewhere: a file, the clock, the number of cores. No further
//! attempt would heal it, so it is named as exactly as a graph allows.

use millstream_model::job_graph::{JobGraph, JobVertex};
use millstream_model::{Error, Result};

/// Makes sure that a host has built what was submitted.
pub(super) fn check(submitted: &JobGraph, built: &JobGraph) -> Result<()> {
    if submitted == built {
        return Ok(());
    }
    let how = difference(submitted, built);
    Err(Error::user(format!(
        "the program has built another job here than where it was submitted: {how}. `main` must build the same \
         streams wherever it runs: what it reads from outside before `execute` can be computed once with `env.once`"
    ))
    .finally())
}

fn difference(submitted: &JobGraph, built: &JobGraph) -> String {
    if submitted.name != built.name {
        return format!("its name is `{}`, not `{}`", built.name, submitted.name);
    }
    let (there, here) = (submitted.vertices.len(), built.vertices.len());
    let pairs = submitted.vertices.iter().zip(&built.vertices);
    if let Some((there, here)) = pairs.clone().find(|(there, here)| there != here) {
        return vertex_difference(there, here);
    }
    if there != here {
        return format!("its plan has {here} vertices, not {there}");
    }
    let edges = submitted.edges.iter().zip(&built.edges).find(|(there, here)| there != here);
    match edges {
        Some((there, here)) => format!(
            "`{}` is reached by {}, not by {}",
            built.vertices[here.to].name(),
            here.ship,
            there.ship
        ),
        None if submitted.edges.len() != built.edges.len() => {
            format!("it has {} exchanges, not {}", built.edges.len(), submitted.edges.len())
        }
        None => "its guarantee or its bounds are others".into(),
    }
}

fn vertex_difference(there: &JobVertex, here: &JobVertex) -> String {
    if there.name() != here.name() {
        return format!("`{}` stands where `{}` should", here.name(), there.name());
    }
    if there.parallelism != here.parallelism {
        let (n, m) = (here.parallelism, there.parallelism);
        return format!("`{}` has parallelism {n}, not {m}", here.name());
    }
    let operators = there.operators.iter().zip(&here.operators);
    match operators.clone().find(|(there, here)| there != here) {
        Some((there, here)) if there.uid != here.uid => {
            let uid = |uid: &Option<String>| uid.clone().unwrap_or_else(|| "none".into());
            format!("`{}` has the uid {}, not {}", here.name, uid(&here.uid), uid(&there.uid))
        }
        Some((_, here)) => format!("`{}` is another operator", here.name),
        None => format!("`{}` has other key groups or another slot-sharing group", here.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;
    use crate::environment::Environment;
    use crate::stream::OperatorSettings;

    fn graph(env: &Environment, parallelism: usize, uid: &str) -> JobGraph {
        let numbers = env.generate(10, |i| i).key_by(|i| i % 3).count().uid(uid);
        numbers.parallelism(parallelism).discard();
        let (graph, config) = env.take_program().unwrap();
        compile::compile(&graph, &config, "job").unwrap().graph
    }

    fn built(parallelism: usize, uid: &str) -> JobGraph {
        graph(&Environment::builder().parallelism(1).build().unwrap(), parallelism, uid)
    }

    #[test]
    fn what_differs_is_named() {
        let submitted = built(2, "counts");
        assert!(check(&submitted, &built(2, "counts")).is_ok());
        let error = check(&submitted, &built(3, "counts")).unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("has parallelism 3, not 2"), "{error}");
        let error = check(&submitted, &built(2, "sums")).unwrap_err().to_string();
        assert!(error.contains("has the uid sums, not counts"), "{error}");
        let mut renamed = submitted.clone();
        renamed.name = "another".into();
        let error = check(&submitted, &renamed).unwrap_err().to_string();
        assert!(error.contains("its name is `another`, not `job`"), "{error}");
    }
}
