//! Two configurations compared: what a new one changes in a gateway that runs, and what of it has to wait for a restart.
//!
//! Values are compared as they are in force, secrets among them; what is told of a difference is where it stands, never a
//! value that could be a secret (I10). Pure.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::ConfigError;
use super::section::Walk;
use super::types::{Client, Provider, Server};
use super::{Config, raw, server};

/// What of `server` can change while the gateway runs; the rest is built into its listeners and limits.
const SERVER: [&str; 5] = ["admin_key", "keys", "shutdown_timeout", "trusted_proxies", "cors_origins"];

/// Sections that are built into what all providers stand on.
const FIXED: [&str; 3] = ["threads", "pools", "locks"];

/// What a new configuration changes.
///
/// ```
/// use sluicegate::{Gateway, ProviderSetup};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("sim")).build()?;
/// let sims = [ProviderSetup::sim("sim").buffer_size(200), ProviderSetup::sim("spare")];
/// let other = sims.into_iter().fold(Gateway::builder(), |builder, sim| builder.provider(sim)).into_config()?;
///
/// let changes = gateway.reload(other)?;
/// println!("{changes}");
/// assert!(!changes.is_empty() && changes.warnings.is_empty());
/// assert_eq!(changes.providers.added, ["spare"]);
/// assert_eq!(changes.providers.changed[0].settings, ["concurrency_and_buffer_size"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Changes {
    /// The providers, by what becomes of them.
    pub providers: ProviderChanges,
    /// Other settings that change, by their place: `server.keys`, `aliases`, …
    pub settings: Vec<String>,
    /// What is taken but has to wait for a restart, and what is probably not meant.
    pub warnings: Vec<String>,
}

/// What becomes of providers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProviderChanges {
    /// Those that come.
    pub added: Vec<String>,
    /// Those that go on with other settings.
    pub changed: Vec<ChangedProvider>,
    /// Those that go.
    pub removed: Vec<String>,
    /// Those that go on as they are, with their workers, connections and whatever is known of them.
    pub unchanged: Vec<String>,
}

/// A provider that goes on with other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChangedProvider {
    /// Its name.
    pub name: String,
    /// The keys of its section that differ.
    pub settings: Vec<String>,
}

impl Changes {
    /// Whether anything is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let ProviderChanges { added, changed, removed, .. } = &self.providers;
        added.is_empty() && changed.is_empty() && removed.is_empty() && self.settings.is_empty()
    }
}

impl fmt::Display for Changes {
    /// What is changed, in a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing differs from what was in force");
        }
        let providers = &self.providers;
        let changed: Vec<_> =
            providers.changed.iter().map(|one| format!("{} ({})", one.name, one.settings.join(", "))).collect();
        let parts = [
            ("providers added", &providers.added),
            ("providers changed", &changed),
            ("providers removed", &providers.removed),
            ("settings changed", &self.settings),
        ];
        let said = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let said = said.map(|(what, names)| format!("{what}: {}", names.join(", ")));
        f.write_str(&said.collect::<Vec<_>>().join("; "))
    }
}

impl Config {
    /// This configuration as it can come into force where `running` is in force: with what cannot change taken from that
    /// one; and what it changes.
    ///
    /// # Errors
    /// What is wrong with the two put together: an admin plane that listens beyond loopback must keep a key.
    #[doc(hidden)]
    pub fn following(mut self, running: &Self) -> Result<(Self, Changes), ConfigError> {
        let mut changes = Changes::default();
        self.keep(running, &mut changes);
        let walk = Walk::reading(&|_| None);
        server::check_addresses(&self.server, &walk);
        let findings = walk.into_findings();
        if !findings.problems.is_empty() {
            return Err(ConfigError { file: None, problems: findings.problems });
        }
        self.warnings.retain(|warning| !warning.starts_with(server::OPEN_TO_ALL));
        self.warnings.extend(findings.warnings);
        changes.warnings.extend(self.warnings.iter().cloned());
        self.compare_settings(running, &mut changes.settings);
        changes.providers = self.compare_providers(running);
        Ok((self, changes))
    }

    /// Takes from `running` what cannot change, and says what would have been other.
    fn keep(&mut self, running: &Self, changes: &mut Changes) {
        let (new, old) = (self.effective_json(), running.effective_json());
        let mut differing = Vec::new();
        let fixed = |object: &Value| without(object, &SERVER);
        differences("server", &fixed(&new["server"]), &fixed(&old["server"]), &mut differing);
        for key in FIXED {
            differences(key, &new[key], &old[key], &mut differing);
            self.effective[key] = running.effective[key].clone();
        }
        let pool = "initial_pool_size";
        differences(&format!("client.{pool}"), &new["client"][pool], &old["client"][pool], &mut differing);
        let told = differing.into_iter().map(|(path, stays)| {
            format!("{path}: it changes at a restart alone; until then it stays as it is, {stays}")
        });
        changes.warnings.extend(told);

        let keys = running.effective["server"].as_object().into_iter().flatten();
        for (key, value) in keys.filter(|(key, _)| !SERVER.contains(&key.as_str())) {
            self.effective["server"][key] = value.clone();
        }
        self.effective["client"][pool] = running.effective["client"][pool].clone();
        let Server { admin_key, keys, shutdown_timeout, trusted_proxies, cors_origins, .. } = self.server.clone();
        self.server =
            Server { admin_key, keys, shutdown_timeout, trusted_proxies, cors_origins, ..running.server.clone() };
        self.client = Client { initial_pool_size: running.client.initial_pool_size, ..self.client };
        (self.threads, self.pools, self.locks) = (running.threads.clone(), running.pools.clone(), running.locks);
    }

    /// Where settings differ that are no provider's and do change.
    fn compare_settings(&self, running: &Self, settings: &mut Vec<String>) {
        let mut differing = Vec::new();
        let plain = |config: &Self| without(&config.effective, &["providers"]);
        differences("", &plain(self), &plain(running), &mut differing);
        // Of a list of keys it is the list that differs, and of a secret nothing shows.
        settings.extend(differing.into_iter().map(|(path, _)| path));
        let mut hidden = |path: &str, differs: bool| {
            if differs && !settings.iter().any(|told| told == path) {
                settings.push(path.to_owned());
            }
        };
        hidden("server.admin_key", self.server.admin_key != running.server.admin_key);
        let digests = |config: &Self| config.server.keys.iter().map(|key| key.digest.clone()).collect::<Vec<_>>();
        let (new, old) = (digests(self), digests(running));
        let same = new.len() == old.len() && new.iter().zip(&old).all(|(new, old)| new.find_in([old]).is_some());
        hidden("server.keys", !same);
    }

    fn compare_providers(&self, running: &Self) -> ProviderChanges {
        let mut providers = ProviderChanges::default();
        for new in &self.providers {
            match running.provider(&new.name) {
                None => providers.added.push(new.name.clone()),
                Some(old) if old == new => providers.unchanged.push(new.name.clone()),
                Some(old) => providers
                    .changed
                    .push(ChangedProvider { name: new.name.clone(), settings: differing_settings(new, old) }),
            }
        }
        let gone = running.providers.iter().filter(|old| self.provider(&old.name).is_none());
        providers.removed.extend(gone.map(|old| old.name.clone()));
        providers
    }
}

/// The keys of a provider's section whose values differ, secrets among them.
fn differing_settings(new: &Provider, old: &Provider) -> Vec<String> {
    let shown = new.effective.as_object().into_iter().flat_map(Map::keys);
    let differs = |key: &&String| {
        let hidden = match key.as_str() {
            "keys" => new.keys != old.keys,
            "network_config" => new.network != old.network,
            _ => false,
        };
        hidden || new.effective.get(*key) != old.effective.get(*key)
    };
    shown.filter(differs).cloned().collect()
}

fn without(object: &Value, keys: &[&str]) -> Value {
    let entries = object.as_object().into_iter().flatten().filter(|(key, _)| !keys.contains(&key.as_str()));
    entries.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The places at or below `path` where `new` and `old` differ, each with its old value. What is no object is one place.
fn differences(path: &str, new: &Value, old: &Value, into: &mut Vec<(String, Value)>) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let known = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key)));
            for key in known {
                let of = |object: &Map<String, Value>| object.get(key).cloned().unwrap_or(Value::Null);
                differences(&raw::join(path, key), &of(new), &of(old), into);
            }
        }
        _ if new == old => {}
        _ => into.push((path.to_owned(), old.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &Value) -> Config {
        let env = |name: &str| (name == "KEY").then(|| "sk-from-the-environment".to_owned());
        Config::from_json(&document.to_string(), &env).unwrap_or_else(|error| panic!("{document}: {error}"))
    }

    fn provider(key: &str) -> Value {
        json!({ "kind": "openai", "keys": [{ "name": "k", "value": key }],
                "network_config": { "base_url": "http://127.0.0.1:1", "extra_headers": { "x-team": "red" } } })
    }

    fn base() -> Value {
        json!({
            "server": { "keys": ["gw-one"], "admin_key": "adm-one" },
            "providers": { "a": provider("sk-one"), "b": provider("sk-one"), "sim": {} },
        })
    }

    /// What `change` of [`base`] comes to.
    fn following(change: impl FnOnce(&mut Value)) -> (Config, Changes) {
        let mut document = base();
        change(&mut document);
        read(&document).following(&read(&base())).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn of_two_that_are_alike_nothing_differs_however_they_are_written() {
        let (_, changes) = following(|document| {
            document["server"]["max_connections"] = 8192.into();
            document["providers"]["a"]["queue"] = json!({ "wait_timeout": "5000ms" });
            document["providers"]["a"]["keys"][0]["value"] = "${NOBODY:-sk-one}".into();
        });
        assert!(changes.is_empty() && changes.warnings.is_empty(), "{changes:?}");
        assert_eq!(changes.providers.unchanged, ["a", "b", "sim"]);
    }

    #[test]
    fn each_provider_comes_goes_stays_or_differs_in_what_it_is_told_of() {
        let (config, changes) = following(|document| {
            let providers = document["providers"].as_object_mut().expect("an object");
            providers.remove("sim");
            providers.insert("c".to_owned(), provider("sk-one"));
            providers["a"]["queue"] = json!({ "policy": "drop" });
        });
        let found = changes.providers;
        assert_eq!(
            (found.added, found.removed, found.unchanged),
            (vec!["c".into()], vec!["sim".into()], vec!["b".into()])
        );
        assert_eq!(found.changed, [ChangedProvider { name: "a".into(), settings: vec!["queue".into()] }]);
        assert_eq!(config.providers.len(), 3);
        let (_, changes) = following(|document| document["client"] = json!({ "drop_excess_requests": true }));
        assert_eq!(changes.settings, ["client.drop_excess_requests"]);
        assert_eq!(changes.providers.changed.len(), 3, "each has another policy");
    }

    #[test]
    fn secrets_are_compared_and_never_shown() {
        let (_, changes) = following(|document| {
            document["server"] = json!({ "keys": ["gw-two"], "admin_key": "adm-two" });
            document["providers"]["a"]["keys"][0]["value"] = "env.KEY".into();
            document["providers"]["b"]["network_config"]["extra_headers"]["x-team"] = "blue".into();
        });
        assert_eq!(changes.settings, ["server.admin_key", "server.keys"]);
        let changed: Vec<_> = changes.providers.changed.iter().map(|one| (&*one.name, &*one.settings[0])).collect();
        assert_eq!(changed, [("a", "keys"), ("b", "network_config")]);
        let shown = format!("{changes:?} {}", serde_json::to_string(&changes).expect("JSON"));
        for secret in ["gw-", "adm-", "sk-", "red", "blue"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_cannot_change_stays_and_is_named_and_what_can_changes() {
        let (config, changes) = following(|document| {
            document["server"] = json!({
                "keys": ["gw-one", { "name": "n", "value": "gw-two", "models": ["sim/*"] }], "admin_key": "adm-one",
                "listen": "127.0.0.1:9000", "max_body_bytes": 5, "write_timeout": "1s",
                "shutdown_timeout": "7s", "trusted_proxies": ["10.0.0.0/8"], "cors_origins": ["*"],
            });
            document["threads"] = json!({ "health_interval": "5s" });
            document["pools"] = json!({ "job": { "max_idle": 7000 } });
            document["locks"] = json!({ "detect_interval": "1s" });
            document["client"] = json!({ "initial_pool_size": 10 });
        });
        let named: Vec<_> = changes.warnings.iter().filter_map(|text| text.split_once(": it changes")).collect();
        let named: Vec<_> = named.into_iter().map(|(path, _)| path).collect();
        let expected = [
            "server.listen",
            "server.max_body_bytes",
            "server.write_timeout",
            "threads.health_interval",
            "pools.job.max_idle",
            "locks.detect_interval",
            "client.initial_pool_size",
        ];
        for path in expected {
            assert!(named.contains(&path), "{path} is not among {named:?}");
        }
        assert_eq!(named.len(), expected.len(), "{named:?}");
        assert!(changes.warnings[0].contains("127.0.0.1:8080"), "{:?}", changes.warnings);
        let changed = ["server.keys", "server.shutdown_timeout", "server.trusted_proxies", "server.cors_origins"];
        assert_eq!(changes.settings, changed);
        let running = read(&base());
        assert_eq!((config.server.listen, config.server.max_body_bytes), (running.server.listen, 33_554_432));
        assert_eq!(
            (config.threads.health_interval, config.pools.job.max_idle),
            (running.threads.health_interval, 4096)
        );
        assert_eq!((config.server.shutdown_timeout.as_secs(), config.server.keys.len()), (7, 2));
        let effective = config.effective_json();
        assert_eq!(
            (&effective["server"]["max_body_bytes"], &effective["server"]["shutdown_timeout"]),
            (&33_554_432.into(), &"7s".into())
        );
        assert_eq!(
            (&effective["server"]["listen"], &effective["pools"]["job"]["max_idle"]),
            (&"127.0.0.1:8080".into(), &4096.into())
        );
        // Said again at each reload for as long as it waits.
        let (_, again) = read(&base()).following(&config).expect("it is right");
        assert!(again.warnings.is_empty() && again.settings.len() == 4, "{again:?}");
    }

    #[test]
    fn an_admin_plane_that_stays_beyond_loopback_keeps_a_key() {
        let running =
            read(&json!({ "server": { "admin": "0.0.0.0:8081", "admin_key": "adm-one" }, "providers": { "sim": {} } }));
        let error = read(&json!({ "providers": { "sim": {} } })).following(&running).expect_err("it stands open");
        assert!(error.to_string().contains("server.admin_key"), "{error}");
        let other = read(&json!({ "server": { "admin_key": "adm-two" }, "providers": { "sim": {} } }));
        assert!(other.following(&running).is_ok());
    }
}
