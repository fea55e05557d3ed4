//! `tests/page.toml`, held to what it says: every claim of the concurrency page has a module and tests, or says what is
//! still to come.
//!
//! The rules are functions from a table and a picture of the tree to what is wrong, so that each is shown below to be able
//! to fail. That a named test really ran and passed is looked at by `tests/page.py`, which has the log of the run.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

/// Lines of the page.
const PAGE_LINES: usize = 772;

/// The targets that a test's name may begin with.
const TARGETS: [&str; 3] = ["lib::", "main::", "models::"];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    group: Vec<Group>,
    #[serde(default)]
    claim: Vec<Claim>,
}

/// A heading of the page, with its first and its last line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    title: String,
    lines: [usize; 2],
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    line: usize,
    words: String,
    module: String,
    #[serde(default)]
    tests: Vec<String>,
    selftest: Option<String>,
    pending: Option<String>,
    departure: Option<String>,
}

/// What the table is compared with.
struct Tree<'a> {
    /// Whether there is such a module under `src/`.
    module: &'a dyn Fn(&str) -> bool,
    /// The claims of `sluicegate selftest`.
    selftest: Vec<String>,
    readme: String,
}

/// Everything that is wrong with a table, a line each.
fn findings(table: &Table, tree: &Tree<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for claim in &table.claim {
        let name = format!("line {} ({})", claim.line, claim.words);
        if !(1..=PAGE_LINES).contains(&claim.line) {
            found.push(format!("{name}: the page has {PAGE_LINES} lines"));
        }
        if claim.words.trim().is_empty() {
            found.push(format!("{name}: it claims nothing"));
        }
        if !seen.insert((claim.line, claim.words.as_str())) {
            found.push(format!("{name}: it stands twice"));
        }
        if claim.tests.is_empty() && claim.pending.is_none() {
            found.push(format!("{name}: no test shows it, and nothing is said to be pending"));
        }
        for test in claim.tests.iter().filter(|test| !TARGETS.iter().any(|target| test.starts_with(target))) {
            found.push(format!("{name}: {test} does not begin with one of {TARGETS:?}"));
        }
        if !(tree.module)(&claim.module) {
            found.push(format!("{name}: there is no module {}", claim.module));
        }
        if let Some(missing) = claim.selftest.as_ref().filter(|said| !tree.selftest.contains(said)) {
            found.push(format!("{name}: selftest has no claim {missing:?}"));
        }
        for (key, text) in [("pending", &claim.pending), ("departure", &claim.departure)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                found.push(format!("{name}: {key} says nothing"));
            }
        }
        let groups = table.group.iter().filter(|group| group.holds(claim)).count();
        if groups != 1 {
            found.push(format!("{name}: it belongs to {groups} groups"));
        }
    }
    let shown: BTreeSet<_> = table.claim.iter().filter_map(|claim| claim.selftest.as_ref()).collect();
    for lonely in tree.selftest.iter().filter(|claim| !shown.contains(claim)) {
        found.push(format!("selftest's {lonely:?} is named by no claim of the page"));
    }
    for group in &table.group {
        let row = group.readme_row(table);
        if !tree.readme.lines().any(|line| line.starts_with(&row)) {
            found.push(format!("README.md has no row that begins with {row:?}"));
        }
    }
    found
}

impl Group {
    fn holds(&self, claim: &Claim) -> bool {
        (self.lines[0]..=self.lines[1]).contains(&claim.line)
    }

    /// How its row in the README begins: its title, its claims, and how many of them are still to come.
    fn readme_row(&self, table: &Table) -> String {
        let claims: Vec<_> = table.claim.iter().filter(|claim| self.holds(claim)).collect();
        let pending = claims.iter().filter(|claim| claim.pending.is_some()).count();
        format!("| {} | {} | {pending} |", self.title, claims.len())
    }
}

/// The texts in the list `CLAIMS` of the self-test: each stands first in its pair.
fn selftest_claims(source: &str) -> Vec<String> {
    let list = source.split_once("const CLAIMS").and_then(|(_, rest)| rest.split_once("];"));
    let mut rest = list.map_or("", |(list, _)| list);
    let mut claims = Vec::new();
    while let Some((_, pair)) = rest.split_once('(') {
        rest = pair;
        if let Some((text, behind)) = pair.trim_start().strip_prefix('"').and_then(|text| text.split_once("\",")) {
            claims.push(text.to_owned());
            rest = behind;
        }
    }
    claims
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of the project")
}

fn is_module(module: &str) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    source.join(format!("{module}.rs")).is_file() || source.join(module).join("mod.rs").is_file()
}

#[test]
fn every_claim_of_the_page_has_a_module_and_tests_or_says_what_is_to_come() {
    let table: Table = toml::from_str(&read("tests/page.toml")).expect("a table of claims");
    let selftest = selftest_claims(&read("src/cli/selftest/mod.rs"));
    assert!(
        table.claim.len() >= 130 && selftest.len() >= 20,
        "{} claims, {} in selftest",
        table.claim.len(),
        selftest.len()
    );
    let found = findings(&table, &Tree { module: &is_module, selftest, readme: read("README.md") });
    let mut pending: Vec<_> = table.claim.iter().filter_map(|claim| claim.pending.as_deref()).collect();
    pending.sort_unstable();
    let parts: Vec<_> = pending.chunk_by(|a, b| a == b).map(|part| format!("{} {}", part.len(), part[0])).collect();
    println!("{} claims, {} pending: {}", table.claim.len(), pending.len(), parts.join(", "));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// What is found wrong with a table of one group and the given claims.
fn wrong(claims: &str) -> Vec<String> {
    let table: Table =
        toml::from_str(&format!("[[group]]\ntitle = \"Queues\"\nlines = [10, 20]\n{claims}")).expect("a table");
    let selftest = if claims.contains("selftest") { vec!["it holds".to_owned()] } else { Vec::new() };
    let row = table.group[0].readme_row(&table);
    findings(&table, &Tree { module: &|module| module == "queue", selftest, readme: format!("{row} and more |\n") })
}

const GOOD: &str = "[[claim]]\nline = 12\nwords = \"full\"\nmodule = \"queue\"\ntests = [\"lib::a\"]\n";

#[test]
fn a_claim_with_a_module_and_a_test_is_in_order_and_so_is_a_pending_one() {
    assert_eq!(wrong(&format!("{GOOD}selftest = \"it holds\"\ndeparture = \"since\"\n")), [""; 0]);
    assert_eq!(wrong(&GOOD.replace("tests = [\"lib::a\"]", "pending = \"locks\"")), [""; 0]);
}

#[test]
fn whatever_is_wrong_with_a_claim_is_found() {
    for (good, bad, word) in [
        ("tests = [\"lib::a\"]", "", "no test"),
        ("tests = [\"lib::a\"]", "tests = []", "no test"),
        ("lib::a", "a::b", "does not begin"),
        ("\"queue\"", "\"queues\"", "no module"),
        ("\"full\"", "\" \"", "claims nothing"),
        ("line = 12", "line = 21", "0 groups"),
        ("tests", "pending = \"\"\ntests", "says nothing"),
        ("tests", "selftest = \"it does not\"\ntests", "no claim"),
    ] {
        let found = wrong(&GOOD.replace(good, bad));
        assert!(found.iter().any(|line| line.contains(word)), "{bad}: {found:?}");
    }
    assert!(wrong(&GOOD.replace("12", "773")).iter().any(|line| line.contains("772 lines")));
    assert!(wrong(&format!("{GOOD}{GOOD}"))[0].contains("twice"));
    assert!(toml::from_str::<Table>(&format!("{GOOD}test = \"lib::b\"")).is_err(), "a misspelt key is refused");
}

#[test]
fn a_selftest_that_no_claim_names_is_found() {
    let table = Table::default();
    let tree = Tree { module: &|_| true, selftest: vec!["alone".to_owned()], readme: String::new() };
    assert!(findings(&table, &tree)[0].contains("alone"));
}

#[test]
fn a_readme_that_counts_otherwise_is_found() {
    let table: Table =
        toml::from_str(&format!("[[group]]\ntitle = \"Queues\"\nlines = [10, 20]\n{GOOD}")).expect("a table");
    for (row, good) in
        [("| Queues | 1 | 0 | … |", true), ("| Queues | 2 | 0 | … |", false), ("| Queues | 1 | 1 |", false)]
    {
        let tree = Tree { module: &|_| true, selftest: Vec::new(), readme: row.to_owned() };
        assert_eq!(findings(&table, &tree).is_empty(), good, "{row}");
    }
}

#[test]
fn the_claims_of_the_selftest_are_read_off_its_source() {
    let source = "const CLAIMS: &[Claim] = &[\n    (\"one (of two): a\", x::a),\n    (\n        \"two\",\n        x::b,\n    ),\n];\n(\"three\", c)";
    assert_eq!(selftest_claims(source), ["one (of two): a", "two"]);
}
