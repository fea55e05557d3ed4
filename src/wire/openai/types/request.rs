//! A chat request: what every provider knows has a setter, and everything else goes through as it is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Message;

/// A chat request.
///
/// ```
/// use sluicegate::{ChatRequest, Message};
///
/// let request = ChatRequest::new("sim/echo", "Hello")
///     .with_message(Message::assistant("Hello yourself."))
///     .with_message(Message::user("And now?"))
///     .with_temperature(0.2)
///     .with("service_tier", "flex");
/// assert_eq!(request.messages.len(), 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatRequest {
    /// `provider/model`, or an alias.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// What is tried next if the model fails. Never goes upstream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// Every other field, as it goes upstream. Whether it is streamed is decided by the method called, not here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A function that a model may call.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway, Tool};
///
/// let schema = serde_json::json!({ "type": "object", "properties": { "city": { "type": "string" } } });
/// let request = ChatRequest::new("sim/tool", "Rain?").with_tools([Tool::function("weather", "Tells it.", schema)]);
/// let reply = Gateway::from_env()?.chat(&request)?;
/// assert_eq!(reply.tool_calls()[0].name, "weather");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tool(Value);

impl Tool {
    /// A function of this name, told to the model in these words, with arguments of this JSON schema.
    #[must_use]
    pub fn function(name: impl Into<String>, description: impl Into<String>, parameters: impl Into<Value>) -> Self {
        let (name, description) = (name.into(), description.into());
        let parameters: Value = parameters.into();
        let function = json!({ "name": name, "description": description, "parameters": parameters });
        Self(json!({ "type": "function", "function": function }))
    }
}

impl From<Value> for Tool {
    /// Any other tool, as the API defines it.
    fn from(raw: Value) -> Self {
        Self(raw)
    }
}

impl From<Tool> for Value {
    fn from(tool: Tool) -> Self {
        tool.0
    }
}

impl ChatRequest {
    /// A request of one user message.
    #[must_use]
    pub fn new(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self { model: model.into(), messages: vec![Message::user(prompt)], ..Self::default() }
    }

    /// A request without messages yet.
    #[must_use]
    pub fn to(model: impl Into<String>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Adds a message.
    #[must_use]
    pub fn with_message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds a model to try if the ones before it fail.
    #[must_use]
    pub fn with_fallback(mut self, model: impl Into<String>) -> Self {
        self.fallbacks.push(model.into());
        self
    }

    /// Sets any other field of the API by its name.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// How freely it is answered, from 0 on.
    #[must_use]
    pub fn with_temperature(self, temperature: f64) -> Self {
        self.with("temperature", temperature)
    }

    /// From how much of the likeliest tokens each is drawn, up to 1.
    #[must_use]
    pub fn with_top_p(self, top_p: f64) -> Self {
        self.with("top_p", top_p)
    }

    /// The most tokens that the answer may have.
    #[must_use]
    pub fn with_max_tokens(self, tokens: u32) -> Self {
        self.with("max_tokens", tokens)
    }

    /// Texts before which the answer stops.
    #[must_use]
    pub fn with_stop<I>(self, texts: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        self.with("stop", texts)
    }

    /// Has a provider that can answer the same again for the same seed.
    #[must_use]
    pub fn with_seed(self, seed: i64) -> Self {
        self.with("seed", seed)
    }

    /// What the model may call.
    #[must_use]
    pub fn with_tools(self, tools: impl IntoIterator<Item = Tool>) -> Self {
        let tools: Vec<Value> = tools.into_iter().map(Value::from).collect();
        self.with("tools", tools)
    }

    /// Whether it calls them: `"auto"`, `"none"`, `"required"`, or one of them as the API names it.
    #[must_use]
    pub fn with_tool_choice(self, choice: impl Into<Value>) -> Self {
        self.with("tool_choice", choice)
    }

    /// Has the answer be a JSON object; most providers want the prompt to speak of JSON then.
    #[must_use]
    pub fn with_json(self) -> Self {
        self.with("response_format", json!({ "type": "json_object" }))
    }

    /// Has the answer be JSON of exactly this schema, under a name for it.
    #[must_use]
    pub fn with_json_schema(self, name: impl Into<String>, schema: impl Into<Value>) -> Self {
        let (name, schema): (String, Value) = (name.into(), schema.into());
        let schema = json!({ "name": name, "strict": true, "schema": schema });
        self.with("response_format", json!({ "type": "json_schema", "json_schema": schema }))
    }

    /// The request as a body, asking for a stream or not.
    #[must_use]
    pub fn to_body(&self, stream: bool) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            model: &'a str,
            messages: &'a [Message],
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            fallbacks: &'a [String],
            stream: bool,
            #[serde(flatten)]
            extra: Map<String, Value>,
        }
        let mut extra = self.extra.clone();
        // A key that stands twice would be refused; the fields above are the ones that count.
        for named in ["model", "messages", "fallbacks", "stream"] {
            extra.shift_remove(named);
        }
        let body = Body { model: &self.model, messages: &self.messages, fallbacks: &self.fallbacks, stream, extra };
        // Keys are strings and numbers finite by their types: there is nothing that could fail to be written.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl<M: Into<String>, P: Into<String>> From<(M, P)> for ChatRequest {
    /// A request to a model of one user message.
    fn from((model, prompt): (M, P)) -> Self {
        Self::new(model, prompt)
    }
}

impl From<&ChatRequest> for ChatRequest {
    fn from(request: &ChatRequest) -> Self {
        request.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::openai::parse_chat;

    #[test]
    fn a_request_keeps_fields_that_it_does_not_know() {
        let sent = json!({
            "model":"m","seed":7,"messages":[{"role":"user","content":[{"type":"text","text":"x"}],"name":"n"},
                {"role":"assistant","tool_calls":[{"id":"1"}]}],"future":{"a":[1]},
        });
        let request: ChatRequest = serde_json::from_value(sent.clone()).expect("a request");
        assert_eq!(request.extra["future"], json!({"a":[1]}));
        assert_eq!(serde_json::to_value(&request).expect("JSON"), sent);
    }

    #[test]
    fn a_body_is_one_that_the_gateway_takes() {
        let request = ChatRequest::new("a/b", "hi").with_fallback("c/d").with("stream", false).with("n", 1);
        let body = request.to_body(true);
        let fields = parse_chat(&body).expect("good");
        assert!(fields.stream);
        assert_eq!((fields.model.as_str(), fields.fallbacks), ("a/b", vec!["c/d".to_owned()]));
        assert!(String::from_utf8(body).expect("UTF-8").contains(r#""n":1"#));
    }

    #[test]
    fn setters_write_the_apis_own_fields() {
        let request = ChatRequest::to("m")
            .with_temperature(0.5)
            .with_top_p(0.25)
            .with_max_tokens(9)
            .with_stop(["a", "b"])
            .with_seed(-3)
            .with_tools([Tool::function("f", "does", json!({})), Tool::from(json!({ "type": "other" }))])
            .with_tool_choice("required")
            .with_json_schema("s", json!({ "type": "object" }));
        let wanted = json!({
            "temperature": 0.5, "top_p": 0.25, "max_tokens": 9, "stop": ["a", "b"], "seed": -3,
            "tools": [
                { "type": "function", "function": { "name": "f", "description": "does", "parameters": {} } },
                { "type": "other" },
            ],
            "tool_choice": "required",
            "response_format": { "type": "json_schema",
                "json_schema": { "name": "s", "strict": true, "schema": { "type": "object" } } },
        });
        assert_eq!(Value::Object(request.extra.clone()), wanted);
        assert_eq!(request.with_json().extra["response_format"], json!({ "type": "json_object" }));
    }
}
