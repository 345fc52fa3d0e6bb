//! Fields of a line, taken from left to right.
//!
//! The data sets quote nothing, so a line is cut at every separator; a CSV reader would be wrong wherever a
//! field contains a quote. What is wrong with a field is said with its name: the line number is added by
//! whoever reads the file.

use millstream::prelude::Text;
use std::fmt::Display;
use std::str::FromStr;

/// Goes through the fields of a line.
///
/// ```
/// use millstream::prelude::Text;
/// use millstream_examples::fields::Fields;
///
/// let line = Text::from("17,B6,,JFK");
/// let mut fields = Fields::new(&line, ',');
/// assert_eq!(fields.number::<u32>("seq").unwrap(), 17);
/// assert_eq!(fields.text("carrier").unwrap(), "B6");
/// assert_eq!(fields.optional::<u32>("air_time_min").unwrap(), None);
/// assert_eq!(fields.number::<u32>("origin").unwrap_err(), "origin `JFK` is no number: invalid digit found in string");
/// assert_eq!(fields.text("dest").unwrap_err(), "the line ends before dest");
/// ```
pub struct Fields<'a> {
    line: &'a Text,
    separator: char,
    rest: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// The fields of `line` between separators.
    pub fn new(line: &'a Text, separator: char) -> Self {
        Fields { line, separator, rest: Some(line.as_str()) }
    }

    /// The next field as it stands.
    ///
    /// # Errors
    /// If there is none.
    pub fn next(&mut self, name: &str) -> Result<&'a str, String> {
        let rest = self.rest.ok_or_else(|| format!("the line ends before {name}"))?;
        let (field, rest) = match rest.split_once(self.separator) {
            Some((field, rest)) => (field, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        Ok(field)
    }

    /// Passes over the next fields.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn skip<const N: usize>(&mut self, names: [&str; N]) -> Result<(), String> {
        names.iter().try_for_each(|name| self.next(name).map(drop))
    }

    /// The next field as a text; a long one shares the line's buffer.
    ///
    /// # Errors
    /// If there is none.
    pub fn text(&mut self, name: &str) -> Result<Text, String> {
        self.next(name).map(|field| self.line.slice_of(field))
    }

    /// The next field as a number.
    ///
    /// # Errors
    /// If there is none, or it is no such number.
    pub fn number<N: FromStr<Err: Display>>(&mut self, name: &str) -> Result<N, String> {
        let field = self.next(name)?;
        field.parse().map_err(|e| format!("{name} `{field}` is no number: {e}"))
    }

    /// The next field as a number; an empty one is `None`.
    ///
    /// # Errors
    /// If there is none, or it is neither empty nor such a number.
    pub fn optional<N: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<N>, String> {
        if self.rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(self.separator)) {
            self.next(name)?;
            return Ok(None);
        }
        self.number(name).map(Some)
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// If there are more fields.
    pub fn end(&self) -> Result<(), String> {
        match self.rest {
            None => Ok(()),
            Some(rest) => Err(format!("the line goes on with `{rest}` after its last field")),
        }
    }
}
