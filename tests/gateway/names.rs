//! Providers that are known by their names: what goes to each, where and under which header, and what never goes there.

use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::model::Operation;
use sluicegate::{Code, Error};

use crate::house::{Arrived, CANARY, DONE, Gate, House, STOP, chat, feed, merge, number, provider, reply, word};

/// The provider `name` behind a gate, `change` merged over what is usual in these tests.
fn named(name: &str, change: Value) -> (House, Gate) {
    let mut settings = provider(json!({ "kind": null, "network_config": { "base_url": null } }));
    merge(&mut settings, change);
    let gate = Gate::new();
    (House::new(json!({ name: settings }), &[(name, &gate)]), gate)
}

/// What arrives of a request, which is then answered well.
fn seen<T>(house: &House, gate: &Gate, (operation, body): (Operation, Value), look: impl FnOnce(&Arrived) -> T) -> T {
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().raw(operation, body.to_string().into_bytes()));
        let arrived = gate.next();
        let seen = look(&arrived);
        arrived.respond(200, &[("content-type", "application/json")], reply("well"));
        call.join().expect("no panic").expect("it is answered");
        seen
    })
}

fn body(model: &str) -> Value {
    json!({ "model": model, "messages": [], "prompt": "a", "input": "a" })
}

#[test]
fn each_provider_of_openais_shape_sees_its_path_and_its_key() {
    for (name, path) in [
        ("openai", "/v1/chat/completions"),
        ("groq", "/v1/chat/completions"),
        ("mistral", "/v1/chat/completions"),
        ("gemini", "/chat/completions"),
        ("deepseek", "/v1/chat/completions"),
        ("together", "/v1/chat/completions"),
        ("fireworks", "/v1/chat/completions"),
        ("openrouter", "/v1/chat/completions"),
        ("xai", "/v1/chat/completions"),
        ("perplexity", "/chat/completions"),
        ("cerebras", "/v1/chat/completions"),
        ("nebius", "/v1/chat/completions"),
        ("parasail", "/v1/chat/completions"),
        ("ollama", "/v1/chat/completions"),
        ("vllm", "/v1/chat/completions"),
        ("sgl", "/v1/chat/completions"),
    ] {
        let (house, gate) = named(name, json!({}));
        let model = format!("{name}/org/m");
        seen(&house, &gate, (Operation::ChatCompletions, body(&model)), |arrived| {
            assert_eq!(arrived.path, path, "{name}");
            assert_eq!(arrived.header("authorization"), Some(&*format!("Bearer {CANARY}")), "{name}");
            assert_eq!((arrived.header("api-key"), &arrived.json()["model"]), (None, &json!("org/m")), "{name}");
        });
    }
    let (house, gate) = named("perplexity", json!({}));
    for (operation, path) in [(Operation::Embeddings, "/v1/embeddings"), (Operation::Responses, "/v1/responses")] {
        let at = seen(&house, &gate, (operation, body("perplexity/m")), |arrived| arrived.path.clone());
        assert_eq!(at, path, "only chats are elsewhere");
    }
}

#[test]
fn what_a_provider_is_known_to_lack_is_refused_by_its_route_before_anything_is_sent() {
    for (name, operation, route) in [
        ("groq", Operation::Completions, "/completions"),
        ("deepseek", Operation::Embeddings, "/embeddings"),
        ("perplexity", Operation::Completions, "/completions"),
    ] {
        let (house, gate) = named(name, json!({}));
        let body = body(&format!("{name}/m")).to_string().into_bytes();
        let refused: Error = house.gateway().raw(operation, body).expect_err("it has none");
        assert_eq!((refused.code(), refused.provider()), (Code::Unsupported, Some(name)), "{name}");
        assert!(refused.message().contains(&format!("no {route}")), "{refused}");
        assert!(gate.is_empty(), "{name}: something was sent");
    }
    // Of what nobody says anything, the answer decides.
    let (house, gate) = named("deepseek", json!({}));
    seen(&house, &gate, (Operation::Completions, body("deepseek/m")), |_| ());
}

#[test]
fn a_provider_that_refuses_to_be_asked_for_usage_is_not_and_its_tokens_count_all_the_same() {
    let (house, gate) = named("mistral", json!({}));
    for operation in [Operation::ChatCompletions, Operation::Messages] {
        scope(|scope| {
            let translated = operation == Operation::Messages;
            let sent = json!({ "model": "mistral/m", "max_tokens": 9, "stream": true, "messages": [{ "role": "user", "content": "a" }] });
            let gateway = house.gateway();
            let call = scope.spawn(move || {
                let stream = gateway.raw_stream(operation, sent.to_string()).expect("it begins");
                stream.filter(|event| event.is_ok()).count()
            });
            let arrived = gate.next();
            assert_eq!(
                (arrived.json().get("stream_options"), &arrived.json()["stream"]),
                (None, &json!(true)),
                "{translated}"
            );
            let pieces = arrived.stream();
            feed(&pieces, &word("well"));
            feed(&pieces, &STOP.replace("}]}", "}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}"));
            feed(&pieces, DONE);
            drop(pieces);
            assert!(call.join().expect("no panic") > 0);
        });
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/mistral/jobs/tokens_in_total"), 6, "of both");
    let (other, gate) = named("groq", json!({}));
    scope(|scope| {
        let stream =
            || other.gateway().raw_stream(Operation::ChatCompletions, chat("groq/m", true)).expect("it begins");
        let call = scope.spawn(move || stream().count());
        let arrived = gate.next();
        assert_eq!(arrived.json()["stream_options"], json!({ "include_usage": true }));
        let pieces = arrived.stream();
        feed(&pieces, STOP);
        feed(&pieces, DONE);
        drop(pieces);
        call.join().expect("no panic");
    });
}

#[test]
fn azure_is_asked_in_its_newer_interface_by_the_deployments_own_name() {
    let (house, gate) = named(
        "azure",
        json!({ "keys": [{ "value": CANARY, "azure_key_config": {
        "endpoint": "https://r.openai.azure.com", "deployments": { "gpt-4o": "my 4o" },
    } }] }),
    );
    for (operation, path) in [
        (Operation::ChatCompletions, "/v1/chat/completions"),
        (Operation::Completions, "/v1/completions"),
        (Operation::Embeddings, "/v1/embeddings"),
        (Operation::Responses, "/v1/responses"),
    ] {
        for (model, own) in [("azure/gpt-4o", "my 4o"), ("azure/other", "other")] {
            seen(&house, &gate, (operation.clone(), body(model)), |arrived| {
                assert_eq!((arrived.path.as_str(), &arrived.json()["model"]), (path, &json!(own)));
                assert_eq!((arrived.header("api-key"), arrived.header("authorization")), (Some(CANARY), None));
            });
        }
    }
    let names: Vec<_> = house.gateway().models().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["azure/gpt-4o"], "what is deployed is listed");
}

#[test]
fn a_version_of_azures_that_is_a_date_has_the_deployment_in_the_path() {
    let (house, gate) = named(
        "azure",
        json!({ "keys": [{ "value": CANARY, "azure_key_config": {
        "endpoint": "https://r.openai.azure.com", "api_version": "2024-10-21", "deployments": { "gpt-4o": "my 4o/x" },
    } }] }),
    );
    for (operation, model, path) in [
        (Operation::ChatCompletions, "gpt-4o", "/deployments/my%204o%2Fx/chat/completions?api-version=2024-10-21"),
        (Operation::ChatCompletions, "gpt-4.1", "/deployments/gpt-4.1/chat/completions?api-version=2024-10-21"),
        (Operation::Completions, "m", "/deployments/m/completions?api-version=2024-10-21"),
        (Operation::Embeddings, "..", "/deployments/%2E%2E/embeddings?api-version=2024-10-21"),
        (Operation::Responses, "m", "/responses?api-version=2024-10-21"),
    ] {
        let at = seen(&house, &gate, (operation, body(&format!("azure/{model}"))), |arrived| {
            assert_eq!(arrived.header("api-key"), Some(CANARY));
            arrived.path.clone()
        });
        assert_eq!(at, path);
    }
}
