//! The architecture as a test: a module uses only those of lower layers, files stay short and say what they are for, and
//! what is to be named in one place is named in one place.
//!
//! The rules are functions from a tree of texts to what is wrong with it, so that each is shown below to be able to fail.

mod rules;
mod source;

use std::path::{Path, PathBuf};

use rules::{Tree, findings};

/// Every Rust file under `folder`, with its path from the project's root.
fn collect(root: &Path, folder: &str, into: &mut Vec<(String, String)>) {
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("it is below the root").to_string_lossy().replace('\\', "/");
                into.push((name, std::fs::read_to_string(&path).expect("a readable file")));
            }
        }
    }
}

#[test]
fn the_tree_keeps_to_its_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Tree::default();
    collect(root, "src", &mut tree.files);
    assert!(tree.files.len() > 20, "the walk found {} files", tree.files.len());
    for folder in ["tests", "benches", "examples"] {
        collect(root, folder, &mut tree.others);
    }
    let found = findings(&tree);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// What is found wrong with one file beside a library root.
fn wrong(path: &str, text: &str) -> Vec<String> {
    let lib = "//! A library.\npub use error::Error;\npub use gateway::{Gateway, Reply as Answer};\n";
    let files = vec![("src/lib.rs".to_owned(), lib.to_owned()), (path.to_owned(), format!("//! A file.\n{text}"))];
    findings(&Tree { files, ..Tree::default() })
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    for text in [
        "use crate::gateway::Gateway;",
        "use crate::{time, gateway::call};",
        "use crate::{\n    error::{Code, Error},\n    cli,\n};",
        "fn f() { crate::front::serve(); }",
        "fn f() -> crate::gateway::Gateway { g() }",
        "pub use super::super::stats::Snapshot;",
        "use super::super::{time::now, admin};",
        "use crate::Gateway;",
        "use crate::Answer;",
        "use crate::http::Server;",
        "fn f() { let c = '\"'; crate::sim::start() } // \"",
        "fn f<'a>(x: &'a str) { crate::sim::start() }",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::provider::Pool;",
        "use crate::nowhere::Thing;",
    ] {
        let found = wrong("src/transport/pool.rs", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with("src/transport/pool.rs"), "{found:?}");
    }
}

#[test]
fn what_is_allowed_or_no_import_is_left_alone() {
    for text in [
        "use crate::error::{Code, Error};\nuse crate::{sync, model::Call};",
        "use crate::transport::pool::Pool; use super::stack; use super::super::time;",
        "// use crate::gateway::Gateway;\n/* crate::cli /* crate::cli */ crate::cli */",
        "/// See [`crate::gateway::Gateway`].\n//! Or `crate::cli`.",
        "const TEXT: &str = \"crate::gateway \\\" crate::cli\"; const RAW: &str = r#\"crate::cli \" \"#;",
        "#[cfg(test)]\nmod tests {\n    use crate::sim::Sim;\n    fn f() { if true { crate::cli::run() } }\n}",
        "#[cfg(test)]\nuse crate::sim::Sim;",
        "use crate::Error;",
        "pub(crate) fn f() {} pub(in crate::transport) fn g() {}",
    ] {
        let found = wrong("src/transport/pool.rs", text);
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}

#[test]
fn modules_of_one_layer_keep_apart_unless_said() {
    assert_eq!(wrong("src/wire/mod.rs", "use crate::transport::Body;").len(), 1);
    assert_eq!(wrong("src/net.rs", "use crate::sync::State;").len(), 0);
    assert_eq!(wrong("src/sync/mod.rs", "use crate::net::DeadlineStream;").len(), 1);
}

#[test]
fn a_module_without_a_layer_is_found() {
    let found = wrong("src/helpers.rs", "");
    assert!(found.len() == 1 && found[0].contains("has no layer"), "{found:?}");
}

#[test]
fn a_file_that_is_long_or_silent_is_found() {
    let long = "fn f() {}\n".repeat(800);
    assert!(wrong("src/time.rs", &long)[0].contains("801 lines"));
    for text in ["use std::io;\n", "//!\n", "//! a heading without an end\n\nuse std::io;", "/// An item.\nfn f() {}"] {
        let tree = Tree { files: vec![("src/time.rs".to_owned(), text.to_owned())], ..Tree::default() };
        assert!(findings(&tree)[0].contains("first sentence"), "{text}");
    }
    let tree = Tree { others: vec![("tests/x.rs".to_owned(), "\n".repeat(900))], ..Tree::default() };
    assert!(findings(&tree)[0].contains("900 lines"));
}

#[test]
fn a_crate_that_has_one_home_is_found_in_a_second() {
    let file = |path: &str, text: &str| (path.to_owned(), format!("//! A file.\n{text}"));
    let tree = |second: &str| Tree {
        files: vec![
            file("src/transport/ureq.rs", "use ureq::Agent;\nfn f() { ureq::get() }"),
            file("src/transport/mod.rs", second),
        ],
        ..Tree::default()
    };
    for second in
        ["use ureq::Body;", "fn f(e: ureq::Error) {}", "fn f(e: ::ureq::Error) {}", "use ureq as http_client;"]
    {
        let found = findings(&tree(second));
        assert!(found.len() == 1 && found[0].contains("ureq"), "{second}: {found:?}");
    }
    for second in ["mod ureq;\npub use ureq::UreqTransport;", "use self::ureq::UreqTransport;", "// ureq::Agent"] {
        assert!(findings(&tree(second)).is_empty(), "{second}");
    }
}
