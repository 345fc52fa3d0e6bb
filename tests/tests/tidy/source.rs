//! A Rust file as the rules read it: the text, and the same lines with comments and literals blanked out, so that a word
//! in a comment or a string is not taken for code.
//!
//! A small scanner instead of a parser: the rules ask for words, not for meaning, and must also read files that do not
//! compile. Line numbers are those of the text.

/// One Rust file.
pub(super) struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    pub(super) fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        Source { path: path.into(), code: blank(&text), text }
    }

    /// From the root of the repository, with `/`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The lines as written.
    pub(super) fn lines(&self) -> Vec<&str> {
        self.text.lines().collect()
    }

    /// The lines with spaces for comments and the insides of literals.
    pub(super) fn code(&self) -> Vec<&str> {
        self.code.lines().collect()
    }

    /// For every line, whether it is test code: a file of tests, or inside of a `#[cfg(test)]` item.
    pub(super) fn test_lines(&self) -> Vec<bool> {
        let n_lines = self.code.lines().count();
        let file = self.path.rsplit('/').next().unwrap_or_default();
        if super::lies_in(&self.path, "tests") || file == "tests.rs" {
            return vec![true; n_lines];
        }
        let mut test = vec![false; n_lines];
        for (start, _) in self.code.match_indices("#[cfg(test)]") {
            let end = item_end(&self.code, start);
            let line = |offset: usize| self.code[..offset].matches('\n').count();
            test[line(start)..=line(end)].fill(true);
        }
        test
    }
}

/// Whether `line` contains `needle` and not merely as a part of a longer identifier.
pub(super) fn mentions(line: &str, needle: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let glued = |outer: Option<char>, inner: Option<char>| {
        outer.is_some_and(part) && inner.is_some_and(part)
    };
    line.match_indices(needle).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + needle.len()..]);
        !glued(before.chars().next_back(), needle.chars().next())
            && !glued(after.chars().next(), needle.chars().next_back())
    })
}

/// Where the item that starts at `start` ends: its closing brace, or the `;` of an item without a body.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return start + at,
            '}' => depth -= 1,
            ';' if depth == 0 => return start + at,
            _ => {}
        }
    }
    code.trim_end().len().saturating_sub(1).max(start)
}

/// `text` with a space for every character of a comment or inside of a literal; line breaks stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_or_comment(&chars, at) {
            Some(end) => end.min(chars.len()),
            None => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the literal or comment that starts at `at` ends; `None` if none starts there.
fn literal_or_comment(chars: &[char], at: usize) -> Option<usize> {
    let next = |offset: usize| chars.get(at + offset).copied();
    match (chars[at], next(1)) {
        ('/', Some('/')) => Some(find(chars, at, |c| c == '\n')),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at)),
        ('\'', Some('\\')) => Some(find(chars, at + 3, |c| c == '\'') + 1),
        // Anything else after a quote is a lifetime or a label.
        ('\'', Some(_)) => (next(2) == Some('\'')).then_some(at + 3),
        ('r', Some('"' | '#')) if !in_word(chars, at) => raw_string_end(chars, at + 1),
        _ => None,
    }
}

/// Whether the `r` at `at` is the end of a longer word; the prefixes of `br"…"` and `cr"…"` are no such word.
fn in_word(chars: &[char], at: usize) -> bool {
    let word = |index: Option<usize>| {
        index
            .and_then(|index| chars.get(index))
            .filter(|c| c.is_alphanumeric() || **c == '_')
            .copied()
    };
    match word(at.checked_sub(1)) {
        None => false,
        Some('b' | 'c') => word(at.checked_sub(2)).is_some(),
        Some(_) => true,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| wanted(chars[at])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (at, depth) = (at + 2, depth + 1),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `from` is where the `#`s or the quote begin. `None` for a raw identifier such as `r#type`.
fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let quote = find(chars, from, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let n_hashes = quote - from;
    let closes = |at: usize| {
        chars[at] == '"'
            && chars[at + 1..].iter().take(n_hashes).filter(|c| **c == '#').count() == n_hashes
    };
    let end = (quote + 1..chars.len()).find(|&at| closes(at)).unwrap_or(chars.len());
    Some(end + 1 + n_hashes)
}

#[test]
fn comments_and_literals_are_no_code() {
    let kept = |text: &str| blank(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(kept("a // b\nc"), "a c");
    assert_eq!(kept("a /* b /* c */ d */ e"), "a e");
    assert_eq!(kept(r#"a("b \" c", d)"#), "a( , d)");
    assert_eq!(kept(r###"a(r#"b " c"#, br"d\", e)"###), "a( , b , e)");
    assert_eq!(kept(r"f<'a>('b', '\'', '\u{1F}', 'x: loop)"), "f<'a>( , , , 'x: loop)");
    assert_eq!(kept("r#type = for\"x\"; var\"y\""), "r#type = for ; var");
    assert_eq!(blank("\"b\nc\" é /* ü\n */ d").lines().count(), 3);
    assert_eq!(kept("\"never closed"), "");
}

#[test]
fn words_are_whole() {
    assert!(mentions("let x = rand::random();", "rand"));
    assert!(!mentions("let operand = strand();", "rand"));
    assert!(mentions("std::time::Instant::now()", "Instant::now"));
    assert!(!mentions("MyInstant::now_or_never()", "Instant::now"));
    assert!(mentions("start.elapsed()", ".elapsed()"));
}

#[test]
fn test_code_is_told_from_the_rest() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(test)]\nmod more;\nfn c() {}\n";
    let lines = |path: &str| Source::new(path, text).test_lines();
    assert_eq!(lines("state/src/ttl.rs"), [false, true, true, true, true, true, true, false]);
    assert_eq!(lines("state/src/ttl/tests.rs"), [true; 8]);
    assert_eq!(lines("client/tests/explain.rs"), [true; 8]);
    let cut = Source::new("a.rs", "#[cfg(test)]\nmod tests {\n    fn b() {\n");
    assert_eq!(cut.test_lines(), [true; 3]);
}
