//! The rules of the architecture page, each a function from texts to what is wrong.

use super::source::code_of;

/// The texts that the rules look at.
#[derive(Default)]
pub(super) struct Tree {
    /// The library's files: path and text.
    pub(super) files: Vec<(String, String)>,
    /// Tests, benchmarks, examples: only their length is looked at.
    pub(super) others: Vec<(String, String)>,
}

/// The architecture's table: a module uses only those of lower layers.
const LAYERS: [&[&str]; 9] = [
    &["error", "calendar", "time", "ids", "secret", "metrics"],
    &["sync", "net"],
    &["recycle", "queue", "config", "model", "events"],
    &["wire", "transport", "http"],
    &["provider"],
    &["custom", "plugin", "route", "sim", "testing"],
    &["gateway"],
    &["stats", "front", "admin"],
    &["cli"],
];

/// Who may use a module beside it: "none beside it unless said", and here it is said.
const SAID: [(&str, &str); 8] = [
    // An error names the request that it belongs to; a histogram knows what a microsecond is.
    ("error", "ids"),
    ("metrics", "time"),
    // A socket's waits show in the thread's state.
    ("net", "sync"),
    // A job's priority says which lane it waits in.
    ("queue", "model"),
    // A body's memory is a pool's; a pool's limits are read from the configuration as they are.
    ("model", "recycle"),
    ("config", "recycle"),
    // What a caller may ask for goes with each call, and is what its key's configuration says.
    ("model", "config"),
    // The admin plane answers with snapshots.
    ("admin", "stats"),
];

/// Crates that are named in one file each, because they are to be replaceable.
const ONE_HOME: [&str; 3] = ["ureq", "tiny_http", "flate2"];

const MOST_LINES: usize = 800;

/// Everything that is wrong with a tree, a line each.
pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let code: Vec<_> = tree.files.iter().map(|(path, text)| (path.as_str(), code_of(text))).collect();
    let aliases = aliases(&code);
    for (path, code) in &code {
        imports(path, code, &aliases, &mut found);
    }
    for (path, text) in tree.files.iter().chain(&tree.others) {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            found.push(format!("{path}: {lines} lines, more than {MOST_LINES}: split it by role"));
        }
    }
    for (path, text) in &tree.files {
        if !has_first_sentence(text) {
            found.push(format!("{path}: it does not begin with `//!` and a first sentence that says what it is for"));
        }
    }
    for name in ONE_HOME {
        let homes: Vec<_> = code.iter().filter(|(_, code)| names_crate(code, name)).map(|(path, _)| *path).collect();
        if homes.len() > 1 {
            found.push(format!("{name} is named in {} files, and has one home: {}", homes.len(), homes.join(", ")));
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What a file imports against the table.
fn imports(path: &str, code: &str, aliases: &[(String, String)], found: &mut Vec<String>) {
    let Some((module, depth)) = module_of(path) else { return };
    let Some(own) = layer(&module) else {
        found.push(format!("{path}: module {module} has no layer; give it one in the table"));
        return;
    };
    for name in root_names(code, depth) {
        let used = aliases.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, module)| module);
        let said = SAID.contains(&(module.as_str(), used));
        match layer(used) {
            _ if used == module || said => {}
            Some(theirs) if theirs < own => {}
            Some(theirs) => found.push(format!("{path}: {module} (layer {own}) uses {used} (layer {theirs})")),
            None => found.push(format!("{path}: it uses crate::{name}, which has no layer; give it one in the table")),
        }
    }
}

/// The top-level module that a file belongs to, and how deep below the root it lies. The roots of the library and of the
/// binary see everything, and so do tests in a file of their own.
fn module_of(path: &str) -> Option<(String, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    if inner == "lib" || inner == "main" || inner.ends_with("/tests") {
        return None;
    }
    let parts: Vec<_> = inner.split('/').collect();
    let depth = parts.len() - usize::from(parts.last() == Some(&"mod"));
    Some((parts[0].to_owned(), depth))
}

/// The names that a file uses from the crate's root: what follows `crate::`, or as many `super::` as lead there.
fn root_names(code: &str, depth: usize) -> Vec<String> {
    let to_root = "super::".repeat(depth);
    let mut names = Vec::new();
    for start in [&*to_root, "crate::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            let deeper = code[..at].ends_with("super::");
            let visibility = code[..at].trim_end().ends_with("(in");
            if before.is_alphanumeric() || before == '_' || deeper || visibility {
                continue;
            }
            names.extend(heads(&code[at + start.len()..]));
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The first segments of a path, or of each path of a `{…}` group. A macro is no module.
fn heads(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        let name = word(rest);
        let is_macro = rest[name.len()..].starts_with('!');
        return if name.is_empty() || is_macro || name == "super" { Vec::new() } else { vec![name.to_owned()] };
    };
    let mut depth = 0;
    let mut names = Vec::new();
    let mut at_start = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                names.push(word(&group[at..]).to_owned());
                at_start = false;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty() && name != "self");
    names
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// What the library's root re-exports, and from which module: `crate::Error` is `error`.
fn aliases(code: &[(&str, String)]) -> Vec<(String, String)> {
    let root = code.iter().find(|(path, _)| *path == "src/lib.rs").map_or("", |(_, code)| code.as_str());
    let mut aliases = Vec::new();
    for statement in root.split(';') {
        let Some(path) = statement.trim().strip_prefix("pub use ") else { continue };
        let path = path.trim_start_matches("crate::").trim_start_matches("self::");
        let Some((module, names)) = path.split_once("::") else { continue };
        for name in names.trim_matches(|c| "{}".contains(c)).split(',') {
            let name = name.split(" as ").last().unwrap_or_default().trim();
            let name = name.rsplit("::").next().unwrap_or_default();
            if !name.is_empty() {
                aliases.push((name.to_owned(), module.to_owned()));
            }
        }
    }
    aliases
}

/// Whether a file's first paragraph is documentation that ends like a sentence.
fn has_first_sentence(text: &str) -> bool {
    let paragraph: Vec<_> =
        text.lines().map_while(|line| line.strip_prefix("//! ")).take_while(|line| !line.trim().is_empty()).collect();
    paragraph.join(" ").contains(|c| ".!?:".contains(c))
}

/// Whether code names a crate: as the beginning of a path, or in `use`. A module of the same name is not it.
fn names_crate(code: &str, name: &str) -> bool {
    let is_module = code.contains(&format!("mod {name};")) || code.contains(&format!("mod {name} "));
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let absolute = before
            .strip_suffix("::")
            .is_some_and(|path| !path.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>'));
        let inside_path = before.ends_with("::") && !absolute;
        let used = before.trim_end().ends_with("use") || after.trim_start().starts_with("::");
        whole && used && !inside_path && (absolute || !is_module)
    })
}
