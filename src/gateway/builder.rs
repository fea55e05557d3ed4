//! What a program says of its gateway by setters, and what comes of it beside a configuration that was given.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Builder;
use crate::config::{self, AliasSetup, Config, ConfigError, GatewayKeySetup, ProviderSetup, setters};
use crate::custom::{self, CustomProvider, Own};
use crate::transport::Transport;

impl Builder {
    /// Adds a provider.
    ///
    /// ```
    /// use sluicegate::{Concurrency, Gateway, KeySetup, ProviderSetup};
    ///
    /// let gateway = Gateway::builder()
    ///     .provider(ProviderSetup::sim("sim").concurrency(Concurrency::fixed(4)))
    ///     .provider(
    ///         ProviderSetup::openai_compatible("local", "http://127.0.0.1:9000")
    ///             .key(KeySetup::new("sk-0000"))
    ///             .check_on_start(false),
    ///     )
    ///     .max_in_flight(200)
    ///     .build()?;
    /// assert_eq!(gateway.provider_names(), ["sim", "local"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn provider(mut self, provider: ProviderSetup) -> Self {
        let (name, said) = provider.into_parts();
        self.draft.name("providers", name, said);
        self
    }

    /// Adds a name for one or several models.
    #[must_use]
    pub fn alias(mut self, alias: AliasSetup) -> Self {
        let (name, said) = alias.into_parts();
        self.draft.name("aliases", name, said);
        self
    }

    /// Adds a client that a front end on the gateway lets in; without any it lets everybody in.
    #[must_use]
    pub fn gateway_key(mut self, key: GatewayKeySetup) -> Self {
        self.draft.push(&["server", "keys"], key);
        self
    }

    /// Adds a built-in plugin, by its name in a configuration file and what stands there as its `config`. They stand in the
    /// order of these calls; [`Plugin::place`](crate::plugin::Plugin::place) says where a plugin of your own stands.
    ///
    /// | name | keys of its `config`, with their defaults | what it does |
    /// | --- | --- | --- |
    /// | `request_log` | `path: null` (the `log` crate), `bodies: false`, `max_body_bytes: 4096`, `max_lines_per_s: 1000`, `slow_after: "30s"` | a line of JSON for each request, at its end |
    /// | `redaction` | `kinds: {api_key, email, phone, credit_card, iban: true, ip_address, us_ssn: false}`, `literals: []`, `patterns: [{name, pattern}]`, `restore: true`, `answers: "off"`, `unreadable: "refuse"` | takes secrets and personal data out of requests, and puts them back into answers |
    /// | `response_cache` | `ttl: "5m"`, `max_bytes: "64MiB"`, `max_entry_bytes: "1MiB"`, `models: ["*"]`, `only_deterministic: false`, `join: true` | answers equal requests again, streams too, for each gateway key apart; adds `x-sluicegate-cache` |
    /// | `rate_limit` | `default: {}`, `keys: {NAME: {requests_per_minute, requests_per_day, tokens_per_minute, concurrent}}`, `by_tag: null` | refuses what is beyond a gateway key's limits |
    /// | `accounting` | `prices: {MODEL: {input, output}}`, `budgets: {NAME: {limit, period}}`, `tag_budgets: {}`, `by_tag: null`, `warn_at: 0.8`, `state_file: null` | counts tokens and costs, and refuses who has spent a budget |
    ///
    /// ```
    /// use sluicegate::Gateway;
    /// use sluicegate::serde_json::json;
    ///
    /// # #[cfg(feature = "plugins")] {
    /// let gateway = Gateway::builder().builtin_plugin("response_cache", json!({ "ttl": "10m" })).build()?;
    /// assert_eq!(gateway.ask("sim/echo", "Hello")?, gateway.ask("sim/echo", "Hello")?);
    /// assert_eq!(gateway.stats().plugins["response_cache"].short_circuits_total, 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn builtin_plugin(mut self, name: &str, config: Value) -> Self {
        self.draft.push(&["plugins"], json!({ "name": name, "config": config }));
        self
    }

    /// Registers what answers for the provider `name` of kind `custom`, whose settings are those of
    /// [`provider`](Self::provider) or of the configuration; where neither has it, it is added with the defaults. It stays
    /// registered for every later configuration that has such a provider.
    #[must_use]
    pub fn custom_provider(mut self, name: impl Into<String>, provider: impl CustomProvider) -> Self {
        self.customs.0.push((name.into(), Own::new(Arc::new(provider))));
        self
    }

    /// The configuration alone, as [`build`](Self::build) resolves it: to look at, or for a
    /// [`reload`](super::Gateway::reload) of a gateway that runs.
    ///
    /// ```
    /// use sluicegate::{Gateway, ProviderSetup};
    ///
    /// let gateway = Gateway::builder().provider(ProviderSetup::sim("one")).build()?;
    /// let other = Gateway::builder().provider(ProviderSetup::sim("two")).into_config()?;
    /// gateway.reload(other)?;
    /// assert_eq!(gateway.ask("two/echo", "Hello")?, "Hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn into_config(mut self) -> Result<Config, ConfigError> {
        // Who has a custom provider is known where it comes into force.
        self.resolved()
    }

    /// The configuration that the gateway starts with.
    pub(super) fn resolve(&mut self) -> Result<Config, ConfigError> {
        let config = self.resolved()?;
        self.customs.check(&config)?;
        Ok(config)
    }

    fn resolved(&mut self) -> Result<Config, ConfigError> {
        let given = self.config.take();
        let is_new = |name: &str, draft: &config::Draft| {
            draft.named("providers", name).is_none()
                && given.as_ref().is_none_or(|given| given.provider(name).is_none())
        };
        for (name, _) in &self.customs.0 {
            if is_new(name, &self.draft) {
                self.draft.name("providers", name.clone(), json!({ "kind": "custom" }));
            }
        }
        let Some(given) = given else {
            let mut names: Vec<_> = self.transports.keys().filter(|name| is_new(name, &self.draft)).cloned().collect();
            names.sort();
            for name in names {
                let nowhere = json!({ "base_url": "http://localhost" });
                let unseen = json!({ "on_start": false, "interval": null });
                self.draft.name(
                    "providers",
                    name,
                    json!({ "kind": "openai", "network_config": nowhere, "health": unseen }),
                );
            }
            return match self.draft.is_empty() {
                true => Config::from_env(&config::process_env),
                false => Config::from_draft(&self.draft, &config::process_env),
            };
        };
        given.extended(&self.draft, &config::process_env)
    }
}

setters! { Builder:
    /// The most requests of a front end under way at once, 1 to 10⁶: by default what threads and memory allow.
    max_in_flight(usize) => "server"."max_in_flight";
    /// The most connections of a front end at once: 8192 by default, 1 to 10⁶.
    max_connections(usize) => "server"."max_connections";
    /// The most bytes held at once for requests and for answers that are not streamed: 1 GiB by default, 1 MiB to 1 TiB.
    max_buffered_bytes(usize) => "server"."max_buffered_bytes";
    /// The longest body that a front end takes, in bytes: 32 MiB by default, up to 4 GiB.
    max_body_bytes(usize) => "server"."max_body_bytes";
    /// How long whoever reads a stream may hold it up in all: 30 s by default, 1 ms to an hour.
    write_timeout(Duration) => "server"."write_timeout";
    /// How long a program that serves waits at its end for requests under way: 30 s by default, up to an hour.
    shutdown_timeout(Duration) => "server"."shutdown_timeout";
    /// The most threads that the gateway has at once, 32 to 10⁶: by default what the machine allows.
    max_threads(usize) => "threads"."max";
    /// How many objects its pools make beforehand: 300 by default, up to 10⁶.
    initial_pool_size(usize) => "client"."initial_pool_size";
}

/// The custom providers that a program has registered, by name.
#[derive(Default)]
pub(super) struct Customs(Vec<(String, Own<Arc<dyn CustomProvider>>)>);

impl Customs {
    /// Whoever registers twice means the later one.
    fn find(&self, name: &str) -> Option<&Own<Arc<dyn CustomProvider>>> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, provider)| provider)
    }

    /// Refuses a configuration that names one that is not registered.
    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        config.check_custom(|name| self.find(name).is_some())
    }

    /// The way to one, if it is one.
    pub(super) fn transport(&self, name: &str) -> Option<Arc<dyn Transport>> {
        Some(Arc::new(custom::Adaptor::new(self.find(name)?.clone())))
    }

    /// The models that one says it has.
    pub(super) fn models(&self, name: &str) -> Vec<String> {
        self.find(name).map_or_else(Vec::new, |provider| custom::models(name, &***provider))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setter_has_a_place_in_the_schema() {
        let schema = config::schema();
        for place in Builder::PLACES {
            let found = place.iter().try_fold(&schema, |schema, key| schema.get("properties")?.get(key));
            assert!(found.is_some(), "the schema has no {place:?}");
        }
    }
}
