//! Providers that are known by their names: each is there by its variable alone, and Azure by what a file says of a resource.

use serde_json::{Value, json};
use sluicegate::config::{Config, Provider};

use super::{problem, taken};

/// Name, variable and where chats are asked for, as each provider's documentation has them.
const CLOUD: [(&str, &str, &str); 14] = [
    ("openai", "OPENAI_API_KEY", "https://api.openai.com/v1"),
    ("anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com/v1"),
    ("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    ("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai/v1"),
    ("gemini", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/openai"),
    ("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1"),
    ("together", "TOGETHER_API_KEY", "https://api.together.ai/v1"),
    ("fireworks", "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1"),
    ("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    ("xai", "XAI_API_KEY", "https://api.x.ai/v1"),
    ("perplexity", "PERPLEXITY_API_KEY", "https://api.perplexity.ai"),
    ("cerebras", "CEREBRAS_API_KEY", "https://api.cerebras.ai/v1"),
    ("nebius", "NEBIUS_API_KEY", "https://api.studio.nebius.com/v1"),
    ("parasail", "PARASAIL_API_KEY", "https://api.parasail.io/v1"),
];

/// What stands before `/chat/completions`.
fn chats(provider: &Provider) -> String {
    let network = &provider.network;
    format!("{}{}", network.base_url, provider.offer.chat_prefix.unwrap_or(network.api_prefix))
}

#[test]
fn each_provider_of_the_table_is_there_by_its_variable_alone() {
    for (name, variable, url) in CLOUD {
        let env = |asked: &str| (asked == variable).then(|| "sk-canary-5".to_owned());
        let config = Config::from_env(&env).unwrap_or_else(|error| panic!("{name}: {error}"));
        let names: Vec<_> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
        assert_eq!(names, [name, "sim"]);
        let found = &config.providers[0];
        assert_eq!(chats(found), url, "{name}");
        assert_eq!((found.keys.len(), found.keys[0].value.expose()), (1, "sk-canary-5"), "{name}");
        assert!(!found.models.is_empty() && !found.network.allow_private, "{name}");
        // A file that names it and says nothing more has it, too.
        let file = json!({"providers": {name: {}}}).to_string();
        let again = Config::from_json(&file, &env).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((chats(&again.providers[0]), again.providers[0].keys.len()), (url.to_owned(), 1), "{name}");
    }
    for (name, url) in [("ollama", "http://localhost:11434/v1"), ("vllm", "http://localhost:8000/v1")] {
        let config = taken(json!({"providers": {name: {}}}));
        let found = &config.providers[0];
        assert_eq!((chats(found), found.keys.len(), found.network.allow_private), (url.to_owned(), 0, true));
    }
}

#[test]
fn azure_is_there_by_its_two_variables_and_not_by_one() {
    let pair = [("AZURE_OPENAI_API_KEY", "canary-of-azure"), ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/")];
    let of = |set: &[(&str, &str)]| {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from_env(&|asked: &str| set.iter().find(|(name, _)| name == asked).map(|(_, value)| value.clone()))
    };
    for one in pair {
        assert!(of(&[one]).expect("it is right").provider("azure").is_none(), "{one:?}");
    }
    let config = of(&pair).expect("it is right");
    let azure = config.provider("azure").expect("it is there");
    assert_eq!(chats(azure), "https://r.openai.azure.com/openai/v1");
    assert_eq!((azure.key_header.name, azure.key_header.scheme), ("api-key", ""));
    assert_eq!((azure.network.api_version.as_deref(), azure.deployments.len()), (None, 0));
}

/// One key of Azure's in Bifrost's words.
fn key(change: Value) -> Value {
    let mut key = json!({"value": "canary-of-azure", "azure_key_config": {"endpoint": "https://r.openai.azure.com"}});
    super::merge(&mut key, change);
    key
}

fn azure(keys: &[Value]) -> Value {
    json!({"providers": {"azure": {"keys": keys}}})
}

#[test]
fn azures_version_says_which_of_its_interfaces_is_spoken() {
    for (version, url, told) in [
        (json!(null), "https://r.openai.azure.com/openai/v1", None),
        (json!("v1"), "https://r.openai.azure.com/openai/v1", None),
        (json!("preview"), "https://r.openai.azure.com/openai/v1", Some("preview")),
        (json!("2024-10-21"), "https://r.openai.azure.com/openai", Some("2024-10-21")),
        (json!("2025-04-01-preview"), "https://r.openai.azure.com/openai", Some("2025-04-01-preview")),
    ] {
        let config = taken(azure(&[key(json!({"azure_key_config": {"api_version": version}}))]));
        let found = &config.providers[0];
        assert_eq!((chats(found).as_str(), found.network.api_version.as_deref()), (url, told), "{version}");
        // What is shown is what can be written.
        let shown = json!({"providers": {"azure": {"keys": config.effective_json()["providers"]["azure"]["keys"]}}});
        assert_eq!(taken(shown).providers[0].network.base_url, found.network.base_url);
    }
    for at in
        ["https://r.openai.azure.com", "https://r.openai.azure.com/openai", "https://r.openai.azure.com/openai/v1/"]
    {
        let config = taken(
            json!({"providers": {"azure": {"keys": [{"value": "canary-of-azure"}], "network_config": {"base_url": at}}}}),
        );
        assert_eq!(chats(&config.providers[0]), "https://r.openai.azure.com/openai/v1", "{at}");
        assert_eq!(config.providers[0].key_header.name, "api-key");
    }
}

#[test]
fn deployments_are_one_resources_and_a_second_resource_is_another_provider() {
    let with = |endpoint: &str, deployment: &str| {
        key(
            json!({"name": deployment, "azure_key_config": {"endpoint": endpoint, "deployments": {"gpt-4o": deployment}}}),
        )
    };
    let config = taken(azure(&[key(
        json!({"aliases": {"fast": "mini"}, "azure_key_config": {"deployments": {"gpt-4o": "mine"}}}),
    )]));
    let pair = |name: &str, own: &str| (name.to_owned(), own.to_owned());
    assert_eq!(config.providers[0].deployments, [pair("gpt-4o", "mine"), pair("fast", "mini")]);
    assert_eq!(config.warnings, Vec::<String>::new());
    let mut other = with("https://s.openai.azure.com", "theirs");
    other["value"] = json!("canary-of-another");
    assert!(
        super::problems(azure(&[with("https://r.openai.azure.com", "mine"), other.clone()])).len() == 2,
        "address and name"
    );
    let two = json!({"providers": {"azure": {"keys": [with("https://r.openai.azure.com", "mine")]}, "azure-s": {"kind": "openai", "keys": [other]}}});
    let config = taken(two);
    assert_eq!(chats(&config.providers[1]), "https://s.openai.azure.com/openai/v1");
    assert_eq!(config.providers[1].key_header.name, "api-key");
}

#[test]
fn what_is_wrong_with_azure_is_told_where_it_stands() {
    let nowhere = problem(json!({"providers": {"azure": {"keys": [{"value": "canary-of-azure"}]}}}));
    assert!(nowhere.contains("base_url") && nowhere.contains("AZURE_OPENAI_ENDPOINT"), "{nowhere}");
    for (change, told) in [
        (json!({"azure_key_config": {"endpoint": "r.openai.azure.com"}}), "azure_key_config.endpoint"),
        (json!({"azure_key_config": {"api_version": "2024/10"}}), "azure_key_config.api_version"),
        (json!({"azure_key_config": {"deployments": {"a": ".."}}}), "azure_key_config.deployments.a"),
        (
            json!({"azure_key_config": {"endpoint": "https://r.openai.azure.com/openai/deployments/x"}}),
            "the resource's address alone",
        ),
    ] {
        let problems = super::problems(azure(&[key(change.clone())]));
        assert!(problems[0].contains(told), "{change}: {problems:?}");
    }
    let mut document = azure(&[key(json!({}))]);
    document["providers"]["azure"]["kind"] = json!("anthropic");
    assert!(super::problems(document).iter().any(|problem| problem.contains("is for a provider of kind")));
    let config = taken(azure(&[key(json!({"azure_key_config": {"client_id": "c", "tenant_id": "t"}}))]));
    assert!(config.warnings.iter().all(|warning| warning.contains("Entra")) && config.warnings.len() == 2);
}
