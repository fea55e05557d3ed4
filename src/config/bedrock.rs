//! What providers of kind `bedrock` have of their own: keys that sign requests, and a region that their address depends on.
//!
//! A key is a bearer key, its `value`, or signs with what stands in its `bedrock_key_config`; the names are those of Bifrost's
//! config.json. Where a provider has no keys, those of the environment are taken that AWS's own programs take: the bearer key
//! first, as they do.

use serde_json::{Map, Value, json};

use super::kinds::{Hidden, Parsed};
use super::known;
use super::section::{Section, Walk};
use super::types::AwsKey;
use crate::secret::Secret;

/// What holds a bearer key.
const BEARER: &str = "AWS_BEARER_TOKEN_BEDROCK";

/// What holds a key that signs: its name, the key itself, and what temporary ones carry beside it.
const SIGNING: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What names the region where no key does, in the order in which AWS's SDKs ask them.
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The region where nothing names one.
const REGION: &str = "us-east-1";

/// Where a key's own section stands.
pub(super) const KEY_CONFIG: &str = "bedrock_key_config";

/// A region's name: a part of an address.
const NAME: Parsed<String> = Parsed(|text| {
    let fits = (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("the name of a region, such as \"us-east-1\"".into()) }
});

/// What a key has.
pub(super) struct Credential {
    /// The bearer key, or the secret access key of one that signs.
    pub(super) value: Option<Secret>,
    /// What one has beside it that signs.
    pub(super) aws: Option<AwsKey>,
    /// The region that it is for.
    pub(super) region: Option<String>,
}

/// Reads what a key is sent as. What is wrong is noted.
pub(super) fn credential(s: &mut Section<'_>) -> Credential {
    let bearer = secret(s, "value");
    let (access_key, secret_key, session_token, region) = s.section(KEY_CONFIG, |s| {
        let parts = (
            secret(s, "access_key"),
            secret(s, "secret_key"),
            secret(s, "session_token"),
            if is_empty(s, "region") { unwritten(s, "region", &NAME) } else { s.get("region", NAME) },
        );
        s.foreign(known::BEDROCK_KEY);
        parts
    });
    let describing = s.walk().is_describing();
    match (bearer, access_key, secret_key) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            s.problem(
                KEY_CONFIG,
                "the key has a value, which is sent as a bearer key, and one to sign with; leave out one",
            );
            Credential { value: None, aws: None, region }
        }
        (Some(value), None, None) => Credential { value: Some(value), aws: None, region },
        (None, Some(access_key), Some(value)) => {
            Credential { value: Some(value), aws: Some(AwsKey { access_key, session_token }), region }
        }
        _ => {
            if !describing {
                let text = "it is missing; write a bearer key, or access_key and secret_key in bedrock_key_config, or where they \
                            are: \"env.AWS_ACCESS_KEY_ID\". Roles of machines are not asked";
                s.problem("value", text);
            }
            Credential { value: None, aws: None, region }
        }
    }
}

/// A secret, or none; Bifrost's files have an empty text for none.
fn secret(s: &mut Section<'_>, key: &'static str) -> Option<Secret> {
    if is_empty(s, key) { unwritten(s, key, &Hidden) } else { s.get(key, Hidden) }
}

fn is_empty(s: &Section<'_>, key: &str) -> bool {
    s.raw(key).is_some_and(|value| value == "")
}

fn unwritten<K: super::kinds::Kind>(s: &mut Section<'_>, key: &'static str, kind: &K) -> K::Out {
    s.declare(key, kind.schema(key));
    let out = kind.fallback();
    s.show(key, kind.show(key, &out));
    out
}

/// The key that the environment has, as it would be written, and the variables that hold it.
pub(super) fn of_environment(is_set: impl Fn(&str) -> bool) -> Option<(Map<String, Value>, Vec<&'static str>)> {
    let [id, key, token] = SIGNING;
    let (name, rest, variables) = if is_set(BEARER) {
        (BEARER, json!({ "value": format!("env.{BEARER}") }), vec![BEARER])
    } else if is_set(id) && is_set(key) {
        let mut config = json!({ "access_key": format!("env.{id}"), "secret_key": format!("env.{key}") });
        let mut variables = vec![id, key];
        if is_set(token) {
            config["session_token"] = format!("env.{token}").into();
            variables.push(token);
        }
        (id, json!({ KEY_CONFIG: config }), variables)
    } else {
        return None;
    };
    let mut document = Map::from_iter([("name".to_owned(), Value::from(name))]);
    document.extend(rest.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    Some((document, variables))
}

/// What to do where there is no key.
pub(super) const NO_KEY: &str = "there is none; set the environment variable AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and \
                                 AWS_SECRET_ACCESS_KEY, or write keys";

/// The region that the environment names, or the usual one.
pub(super) fn usual_region(walk: &Walk<'_>) -> String {
    let named = REGIONS.into_iter().find_map(|variable| walk.variable(variable));
    // One that is none is told where it is used: as an address that is none.
    named.unwrap_or_else(|| REGION.to_owned())
}

/// Where Bedrock's runtime lives in a region ("Amazon Bedrock endpoints and quotas" in the AWS General Reference).
pub(super) fn address(region: &str) -> String {
    format!("https://bedrock-runtime.{region}.amazonaws.com")
}

/// The region that an address of Bedrock's names.
pub(super) fn region_of(base_url: &str) -> Option<String> {
    let host = base_url.strip_prefix("https://")?.split(['/', ':']).next()?;
    let (first, rest) = host.split_once('.')?;
    let (region, rest) = rest.split_once('.')?;
    let is_bedrocks = matches!(first, "bedrock-runtime" | "bedrock-runtime-fips") && rest.starts_with("amazonaws.com");
    is_bedrocks.then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_bedrocks_names_its_region() {
        for (url, region) in [
            (address("eu-west-3").as_str(), Some("eu-west-3")),
            ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("https://bedrock-runtime.eu-west-3.example.com", None),
            ("https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", None),
            ("http://127.0.0.1:1", None),
        ] {
            assert_eq!(region_of(url).as_deref(), region, "{url}");
        }
    }

    #[test]
    fn the_bearer_key_of_the_environment_goes_before_the_one_that_signs() {
        let found = |set: &[&str]| of_environment(|name| set.contains(&name)).map(|(_, variables)| variables);
        assert_eq!(found(&[BEARER, SIGNING[0], SIGNING[1]]), Some(vec![BEARER]));
        assert_eq!(found(&SIGNING), Some(SIGNING.to_vec()));
        assert_eq!(found(&SIGNING[..2]), Some(SIGNING[..2].to_vec()));
        assert_eq!(found(&SIGNING[..1]), None);
        assert_eq!(found(&SIGNING[1..]), None);
    }
}
