//! Rate limits in the configuration: of a provider, of its models and of its keys.

use serde_json::json;
use sluicegate::config::RateLimit;

use super::{problem, taken, with_provider};

#[test]
fn rate_limits_are_taken_for_a_provider_its_models_and_its_keys() {
    let config = taken(with_provider(json!({
        "rate_limit": {"requests_per_minute": 60, "models": {"gpt-4o": {"tokens_per_minute": 30_000}, "o3": {}}},
        "keys": [{"name": "a", "value": "env.CANARY", "rate_limit": {"requests_per_minute": 20, "tokens_per_minute": 0}}],
    })));
    let provider = config.provider("openai").expect("it is there");
    let limit = |requests_per_minute, tokens_per_minute| RateLimit { requests_per_minute, tokens_per_minute };
    assert_eq!(provider.rate_limit.all, limit(Some(60), None));
    let models = [("gpt-4o".to_owned(), limit(None, Some(30_000))), ("o3".to_owned(), limit(None, None))];
    assert_eq!(provider.rate_limit.models, models);
    assert_eq!(provider.keys.first().map(|key| key.rate_limit), Some(limit(Some(20), None)));
    let shown = config.effective_json()["providers"]["openai"]["rate_limit"].clone();
    assert_eq!(shown["models"]["o3"], json!({"requests_per_minute": null, "tokens_per_minute": null}));
    let again = taken(with_provider(json!({"rate_limit": shown})));
    assert_eq!(again.provider("openai").expect("it is there").rate_limit, provider.rate_limit);
    for (wrong, path) in [
        (json!({"rate_limit": {"requests_per_minute": -1}}), "rate_limit.requests_per_minute"),
        (json!({"rate_limit": {"tokens_per_minute": 1.5}}), "rate_limit.tokens_per_minute"),
        (json!({"rate_limit": {"requests_per_minute": 1_000_000_001}}), "rate_limit.requests_per_minute"),
        (json!({"rate_limit": {"models": []}}), "rate_limit.models"),
        (json!({"rate_limit": {"models": {"m": 5}}}), "rate_limit.models.m"),
        (json!({"rate_limit": {"models": {"m": {"requests": 5}}}}), "rate_limit.models.m.requests"),
        (json!({"rate_limit": {"per_minute": 5}}), "rate_limit.per_minute"),
        (json!({"keys": [{"value": "a", "rate_limit": {"models": {}}}]}), "keys[0].rate_limit.models"),
    ] {
        let message = problem(with_provider(wrong));
        assert!(message.contains(path), "{path}: {message}");
    }
}
