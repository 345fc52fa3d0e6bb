//! W3: a running count per word, with `String` and with `Text`.

use super::environment;
use super::sink::checksum;
use crate::text::words;
use crate::workload::{BenchError, Outcome, Setup};
use millstream::connectors::Generator;
use millstream::prelude::*;

/// A line of the text by its number: what the source hands out costs nothing.
fn lines(
    setup: &Setup,
) -> Result<impl Fn(u64) -> &'static str + Send + Sync + Clone + 'static, BenchError> {
    let text = setup.text()?.clone();
    Ok(move |i| text.line(i))
}

pub(super) fn string(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    let line = lines(setup)?;
    env.source(Generator::new(setup.n, |i| i), Watermarks::none())
        .flat_map_into(move |i, out| words(line(*i)).for_each(|w| out.emit(w.to_ascii_lowercase())))
        .key_by_ref(|word: &String| word.as_str())
        .map_with_state(|count: &mut u64, word| {
            *count += 1;
            (word, *count)
        })
        .uid("count")
        .sink(checksum(|(_, count): &(String, u64)| *count));
    super::run(setup, &env, "w3 string")
}

pub(super) fn text(setup: &Setup) -> Result<Outcome, BenchError> {
    let env = environment(setup)?;
    let line = lines(setup)?;
    env.source(Generator::new(setup.n, |i| i), Watermarks::none())
        .flat_map_into(move |i, out| {
            // Lower-casing a whole line at once is vectorised.
            let line = line(*i).to_ascii_lowercase();
            words(&line).for_each(|w| out.emit(Text::from(w)));
        })
        .key_by_ref(|word: &Text| word)
        .map_with_state(|count: &mut u64, word| {
            *count += 1;
            (word, *count)
        })
        .uid("count")
        .sink(checksum(|(_, count): &(Text, u64)| *count));
    super::run(setup, &env, "w3 text")
}
