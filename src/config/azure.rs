//! Azure: where a resource lives, which version of its interface is spoken, and what its deployments are called.
//!
//! A resource has two interfaces. The newer one lives at `ENDPOINT/openai/v1` and is OpenAI's own, with a deployment's name as
//! the model ("Azure OpenAI in Microsoft Foundry Models v1 API"): it is spoken unless a version is written. Versions that are
//! dates have the deployment in the path and themselves in the query, `ENDPOINT/openai/deployments/NAME/chat/completions?api-version=DATE`
//! ("Azure OpenAI in Microsoft Foundry Models REST API reference"). Keys go into `api-key` in both. The keys of the
//! configuration are Bifrost's: it has endpoint, version and deployments with each key, here those of a provider are one resource's.

use serde_json::Value;

use super::base_url::BaseUrl;
use super::kinds::{Parsed, Url};
use super::known;
use super::section::{Section, asks_nothing};
use super::types::KeyHeader;

/// What carries a key of Azure's.
pub(super) const KEY_HEADER: KeyHeader = KeyHeader::plain("api-key");

/// The version that is spoken unless another is written.
const NEWEST: &str = "v1";

const VERSION: Parsed<String> = Parsed(|text| {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("a version such as \"v1\", \"preview\" or \"2024-10-21\"".into()) }
});

/// What a deployment is called: it may stand in a path.
const DEPLOYMENT: Parsed<String> = Parsed(|text| {
    let fits = !["", ".", ".."].contains(&text) && !text.contains(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("the name of a deployment".into()) }
});

/// What stands with one key.
pub(super) struct OfKey {
    endpoint: Option<BaseUrl>,
    api_version: Option<String>,
    deployments: Vec<(String, String)>,
}

/// Reads what stands with a key; none where nothing of Azure's does.
pub(super) fn of_key(s: &mut Section<'_>) -> Option<OfKey> {
    let read = |s: &mut Section<'_>| {
        let of_key = OfKey {
            endpoint: s.get("endpoint", Url(None)),
            api_version: s.get("api_version", VERSION),
            deployments: s.names("deployments", &DEPLOYMENT),
        };
        s.foreign(known::AZURE);
        of_key
    };
    if s.raw("azure_key_config").is_some_and(|value| !asks_nothing(value)) {
        let mut of_key = s.section("azure_key_config", read);
        // What newer files call them.
        of_key.deployments.extend(s.names("aliases", &DEPLOYMENT));
        return Some(of_key);
    }
    let (_, outcome) = Section::read(s.walk(), String::new(), None, read);
    s.declare("azure_key_config", outcome.schema);
    if s.by_hand("aliases", serde_json::json!({"type": "object"})).is_some() {
        s.warn(
            "aliases",
            "this key of Bifrost's has an effect beside azure_key_config alone; use the document's aliases",
        );
    }
    None
}

/// What a provider's keys say together.
#[derive(Default)]
pub(super) struct Resource {
    endpoint: Option<BaseUrl>,
    api_version: Option<String>,
    deployments: Vec<(String, String)>,
}

impl Resource {
    /// Puts together what the keys say of the one resource that they are for.
    pub(super) fn of(keys: impl Iterator<Item = OfKey>, s: &Section<'_>) -> Self {
        let mut all = Self::default();
        for key in keys {
            merge(&mut all.endpoint, key.endpoint, "endpoints", s);
            merge(&mut all.api_version, key.api_version, "versions", s);
            for (name, deployment) in key.deployments {
                match all.deployments.iter().find(|(known, _)| *known == name) {
                    None => all.deployments.push((name, deployment)),
                    Some((_, known)) if *known == deployment => {}
                    Some((_, known)) => {
                        s.problem("keys", format!("two deployments are called {name:?}: {known:?} and {deployment:?}"));
                    }
                }
            }
        }
        all
    }

    /// Names by which deployments are asked for, each with what it is called.
    pub(super) fn take_deployments(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.deployments)
    }

    /// The version, where URLs name it.
    pub(super) fn api_version(&self) -> Option<String> {
        self.api_version.clone().filter(|version| ![NEWEST, "latest"].contains(&version.as_str()))
    }

    /// What stands before a route.
    pub(super) fn api_prefix(&self) -> &'static str {
        let is_date =
            self.api_version.as_ref().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()));
        if is_date { "" } else { "/v1" }
    }

    /// Where the interface lives: at the endpoint, else at what `network_config` says, which `s` is.
    pub(super) fn base(&self, written: Option<BaseUrl>, s: &Section<'_>) -> Option<BaseUrl> {
        if self.endpoint.is_some() && s.raw("base_url").is_some_and(|value: &Value| !value.is_null()) {
            s.warn("base_url", "it has no effect beside the endpoint in azure_key_config");
        }
        let mut base = self.endpoint.clone().or(written)?;
        if base.url.contains("/deployments") {
            s.problem("base_url", "write the resource's address alone, such as https://NAME.openai.azure.com; a model names the deployment");
        }
        if !base.url.ends_with("/openai") {
            base.url.push_str("/openai");
        }
        Some(base)
    }
}

fn merge<T: PartialEq>(all: &mut Option<T>, one: Option<T>, what: &str, s: &Section<'_>) {
    if all.is_some() && one.is_some() && *all != one {
        s.problem("keys", format!("they have two {what}; write a provider for each, of \"kind\": \"openai\""));
    }
    *all = all.take().or(one);
}
