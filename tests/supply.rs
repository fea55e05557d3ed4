//! What the tree is built of: licences, sources, versions, runtimes, code that runs while building, known advisories.
//!
//! `tests/policy/supply.toml` says what is accepted, and why. The rules are functions from what cargo knows to what is
//! wrong, so that each is shown below to be able to fail. All three lock files are held to them: the project's own, and
//! those of `tests/models` and `tests/fuzz`.

mod licence;
mod rules;
mod version;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rules::{Graph, Lock, Policy, findings};

/// The packages, by the folder of their manifest.
const PACKAGES: [&str; 3] = ["", "tests/models/", "tests/fuzz/"];

/// The platform whose packages are looked into; what is for others alone is held to the rules on lock files.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn policy() -> Policy {
    toml::from_str(&read("tests/policy/supply.toml")).expect("a policy that can be read")
}

/// What cargo knows of the packages that a manifest needs. Whatever is missing on this machine is fetched.
fn graph(folder: &str) -> Result<Graph, String> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--all-features", "--filter-platform", PLATFORM])
        .args(["--manifest-path", &format!("{folder}Cargo.toml")])
        .current_dir(root())
        .output()
        .map_err(|error| error.to_string())?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    serde_json::from_slice(&out.stdout).map_err(|error| error.to_string())
}

#[test]
fn what_the_tree_is_built_of_keeps_to_the_policy() {
    let locks: Vec<_> = PACKAGES.map(|folder| Lock::read(&format!("{folder}Cargo.lock"), &read_lock(folder))).into();
    let mut graphs = Vec::new();
    for folder in PACKAGES {
        match graph(folder) {
            Ok(graph) => graphs.push(graph),
            // Only the packages beside the project's own may need what this machine has never fetched.
            Err(error) if !folder.is_empty() && std::env::var("CI").as_deref() != Ok("true") => {
                eprintln!("LEFT OUT: the licences of {folder}, for cargo cannot fetch its packages: {error}");
            }
            Err(error) => panic!("cargo metadata of {folder:?}: {error}"),
        }
    }
    let found = findings(&policy(), &locks, &graphs, graphs.len() == PACKAGES.len());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The most crates of others that a build compiles into a program, by what `cargo tree` is told of features. One of two
/// versions counts twice; what runs while building counts if it is a macro, and not if it is a build script's.
const MOST_CRATES: [(&str, usize); 2] = [("--no-default-features", 60), ("--features=default", 110)];

#[test]
fn a_build_takes_no_more_crates_than_promised() {
    for (features, most) in MOST_CRATES {
        let out = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--edges=normal",
                "--prefix=none",
                "--format={p}",
                "--target",
                PLATFORM,
                features,
            ])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("text");
        let named = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let mut crates: BTreeSet<_> = text.lines().map(named).filter(|line| !line.is_empty()).collect();
        assert!(crates.remove(&format!("sluicegate v{}", env!("CARGO_PKG_VERSION"))), "the tree is of something else");
        assert!(crates.len() > 20, "{features}: {crates:?}");
        assert!(crates.len() <= most, "{features}: {} crates, more than {most}:\n{crates:#?}", crates.len());
    }
}

fn read_lock(folder: &str) -> String {
    read(&format!("{folder}Cargo.lock"))
}

/// The SDK's tests install what is named there and nothing else.
#[test]
fn each_python_package_of_the_sdk_tests_is_pinned_to_one_version() {
    let loose = |text: &str| -> Vec<String> {
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && part != "*"
        };
        let pinned = |line: &&str| line.split_once("==").is_some_and(|(name, version)| plain(name) && plain(version));
        text.lines().filter(|line| !line.is_empty() && !pinned(line)).map(str::to_owned).collect()
    };
    assert_eq!(loose(&read("tests/sdk/requirements.txt")), [""; 0]);
    let text = "a==1.0\nb\nc>=1\nd==1.*\n-r other.txt\ne @ https://a.example/e.whl\n";
    assert_eq!(loose(text), ["b", "c>=1", "d==1.*", "-r other.txt", "e @ https://a.example/e.whl"]);
}

/// What is found where `lock` and `graph` are all there is, under a policy that accepts what a usual package is.
fn wrong(lock: &str, graph: &str) -> Vec<String> {
    let policy = r#"
        licences = ["MIT", "Apache-2.0"]
        runtimes = ["tokio", "smol"]
        [licences_of]
        odd = "NCSA"
        [build_scripts]
        known = "it asks the compiler's version"
        [proc_macros]
        derive = "it derives"
        [[advisory]]
        id = "RUSTSEC-2000-0001"
        crate = "holey"
        affected = [">=0.5.12, <0.5.15", "<0.2.0"]
    "#;
    let policy: Policy = toml::from_str(policy).expect("a policy");
    let graph = serde_json::from_str(graph).expect("a graph");
    findings(&policy, &[Lock::read("Cargo.lock", lock)], &[graph], false)
}

/// A lock file of these packages, each `name version` and more lines.
fn lock(packages: &[(&str, &str)]) -> String {
    let good = "source = \"registry+index\"\nchecksum = \"00\"\n";
    let entry = |(head, more): &(&str, &str)| {
        let (name, version) = head.split_once(' ').expect("a name and a version");
        let more = if more.is_empty() { good } else { more };
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n{more}\n")
    };
    format!("version = 4\n{}", packages.iter().map(entry).collect::<String>())
}

/// A graph of one package with this licence and a target of this kind.
fn package(name: &str, licence: &str, kind: &str) -> String {
    serde_json::json!({ "packages": [{
        "name": name, "version": "1.0.0", "source": "registry+index", "license": (!licence.is_empty()).then_some(licence),
        "targets": [{ "kind": [kind] }],
    }] })
    .to_string()
}

const NOTHING: &str = r#"{ "packages": [] }"#;

#[test]
fn a_package_from_elsewhere_or_without_a_checksum_is_found() {
    for more in ["source = \"git+https://a.example/x#1\"", "source = \"registry+other\"\nchecksum = \"00\""] {
        let found = wrong(&lock(&[("first 1.0.0", ""), ("x 1.0.0", more)]), NOTHING);
        assert!(found.len() == 1 && found[0].contains("x 1.0.0"), "{more}: {found:?}");
    }
    let found = wrong(&lock(&[("x 1.0.0", "source = \"registry+index\"")]), NOTHING);
    assert!(found.len() == 1 && found[0].contains("checksum"), "{found:?}");
    let found = wrong(&lock(&[("vendored 1.0.0", "dependencies = []")]), NOTHING);
    assert!(found.len() == 1 && found[0].contains("vendored"), "{found:?}");
    assert!(wrong(&lock(&[("first 1.0.0", ""), ("sluicegate 0.1.0", "dependencies = []")]), NOTHING).is_empty());
}

#[test]
fn a_second_version_of_a_crate_is_found() {
    let found = wrong(&lock(&[("twin 1.0.0", ""), ("twin 2.0.0", ""), ("other 1.0.0", "")]), NOTHING);
    assert!(found.len() == 1 && found[0].contains("twin"), "{found:?}");
}

#[test]
fn an_async_runtime_in_a_lock_file_is_found() {
    for name in ["tokio", "smol"] {
        let found = wrong(&lock(&[("log 0.4.0", ""), (&format!("{name} 1.0.0"), "")]), NOTHING);
        assert!(found.len() == 1 && found[0].contains(name), "{found:?}");
    }
    assert!(wrong(&lock(&[("tokio-like-but-not 1.0.0", "")]), NOTHING).is_empty());
}

#[test]
fn a_version_with_a_known_advisory_is_found() {
    for version in ["0.5.12", "0.5.14", "0.1.9", "0.5.15-rc.1"] {
        let found = wrong(&lock(&[(&format!("holey {version}"), "")]), NOTHING);
        assert!(found.len() == 1 && found[0].contains("RUSTSEC-2000-0001"), "{version}: {found:?}");
    }
    for version in ["0.5.11", "0.5.15", "0.2.0", "1.0.0", "0.5.15+build"] {
        assert!(wrong(&lock(&[(&format!("holey {version}"), "")]), NOTHING).is_empty(), "{version}");
    }
}

#[test]
fn a_licence_that_is_not_listed_is_found() {
    for licence in
        ["GPL-3.0-only", "MIT AND GPL-3.0-only", "NCSA", "", "Apache-2.0 WITH LLVM-exception", "(MIT", "MIT OR"]
    {
        let found = wrong(&lock(&[]), &package("x", licence, "lib"));
        assert!(found.len() == 1 && found[0].contains('x'), "{licence}: {found:?}");
    }
    for licence in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR NCSA) AND Apache-2.0"] {
        assert!(wrong(&lock(&[]), &package("x", licence, "lib")).is_empty(), "{licence}");
    }
    assert!(wrong(&lock(&[]), &package("odd", "MIT AND NCSA", "lib")).is_empty());
}

#[test]
fn a_build_script_or_macro_that_is_not_named_is_found() {
    for (kind, known, unknown) in [("custom-build", "known", "derive"), ("proc-macro", "derive", "known")] {
        assert!(wrong(&lock(&[]), &package(known, "MIT", kind)).is_empty(), "{kind}");
        let found = wrong(&lock(&[]), &package(unknown, "MIT", kind));
        assert!(found.len() == 1 && found[0].contains(unknown), "{kind}: {found:?}");
    }
}

#[test]
fn an_exception_that_nothing_needs_any_longer_is_found() {
    let policy = r#"
        licences = ["MIT", "ISC"]
        runtimes = []
        advisory = []
        [duplicates]
        twin = { versions = ["1", "2"], why = "gone" }
        [licences_of]
        odd = "NCSA"
        [build_scripts]
        known = "gone"
        [proc_macros]
        derive = "gone"
    "#;
    let policy: Policy = toml::from_str(policy).expect("a policy");
    let graph: Graph = serde_json::from_str(&package("x", "MIT", "lib")).expect("a graph");
    let found = findings(&policy, &[Lock::read("Cargo.lock", &lock(&[("twin 1.0.0", "")]))], &[graph], true);
    for what in ["twin", "odd", "known", "derive", "ISC"] {
        assert_eq!(found.iter().filter(|line| line.contains(what)).count(), 1, "{what}: {found:?}");
    }
}
