//! Licence expressions (SPDX's `AND`, `OR`, `WITH`, brackets, and the slash of old for `OR`), read by recursive descent.

/// Whether what an expression asks for is met by licences that are accepted. One that cannot be read is not.
pub(super) fn is_met(text: &str, accepted: &dyn Fn(&str) -> bool) -> bool {
    let words = words(text);
    let mut rest = &words[..];
    either(&mut rest, accepted).unwrap_or(false) && rest.is_empty()
}

/// The licences that an expression names, each with its exception.
pub(super) fn names(text: &str) -> impl Iterator<Item = String> {
    words(text).into_iter().filter(|word| !matches!(&**word, "AND" | "OR" | "(" | ")"))
}

fn words(text: &str) -> Vec<String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<String> = Vec::new();
    let mut parts = spaced.split_whitespace();
    while let Some(part) = parts.next() {
        match (part, words.last_mut()) {
            ("WITH", Some(licence)) => *licence = format!("{licence} WITH {}", parts.next().unwrap_or_default()),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn either(rest: &mut &[String], accepted: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = all(rest, accepted)?;
    while take(rest, "OR") {
        met |= all(rest, accepted)?;
    }
    Some(met)
}

fn all(rest: &mut &[String], accepted: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = one(rest, accepted)?;
    while take(rest, "AND") {
        met &= one(rest, accepted)?;
    }
    Some(met)
}

fn one(rest: &mut &[String], accepted: &dyn Fn(&str) -> bool) -> Option<bool> {
    if take(rest, "(") {
        let met = either(rest, accepted)?;
        return take(rest, ")").then_some(met);
    }
    let (word, after) = rest.split_first()?;
    *rest = after;
    (!matches!(&**word, "AND" | "OR" | ")")).then(|| accepted(word))
}

fn take(rest: &mut &[String], word: &str) -> bool {
    let found = rest.first().is_some_and(|first| first == word);
    if found {
        *rest = &rest[1..];
    }
    found
}
