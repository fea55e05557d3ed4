//! Bedrock as a provider: whose keys sign and whose do not, where it is, and what the environment says of it.

use serde_json::{Value, json};
use sluicegate::config::{Config, Kind, Provider};

use super::problem;

const BEARER: (&str, &str) = ("AWS_BEARER_TOKEN_BEDROCK", "bearer-canary");
const ID: (&str, &str) = ("AWS_ACCESS_KEY_ID", "id-canary");
const KEY: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "key-canary");
const TOKEN: (&str, &str) = ("AWS_SESSION_TOKEN", "token-canary");

fn taken(provider: Value, env: &[(&str, &str)]) -> (Provider, Config) {
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let document = json!({ "providers": { "bedrock": provider } });
    let config = Config::from_json(&document.to_string(), &env).unwrap_or_else(|error| panic!("{document}: {error}"));
    (config.provider("bedrock").expect("it is there").clone(), config)
}

fn signing(config: Value) -> Value {
    json!({ "keys": [{ "name": "a", "value": "", "bedrock_key_config": config }] })
}

/// What a key has beside its value: its name, and a token.
type Aws = Option<(String, Option<String>)>;

fn exposed(provider: &Provider) -> Vec<(String, Aws)> {
    let key = |key: &sluicegate::config::Key| {
        let aws = key.aws.as_ref().map(|aws| {
            (aws.access_key.expose().to_owned(), aws.session_token.as_ref().map(|token| token.expose().to_owned()))
        });
        (key.value.expose().to_owned(), aws)
    };
    provider.keys.iter().map(key).collect()
}

#[test]
fn a_key_of_bifrosts_signs_in_its_region_and_shows_nothing() {
    let written =
        json!({ "access_key": "id-canary", "secret_key": "key-canary", "session_token": "", "region": "eu-west-3" });
    let (provider, config) = taken(signing(written), &[]);
    assert_eq!((provider.kind, provider.region.as_deref()), (Kind::Bedrock, Some("eu-west-3")));
    assert_eq!(provider.network.base_url, "https://bedrock-runtime.eu-west-3.amazonaws.com");
    assert_eq!(provider.network.api_prefix, "");
    assert_eq!(exposed(&provider), [("key-canary".into(), Some(("id-canary".into(), None)))]);
    assert!(provider.models.iter().any(|model| model.contains("anthropic.claude")));
    let shown = config.effective_json();
    assert_eq!(shown["providers"]["bedrock"]["network_config"]["base_url"], provider.network.base_url);
    assert_eq!(shown["providers"]["bedrock"]["keys"][0]["bedrock_key_config"]["region"], "eu-west-3");
    let printed = format!("{shown} {config:?} {provider:?}");
    assert!(!printed.contains("canary"), "{printed}");
    let secrets: Vec<_> = provider.secrets().map(|secret| secret.expose().to_owned()).collect();
    assert_eq!(secrets, ["key-canary", "id-canary"], "all of it is masked in what the provider says");
}

#[test]
fn a_bearer_key_is_sent_as_it_is() {
    let written = json!({ "keys": [{ "value": "bearer-canary", "bedrock_key_config": { "region": "us-west-2" } }] });
    let (provider, _) = taken(written, &[]);
    assert_eq!(exposed(&provider), [("bearer-canary".into(), None)]);
    assert_eq!((provider.key_header.name, provider.key_header.scheme), ("authorization", "Bearer "));
    assert_eq!(provider.network.base_url, "https://bedrock-runtime.us-west-2.amazonaws.com");
}

#[test]
fn the_environment_has_keys_and_a_region_as_awss_own_programs_take_them() {
    let region = |name| (name, "ap-south-1");
    for (env, value, aws, home) in [
        (vec![BEARER, ID, KEY], "bearer-canary", None, "us-east-1"),
        (vec![ID, KEY, region("AWS_DEFAULT_REGION")], "key-canary", Some(None), "ap-south-1"),
        (
            vec![ID, KEY, TOKEN, ("AWS_REGION", "sa-east-1"), region("AWS_DEFAULT_REGION")],
            "key-canary",
            Some(Some("token-canary")),
            "sa-east-1",
        ),
    ] {
        let (provider, config) = taken(json!({}), &env);
        let aws = aws.map(|token: Option<&str>| ("id-canary".to_owned(), token.map(str::to_owned)));
        assert_eq!(exposed(&provider), [(value.to_owned(), aws)], "{env:?}");
        assert_eq!(provider.region.as_deref(), Some(home), "{env:?}");
        assert!(provider.network.base_url.contains(home));
        assert!(!config.effective_json().to_string().contains("canary"));
        let lookup = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let found = Config::from_env(&lookup).expect("it is found");
        assert_eq!(exposed(found.provider("bedrock").expect("it is there")), exposed(&provider));
        assert!(found.sources.iter().any(|source| source.starts_with("provider bedrock: AWS_")), "{:?}", found.sources);
    }
    let nothing = Config::from_env(&|name: &str| (name == ID.0).then(|| "x".to_owned())).expect("the simulated one");
    assert!(nothing.provider("bedrock").is_none(), "half a key is none");
}

#[test]
fn a_written_address_gets_no_key_of_the_environments_and_names_its_region() {
    let at = |url: &str| json!({ "network_config": { "base_url": url } });
    let (provider, _) = taken(at("https://bedrock-runtime-fips.us-west-2.amazonaws.com"), &[ID, KEY, BEARER]);
    assert_eq!((provider.keys.len(), provider.region.as_deref()), (0, Some("us-west-2")));
    let (provider, _) = taken(at("http://127.0.0.1:9/aws/"), &[ID, KEY, ("AWS_REGION", "eu-west-1")]);
    assert_eq!((provider.keys.len(), provider.region.as_deref()), (0, Some("eu-west-1")));
    assert_eq!((provider.network.base_url.as_str(), provider.network.api_prefix), ("http://127.0.0.1:9/aws", ""));
    assert!(provider.network.allow_private);
}

#[test]
fn nothing_is_looked_at_between_calls() {
    let bearer = json!([{ "value": "x" }]);
    let (provider, config) = taken(json!({ "keys": bearer }), &[]);
    assert_eq!((provider.health.on_start, provider.health.interval.as_secs()), (false, 0));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let (provider, config) = taken(json!({ "keys": bearer, "health": { "interval": "5s" } }), &[]);
    assert_eq!((provider.health.interval.as_secs(), config.warnings.len()), (0, 1), "{:?}", config.warnings);
    assert_eq!(config.effective_json()["providers"]["bedrock"]["health"]["interval"], "0s");
}

#[test]
fn what_a_key_lacks_or_has_twice_is_told() {
    let keys = |keys: Value| json!({ "providers": { "bedrock": { "keys": keys } } });
    let config = |config: Value| keys(json!([{ "bedrock_key_config": config }]));
    for (document, starts) in [
        (
            json!({ "providers": { "bedrock": {} } }),
            "providers.bedrock.keys: there is none; set the environment variable AWS_",
        ),
        (keys(json!([{}])), "providers.bedrock.keys[0].value: it is missing; write a bearer key"),
        (config(json!({ "region": "us-east-1" })), "providers.bedrock.keys[0].value: it is missing"),
        (config(json!({ "access_key": "a" })), "providers.bedrock.keys[0].value: it is missing"),
        (
            keys(json!([{ "value": "b", "bedrock_key_config": { "access_key": "a", "secret_key": "k" } }])),
            "providers.bedrock.keys[0].bedrock_key_config: the key has a value",
        ),
        (
            config(json!({ "access_key": "a", "secret_key": "k", "region": "US EAST" })),
            "providers.bedrock.keys[0].bedrock_key_config.region: found \"US EAST\"",
        ),
        (
            config(json!({ "access_key": "a", "secret_key": "k", "regoin": "x" })),
            "providers.bedrock.keys[0].bedrock_key_config.regoin: there is no such key",
        ),
        (
            keys(json!([
                { "value": "a", "bedrock_key_config": { "region": "us-east-1" } },
                { "value": "b", "bedrock_key_config": { "region": "eu-west-1" } },
            ])),
            "providers.bedrock.keys: they are of the regions",
        ),
    ] {
        let problem = problem(document.clone());
        assert!(problem.starts_with(starts), "{document}: {problem}");
    }
}

#[test]
fn what_others_have_of_it_is_named_and_left() {
    let key = json!({ "value": "x", "bedrock_key_config": { "arn": "arn:aws:x", "role_arn": "y" } });
    let (_, config) = taken(json!({ "keys": [key] }), &[]);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    let other = json!({ "providers": { "sim": {}, "groq": { "keys": [{ "value": "x", "bedrock_key_config": {} }] } } });
    let config = Config::from_json(&other.to_string(), &|_: &str| None).expect("taken");
    assert!(config.warnings.iter().any(|warning| warning.contains("bedrock_key_config")), "{:?}", config.warnings);
    let schema = sluicegate::config::schema();
    let key =
        "/properties/providers/additionalProperties/properties/keys/items/properties/bedrock_key_config/properties";
    let names: Vec<_> = schema.pointer(key).and_then(Value::as_object).expect("it is there").keys().collect();
    assert_eq!(names, ["access_key", "secret_key", "session_token", "region"]);
}

#[test]
fn a_program_writes_it_without_a_file() {
    use sluicegate::{Gateway, KeySetup, ProviderSetup};
    let key = KeySetup::aws("id-canary", "key-canary").session_token("token-canary").region("eu-west-3").named("a");
    let config = Gateway::builder().provider(ProviderSetup::known("bedrock").key(key)).into_config().expect("good");
    let provider = config.provider("bedrock").expect("it is there");
    let aws = Some(("id-canary".to_owned(), Some("token-canary".to_owned())));
    assert_eq!(
        (exposed(provider), provider.region.as_deref()),
        (vec![("key-canary".to_owned(), aws)], Some("eu-west-3"))
    );
}
