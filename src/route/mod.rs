//! Which provider serves a model name: pure, by the interface's "Model names".
//!
//! Aliases, strategies and fallbacks are not built yet; their place is here.

use crate::error::{Code, Error};

/// How many near names an error lists.
const NEAR: usize = 3;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// The model as the provider knows it.
    pub model: &'a str,
}

/// Splits `name` at its first slash; what stands before it must be one of `providers`. If it is none, the whole is a bare
/// name, which means the provider called `prefix` on a drop-in route and nobody anywhere else.
///
/// # Errors
/// [`Code::ModelNotFound`], with near names, if it leads nowhere, or if nothing stands behind the slash.
pub fn resolve<'a>(name: &'a str, prefix: Option<&'a str>, providers: &[&str]) -> Result<Target<'a>, Error> {
    if let Some((provider, model)) = name.split_once('/')
        && providers.contains(&provider)
    {
        if model.is_empty() {
            let text = format!("the model name {name:?} ends after its provider; write {provider}/<model>");
            return Err(Error::new(Code::ModelNotFound, text).with_param("model"));
        }
        return Ok(Target { provider, model });
    }
    let known = providers.join(", ");
    if let Some(provider) = prefix {
        if providers.contains(&provider) {
            return Ok(Target { provider, model: name });
        }
        let text = format!(
            "there is no provider named {provider:?}, which is what this route leads to; the providers are: {known}"
        );
        return Err(Error::new(Code::ModelNotFound, text));
    }
    let shown: String = name.chars().take(120).collect();
    let near = near(name, providers);
    let hint = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
    let text =
        format!("there is no model {shown:?}: write it as provider/model, where the provider is one of: {known}{hint}");
    Err(Error::new(Code::ModelNotFound, text).with_param("model"))
}

/// Names that the caller may have meant: the same model at a provider whose name is near, or at every one for a bare name.
fn near(name: &str, providers: &[&str]) -> Vec<String> {
    let (left, model) = name.split_once('/').unwrap_or(("", name));
    let mut ranked: Vec<_> = providers
        .iter()
        .map(|provider| (if left.is_empty() { 0 } else { distance(left, provider) }, *provider))
        .filter(|(distance, provider)| *distance <= provider.len().max(3) / 2)
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(NEAR).map(|(_, provider)| format!("{provider}/{model}")).collect()
}

/// Levenshtein's distance, on at most 32 characters of each.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(32).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDERS: [&str; 2] = ["openai", "sim"];

    #[test]
    fn the_first_slash_parts_provider_from_model() {
        let target = resolve("openai/ft:gpt/x", None, &PROVIDERS).expect("a provider");
        assert_eq!(target, Target { provider: "openai", model: "ft:gpt/x" });
    }

    #[test]
    fn under_a_prefix_a_bare_name_means_its_provider_and_a_whole_one_what_it_says() {
        for (name, provider, model) in [
            ("gpt-4o", "openai", "gpt-4o"),
            ("meta-llama/x", "openai", "meta-llama/x"),
            ("sim/echo", "sim", "echo"),
            ("openai/gpt-4o", "openai", "gpt-4o"),
        ] {
            assert_eq!(resolve(name, Some("openai"), &PROVIDERS).expect(name), Target { provider, model });
        }
        let error = resolve("claude", Some("anthropic"), &PROVIDERS).expect_err("not configured");
        assert!(error.code() == Code::ModelNotFound && error.message().contains("anthropic"), "{error}");
    }

    #[test]
    fn a_name_that_leads_nowhere_lists_near_ones() {
        let message = |name| resolve(name, None, &PROVIDERS).expect_err("no such provider").message().to_owned();
        assert!(message("openia/gpt-4o").contains("near: openai/gpt-4o"));
        assert!(message("gpt-4o").contains("openai/gpt-4o"));
        assert!(message("sim/").contains("sim/<model>"));
        assert_eq!(resolve("meta-llama/x", None, &PROVIDERS).expect_err("none").code(), Code::ModelNotFound);
    }
}
