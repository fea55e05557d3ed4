//! The vectors that a custom provider gives.

use serde_json::json;

/// The vectors of some texts, one for each in their order.
///
/// ```
/// use sluicegate::custom::ProviderVectors;
///
/// let two = ProviderVectors::new(vec![vec![1.0, 0.0], vec![0.0, 1.0]]).with_usage(2);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderVectors {
    vectors: Vec<Vec<f32>>,
    tokens: Option<u64>,
}

impl ProviderVectors {
    /// These vectors.
    #[must_use]
    pub fn new(vectors: Vec<Vec<f32>>) -> Self {
        Self { vectors, tokens: None }
    }

    /// Says how many tokens the texts had.
    #[must_use]
    pub fn with_usage(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.vectors.len()
    }

    /// The answer's bytes.
    pub(super) fn into_body(self, model: &str) -> Vec<u8> {
        let item = |(index, vector)| json!({ "object": "embedding", "index": index, "embedding": vector });
        let data: Vec<_> = self.vectors.into_iter().enumerate().map(item).collect();
        let mut body = json!({ "object": "list", "model": model, "data": data });
        if let Some(tokens) = self.tokens {
            body["usage"] = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        }
        body.to_string().into_bytes()
    }
}
