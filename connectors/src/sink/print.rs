//! Records on the terminal.

use crate::encode::{ByDisplay, Show, not_shown};
use millstream_model::{Batch, Error, Result};
use millstream_runtime::context::OperatorContext;
use millstream_runtime::operator::{Sink, SinkWriter};
use std::io::{self, Write};

#[derive(Clone, Copy, Debug)]
enum Target {
    Stdout,
    Stderr,
}

/// Prints every record on a line of its own. A batch is printed at once, so lines of different subtasks do
/// not mix.
///
/// ```
/// # use millstream_connectors::Print;
/// use std::fmt::Write;
///
/// let plain = Print::stdout();
/// let told_apart = Print::stderr().prefix("late").subtasks();          // late:2> …
/// let by_hand = Print::stdout().format(|(word, n): &(String, u64), out| write!(out, "{word}: {n}"));
/// ```
#[derive(Clone, Debug)]
pub struct Print<S = ByDisplay> {
    target: Target,
    prefix: Option<String>,
    subtasks: bool,
    show: S,
}

impl Print {
    /// To the standard output, by the records' `Display`.
    pub fn stdout() -> Self {
        Print::to(Target::Stdout)
    }

    /// To the standard error output, by the records' `Display`.
    pub fn stderr() -> Self {
        Print::to(Target::Stderr)
    }

    fn to(target: Target) -> Self {
        Print { target, prefix: None, subtasks: false, show: ByDisplay }
    }
}

impl<S> Print<S> {
    /// Puts `prefix> ` before every line.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Puts the number of the subtask, from 1, before every line.
    #[must_use]
    pub fn subtasks(mut self) -> Self {
        self.subtasks = true;
        self
    }

    /// Shows records by `show`, which appends one to the text it is given.
    #[must_use]
    pub fn format<T, F>(self, show: F) -> Print<F>
    where
        F: Fn(&T, &mut String) -> std::fmt::Result + Clone + Send + Sync + 'static,
    {
        let Print { target, prefix, subtasks, .. } = self;
        Print { target, prefix, subtasks, show }
    }

    /// What stands before every line of a subtask.
    fn head(&self, subtask: usize) -> String {
        match (&self.prefix, self.subtasks) {
            (Some(prefix), true) => format!("{prefix}:{}> ", subtask + 1),
            (Some(prefix), false) => format!("{prefix}> "),
            (None, true) => format!("{}> ", subtask + 1),
            (None, false) => String::new(),
        }
    }
}

impl<T, S: Show<T>> Sink<T> for Print<S> {
    /// There is nothing to be prepared.
    fn recovers_apart(&self) -> bool {
        true
    }
    fn writer(&self, context: &OperatorContext) -> Result<Box<dyn SinkWriter<T>>> {
        let head = self.head(context.subtask());
        let (show, text) = (self.show.clone(), String::new());
        Ok(match self.target {
            Target::Stdout => {
                Box::new(Printer { head, show, text, to: io::stdout(), name: "standard output" })
            }
            Target::Stderr => {
                Box::new(Printer { head, show, text, to: io::stderr(), name: "standard error" })
            }
        })
    }
    fn name(&self) -> String {
        "print".into()
    }
}

struct Printer<S, W> {
    head: String,
    show: S,
    text: String,
    to: W,
    name: &'static str,
}

impl<T, S: Show<T>, W: Write + Send> SinkWriter<T> for Printer<S, W> {
    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.text.clear();
        for record in &batch.values {
            self.text.push_str(&self.head);
            self.show.show(record, &mut self.text).map_err(not_shown)?;
            self.text.push('\n');
        }
        batch.clear();
        self.to.write_all(self.text.as_bytes()).map_err(|e| closed(self.name, e))
    }

    fn flush(&mut self) -> Result<()> {
        self.to.flush().map_err(|e| closed(self.name, e))
    }

    fn finish(&mut self) -> Result<()> {
        SinkWriter::<T>::flush(self)
    }
}

fn closed(name: &str, cause: io::Error) -> Error {
    Error::external(format!("{name} takes nothing more")).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed<T, S: Show<T>>(print: &Print<S>, subtask: usize, values: Vec<T>) -> String {
        let (show, head) = (print.show.clone(), print.head(subtask));
        let mut printer = Printer { head, show, text: String::new(), to: Vec::new(), name: "test" };
        printer.write(&mut Batch::of(values)).unwrap();
        String::from_utf8(printer.to).unwrap()
    }

    #[test]
    fn lines_say_where_they_come_from_if_asked() {
        let plain = Print::stdout();
        assert_eq!(printed(&plain, 0, vec!["a", "b"]), "a\nb\n");
        assert_eq!(printed(&plain.clone().subtasks(), 1, vec!["a"]), "2> a\n");
        assert_eq!(printed(&plain.clone().prefix("late"), 0, vec!["a"]), "late> a\n");
        assert_eq!(
            printed(&plain.subtasks().prefix("late"), 0, vec!["a", "b"]),
            "late:1> a\nlate:1> b\n"
        );
    }

    #[test]
    fn a_closure_may_format() {
        use std::fmt::Write;
        let print = Print::stderr().format(|(a, b): &(i32, bool), out| write!(out, "{a}/{b}"));
        assert_eq!(printed(&print, 0, vec![(1, true)]), "1/true\n");
    }

    #[test]
    fn a_closed_output_is_an_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (head, text, name) = (String::new(), String::new(), "standard output");
        let mut printer = Printer { head, show: ByDisplay, text, to: Closed, name };
        let error = printer.write(&mut Batch::of(vec![1])).unwrap_err();
        assert_eq!(error.to_string(), "standard output takes nothing more: broken pipe");
    }
}
