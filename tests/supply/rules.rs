//! The rules, each a function from lock files and package graphs to what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::licence;
use super::version::{Version, lies_in};

/// What is accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    licences: BTreeSet<String>,
    runtimes: BTreeSet<String>,
    /// A crate, and the one licence that it may have beyond the list.
    #[serde(default)]
    licences_of: BTreeMap<String, String>,
    #[serde(default)]
    duplicates: BTreeMap<String, Duplicate>,
    /// A crate, and what its build script does.
    build_scripts: BTreeMap<String, String>,
    proc_macros: BTreeMap<String, String>,
    advisory: Vec<Advisory>,
}

/// A crate that may be there in these versions, each written down to what makes it incompatible with another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Duplicate {
    versions: Vec<String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advisory {
    id: String,
    #[serde(rename = "crate")]
    name: String,
    affected: Vec<String>,
}

/// A lock file.
pub(super) struct Lock {
    path: String,
    packages: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

impl Lock {
    pub(super) fn read(path: &str, text: &str) -> Self {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            package: Vec<Locked>,
        }
        let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), packages: file.package }
    }
}

/// What `cargo metadata` says.
#[derive(Deserialize)]
pub(super) struct Graph {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Package {
    fn has(&self, kind: &str) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|own| own == kind))
    }
}

/// Everything that is wrong, a line each. If this is `all` that the policy is for, what it accepts and nobody needs is wrong.
pub(super) fn findings(policy: &Policy, locks: &[Lock], graphs: &[Graph], all: bool) -> Vec<String> {
    let mut found = Vec::new();
    sources(locks, &mut found);
    for lock in locks {
        duplicates(policy, lock, &mut found);
        for package in &lock.packages {
            let Locked { name, version, .. } = package;
            if policy.runtimes.contains(name) {
                found.push(format!("{}: {name} is an async runtime, or needs one", lock.path));
            }
            for advisory in policy.advisory.iter().filter(|advisory| advisory.name == *name) {
                if advisory.affected.iter().any(|range| lies_in(&Version::of(version), range)) {
                    found.push(format!("{}: {name} {version} is affected by {}", lock.path, advisory.id));
                }
            }
        }
    }
    let by_id = |package: &Package| (package.name.clone(), package.version.clone());
    let foreign = graphs.iter().flat_map(|graph| &graph.packages).filter(|package| package.source.is_some());
    let packages: Vec<_> =
        foreign.map(|package| (by_id(package), package)).collect::<BTreeMap<_, _>>().into_values().collect();
    for package in &packages {
        licences(policy, package, &mut found);
        for (kind, what, named) in
            [("custom-build", "a build script", &policy.build_scripts), ("proc-macro", "a macro", &policy.proc_macros)]
        {
            if package.has(kind) && !named.contains_key(&package.name) {
                let name = &package.name;
                found.push(format!("{name}: it is or has {what}, which runs while building; look at it and name it"));
            }
        }
    }
    if all {
        needless(policy, locks, &packages, &mut found);
    }
    found
}

/// All packages that are not our own come from one registry, with checksums.
fn sources(locks: &[Lock], found: &mut Vec<String>) {
    let of = |lock: &Lock| lock.packages.iter().find_map(|package| package.source.clone());
    let first = locks.iter().find_map(of).unwrap_or_default();
    for (lock, package) in locks.iter().flat_map(|lock| lock.packages.iter().map(move |package| (lock, package))) {
        let (path, name, version) = (&lock.path, &package.name, &package.version);
        match &package.source {
            // The project itself, its models with their stand-ins, and its fuzz targets.
            None if name.starts_with("sluicegate") || name == "stand_ins" => {}
            None => found.push(format!("{path}: {name} {version} comes from a folder and is none of ours")),
            Some(source) if !source.starts_with("registry+") || *source != first => {
                found.push(format!("{path}: {name} {version} comes from {source}, where nothing else does"));
            }
            Some(_) if package.checksum.is_none() => found.push(format!("{path}: {name} {version} has no checksum")),
            Some(_) => {}
        }
    }
}

/// The versions of each crate of a lock file, down to what makes them incompatible.
fn versions(lock: &Lock) -> BTreeMap<&str, Vec<String>> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in &lock.packages {
        versions.entry(&package.name).or_default().push(Version::of(&package.version).compatibility());
    }
    versions
}

fn duplicates(policy: &Policy, lock: &Lock, found: &mut Vec<String>) {
    for (name, versions) in versions(lock).into_iter().filter(|(_, versions)| versions.len() > 1) {
        let accepted = policy.duplicates.get(name).map_or(&[][..], |duplicate| &duplicate.versions);
        if versions.iter().any(|version| !accepted.contains(version)) {
            found.push(format!("{}: {name} is there in several versions: {}", lock.path, versions.join(", ")));
        }
    }
}

fn licences(policy: &Policy, package: &Package, found: &mut Vec<String>) {
    let own = policy.licences_of.get(&package.name);
    let accepted = |licence: &str| policy.licences.contains(licence) || own.is_some_and(|own| own == licence);
    match &package.license {
        None => found.push(format!("{}: it states no licence", package.name)),
        Some(text) if !licence::is_met(text, &accepted) => {
            found.push(format!("{}: its licence is {text}, which is not accepted", package.name));
        }
        Some(_) => {}
    }
}

/// What is accepted, and there no longer.
fn needless(policy: &Policy, locks: &[Lock], packages: &[&Package], found: &mut Vec<String>) {
    let mut gone = |name: &str, what: &str| found.push(format!("policy: {what} {name} is accepted, and there is none"));
    for (name, duplicate) in &policy.duplicates {
        assert!(!duplicate.why.is_empty());
        let there = |version: &String| {
            locks.iter().any(|lock| {
                let all = versions(lock);
                all.get(&**name).is_some_and(|found| found.len() > 1 && found.contains(version))
            })
        };
        if !duplicate.versions.iter().all(there) {
            gone(name, "a second version of");
        }
    }
    let names = |named: &BTreeMap<String, String>, kind: &str| -> Vec<String> {
        let there = |name: &&String| packages.iter().any(|package| package.name == **name && package.has(kind));
        named.keys().filter(|name| !there(name)).cloned().collect()
    };
    names(&policy.build_scripts, "custom-build").iter().for_each(|name| gone(name, "the build script of"));
    names(&policy.proc_macros, "proc-macro").iter().for_each(|name| gone(name, "the macro"));
    let stated = |wanted: &str, of: Option<&str>| {
        packages.iter().any(|package| {
            of.is_none_or(|name| name == package.name)
                && package.license.as_deref().is_some_and(|text| licence::names(text).any(|name| name == wanted))
        })
    };
    policy
        .licences_of
        .iter()
        .filter(|(name, own)| !stated(own, Some(name)))
        .for_each(|(name, _)| gone(name, "a licence of"));
    policy.licences.iter().filter(|name| !stated(name, None)).for_each(|name| gone(name, "the licence"));
}
