//! What a chat becomes as a Converse request, and what of it is refused, left out or not thought.

use super::*;

#[test]
fn messages_become_what_bedrock_takes() {
    let messages = vec![
        user(vec![text("one")]),
        Message { role: Role::System, content: vec![text("be brief")] },
        user(vec![text("")]),
        user(vec![text("two"), Block::Document { source: Source::Text("t".into()), name: Some("a/b.txt".into()) }]),
        Message {
            role: Role::Assistant,
            content: vec![
                Block::Thinking { text: "unsigned".into(), signature: None },
                text(""),
                call("call 1", "f", " "),
                Block::HiddenThinking("not base64!".into()),
            ],
        },
        user(vec![Block::ToolResult { id: "call 1".into(), content: vec![text("")], failed: false }]),
    ];
    let request = Request { system: vec![text("first")], user: Some("u".into()), ..asking(messages) };
    let (body, lost) = write(&request, CLAUDE).expect("good");
    assert_eq!(lost, ["user", "reasoning_content"]);
    let id = body["messages"][1]["content"][0]["toolUse"]["toolUseId"].clone();
    assert_ne!(id, "call 1");
    let wanted = json!({
        "messages": [
            {"role": "user", "content": [{"text": "one"}, {"text": "two"},
                {"document": {"format": "txt", "name": "a-b-txt", "source": {"text": "t"}}}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": id, "name": "f", "input": {}}},
                {"reasoningContent": {"redactedContent": "bm90IGJhc2U2NCE="}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": id, "content": []}}]},
        ],
        "system": [{"text": "first"}, {"text": "be brief"}],
    });
    assert_eq!(body, wanted);
}

#[test]
fn what_bedrock_cannot_express_is_refused_by_name() {
    let image = |source| asking(vec![user(vec![Block::Image(source)])]);
    let png = |media_type: &'static str| Source::Data { media_type: media_type.into(), data: "".into() };
    let tool = Tool { name: "f".into(), description: None, schema: None, strict: None, cache_mark: false };
    let tools =
        |choice| Request { tools: vec![tool.clone()], tool_choice: choice, ..asking(vec![user(vec![text("x")])]) };
    let mut called = tools(Some(Choice::None));
    called.messages.push(Message { role: Role::Assistant, content: vec![call("1", "f", "{}")] });
    let plain = || asking(vec![user(vec![text("x")])]);
    let unknown = Rest { name: "logit_bias".into(), value: "{}".into(), hint: false };
    for (request, model, field) in [
        (image(Source::Url("https://a.example/x.png".into())), CLAUDE, "messages.0.content.image_url"),
        (image(png("image/tiff")), CLAUDE, "messages.0.content.image_url"),
        (called, CLAUDE, "tool_choice"),
        (Request { parallel_tools: Some(false), ..tools(None) }, CLAUDE, "parallel_tool_calls"),
        (Request { format: Some(Format::Json), ..plain() }, CLAUDE, "response_format"),
        (Request { top_k: Some(5), ..plain() }, "meta.llama3-70b-instruct-v1:0", "top_k"),
        (Request { rest: vec![unknown], ..plain() }, CLAUDE, "logit_bias"),
        (Request { system: vec![Block::Image(png("image/png"))], ..plain() }, CLAUDE, "messages.0.content"),
    ] {
        let error = write(&request, model).expect_err("refused");
        assert_eq!((error.code(), error.param()), (Code::Unsupported, Some(field)));
    }
    let bad = asking(vec![Message { role: Role::Assistant, content: vec![call("1", "f", "{\"a\":")] }]);
    let error = write(&bad, CLAUDE).expect_err("no JSON");
    assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("messages.0.tool_calls")));
    let (body, lost) = write(&Request { temperature: Some(1.5), ..plain() }, CLAUDE).expect("as Anthropic's own API");
    assert_eq!((&body["inferenceConfig"], &*lost), (&json!({"temperature": 1.0}), &["temperature".to_owned()][..]));
    let (body, _) = write(&tools(Some(Choice::None)), CLAUDE).expect("nothing was called");
    assert_eq!(body.get("toolConfig"), None);
    let (body, _) = write(&image(png("image/jpg")), CLAUDE).expect("known by another name");
    assert_eq!(body["messages"][0]["content"][0]["image"]["format"], "jpeg");
}

#[test]
fn fields_of_the_models_own_shape_are_those_of_its_family() {
    let fields = |request: &Request<'_>, model| {
        let (body, lost) = write(request, model).expect("good");
        (body.get("additionalModelRequestFields").cloned().unwrap_or_default(), lost.len())
    };
    let ask = |effort, max_tokens| Request { effort, max_tokens, ..asking(vec![user(vec![text("x")])]) };
    let adaptive = |word| json!({"thinking":{"type":"adaptive"},"output_config":{"effort":word}});
    assert_eq!(fields(&ask(Some(Effort::Max), Some(9)), "us.anthropic.claude-opus-4-7"), (adaptive("max"), 0));
    let budget = |tokens: u64| json!({"thinking":{"type":"enabled","budget_tokens":tokens}});
    for (effort, max_tokens, wanted, lost) in [
        (Effort::None, None, Value::Null, 0),
        (Effort::Low, None, budget(1024), 0),
        (Effort::Medium, None, budget(4096), 0),
        (Effort::High, Some(5000), budget(4999), 0),
        (Effort::Max, None, budget(32_768), 0),
        (Effort::Tokens(2000), Some(1_000_000), budget(2000), 0),
        (Effort::Own, None, json!({"thinking":{"type":"adaptive"}}), 0),
        (Effort::High, Some(1000), Value::Null, 1),
    ] {
        assert_eq!(fields(&ask(Some(effort), max_tokens), CLAUDE), (wanted, lost), "{effort:?} {max_tokens:?}");
    }
    assert_eq!(fields(&ask(Some(Effort::High), None), "amazon.nova-lite-v1:0"), (Value::Null, 1));
    let top = Request { top_k: Some(5), ..ask(None, None) };
    assert_eq!(fields(&top, "eu.amazon.nova-lite-v1:0").0, json!({"inferenceConfig":{"topK":5}}));
    assert_eq!(fields(&top, "arn:aws:bedrock:eu-west-1:1:application-inference-profile/x").0, json!({"top_k":5}));
    let nova = br#"{"messages":[],"additionalModelRequestFields":{"inferenceConfig":{"topK":5}}}"#;
    assert_eq!(read_request(nova).expect("good").top_k, Some(5));
}

#[test]
fn nothing_is_thought_where_claude_refuses_to() {
    let result = || user(vec![Block::ToolResult { id: "1".into(), content: vec![text("r")], failed: false }]);
    let called = |thought: Option<&'static str>| {
        let thought = thought.map(|signature| Block::Thinking { text: "hm".into(), signature: Some(signature.into()) });
        let content = thought.into_iter().chain([call("1", "f", "{}")]).collect();
        asking(vec![user(vec![text("x")]), Message { role: Role::Assistant, content }, result()])
    };
    let tool = Tool { name: "f".into(), description: None, schema: None, strict: None, cache_mark: false };
    let forced = |choice| Request { tools: vec![tool.clone()], tool_choice: Some(choice), ..called(Some("s")) };
    for (request, thinks) in [
        (called(Some("s")), true),
        (called(None), false),
        // As who speaks Anthropic's shape sends back what had no signature.
        (called(Some("")), false),
        (forced(Choice::Auto), true),
        (forced(Choice::Any), false),
        (forced(Choice::Named("f".into())), false),
    ] {
        let (body, lost) = write(&Request { effort: Some(Effort::High), ..request }, CLAUDE).expect("good");
        let told = body.pointer("/additionalModelRequestFields/thinking").is_some();
        assert_eq!((told, lost.contains(&"reasoning_effort".to_owned())), (thinks, !thinks), "{body}");
    }
}

#[test]
fn blank_texts_go_and_results_come_first_and_what_goes_on_ends_in_no_space() {
    let result = Block::ToolResult { id: "1".into(), content: vec![text(" ")], failed: false };
    let messages = vec![
        user(vec![text("x")]),
        Message { role: Role::Assistant, content: vec![text("\n"), call("1", "f", "{}")] },
        user(vec![text("meanwhile"), Block::CacheMark]),
        user(vec![result]),
        Message { role: Role::Assistant, content: vec![text("so: ")] },
    ];
    let (body, _) = write(&asking(messages), CLAUDE).expect("good");
    let wanted = json!([
        {"role": "user", "content": [{"text": "x"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": []}}, {"text": "meanwhile"},
            {"cachePoint": {"type": "default"}}]},
        {"role": "assistant", "content": [{"text": "so:"}]},
    ]);
    assert_eq!(body["messages"], wanted);
}

#[test]
fn a_thousand_documents_of_one_name_are_no_long_way() {
    let document = || Block::Document { source: Source::Text("t".into()), name: Some("a".into()) };
    let request = asking(vec![user((0..3_000).map(|_| document()).collect())]);
    let begun = crate::time::now();
    let (body, _) = write(&request, CLAUDE).expect("good");
    assert_eq!(body["messages"][0]["content"][2_999]["document"]["name"], "a 3000");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_is_refused_or_lost_is_named_as_the_caller_calls_it() {
    let body = br#"{"messages":[{"role":"user","content":[{"text":"x"}]}],"additionalModelRequestFields":{"top_k":5}}"#;
    let request = read_request(body).expect("good");
    let mut out = Vec::new();
    let error = crate::wire::openai::chat::write_request(&request, "m", &mut out).expect_err("refused");
    assert_eq!(error.param(), Some("additionalModelRequestFields.top_k"));
    let body =
        br#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"none"},
        "tools":[{"name":"f","input_schema":{}}],"thinking":{"type":"enabled","budget_tokens":1024}}"#;
    let request = crate::wire::anthropic::read_request(body).expect("good");
    let lost = write_request(&request, CLAUDE, &mut out).expect("nothing was called");
    assert_eq!(lost.names(), ["thinking"], "there is no room");
}
