//! The plan of a job in words, as a Graphviz graph, or as JSON.

use super::Compiled;
use crate::config::ExplainFormat;
use crate::graph::Graph;
use millstream_model::job_graph::{ChainedOperator, JobEdge, JobGraph};
use std::fmt::Write;

pub(crate) fn render(program: &Graph, compiled: &Compiled, format: ExplainFormat) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = match format {
        ExplainFormat::Text => text(program, compiled, &mut out),
        ExplainFormat::Dot => dot(&compiled.graph, &mut out),
        ExplainFormat::Json => json(compiled, &mut out),
    };
    out
}

fn text(program: &Graph, compiled: &Compiled, out: &mut String) -> std::fmt::Result {
    let graph = &compiled.graph;
    writeln!(
        out,
        "Job `{}`: {} vertices, {} tasks",
        graph.name,
        graph.vertices.len(),
        graph.n_tasks()
    )?;
    writeln!(
        out,
        "Input: {}",
        if graph.bounded { "bounded, the job ends by itself" } else { "unbounded" }
    )?;
    writeln!(out, "Guarantee: {}", graph.guarantee)?;
    for (v, vertex) in graph.vertices.iter().enumerate() {
        writeln!(out)?;
        write!(out, "[{v}] parallelism {}", vertex.parallelism)?;
        if vertex.slot_sharing_group != "default" {
            write!(out, ", slot-sharing group `{}`", vertex.slot_sharing_group)?;
        }
        writeln!(out)?;
        for (_, e) in graph.inputs_of(v) {
            writeln!(out, "    ⇐ [{}] {}{}", e.from, e.ship, origin(graph, e))?;
        }
        for operator in &vertex.operators {
            write!(out, "    {}", operator.name)?;
            if operator.name != operator.kind {
                write!(out, " ({})", operator.kind)?;
            }
            if let Some(uid) = &operator.uid {
                write!(out, ", uid `{uid}`")?;
            }
            let node = &program.nodes[operator.node];
            if let Some(watermarks) = &node.watermarks {
                write!(out, ", watermarks: {watermarks}")?;
            }
            if !operator.states.is_empty() {
                write!(out, ", state: {}", operator.states.join(", "))?;
            }
            match &operator.unfused_because {
                None if node.is_source() => {}
                None => write!(out, ", fused")?,
                Some(reason) => write!(out, ", not fused: {reason}")?,
            }
            writeln!(out)?;
        }
    }
    for warning in &compiled.warnings {
        writeln!(out, "\nWarning: {}", without_line(warning))?;
    }
    Ok(())
}

/// Plans are compared across edits of a program: the line number would make every edit a difference.
fn without_line(warning: &str) -> String {
    match (warning.find(" ("), warning.find(") ")) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{}", &warning[..open], &warning[close + 1..])
        }
        _ => warning.to_string(),
    }
}

/// Where in a chain an edge starts, if not at its end.
fn origin(graph: &JobGraph, edge: &JobEdge) -> String {
    let operators = &graph.vertices[edge.from].operators;
    let name = |o: &ChainedOperator| format!(" from {}", o.name);
    match &edge.tag {
        Some(tag) => format!(", side output `{tag}`"),
        None if operators.last().is_some_and(|o| o.node == edge.from_node) => String::new(),
        None => operators.iter().find(|o| o.node == edge.from_node).map(name).unwrap_or_default(),
    }
}

fn dot(graph: &JobGraph, out: &mut String) -> std::fmt::Result {
    writeln!(out, "digraph {:?} {{\n  rankdir=LR;\n  node [shape=box];", graph.name)?;
    for (v, vertex) in graph.vertices.iter().enumerate() {
        let label =
            format!("{}\nparallelism {}", vertex.name().replace(" → ", "\n"), vertex.parallelism);
        writeln!(out, "  v{v} [label={label:?}];")?;
    }
    for e in &graph.edges {
        let tag = e.tag.as_ref().map(|t| format!("\n{t}")).unwrap_or_default();
        writeln!(out, "  v{} -> v{} [label={:?}];", e.from, e.to, format!("{}{tag}", e.ship))?;
    }
    writeln!(out, "}}")
}

fn json(compiled: &Compiled, out: &mut String) -> std::fmt::Result {
    let plan = serde_json::json!({ "job": compiled.graph, "warnings": compiled.warnings });
    write!(out, "{plan:#}")
}
