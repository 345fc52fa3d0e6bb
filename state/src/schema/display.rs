//! Shapes for people: as one would write the type in Rust, so that two of them can be compared by eye.

use super::shape::{Field, Shape, Variant};
use std::fmt;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self, 0, f)
    }
}

fn write(shape: &Shape, level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match shape {
        Shape::Unit => f.write_str("()"),
        Shape::Bool => f.write_str("bool"),
        Shape::Int { bits, signed } => write!(f, "{}{bits}", if *signed { 'i' } else { 'u' }),
        Shape::Float { bits } => write!(f, "f{bits}"),
        Shape::Char => f.write_str("char"),
        Shape::Text => f.write_str("String"),
        Shape::Bytes => f.write_str("Bytes"),
        Shape::Option(item) => write_generic("Option", &[item], level, f),
        Shape::List(item) => write_generic("Vec", &[item], level, f),
        Shape::Map(key, value) => write_generic("Map", &[key, value], level, f),
        Shape::Tuple(items) => write_tuple(items, level, f),
        Shape::Struct { name, fields } => {
            write!(f, "struct {name} ")?;
            write_fields(fields, level, f)
        }
        Shape::Enum { name, variants } => {
            write!(f, "enum {name} ")?;
            write_block(variants, level, f, |variant, f| write_variant(variant, level + 1, f))
        }
        Shape::Recursive { name, .. } => f.write_str(name),
        Shape::Opaque { name } => write!(f, "opaque {name:?}"),
    }
}

fn write_generic(
    name: &str,
    items: &[&Shape],
    level: usize,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "{name}<")?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write(item, level, f)?;
    }
    f.write_str(">")
}

fn write_tuple(items: &[Shape], level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let [first, rest @ ..] = items
        && rest.len() > 2
        && rest.iter().all(|item| item == first)
    {
        f.write_str("[")?;
        write(first, level, f)?;
        return write!(f, "; {}]", items.len());
    }
    f.write_str("(")?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write(item, level, f)?;
    }
    f.write_str(if items.len() == 1 { ",)" } else { ")" })
}

fn write_fields(fields: &[Field], level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_block(fields, level, f, |field, f| {
        // Of an `Option` everybody knows that it may be missing.
        let default = field.optional && !matches!(field.shape, Shape::Option(_));
        write_serde(&field.aliases, default, level + 1, f)?;
        write!(f, "{}: ", field.name)?;
        write(&field.shape, level + 1, f)
    })
}

fn write_variant(variant: &Variant, level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_serde(&variant.aliases, false, level, f)?;
    f.write_str(&variant.name)?;
    match &variant.shape {
        Shape::Unit => Ok(()),
        Shape::Struct { name, fields } if *name == variant.name => {
            f.write_str(" ")?;
            write_fields(fields, level, f)
        }
        Shape::Tuple(items) if items.len() > 1 => write_tuple(items, level, f),
        other => {
            f.write_str("(")?;
            write(other, level, f)?;
            f.write_str(")")
        }
    }
}

/// What serde was told of a field or variant, as the attribute that says so.
fn write_serde(
    aliases: &[String],
    optional: bool,
    level: usize,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let told = aliases.iter().map(|name| format!("alias = {name:?}"));
    let told: Vec<_> = optional.then(|| "default".to_string()).into_iter().chain(told).collect();
    if told.is_empty() {
        return Ok(());
    }
    writeln!(f, "#[serde({})]", told.join(", "))?;
    indent(level, f)
}

fn write_block<T>(
    items: &[T],
    level: usize,
    f: &mut fmt::Formatter<'_>,
    mut each: impl FnMut(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if items.is_empty() {
        return f.write_str("{}");
    }
    f.write_str("{\n")?;
    for item in items {
        indent(level + 1, f)?;
        each(item, f)?;
        f.write_str(",\n")?;
    }
    indent(level, f)?;
    f.write_str("}")
}

fn indent(level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:1$}", "", level * 4)
}
