//! What the name of a model says of it: whose it is, where Bedrock leaves fields to the model's own shape.

/// Whose shape a model's additional fields have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Anthropic's: `top_k` and `thinking` as in their messages.
    Claude,
    /// Amazon's Nova, which has `topK` in an `inferenceConfig` of its own ("Core inference" in Amazon Nova's user guide).
    Nova,
    /// Another's.
    Other,
    /// The name does not say: the ARN of an application's inference profile, of a provisioned or an imported model.
    Unknown,
}

impl Family {
    /// By the name of a model, of an inference profile (`us.anthropic.…`), or by an ARN that ends with either.
    pub(super) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        if name.contains("anthropic.") {
            Self::Claude
        } else if name.contains("amazon.nova") {
            Self::Nova
        } else if name.contains('.') {
            Self::Other
        } else {
            Self::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_the_model_is() {
        for (model, family) in [
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", Family::Claude),
            ("global.anthropic.claude-opus-4-6-v1", Family::Claude),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                Family::Claude,
            ),
            ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", Family::Nova),
            ("meta.llama3-70b-instruct-v1:0", Family::Other),
            ("amazon.titan-text-express-v1", Family::Other),
            ("arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4e5f6", Family::Unknown),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }
}
