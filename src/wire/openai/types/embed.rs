//! Embeddings: texts in, vectors out.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::from_json;
use crate::error::{Code, Error};
use crate::model::{Answer, Served, Usage};
use crate::wire::base64;

/// A request for the vectors of some texts.
///
/// ```
/// use sluicegate::{EmbedRequest, Gateway};
///
/// let request = EmbedRequest::new("sim/echo", ["one", "two"]).with_dimensions(8);
/// let reply = Gateway::from_env()?.embed(&request)?;
/// assert_eq!((reply.vectors.len(), reply.vectors[0].len()), (2, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EmbedRequest {
    /// `provider/model`, or an alias.
    pub model: String,
    /// The texts.
    pub input: Vec<String>,
    /// What is tried next if the model fails. Never goes upstream. Vectors of different models cannot be compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// Every other field, as it goes upstream.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The vectors of some texts.
///
/// ```
/// use sluicegate::{EmbedRequest, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let reply = gateway.embed(&EmbedRequest::new("sim/echo", ["sluice", "gate", "sluice"]))?;
/// let near = |a: usize, b: usize| reply.vectors[a].iter().zip(&reply.vectors[b]).map(|(x, y)| x * y).sum::<f32>();
/// assert!(near(0, 2) > near(0, 1), "equal texts are nearer to each other than different ones");
/// assert_eq!((reply.model(), &*reply.served().provider), ("echo", "sim"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EmbedReply {
    /// A vector for each text, in the order of the texts.
    pub vectors: Vec<Vec<f32>>,
    /// The tokens, if the provider counted them.
    pub usage: Option<Usage>,
    model: String,
    served: Served,
}

impl EmbedRequest {
    /// A request for the vectors of `inputs`.
    #[must_use]
    pub fn new<I>(model: impl Into<String>, inputs: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let input = inputs.into_iter().map(Into::into).collect();
        Self { model: model.into(), input, ..Self::default() }
    }

    /// How many numbers each vector shall have, where the model leaves that open.
    #[must_use]
    pub fn with_dimensions(self, dimensions: u32) -> Self {
        self.with("dimensions", dimensions)
    }

    /// Sets any other field of the API by its name. `encoding_format: "base64"` makes answers shorter, and is read, too.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(field.into(), value.into());
        self
    }

    /// The request as a body.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let mut request = Cow::Borrowed(self);
        for named in ["model", "input", "fallbacks"] {
            // A key that stands twice would be refused; the fields above are the ones that count.
            if self.extra.contains_key(named) {
                request.to_mut().extra.shift_remove(named);
            }
        }
        // Keys are strings and numbers finite by their types: there is nothing that could fail to be written.
        serde_json::to_vec(&request).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: Vec<Item<'a>>,
    model: Option<String>,
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Item<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(Deserialize)]
struct Counted {
    prompt_tokens: Option<u64>,
}

impl EmbedReply {
    /// Reads a whole answer.
    ///
    /// # Errors
    /// [`Code::UpstreamBadResponse`] if it is none.
    pub fn from_answer(answer: &Answer) -> Result<Self, Error> {
        let mut body: Body<'_> = from_json(&answer.body)?;
        body.data.sort_by_key(|item| item.index);
        let vectors = body.data.iter().map(|item| vector(item.embedding.get())).collect::<Result<_, _>>()?;
        let usage = body.usage.map(|usage| Usage { input: usage.prompt_tokens.unwrap_or(0), output: 0 });
        let served = answer.served.clone();
        Ok(Self { vectors, usage, model: body.model.unwrap_or_else(|| served.model.clone()), served })
    }

    /// The model that answered, as the provider names it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Who answered after how many attempts, and where the time went.
    #[must_use]
    pub fn served(&self) -> &Served {
        &self.served
    }
}

/// A vector, written as numbers or as the base64 of its little-endian bytes.
fn vector(text: &str) -> Result<Vec<f32>, Error> {
    let Ok(coded) = serde_json::from_str::<&str>(text) else { return from_json(text.as_bytes()) };
    let bytes = base64::decode(coded).filter(|bytes| bytes.len().is_multiple_of(4));
    let bytes = bytes.ok_or_else(|| Error::new(Code::UpstreamBadResponse, "a vector's base64 stands for none"))?;
    Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vectors_are_read_as_numbers_and_as_base64() {
        assert_eq!(vector("[1, -0.5, 2e3]").expect("good"), [1.0, -0.5, 2000.0]);
        let coded = base64::encode(&[1.5f32, -2.0].map(f32::to_le_bytes).concat());
        assert_eq!(vector(&json!(coded).to_string()).expect("good"), [1.5, -2.0]);
        for wrong in ["\"AAA=\"", "\"?\"", "{}", "[\"a\"]", "null"] {
            assert_eq!(vector(wrong).expect_err("bad").code(), Code::UpstreamBadResponse, "{wrong}");
        }
    }

    #[test]
    fn a_body_is_one_that_the_gateway_takes() {
        let request = EmbedRequest::new("a/b", ["x"]).with_dimensions(3).with("model", "other").with("input", 5);
        let body: Value = serde_json::from_slice(&request.to_body()).expect("JSON");
        assert_eq!(body, json!({ "model": "a/b", "input": ["x"], "dimensions": 3 }));
    }
}
