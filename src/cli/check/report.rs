//! What of a document of Bifrost's is taken and what is not, for a person to read.

use std::fmt::Write as _;

use crate::config::{Imported, LeftOut};

/// How many places of one key are named.
const MOST_PLACES: usize = 3;

/// The report.
pub(super) fn text(file: &str, imported: &Imported) -> String {
    let Imported { taken, left } = imported;
    let mut text = format!(
        "{file} is a configuration of Bifrost's: {} are taken, {} are not.\n",
        counted(taken.len(), "value"),
        counted(left.len(), "key")
    );
    if !taken.is_empty() {
        text += "\ntaken\n";
        for (place, keys) in grouped(taken) {
            let line = format!("  {place}: {}", keys.join(", "));
            let _ = writeln!(text, "{}", line.trim_end_matches(": "));
        }
    }
    if !left.is_empty() {
        text += "\nnot taken\n";
        for (name, places) in alike(left) {
            let LeftOut { means, instead, .. } = places[0];
            let _ = writeln!(text, "  {name}: {means}");
            if !instead.is_empty() {
                let _ = writeln!(text, "      instead: {instead}");
            }
            // Where it stands, unless its name says so.
            let named: Vec<_> = places.iter().map(|left| left.path.as_str()).take(MOST_PLACES).collect();
            if named != [name] {
                let more = match places.len().saturating_sub(MOST_PLACES) {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                let _ = writeln!(text, "      at {}{more}", named.join(", "));
            }
        }
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Paths by the provider or section that they belong to, each with what follows that.
fn grouped(paths: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for path in paths {
        let dots: Vec<_> = path.match_indices('.').map(|(at, _)| at).collect();
        let at = if path.starts_with("providers.") { dots.get(1).or(dots.first()) } else { dots.first() };
        let (place, rest) = at.map_or((path.as_str(), ""), |at| (&path[..*at], &path[at + 1..]));
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, keys)) => keys.push(rest),
            None => groups.push((place, vec![rest])),
        }
    }
    groups
}

/// What is left out, the same key of several providers once.
fn alike(left: &[LeftOut]) -> Vec<(&str, Vec<&LeftOut>)> {
    let mut groups: Vec<(&str, Vec<&LeftOut>)> = Vec::new();
    for one in left {
        let deep = one.path.matches('.').count() > 1;
        let name = if deep { one.path.rsplit('.').next().unwrap_or(&one.path) } else { &one.path };
        let same = |(known, others): &&mut (&str, Vec<&LeftOut>)| *known == name && others[0].means == one.means;
        match groups.iter_mut().find(same) {
            Some((_, places)) => places.push(one),
            None => groups.push((name, vec![one])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_many_providers_is_told_once_with_its_places() {
        let left = |path: &str| LeftOut { path: path.to_owned(), means: "a thing", instead: "another" };
        let places = ["a", "b", "c", "d", "e"].map(|name| left(&format!("providers.{name}.keys[0].id")));
        let taken = ["providers.a.keys[0].name", "providers.a.keys[0].value", "client.initial_pool_size", "env"];
        let imported = Imported {
            taken: taken.map(str::to_owned).into(),
            left: places.into_iter().chain([left("governance")]).collect(),
        };
        let expected = "\
f.json is a configuration of Bifrost's: 4 values are taken, 6 keys are not.

taken
  providers.a: keys[0].name, keys[0].value
  client: initial_pool_size
  env

not taken
  id: a thing
      instead: another
      at providers.a.keys[0].id, providers.b.keys[0].id, providers.c.keys[0].id, and 2 more
  governance: a thing
      instead: another
";
        assert_eq!(text("f.json", &imported), expected);
    }
}
